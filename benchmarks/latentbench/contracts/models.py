"""What every model must do, whoever wrote it. One contract for ours and for yours: `TESTS`.

A model is tested on each example of its declaration, and on a suite's own data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from latentbench.contracts import behaviour, densities, learning, limits, regimes
from latentbench.contracts.finding import Check, Finding, attempts, source_of
from latentbench.contracts.subject import Subject

Trial = Callable[[Subject], str | None]

BUILT = "it is built"
LOSS = "its loss is a finite scalar, and what it logs is one, too"
TRAINS = "it trains"
SHAPES = "answers have the right shapes and are finite, of many rows and of one"
NORMALISED = "its probabilities sum to one"
SAMPLES = "its samples follow its density"
WEIGHTS = "its bound is the mean of its log importance weights, and weights average to the likelihood"

#: Each test, and those without which it means nothing; those of probabilities early, as they are cheap and tell most.
TESTS: dict[str, tuple[Trial, tuple[str, ...]]] = {
    BUILT: (behaviour.built, ()),
    "it can do what its declaration says": (learning.capabilities, (BUILT,)),
    LOSS: (learning.loss, (BUILT,)),
    TRAINS: (behaviour.trains, (LOSS,)),
    SHAPES: (behaviour.shapes, (TRAINS,)),
    NORMALISED: (densities.normalised, (SHAPES,)),
    WEIGHTS: (densities.weights, (SHAPES, NORMALISED)),
    SAMPLES: (densities.samples, (SHAPES,)),
    "its bound lies below a density": (densities.bound, (SHAPES,)),
    "its conditional distributions sum to one": (densities.parts, (SHAPES,)),
    "gradients reach every parameter": (learning.gradients, (TRAINS,)),
    "training lowers the loss": (learning.learning, (TRAINS,)),
    "training raises the likelihood, or its bound": (learning.likelihood, (SHAPES, NORMALISED)),
    "its loss is the objective that its example states, in value and in gradient": (learning.objective, (TRAINS,)),
    "each player's loss moves its own parameters, and all of them": (regimes.players, (TRAINS,)),
    "iterations go on from a saved state to the same bits": (regimes.iterations, (TRAINS,)),
    "state of its own is handed out and taken back": (regimes.own_state, (TRAINS,)),
    "the same seed gives the same numbers, and initial weights depend on it": (behaviour.determinism, (SHAPES,)),
    "it draws from the generator that it is given, and from nothing else": (behaviour.draws, (SHAPES,)),
    "its input and its state are left as they were": (behaviour.untouched, (SHAPES,)),
    "a row's answer does not depend on the other rows": (behaviour.rows, (SHAPES,)),
    "capabilities that say the same thing agree": (behaviour.agreement, (SHAPES,)),
    "samples lie in the data's support": (behaviour.support, (SHAPES,)),
    "values at the ends of the data's range give no NaN": (limits.extremes, (SHAPES,)),
    "uniform draws at their ends give finite numbers": (limits.ends, (SHAPES,)),
    "weights saved and loaded give the same answers": (behaviour.saving, (SHAPES,)),
    "seeds that train side by side get what each gets alone": (learning.stacking, (TRAINS,)),
}


def check_model(name: str, subject: Subject, author: object) -> Iterator[Finding]:
    """The findings of every contract test, in order; a cause that several tests meet is reported once.

    Args:
        name: what to call it.
        subject: the model on its rows.
        author: its class, whose file and line a fault is put down to, where no line of that file raised it.
    """
    source = source_of(author)
    files = frozenset(_files(author))
    tests: dict[str, Any] = {
        test: Check(lambda run=run: run(subject), after)  # type: ignore[misc]
        for test, (run, after) in TESTS.items()
    }
    return attempts(name, tests, source, files)


def _files(author: object) -> Iterator[str]:
    """The sources of a class and of what it inherits from, but for torch's."""
    for cls in getattr(author, "__mro__", (author,)):
        place = source_of(cls).rpartition(":")[0]
        if place and "/torch/" not in place:
            yield str(Path(place).resolve())
