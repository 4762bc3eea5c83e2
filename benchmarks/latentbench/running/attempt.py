"""One run under its lock: from clean folder to sealed record, whoever does the training."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from latentbench.acceleration.compiling import WAYS, Choice, choose
from latentbench.acceleration.distributed import arrange, crew
from latentbench.core.errors import Diverged, UserError
from latentbench.core.interrupts import check, stopping
from latentbench.core.secrets import without_secrets
from latentbench.data.dataset import Dataset
from latentbench.planning.plan import RunSpec
from latentbench.records.corrections import note_corrections
from latentbench.records.record import Record, Status, remove_unfinished, write_atomically, write_record
from latentbench.running import provenance
from latentbench.running.checkpoints import Checkpoints
from latentbench.running.recording import keep_results, make_record
from latentbench.running.settings import Settings, Told
from latentbench.running.watch import DataWatch
from latentbench.scheduling.tracking import summary_of, track_run

if TYPE_CHECKING:
    from latentbench.running.experiment import Outcome
    from latentbench.training.compiled import Compiled, Way
    from latentbench.training.loop import Progress

#: What is called for the outcome: as `latentbench.running.experiment.run_experiment`.
Experiment = Callable[..., "Outcome"]


class Attempt:
    """A run that is about to be done; its caller holds the lock.

    Args:
        spec, settings: the run, and how to carry it out.
        dataset: prepared.
        folder: where its files go; what a killed process left there is removed.
        tell: told how it goes.
        damage: what is wrong with a record that was there.

    Attributes:
        checkpoints: of the training.
        tracker: told of the curve.
        stacked: runs that trained side by side with it, itself included.
        shared: seconds of this process that it has used up side by side with others.
        compiled: how its loss is computed, and what was timed to decide that.
    """

    def __init__(
        self,
        spec: RunSpec,
        settings: Settings,
        dataset: Dataset,
        folder: Path,
        tell: Callable[[Told], None],
        damage: str | None,
    ) -> None:
        self.spec, self.stacked, self.shared = spec, 1, 0.0
        self.compiled, self._clock = Choice(), monotonic()
        self._settings, self._dataset, self._folder, self._tell = settings, dataset, folder, tell
        self._data_hash = dataset.content_hash
        self._watch = DataWatch(dataset)
        remove_unfinished(folder)
        self.checkpoints = Checkpoints(
            folder / "checkpoint",
            spec.fingerprint(self._data_hash),
            settings.checkpoint_seconds,
            stopping,
            lambda fault: tell(Told(spec.cell, fault)),
            exact=settings.device == "cpu" or bool(spec.training["deterministic"]),
        )
        if settings.force:
            self.checkpoints.clear()
        if damage is not None:
            self.checkpoints.faults.append(damage)
        self.tracker = track_run(settings.wandb, settings.results / "wandb", spec, spec.run_id(self._data_hash))
        self._started = provenance.now()

    def progress(self, p: Progress) -> None:
        """Pass a training's progress on."""
        self._tell(Told(self.spec.cell, "training", p.step, p.steps, p.samples_per_second))

    def interrupted(self) -> None:
        """The process is asked to stop; the state has been saved."""
        self.tracker.finish({"status": "interrupted"}, failed=True)

    def carry_out(self, experiment: Experiment | None = None) -> Record:
        """Do the experiment, keep what comes out of it, and write the record.

        Args:
            experiment: instead of `run_experiment`.

        Raises:
            KeyboardInterrupt: the process was asked to stop; a training's state has been saved.
            UserError: the record cannot be written.
        """
        import torch

        spec, settings, checkpoints = self.spec, self._settings, self.checkpoints
        if settings.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self._clock = monotonic()
        try:
            if (changed := self._watch.fault()) is None:
                status, error, outcome = self._attempt(experiment)
                changed = self._watch.fault()
            if changed is not None:  # whatever came out of it
                status, error, outcome = "failed", changed, None
                checkpoints.clear()
        except KeyboardInterrupt:
            self.interrupted()
            raise
        files: dict[str, str] = {}
        if outcome is not None:
            try:
                files = keep_results(outcome, self._folder, weights=settings.weights)
            except OSError as e:
                checkpoints.faults.append(f"weights and curve could not be written: {e.strerror or e}")
        record = make_record(
            spec,
            settings,
            self._data_hash,
            spec.run_id(self._data_hash),
            status,
            error,
            outcome,
            self._started,
            monotonic() - self._clock + checkpoints.spent + self.shared,
            files=files,
            checkpoints=checkpoints,
            stacked=self.stacked,
            compiled=self.compiled,
        )
        write_record(self._folder / "record.json", record)
        with suppress(OSError):  # the record is what counts
            note_corrections(record, settings.results)
        if status == "finished":
            checkpoints.clear()
            (self._folder / "traceback.txt").unlink(missing_ok=True)
        self.tracker.finish(summary_of(record), failed=status != "finished")
        return record

    def _attempt(self, experiment: Experiment | None) -> tuple[Status, str | None, Outcome | None]:
        """Status, error and outcome of the experiment.

        Raises:
            KeyboardInterrupt: the process was asked to stop.
        """
        import torch

        from latentbench.running.experiment import run_experiment

        try:
            if experiment is None:
                if self._settings.compile == "auto":
                    self._tell(Told(self.spec.cell, "choosing how to compute the loss"))
                began = self.checkpoints.began()
                self.compiled = choose(self.spec, self._settings, WAYS.get(began or ""))
                self._clock = monotonic()  # what was timed serves all runs of the method, and is no cost of this one
            arrange(self.spec, self._settings)
            with (
                crew(self.spec, self._settings, self.checkpoints, self.compiled.way) as mates,
                self._noting(mates.compiled),
            ):

                def phase(name: str) -> None:
                    check()
                    mates.begins(name)
                    self._tell(Told(self.spec.cell, name))

                outcome = (experiment or run_experiment)(
                    self.spec,
                    mates.fabric,
                    on_progress=self.progress,
                    on_log=self.tracker.log,
                    on_phase=phase,
                    checkpoints=mates.checkpoints,
                )
        except Diverged as e:
            step = self.checkpoints.last_step()
            return "diverged", str(e) if step is None else f"{e}; last checkpoint: step {step}", None
        except (MemoryError, torch.OutOfMemoryError) as e:
            return "out-of-memory", str(e).splitlines()[0] if str(e) else "out of memory", None
        except Exception as e:  # a failed run leaves a record too, and the sweep goes on past it
            check()  # what a library makes of a KeyboardInterrupt is no failure of the run
            with suppress(OSError):  # the record says what went wrong, too
                write_atomically(self._folder / "traceback.txt", without_secrets(traceback.format_exc()))
            return ("out-of-memory" if no_memory(e) else "failed"), _where(e), None
        return "finished", None, outcome

    @contextmanager
    def _noting(self, compiled: Compiled | None) -> Iterator[None]:
        """Checkpoints and record say how the loss is computed; one that was compiled for a part of the training is."""
        if compiled is None:
            yield
            return
        began = WAYS.get(self.checkpoints.began() or "", "eager")

        def way() -> Way:
            return began if compiled.way == "eager" else compiled.way

        self.checkpoints.way = way
        try:
            yield
        finally:
            self.compiled = replace(self.compiled, way=way())
            if compiled.refused is not None:
                self.checkpoints.faults.append(f"trained uncompiled: {compiled.refused}")


def no_memory(error: Exception) -> bool:
    """Whether an error says that there was no memory left."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "not enough memory" in str(error)
    )


def _where(error: Exception) -> str:
    """An error in one line, with the place in the code that raised it."""
    if isinstance(error, UserError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    last = next((f for f in reversed(frames) if "latentbench" in Path(f.filename).parts), frames[-1])
    message = " ".join(str(error).split())[:400]
    return f"{type(error).__name__}: {message} (in {last.name}, {Path(last.filename).name}:{last.lineno})"
