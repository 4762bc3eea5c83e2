"""What `latentbench run` does: plan, check, run, show."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from benchmarks.cli.runbars import RunBars
from benchmarks.cli.settling import declare_looks, first_looks, further_looks
from benchmarks.core.console import Display, display, note
from benchmarks.core.errors import UserError
from benchmarks.core.paths import results_dir, shown
from benchmarks.planning.plan import RunSpec, plan
from benchmarks.spec.loading import LoadedSuite, load_suite
from benchmarks.spec.suite import Tier
from benchmarks.spec.validation import problems

if TYPE_CHECKING:
    from benchmarks.records.record import Record
    from benchmarks.runner.executors.choice import Executor, Name
    from benchmarks.runner.settings import Settings
    from benchmarks.runner.tracking import Mode


@dataclass
class Sweep:
    """One call of `latentbench run`; the fields are its options."""

    suites: Sequence[str]
    tier: Tier | None = None
    seeds: list[int] | None = None
    methods: Sequence[str] = ()
    datasets: Sequence[str] = ()
    jobs: int | None = None
    threads: int | None = None
    stack: int | None = None
    checkpoint_every: float | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    force: bool = False
    wandb: Mode | None = None
    no_weights: bool = False
    quiet: bool = False
    dry_run: bool = False
    until_settled: bool = False
    cap: int | None = None
    budget: float | None = None
    executor: Name = "local"
    store: str | None = None
    address: str | None = None
    gpus_per_run: float | None = None
    memory_per_run: str | None = None
    slurm: Sequence[str] = ()
    counts: dict[str, int] = field(default_factory=dict)

    def go(self) -> int:
        """Run everything; the exit code."""
        loaded = [load_suite(s) for s in self.suites]
        faults = [fault for one in loaded for fault in problems(one)]
        _refuse(faults)
        plans = self._plans(loaded)
        if not any(plans):
            raise UserError(
                "nothing to run at this tier with these filters", where="--method/--dataset", fix="widen them"
            )
        if self.dry_run:
            from benchmarks.records.archive import finished as done_already

            for runs in plans:
                done = set() if self.force else done_already(runs)
                for spec in runs:
                    click.echo(f"{spec.suite}  {spec.cell}{'  there already' if spec.cell in done else ''}")
            if (executor := self._elsewhere()) is not None:
                click.echo(executor.preview([r for runs in plans for r in runs]) or "", nl=False)
            return 0
        settings = self._settings()
        from benchmarks.runner.preflight import check_models

        _refuse([fault for one, runs in zip(loaded, plans, strict=True) for fault in check_models(one, runs)])
        self._prepare(plans)
        started = time.monotonic()
        if self.until_settled:
            declare_looks(loaded, self._tier, self.cap, settings.results)
        with display(quiet=self.quiet) as screen:
            self._run([r for runs in plans for r in runs], settings, screen)
            if self.until_settled:
                for more in further_looks(loaded, self._tier, self.cap, settings.results, self.methods, self.datasets):
                    self._run(more, settings, screen)
        self._close(loaded, settings, time.monotonic() - started)
        return 1 if any(self.counts.get(s) for s in ("failed", "diverged", "out-of-memory")) else 0

    def _plans(self, loaded: list[LoadedSuite]) -> list[list[RunSpec]]:
        """The runs of each suite."""
        if self.until_settled:
            return first_looks(loaded, self._tier, self.cap, results_dir(), self.methods, self.datasets)
        if self.budget is not None:
            from benchmarks.cli.budgeted import picked

            return picked(
                loaded,
                self._tier,
                self.budget,
                device_for(self.device),
                self.methods,
                self.datasets,
                threads=self.threads or 1,
                quiet=self.quiet,
            )
        return [
            plan(one, self._tier(one), seeds=self.seeds, methods=self.methods, datasets=self.datasets) for one in loaded
        ]

    def _tier(self, one: LoadedSuite) -> Tier:
        return self.tier or one.suite.default_tier

    def _settings(self) -> Settings:
        from benchmarks.runner.settings import CHECKPOINT_SECONDS, Settings
        from benchmarks.runner.tracking import default_mode

        results = results_dir()
        _writable(results)
        return Settings(
            results=results,
            devices=self.devices,
            device=device_for(self.device, self.devices)
            if (away := self._elsewhere()) is None
            else away.device(self.device),
            wandb=self.wandb or default_mode(),
            weights=not self.no_weights,
            force=self.force,
            checkpoint_seconds=CHECKPOINT_SECONDS if self.checkpoint_every is None else self.checkpoint_every,
        )

    def _prepare(self, plans: list[list[RunSpec]]) -> None:
        """Every dataset, once, before anything trains: what is missing shows now."""
        from benchmarks.data.progress import silent, to_stderr
        from benchmarks.data.store import open_dataset

        for name in dict.fromkeys(r.data["source"] for runs in plans for r in runs):
            open_dataset(name, silent if self.quiet else to_stderr)

    def _run(self, runs: list[RunSpec], settings: Settings, screen: Display) -> None:
        from benchmarks.runner.local import default_jobs, run_all

        overall = screen.bar("runs", len(runs))
        bars = RunBars(screen)
        done = kept = 0

        def finished(spec: RunSpec, record: Record, cached: bool) -> None:
            nonlocal done, kept
            done, kept = done + (not cached), kept + cached
            bars.close(spec.cell)
            status = "there already" if cached else record.status
            self.counts[status] = self.counts.get(status, 0) + 1
            overall.update(done, len(runs) - kept, spec.cell)  # what is there takes no time, and says none
            if record.status != "finished":
                note(f"{spec.suite} {spec.cell}: {status}: {record.error}")
            for fault in record.provenance.faults if not cached else ():
                note(f"{spec.suite} {spec.cell}: {fault}")

        if (executor := self._elsewhere()) is not None:
            executor.run_all(runs, settings, bars.told, finished)
            return
        jobs = self.jobs or default_jobs(settings.device, len(runs), settings.devices)
        from benchmarks.runner.stacks import default_stack

        stack = default_stack(settings.device) if self.stack is None else self.stack
        run_all(runs, settings, jobs, bars.told, finished, threads=self.threads, stack=stack)

    def _elsewhere(self) -> Executor | None:
        """What carries the runs out, where that is not this process."""
        from benchmarks.runner.executors.choice import Options, choose

        options = {f.name: getattr(self, f.name) for f in fields(Options)}
        return choose(self.executor, Options(**options))

    def _close(self, loaded: list[LoadedSuite], settings: Settings, seconds: float) -> None:
        words = ", ".join(f"{n} {status}" for status, n in sorted(self.counts.items()))
        total = sum(self.counts.values())
        note(
            f"{total} run{'s' if total != 1 else ''} in {seconds:.0f} s: {words}; records in {shown(settings.results)}"
        )
        from benchmarks.cli.render import print_leaderboard, print_verdicts
        from benchmarks.results.gather import gather
        from benchmarks.results.leaderboard import leaderboard
        from benchmarks.results.verdicts import verdicts

        smoke = False
        for one in loaded:
            tier = self._tier(one)
            if tier == "smoke":
                smoke = True
                continue
            gathered = gather(one, tier, settings.results)
            rows = leaderboard(gathered)
            if not self.quiet:
                print_leaderboard(gathered, rows)
                print_verdicts(verdicts(gathered))
            _track_leaderboard(settings, one.suite.id, tier, rows)
        if smoke and not self.quiet:
            note("smoke runs prove that a suite runs; they are on no leaderboard and count for no verdict")


def _track_leaderboard(settings: Settings, suite: str, tier: str, rows: Sequence[object]) -> None:
    """The leaderboard as a wandb table."""
    from dataclasses import astuple

    from benchmarks.results.leaderboard import COLUMNS
    from benchmarks.runner.tracking import Tracker

    tracker = Tracker(
        settings.wandb,
        settings.results / "wandb",
        name=f"{suite}-{tier}-leaderboard",
        group=suite,
        job_type="leaderboard",
        tags=[suite, tier, "leaderboard"],
    )
    tracker.table("leaderboard", COLUMNS, [list(astuple(r)) for r in rows])  # type: ignore[call-overload]
    tracker.finish({})


def _refuse(faults: list[UserError]) -> None:
    for fault in faults[1:6]:
        note(f"error: {fault}")
    if faults:
        raise faults[0]


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as e:
        raise UserError(
            f"results cannot be written: {e.strerror}",
            where=shown(folder),
            fix="make it writable, or set LATENTBENCH_RESULTS to a folder that is",
        ) from None


def device_for(wanted: str, count: int = 1) -> Literal["cpu", "cuda"]:
    """The device behind ``auto``, ``cpu`` or ``cuda``.

    Raises:
        UserError: there is no such one, or there are fewer than `count` GPUs.
    """
    if wanted == "cpu" or (wanted == "auto" and os.environ.get("CUDA_VISIBLE_DEVICES") == ""):
        return "cpu"
    import torch

    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise UserError(
            "no CUDA GPU can be used here",
            where="--device cuda",
            fix="use --device cpu, or see what `latentbench doctor` says of the GPU",
        )
    if there and torch.cuda.device_count() < count:
        raise UserError(
            f"{count} GPUs are wanted and {torch.cuda.device_count()} can be used here",
            where="--devices",
            fix="ask for fewer, or for processes of this machine with --device cpu",
        )
    return "cuda" if there else "cpu"
