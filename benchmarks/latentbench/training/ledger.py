"""What a training in stages keeps of the stages that are over, and its checkpoints, which hold that as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from latentbench.training.state import Checkpointer, Trained


@dataclass
class Ledger:
    """The stages that are over, in order."""

    over: list[Trained] = field(default_factory=list)

    def row(self, row: dict[str, float]) -> dict[str, float]:
        """A row of the present stage's curve as one of the whole curve: steps, epochs and seconds go on counting."""
        return _moved(row, len(self.over) + 1, joined(self.over))

    def with_present(self, present: Trained) -> Trained:
        """All stages up to now as one training."""
        return joined([*self.over, present])


def joined(stages: Sequence[Trained]) -> Trained:
    """One account of several trainings: sums, and a curve with a section for each, told by ``stage`` (1, 2, …)."""
    out = Trained()
    for number, one in enumerate(stages, 1):
        out.curve += [_moved(row, number, out) for row in one.curve]
        out.steps, out.samples = out.steps + one.steps, out.samples + one.samples
        out.epochs, out.seconds = out.epochs + one.epochs, out.seconds + one.seconds
        out.best_step = None if one.best_step is None else out.steps - one.steps + one.best_step
        out.stopped_early = out.stopped_early or one.stopped_early
        out.taken += one.taken
    return out


def _moved(row: dict[str, float], stage: int, before: Trained) -> dict[str, float]:
    moved = {"stage": float(stage)} | row
    for key, start in (("step", before.steps), ("epoch", before.epochs), ("seconds", before.seconds)):
        if key in moved:
            moved[key] += start
    return moved


class StageCheckpoints:
    """The checkpoints of one stage, kept among those of the whole training.

    Args:
        whole: where the whole training's state is kept.
        ledger: the stages before.
        kept: the state that this stage goes on from.
        last: whether the training is over with it.
    """

    def __init__(self, whole: Checkpointer, ledger: Ledger, kept: dict[str, Any] | None, *, last: bool) -> None:
        self._whole, self._ledger, self._kept, self._last = whole, ledger, kept, last

    @property
    def stopping(self) -> bool:
        return self._whole.stopping

    def latest(self) -> dict[str, Any] | None:
        return self._kept

    def due(self, *, final: bool = False) -> bool:
        return self._whole.due(final=final)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Keep a state of this stage."""
        out = self._ledger.with_present(Trained(**state["out"]))
        whole = {
            "out": asdict(out),
            "finished": state["finished"] and self._last,
            "over": [asdict(one) for one in self._ledger.over],
            "stage": state,
        }
        self._whole.save(joined(self._ledger.over).steps + step, whole)
