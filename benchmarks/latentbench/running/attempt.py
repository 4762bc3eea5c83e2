"""One run under its lock: from clean folder to sealed record, whoever conducts its training and follows it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from latentbench.core.errors import Diverged, UserError
from latentbench.core.interrupts import check, stopping
from latentbench.core.plugins import packages, paper_folders
from latentbench.core.secrets import without_secrets
from latentbench.data.dataset import Dataset
from latentbench.planning.plan import RunSpec
from latentbench.records.corrections import note_corrections
from latentbench.records.record import Record, Status, remove_unfinished, write_atomically, write_record
from latentbench.running import provenance
from latentbench.running.checkpoints import Checkpoints
from latentbench.running.code_watch import CodeWatch
from latentbench.running.conductor import Conductor, Notes
from latentbench.running.files_read import FilesRead
from latentbench.running.observer import Observe, ProgressReport, Report, Unobserved
from latentbench.running.recording import keep_results, make_record
from latentbench.running.settings import Settings
from latentbench.running.shared_stages import StageStore
from latentbench.running.watch import DataWatch

if TYPE_CHECKING:
    from latentbench.running.outcome import Outcome
    from latentbench.training.loop import Progress

#: What is called for the outcome: as `latentbench.running.experiment.run_experiment`.
Experiment = Callable[..., "Outcome"]


class Attempt:
    """A run that is about to be done; its caller holds the lock.

    Args:
        spec, settings: the run, and how to carry it out.
        dataset: prepared.
        folder: where its files go; what a killed process left there is removed.
        damage: what is wrong with a record that was there.
        report: told how it goes.
        observe: gives who follows its curve and its outcome.

    Attributes:
        checkpoints: of the training.
        observer: who follows it.
        notes: how its training is computed.
    """

    def __init__(
        self,
        spec: RunSpec,
        settings: Settings,
        dataset: Dataset,
        folder: Path,
        damage: str | None,
        report: Report,
        observe: Observe = Unobserved,
    ) -> None:
        self.spec, self.notes = spec, Notes()
        self._settings, self._dataset, self._folder, self._report = settings, dataset, folder, report
        self._data_hash = dataset.content_hash
        self._watch, self._code = DataWatch(dataset), CodeWatch(spec)
        self._beside = FilesRead(spec)
        remove_unfinished(folder)
        self.checkpoints = Checkpoints(
            folder / "checkpoint",
            spec.fingerprint(self._data_hash),
            settings.checkpoint_seconds,
            stopping,
            lambda fault: report(ProgressReport(spec.cell, fault)),
            exact=settings.device == "cpu" or bool(spec.training["deterministic"]),
        )
        if settings.force:
            self.checkpoints.clear()
        if damage is not None:
            self.checkpoints.faults.append(damage)
        self.observer = observe(spec, settings, spec.run_id(self._data_hash))
        self._started = provenance.now()

    def progress(self, p: Progress) -> None:
        """Pass a training's progress on."""
        self._report(ProgressReport(self.spec.cell, "training", p.step, p.steps, p.samples_per_second))

    def carry_out(self, conductor: Conductor, experiment: Experiment | None = None) -> Record:
        """Do the experiment, keep what comes out of it, and write the record.

        Args:
            conductor: decides how the training is computed.
            experiment: instead of `run_experiment`.

        Raises:
            KeyboardInterrupt: the process was asked to stop; a training's state has been saved.
            UserError: the record cannot be written.
        """
        spec, settings, checkpoints, notes = self.spec, self._settings, self.checkpoints, self.notes
        notes.devices = conductor.devices(spec, settings)
        provenance.forget_peak_memory(settings.device)
        clock = monotonic()
        try:
            with self._beside.watching():
                if (changed := self._changed()) is None:
                    status, error, outcome = self._attempt(conductor, experiment)
                    changed = self._changed()
            if changed is not None:  # whatever came out of it
                status, error, outcome = "failed", changed, None
                checkpoints.clear()
        except KeyboardInterrupt:
            self.observer.interrupted()
            raise
        files: dict[str, str] = {}
        if outcome is not None:
            try:
                files = keep_results(outcome, self._folder, weights=settings.weights)
            except OSError as e:  # a run without the weights that were asked for has not finished
                error = f"weights and curve could not be written: {e.strerror or e}; {self._kept(outcome)}"
                status = "failed"
        record = make_record(
            spec,
            settings,
            self._data_hash,
            spec.run_id(self._data_hash),
            status,
            error,
            outcome,
            self._started,
            monotonic() - clock + checkpoints.spent + notes.other_seconds - (outcome.elsewhere if outcome else 0.0),
            notes,
            files=files,
            checkpoints=checkpoints,
            beside=self._beside,
        )
        write_record(self._folder / "record.json", record, kept=self._kept(outcome))
        with suppress(OSError):  # the record is what counts
            note_corrections(record, settings.results)
        if status == "finished":
            checkpoints.clear()
            (self._folder / "traceback.txt").unlink(missing_ok=True)
        self.observer.ended(record)
        return record

    def _kept(self, outcome: Outcome | None) -> str:
        """What of the training another try goes on from, as the disk has it."""
        step = self.checkpoints.last_step()
        if step is None:
            return "nothing of it could be kept, so it is trained anew"
        whole = outcome is not None and step >= outcome.trained.steps
        return "what was trained is kept" if whole else f"what was trained up to step {step} is kept"

    def _changed(self) -> str | None:
        """What of data and code is not what the run's fingerprint names, in one line."""
        return self._watch.fault() or self._code.fault()

    def _attempt(
        self, conductor: Conductor, experiment: Experiment | None
    ) -> tuple[Status, str | None, Outcome | None]:
        """Status, error and outcome of the experiment.

        Raises:
            KeyboardInterrupt: the process was asked to stop.
        """
        import torch

        from latentbench.running.experiment import run_experiment

        try:
            with conductor.conduct(self.spec, self._settings, self.checkpoints, self.notes, self._report) as context:
                metrics = [m.key for m in self.spec.metrics]

                def phase(name: str) -> None:
                    check()
                    context.on_phase(name)
                    of = f" ({metrics.index(name) + 1} of {len(metrics)})" if name in metrics else ""
                    self._report(ProgressReport(self.spec.cell, f"{name}{of}"))

                outcome = (experiment or run_experiment)(
                    self.spec,
                    context.fabric,
                    on_progress=self.progress,
                    on_log=self.observer.log,
                    on_phase=phase,
                    checkpoints=context.checkpoints,
                    stages=StageStore(
                        self._settings.results,
                        self._data_hash,
                        self._settings.checkpoint_seconds,
                        stopping,
                        self.checkpoints.faults.append,
                    ),
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


def no_memory(error: Exception) -> bool:
    """Whether an error says that there was no memory left."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "not enough memory" in str(error)
    )


def _where(error: Exception) -> str:
    """An error in one line, with the place in the code that raised it: the author's, where it is a plug-in's or a
    paper's code that called ours, or ours that called a library."""
    if isinstance(error, UserError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    last = next((f for ours in (_is_authors, _is_ours) for f in reversed(frames) if ours(f.filename)), frames[-1])
    message = " ".join(str(error).split())[:400]
    return f"{type(error).__name__}: {message} (in {last.name}, {Path(last.filename).name}:{last.lineno})"


def _is_authors(file: str) -> bool:
    """Whether a file is of a paper's folder, of one that the user names, or of an installed plug-in."""
    path = Path(file)
    folders = [folder.resolve() for folder in paper_folders().values()]
    return any(path.resolve().is_relative_to(folder) for folder in folders) or any(
        name in path.parts or f"{name}.py" == path.name for name in packages()
    )


def _is_ours(file: str) -> bool:
    return Path(file).is_relative_to(Path(__file__).parents[1])
