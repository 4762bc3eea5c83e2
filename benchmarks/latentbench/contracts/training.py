"""Contract tests of how a model trains, whatever kind of training and rows it has: through the engine itself."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from latentbench.contracts.finding import Finding, NotApplicable, attempts
from latentbench.core.capabilities import PROPERTIES, capabilities_of
from latentbench.training.source import Source
from latentbench.training.trial import train_briefly

#: Steps of a trial.
STEPS = 6


def check_training(
    subject: str,
    build: Callable[[], Any],
    rows: Callable[[], Source],
    declared: frozenset[str],
    training: Mapping[str, Any] | None = None,
) -> Iterator[Finding]:
    """The contract tests of a model's training.

    Args:
        subject: what to call it.
        build: makes it; initial weights come from torch's global generator.
        rows: makes its training set, of any kind.
        declared: the capabilities that its declaration names.
        training: its protocol; the length is made short.
    """
    tests = _Tests(build, rows, declared, training)
    return attempts(
        subject,
        {
            "it can do what its entry says": tests.capabilities,
            "it trains, and what it logs is finite": tests.trains,
            "training changes it": tests.changes,
            "the same seed gives the same weights": tests.determinism,
            "interrupted at every step, it ends in the same bits": tests.resumes,
        },
    )


class _Tests:
    def __init__(
        self,
        build: Callable[[], Any],
        rows: Callable[[], Source],
        declared: frozenset[str],
        training: Mapping[str, Any] | None,
    ) -> None:
        self._build, self._rows, self._declared, self._training = build, rows, declared, training

    def _fresh(self, seed: int = 0) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self._build()

    def _trained(self) -> tuple[Any, Any]:
        model = self._fresh()
        return model, train_briefly(model, self._rows(), STEPS, self._training)

    def capabilities(self) -> str | None:
        found = capabilities_of(self._fresh())
        declared = self._declared - PROPERTIES.keys()
        if lacks := sorted(declared - found):
            return f"it lacks {', '.join(lacks)}"
        more = sorted(found - declared)
        return f"it also implements {', '.join(more)}: name them in its entry" if more else None

    def trains(self) -> str | None:
        _, out = self._trained()
        wrong = sorted({k for row in out.curve for k, v in row.items() if not math.isfinite(v)})
        return f"not finite: {', '.join(wrong)}" if wrong else None

    def changes(self) -> str | None:
        before, (model, out) = _state(self._fresh()), self._trained()
        if not before and not out.curve:  # a rival that learns nothing; one that takes steps holds what they bring
            raise NotApplicable("it holds nothing, and its training takes no step")
        return None if _differ(before, _state(model)) else "all that it holds is as it was"

    def determinism(self) -> str | None:
        (first, _), (second, _) = self._trained(), self._trained()
        differ = _differ(_state(first), _state(second))
        return f"{', '.join(differ[:5])} differ" if differ else None

    def resumes(self) -> str | None:
        whole, out = self._trained()
        kept, model, again = _Kept(), None, None
        for piece in range(len(out.curve) + 2):
            model = self._fresh(piece)  # other weights each time, so that none are taken but the kept ones
            kept.left = 1
            try:
                again = train_briefly(model, self._rows(), STEPS, self._training, checkpoints=kept)
            except KeyboardInterrupt:
                continue
            break
        if again is None:
            return "it does not come to an end"
        differ = _differ(_state(whole), _state(model))
        return f"{', '.join(differ[:5])} differ: keep what changes in buffers or `own_state`" if differ else None


class _Kept:
    """A `Checkpointer` in memory, of a process that is asked to stop after each step."""

    def __init__(self) -> None:
        self.left = 1
        self._state: dict[str, Any] | None = None

    @property
    def stopping(self) -> bool:
        return self.left <= 0

    def latest(self) -> dict[str, Any] | None:
        return copy.deepcopy(self._state)

    def due(self, *, final: bool = False) -> bool:
        self.left -= not final
        return True

    def save(self, step: int, state: dict[str, Any]) -> None:
        self._state = copy.deepcopy(state)


def _state(model: Any) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def _differ(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> list[str]:
    return [k for k in a if not torch.equal(a[k].nan_to_num(), b[k].nan_to_num())]
