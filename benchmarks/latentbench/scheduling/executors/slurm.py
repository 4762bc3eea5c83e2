"""Runs as a Slurm job array, through submitit.

Each task of the array does its share of the runs, one after another. Slurm's warning (SIGUSR2, before the time is up or
on preemption) and SIGTERM save the state of the run under way in the store; after the warning the task puts itself back
into the queue, after SIGTERM Slurm does where it preempts. A task that is done again finds its finished runs there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from latentbench.core.console import note
from latentbench.core.errors import UserError
from latentbench.core.paths import results_dir
from latentbench.planning.plan import RunSpec
from latentbench.running.observer import Report
from latentbench.running.settings import Settings
from latentbench.scheduling.executors.array_task import Share
from latentbench.scheduling.executors.executor import Device
from latentbench.scheduling.executors.sbatch import Setting
from latentbench.scheduling.executors.slurm_sweep import SlurmSweep, key_of
from latentbench.scheduling.local import OnDone
from latentbench.scheduling.object_store import Store
from latentbench.scheduling.resources import cell_of, memory
from latentbench.scheduling.run_requests import fetch_results, prepare_sweep, settled_records

#: Tasks of an array: Slurm's own limit is 1,001 unless its MaxArraySize says otherwise.
MOST_TASKS = 1000
#: Times that a task may run out of time and go back into the queue; each time it gets on.
REQUEUES = 1000
#: Minutes of a task, and seconds that it is warned before they are over, where nobody says.
MINUTES, WARNING = 240, 120
#: Parameters of submitit that are no text: what is called so is for sbatch.
LISTS = {"additional_parameters", "setup", "srun_args", "teardown"}


@dataclass
class SlurmExecutor:
    """See the module.

    Args:
        settings: of sbatch, as `latentbench.scheduling.executors.sbatch.settings_of` gives them.
        store, jobs, threads, gpus, memory: see `latentbench.scheduling.executors.choice.Options`.
        cluster: ``local`` runs the array's tasks as processes of this machine.
    """

    settings: dict[str, Setting] = field(default_factory=dict)
    store: str | None = None
    jobs: int | None = None
    threads: int = 1
    gpus: float | None = None
    memory: int | None = None
    cluster: Literal["slurm", "local"] = "slurm"

    def __post_init__(self) -> None:
        import submitit  # noqa: F401 - whether it is there shows now

        if self.gpus is not None and self.gpus != int(self.gpus):
            raise UserError("Slurm gives whole GPUs", where="--gpus-per-run", fix="name a whole number, or use Ray")

    def device(self, wanted: Literal["auto", "cpu", "cuda"]) -> Device:
        asked = bool(self.gpus) or any(
            k.startswith("gpus") or (k == "gres" and "gpu" in str(v)) for k, v in self.settings.items()
        )
        return "cuda" if wanted == "cuda" or (wanted == "auto" and asked) else "cpu"

    def preview(self, runs: Sequence[RunSpec], wanted: Literal["auto", "cpu", "cuda"]) -> str:
        """The script that sbatch would get."""
        from submitit.slurm.slurm import _make_sbatch_string

        tasks = self.tasks(len(runs))
        parameters = self._parameters(runs, self.device(wanted), results_dir())
        command = f"{sys.executable} -u -m submitit.core._submit {self.folder(results_dir())}"
        if tasks > 1:
            parameters["map_count"] = tasks
        script: str = _make_sbatch_string(command=command, folder=self.folder(results_dir()), **parameters)
        return script

    def run_all(self, runs: Sequence[RunSpec], settings: Settings, report: Report, on_done: OnDone) -> None:
        """See `latentbench.scheduling.executors.executor.Executor`.

        Raises:
            UserError: data, code or store are not the same everywhere.
            KeyboardInterrupt: asked to stop; the runs under way have saved their state.
        """
        store = Store(self.store or settings.results)
        there = settled_records(runs, settings, store, note)
        for spec in runs:
            if (record := there.get(key_of(spec))) is not None:
                fetch_results(store, record, settings.results)
                on_done(spec, record, True)
        left = [spec for spec in runs if key_of(spec) not in there]
        if left:
            context = prepare_sweep(left, store, share_data=False)
            SlurmSweep(self, left, context, replace(settings, threads=self.threads), report, on_done).go()

    def submit(self, shares: Sequence[Share], runs: Sequence[RunSpec], settings: Settings, folder: Path) -> list[Any]:
        """Hand an array over; its jobs.

        Raises:
            UserError: there is no Slurm here, or it refuses.
        """
        import submitit

        parameters = self._parameters(runs, settings.device, settings.results)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # what is handed over holds credentials
            if self.cluster == "local":
                executor: Any = submitit.LocalExecutor(folder, max_num_timeout=REQUEUES)
                executor.update_parameters(timeout_min=parameters["time"], signal_delay_s=parameters["signal_delay_s"])
            else:
                executor = submitit.SlurmExecutor(folder, max_num_timeout=REQUEUES)
                executor.update_parameters(**parameters)
            with executor.batch():
                return [executor.submit(share) for share in shares]
        except (RuntimeError, OSError, ValueError, submitit.core.utils.FailedJobError) as e:
            raise UserError(
                f"Slurm does not take the runs: {' '.join(str(e).split())[:300]}",
                where="--executor slurm",
                fix="call it where sbatch works, and check --slurm",
            ) from None

    def tasks(self, runs: int) -> int:
        """Of the array for so many runs."""
        most = min(MOST_TASKS, self.jobs or MOST_TASKS) if self.cluster == "local" else MOST_TASKS
        return max(1, min(runs, most))

    def folder(self, results: Path) -> Path:
        """Of the array's logs; tasks must see it."""
        store = Store(self.store or results)
        return (store.folder or results) / "slurm"

    def _parameters(self, runs: Sequence[RunSpec], device: Device, results: Path) -> dict[str, Any]:
        from submitit.slurm.slurm import _get_default_parameters

        own: dict[str, Any] = {
            "job_name": "latentbench",
            "time": MINUTES,
            "signal_delay_s": WARNING,
            "cpus_per_task": self.threads,
            "stderr_to_stdout": True,
        }
        if self.jobs:
            own["array_parallelism"] = self.jobs
        if device == "cuda" and not any(k.startswith(("gpus", "gres")) for k in self.settings):
            own["gpus_per_node"] = int(self.gpus or 1)
        if not any(k.startswith("mem") for k in self.settings):
            needs = memory(runs, results) if device == "cpu" else {}
            whole = needs.keys() >= {cell_of(r) for r in runs}
            if amount := self.memory or (max(needs.values()) if needs and whole else 0):
                own["mem"] = f"{-(-amount >> 20)}M"
        known = set(_get_default_parameters()) - LISTS
        own |= {k: v for k, v in self.settings.items() if k in known}
        rest = {k.replace("_", "-"): v for k, v in self.settings.items() if k not in known}
        return {**own, "additional_parameters": {"requeue": True, **rest}}
