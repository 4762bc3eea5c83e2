"""How a run is trained as its settings ask: spread over devices, with a compiled loss, or plainly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from latentbench.acceleration.compiling import WAYS, choose
from latentbench.acceleration.distributed import devices_for, spread
from latentbench.planning.plan import RunSpec
from latentbench.running.checkpoints import Checkpoints
from latentbench.running.conductor import Notes, TrainingContext, arrange, ends_training, launched
from latentbench.running.observer import ProgressReport, Report
from latentbench.running.settings import Settings


class Accelerated:
    """See the module: `latentbench.running.conductor.Conductor`."""

    def devices(self, spec: RunSpec, settings: Settings) -> int:
        return devices_for(spec, settings)

    @contextmanager
    def conduct(
        self, spec: RunSpec, settings: Settings, checkpoints: Checkpoints, notes: Notes, report: Report
    ) -> Iterator[TrainingContext]:
        """See `latentbench.running.conductor.Conductor`; what happened to another device's process is raised here."""
        since = monotonic()
        if settings.compile == "auto":
            report(ProgressReport(spec.cell, "choosing how to compute the loss"))
        choice = choose(spec, settings, WAYS.get(checkpoints.began() or ""))
        notes.compiled, notes.step_seconds = choice.way, choice.step_seconds
        notes.other_seconds -= monotonic() - since  # what was timed serves all runs of the method
        arrange(spec, settings)
        if devices_for(spec, settings) > 1:
            with spread(spec, settings, checkpoints) as context:
                yield context
        elif choice.way != "eager":
            with _compiled(spec, settings, checkpoints, notes) as context:
                yield context
        else:
            yield TrainingContext(launched(spec, settings), checkpoints)


@contextmanager
def _compiled(spec: RunSpec, settings: Settings, checkpoints: Checkpoints, notes: Notes) -> Iterator[TrainingContext]:
    """Checkpoints and notes say how the loss is computed; one that was compiled for a part of the training is."""
    from latentbench.training.compiled import Compiled, Way

    strategy = Compiled(notes.compiled, settings.device)
    began = WAYS.get(checkpoints.began() or "", "eager")

    def way() -> Way:
        return began if strategy.way == "eager" else strategy.way

    fabric = launched(spec, settings, strategy)
    checkpoints.way = way
    try:
        yield TrainingContext(fabric, checkpoints, ends_training(strategy.release))
    finally:
        notes.compiled = way()
        if strategy.refused is not None:
            checkpoints.faults.append(f"trained uncompiled: {strategy.refused}")
