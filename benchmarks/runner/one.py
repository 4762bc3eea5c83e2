"""One run, from specification to record on disk."""

from __future__ import annotations

import csv
import io
import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.core.errors import Diverged, UserError
from benchmarks.data.store import open_dataset
from benchmarks.planning.fingerprint import digest
from benchmarks.planning.plan import MetricSpec, RunSpec
from benchmarks.records.archive import lock_path, run_folder
from benchmarks.records.record import (
    Cost,
    Measured,
    Provenance,
    Record,
    Status,
    read_record,
    write_atomically,
    write_record,
)
from benchmarks.runner import provenance
from benchmarks.runner.tracking import Mode, summary_of, track_run

if TYPE_CHECKING:
    from benchmarks.runner.experiment import Outcome
    from benchmarks.training.loop import Progress

#: Statuses that another try would only repeat.
SETTLED: tuple[Status, ...] = ("finished", "diverged")

#: Steps of preprocessing after which another random variable is measured; all others are bijections.
CHANGE_THE_VARIABLE = ("binarise", "dequantise")


@dataclass(frozen=True)
class Settings:
    """How runs are carried out; nothing here changes what they measure, but for the device.

    Attributes:
        results: folder of the records.
        device: ``cpu`` or ``cuda``.
        threads: torch threads of this process.
        wandb: tracking mode.
        weights: keep each run's final weights beside its record.
        force: run again what has a record.
    """

    results: Path
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    wandb: Mode = "disabled"
    weights: bool = True
    force: bool = False


@dataclass(frozen=True)
class Told:
    """What a run says of itself while it goes on."""

    cell: str
    phase: str
    step: int = 0
    steps: int = 0
    samples_per_second: float = 0.0


def perform(spec: RunSpec, settings: Settings, tell: Callable[[Told], None] = lambda _: None) -> tuple[Record, bool]:
    """Do a run unless its record is there.

    Returns:
        The record, and whether it was there already.

    Raises:
        UserError: the dataset cannot be had, or the results folder cannot be written.
    """
    from filelock import FileLock

    tell(Told(spec.cell, "data"))
    data_hash = open_dataset(spec.data["source"]).content_hash
    folder = run_folder(spec, data_hash, settings.results)
    path = folder / "record.json"
    lock = lock_path(spec, data_hash, settings.results)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):  # a second process that wants this run waits, then finds it done
        if path.is_file() and not settings.force:
            try:
                record = read_record(path)
            except UserError:
                record = None
            if record is not None and record.status in SETTLED:
                return record, True
        record = _perform(spec, settings, data_hash, folder, tell)
        write_record(path, record)
    return record, False


def _perform(spec: RunSpec, settings: Settings, data_hash: str, folder: Path, tell: Callable[[Told], None]) -> Record:
    import torch
    from lightning.fabric import Fabric

    from benchmarks.runner.experiment import run_experiment

    torch.set_num_threads(settings.threads)
    if settings.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = bool(spec.training["tf32"])
    run_id = spec.run_id(data_hash)
    tracker = track_run(settings.wandb, settings.results / "wandb", spec, run_id)
    started, clock = provenance.now(), monotonic()
    outcome: Outcome | None = None
    status: Status = "finished"
    error: str | None = None

    def progress(p: Progress) -> None:
        tell(Told(spec.cell, "training", p.step, p.steps, p.samples_per_second))

    try:
        fabric = Fabric(accelerator=settings.device, devices=1, precision=spec.training["precision"])
        fabric.launch()
        outcome = run_experiment(
            spec, fabric, on_progress=progress, on_log=tracker.log, on_phase=lambda p: tell(Told(spec.cell, p))
        )
    except Diverged as e:
        status, error = "diverged", str(e)
    except (MemoryError, torch.OutOfMemoryError) as e:
        status, error = "out-of-memory", str(e).splitlines()[0] if str(e) else "out of memory"
    except KeyboardInterrupt:
        tracker.finish({"status": "interrupted"}, failed=True)
        raise
    except Exception as e:  # a failed run leaves a record too, and the sweep goes on past it
        memory = isinstance(e, RuntimeError) and "not enough memory" in str(e)
        status, error = ("out-of-memory" if memory else "failed"), _where(e)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "traceback.txt", traceback.format_exc())
    record = _record(spec, settings, data_hash, run_id, status, error, outcome, started, monotonic() - clock)
    if outcome is not None:
        _keep(outcome, folder, weights=settings.weights)
    tracker.finish(summary_of(record), failed=status != "finished")
    return record


def _where(error: Exception) -> str:
    """An error in one line, with the place in the code that raised it."""
    if isinstance(error, UserError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    last = next((f for f in reversed(frames) if "benchmarks" in Path(f.filename).parts), frames[-1])
    message = " ".join(str(error).split())[:400]
    return f"{type(error).__name__}: {message} (in {last.name}, {Path(last.filename).name}:{last.lineno})"


def _record(
    spec: RunSpec,
    settings: Settings,
    data_hash: str,
    run_id: str,
    status: Status,
    error: str | None,
    outcome: Outcome | None,
    started: str,
    wall: float,
) -> Record:
    revision, dirty = provenance.git_state()
    trained = outcome.trained if outcome else None
    seconds = outcome.seconds if outcome else {}
    training = seconds.get("training", 0.0)
    return Record(
        run_id=run_id,
        suite=spec.suite,
        version=spec.suite_version,
        tier=spec.tier,
        method=spec.method,
        dataset=spec.dataset,
        seed=spec.seed,
        status=status,
        error=error,
        outcomes=outcome.outcomes if outcome else [],
        fingerprint=spec.fingerprint(data_hash),
        hashes={"spec": spec.spec_hash, "data": data_hash, "code": spec.code_hash},
        exact=spec.exact,
        spec=spec.settled(),
        metrics=[_measured(m, spec, data_hash, outcome, error) for m in spec.metrics],
        curve="curve.csv" if trained and trained.curve else None,
        cost=Cost(
            wall_seconds=wall,
            data_seconds=seconds.get("data", 0.0),
            training_seconds=training,
            evaluation_seconds=seconds.get("evaluation", 0.0),
            samples_per_second=trained.samples / training if trained and training > 0 else None,
            steps=trained.steps if trained else 0,
            epochs=trained.epochs if trained else 0.0,
            parameters=outcome.parameters if outcome else 0,
            peak_memory_bytes=provenance.peak_memory(settings.device),
        ),
        provenance=Provenance(
            git_revision=revision,
            git_dirty=dirty,
            packages=provenance.packages(),
            python=".".join(provenance.platform.python_version_tuple()),
            platform=provenance.machine(),
            device=settings.device,
            threads=settings.threads,
            command=provenance.command_line(),
            started=started,
            ended=provenance.now(),
        ),
    )


def metric_identity(metric: MetricSpec, spec: RunSpec, data_hash: str) -> str:
    """Hash of all that decides what a metric's number means, 12 hexadecimal digits.

    Its implementation's version and settings, and the quantity it is measured on: the data's content and split, and
    the steps of preprocessing that change the random variable (binarising, dequantising). Bijections do not enter:
    their log-Jacobian is accounted for.
    """
    from benchmarks.data.preprocess import build

    steps = build(spec.data["preprocess"]).identity["steps"]
    return digest(
        {
            "metric": metric.name,
            "version": metric.version,
            "settings": metric.settings,
            "data": data_hash,
            "split": spec.data["split"].get("test"),
            "stored": spec.data["stored"],
            "rows": spec.data["limit"].get("test"),
            "measure": [s for s in steps if s["name"] in CHANGE_THE_VARIABLE],
        }
    )[:12]


def _measured(
    metric: MetricSpec, spec: RunSpec, data_hash: str, outcome: Outcome | None, error: str | None
) -> Measured:
    """A metric's value, or why it has none: a run that failed keeps its place in every table that asked for it."""
    entry, value = metric.entry, outcome.values.get(metric.key) if outcome else None
    return Measured(
        name=metric.key,
        metric=metric.name,
        value=float(value.value) if value else None,
        se=_plain(value.se) if value else None,
        n=value.n if value else None,
        unit=entry.unit,
        better=entry.better,
        likelihood=entry.kind(metric.settings),
        identity=metric_identity(metric, spec, data_hash),
        failure=outcome.failures.get(metric.key) if outcome else error,
        details=_plain(value.details) if value else {},
    )


def _plain(value: Any) -> Any:
    """Details as JSON can hold them; what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):  # numpy and torch
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool) or value is None else str(value)


def _keep(outcome: Outcome, folder: Path, *, weights: bool) -> None:
    """Learning curve and final weights beside the record."""
    rows = outcome.trained.curve
    if rows:
        keys = list(dict.fromkeys(k for row in rows for k in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, keys, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(folder / "curve.csv", text.getvalue())
    if weights and hasattr(outcome.model, "state_dict"):
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        state = {k: v.detach().cpu().contiguous().clone() for k, v in outcome.model.state_dict().items()}
        if state:
            save_file(state, folder / "weights.safetensors")
