"""What `latentbench run` does: plan, check, run, show."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from latentbench.cli.closing import close
from latentbench.cli.devices import device_for
from latentbench.cli.runbars import RunBars
from latentbench.cli.settling import declare_analyses, first_runs, further_runs
from latentbench.core.console import Display, display, note
from latentbench.core.errors import UserError
from latentbench.core.garbage import no_collection
from latentbench.core.paths import results_dir, shown
from latentbench.planning.plan import RunSpec, plan
from latentbench.records.declared import read_declared
from latentbench.records.design import Design, Fixed
from latentbench.spec.claims import Tier
from latentbench.spec.loading import LoadedSuite, load_suite
from latentbench.spec.validation import problems

if TYPE_CHECKING:
    from latentbench.records.record import Record
    from latentbench.running.settings import Compile, Settings, Tracking
    from latentbench.scheduling.executors.choice import Executor, Name

#: So many times the tier's seeds are more than most who write one number mean.
MANY = 10


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
    stack_draws: bool = False
    compile: Compile | None = None
    checkpoint_every: float | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    force: bool = False
    wandb: Tracking | None = None
    tensorboard: bool = False
    no_pictures: bool = False
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
        with no_collection():
            plans = self._plans(loaded)
        if not any(plans):
            raise UserError(
                "nothing to run at this tier with these filters", where="--method/--dataset", fix="widen them"
            )
        self._many_seeds(loaded)
        if self.dry_run:
            executor = self._elsewhere()
            left = list(map(self._to_do, plans))
            for runs, to_do in zip(plans, left, strict=True):
                cells = {spec.cell for spec in to_do}
                for spec in runs:
                    click.echo(f"{spec.suite}  {spec.cell}{'' if spec.cell in cells else '  there already'}")
            if executor is not None and any(left):
                click.echo(executor.preview([r for runs in left for r in runs], self.device) or "", nl=False)
            return 0
        settings = self._settings()
        # another store than the results has its own word on what is there
        left = list(map(self._to_do, plans)) if self.store is None else plans
        if any(left):
            self._check(loaded, left, settings)
            self._prepare(left)
        started = time.monotonic()
        if self.until_settled:
            declare_analyses(loaded, self._tier, self.cap, settings.results)
        elif self.budget is not None:
            from latentbench.cli.budgeted import declare_first

            declare_first(loaded, plans, self._tier, self.cap, settings.results)
        settings = replace(settings, designs=self._designs(loaded, plans, settings.results))
        with display(quiet=self.quiet) as screen:
            self._run(plans, left, settings, screen)
            if self.until_settled:
                for more in further_runs(loaded, self._tier, self.cap, settings.results, self.methods, self.datasets):
                    to_do = self._to_do(more) if self.store is None else more
                    self._run([more], [to_do], settings, screen)
        with no_collection():
            close(loaded, self._tier, settings, self.counts, time.monotonic() - started, quiet=self.quiet)
        return 1 if any(self.counts.get(s) for s in ("failed", "diverged", "out-of-memory")) else 0

    def _plans(self, loaded: list[LoadedSuite]) -> list[list[RunSpec]]:
        """The runs of each suite."""
        if self.until_settled:
            return first_runs(loaded, self._tier, self.cap, results_dir(), self.methods, self.datasets)
        if self.budget is not None:
            from latentbench.cli.budgeted import picked

            return picked(
                loaded,
                self._tier,
                self.budget,
                device_for(self.device),
                self.methods,
                self.datasets,
                threads=self.threads or 1,
                cap=self.cap,
                quiet=self.quiet,
            )
        return [self.planned(one) for one in loaded]

    def planned(self, one: LoadedSuite) -> list[RunSpec]:
        """The runs of a suite at the tier, of the seeds, methods and datasets asked for."""
        return plan(one, self._tier(one), seeds=self.seeds, methods=self.methods, datasets=self.datasets)

    def _many_seeds(self, loaded: Sequence[LoadedSuite]) -> None:
        """Say that a number is a number of seeds where it is by far more than the tier has: one seed may be meant."""
        if self.quiet or self.seeds is None or self.seeds != list(range(len(self.seeds))):
            return
        n, own = len(self.seeds), max(len(one.suite.tiers[self._tier(one)].seeds) for one in loaded)
        if n >= MANY * own:
            note(f"{n} seeds of each method, where the tier has {own}; the one seed {n} is written `--seeds {n},`")

    def _designs(
        self, loaded: Sequence[LoadedSuite], plans: Sequence[Sequence[RunSpec]], results: Path
    ) -> dict[str, Design]:
        """How many seeds each suite is to have, for its records to say."""
        return {
            one.suite.id: read_declared(one.suite.id, self._tier(one), results) or Fixed.of([r.seed for r in runs])
            for one, runs in zip(loaded, plans, strict=True)
            if runs
        }

    def _tier(self, one: LoadedSuite) -> Tier:
        return self.tier or one.suite.default_tier

    def _settings(self) -> Settings:
        from latentbench.running.settings import CHECKPOINT_SECONDS, Settings
        from latentbench.scheduling.tracking import default_mode

        results = results_dir()
        _writable(results)
        away = self._elsewhere()
        device = device_for(self.device, self.devices) if away is None else away.device(self.device)
        if self.compile == "graphs" and device != "cuda":
            raise UserError("CUDA graphs need a GPU", where="--compile graphs", fix="use --compile on")
        if self.tensorboard:
            self._can_write_events(away is None)
        return Settings(
            results=results,
            devices=self.devices,
            device=device,
            compile=self.compile or ("auto" if device == "cuda" else "off"),
            wandb=self.wandb or ("disabled" if self.tier == "smoke" else default_mode()),
            tensorboard=self.tensorboard,
            weights=not self.no_weights,
            pictures=not self.no_pictures,
            force=self.force,
            checkpoint_seconds=CHECKPOINT_SECONDS if self.checkpoint_every is None else self.checkpoint_every,
        )

    def _can_write_events(self, here: bool) -> None:
        from importlib.util import find_spec

        if not here:
            raise UserError("event files are written of runs on this machine", where="--tensorboard", fix="use --wandb")
        if find_spec("tensorboardX") is None:
            fix = "pip install 'latentbench[tensorboard]'"
            raise UserError("the package tensorboardX is not installed", where="--tensorboard", fix=fix)

    def _check(self, loaded: Sequence[LoadedSuite], plans: Sequence[Sequence[RunSpec]], settings: Settings) -> None:
        """Build every model once, and see that the device will do."""
        from latentbench.running.preflight import check_device, check_models

        _refuse([fault for one, runs in zip(loaded, plans, strict=True) for fault in check_models(one, runs)])
        _refuse([f for one, runs in zip(loaded, plans, strict=True) for f in check_device(one, runs, settings.device)])
        if self.devices > 1:
            _say_what_stays_whole(plans)

    def _prepare(self, plans: Sequence[Sequence[RunSpec]]) -> None:
        """Every dataset, once, before anything trains: what is missing shows now."""
        from latentbench.data.dataset import open_dataset
        from latentbench.data.progress import silent, to_stderr

        for name in dict.fromkeys(r.data["source"] for runs in plans for r in runs):
            open_dataset(name, silent if self.quiet else to_stderr)

    def _to_do(self, runs: Sequence[RunSpec]) -> list[RunSpec]:
        """Those of one suite's runs that have no finished record in the results."""
        from latentbench.records.archive import finished

        with no_collection():
            there = set() if self.force else finished(runs)
        return [spec for spec in runs if spec.cell not in there]

    def _run(
        self,
        plans: Sequence[Sequence[RunSpec]],
        left: Sequence[Sequence[RunSpec]],
        settings: Settings,
        screen: Display,
    ) -> None:
        """Carry out what is left of each suite's runs; whoever does so looks again for a record that has come
        meanwhile."""
        from latentbench.scheduling.local import default_jobs, run_all

        runs = [spec for one in left for spec in one]
        if there := sum(map(len, plans)) - len(runs):
            self._count("there already", there)
        if not runs:
            return
        if not self.quiet:
            _say_what_goes_on(runs, settings.results)
        overall = screen.bar("runs", len(runs))
        bars = RunBars(screen)
        done = kept = 0

        def finished(spec: RunSpec, record: Record, cached: bool) -> None:
            nonlocal done, kept
            done, kept = done + (not cached), kept + cached
            bars.close(spec.cell)
            status = "there already" if cached else record.status
            self._count(status)
            overall.update(done, len(runs) - kept, spec.cell)  # what is there takes no time, and says none
            if record.status != "finished":
                note(f"{spec.suite} {spec.cell}: {status}: {record.error}")
            for fault in record.provenance.faults if not cached else ():
                note(f"{spec.suite} {spec.cell}: {fault}")

        if (executor := self._elsewhere()) is not None:
            executor.run_all(runs, settings, bars.show, finished)
            return
        jobs = self.jobs if self.jobs is not None else default_jobs(settings.device, len(runs), settings.devices)
        from latentbench.acceleration.stackable import default_stack, stackable

        stack = default_stack(settings.device) if self.stack is None else self.stack
        if (self.stack or 1) > 1 and not stackable(runs, stack, draws=self.stack_draws):
            note("nothing is stacked: no two of these runs differ in seed, learning rate or plain numbers alone")
        run_all(
            runs,
            settings,
            jobs,
            bars.show,
            finished,
            threads=self.threads,
            stack=stack,
            stack_draws=self.stack_draws,
        )

    def _count(self, status: str, n: int = 1) -> None:
        self.counts[status] = self.counts.get(status, 0) + n

    def _elsewhere(self) -> Executor | None:
        """What carries the runs out, where that is not this process."""
        from latentbench.scheduling.executors.choice import Options, choose

        options = {f.name: getattr(self, f.name) for f in fields(Options)}
        return choose(self.executor, Options(**options))


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


def _say_what_goes_on(runs: Sequence[RunSpec], results: Path) -> None:
    """Which runs were interrupted, and from where they go on."""
    from latentbench.results.progress import paused

    for suite in dict.fromkeys(spec.suite for spec in runs):
        halted = paused(suite, results)
        for spec in runs:
            if spec.suite == suite and spec.cell in halted:
                note(f"{suite} {spec.cell}: goes on from step {halted[spec.cell]:,}")


def _say_what_stays_whole(plans: Sequence[Sequence[RunSpec]]) -> None:
    """Which methods run on one device though several were asked for, and why."""
    from latentbench.acceleration.distributed import why_on_one

    reasons = {f"{r.suite} {r.method}": why for runs in plans for r in runs if (why := why_on_one(r)) is not None}
    for method, why in reasons.items():
        note(f"{method} stays on one device: {why}")
