"""Studies: procedures that are tried on problems whose truth is known, one after the other.

A paper's simulation is one class that makes problems, and one heir a procedure that answers them::

    class FactorStudy(Study):
        def __init__(self, info, *, variables: PositiveInt = 20, problems: PositiveInt = 10) -> None: ...
        def problem(self, rng): ...  # Problem(given, truth)

    @model("clique-search", "Iterative Study StructureLearner", examples=(Example("real-vector", {"problems": 2}),))
    class CliqueSearch(FactorStudy):
        def answer(self, given, rng): ...  # {"graph": ...}

All methods of a suite meet the same problems at the same seed, so that differences are paired. What an answer holds
under the names of `latentbench.core.capabilities.PROPERTIES` (``graph``, ``labels``, ``latents``) is measured by
metrics that there are; a paper's own measurement is a `metric` that needs ``Study`` and takes
`latentbench.evaluation.studies.over_problems`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.models import checks

Arrays = Mapping[str, Any]


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
        given: what a procedure may see: arrays and numbers, by name.
        truth: what it is to find: arrays and numbers, by name.
    """

    given: Arrays
    truth: Arrays = field(default_factory=dict)


class Study(ABC):
    """Answers `problems` problems, one an iteration, so that training needs no length and goes on after a stop.

    Problem i is drawn from a numpy generator of the run's noise seed and i alone: the same for each method that draws
    problems in the same way. Answers are drawn from a generator of their own.

    Args:
        info: of the data, which most studies do not use (dataset ``simulated``).
        problems: how many, at least 1.
    """

    def __init__(self, info: DataInfo, *, problems: int = 10) -> None:
        self.info = info
        self.problems = checks.whole("problems", problems)
        self._seed = 0
        self._answers: list[dict[str, Tensor]] = []

    @abstractmethod
    def problem(self, rng: np.random.Generator) -> Problem:
        """The next problem."""

    @abstractmethod
    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        """What the procedure finds: arrays or numbers, by name.

        Raises:
            UserError: the problem is none that it can answer.
        """

    def start(self, data: Batch, generator: Generator) -> None:
        self._seed = int(torch.randint(0, 2**62, (1,), generator=generator))
        self._answers = []

    def advance(self, data: Batch, generator: Generator) -> Mapping[str, Tensor | float]:
        """Answer one problem."""
        i = len(self._answers)
        answer = self.answer(self.problem(self._stream(i, "problem")).given, self._stream(i, "answer"))
        self._answers.append({name: self._kept(name, value) for name, value in answer.items()})
        return {"answered": float(i + 1)}

    def done(self) -> bool:
        return len(self._answers) >= self.problems

    def answered(self) -> Iterator[tuple[Arrays, Arrays]]:
        """(truth, answer) of each problem, as numpy arrays and numbers."""
        for i, answer in enumerate(self._answers):
            yield self.problem(self._stream(i, "problem")).truth, {k: v.numpy() for k, v in answer.items()}

    def again(self, i: int) -> Any:
        """A call without arguments that answers problem `i` once more, to be timed."""
        given = self.problem(self._stream(i, "problem")).given
        return lambda: self.answer(given, self._stream(i, "answer"))

    def state_dict(self) -> dict[str, Tensor]:
        answers = {f"{i:06d}.{k}": v for i, answer in enumerate(self._answers) for k, v in answer.items()}
        return {"seed": torch.tensor(self._seed), "count": torch.tensor(len(self._answers)), **answers}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._seed = int(state["seed"])
        self._answers = [{} for _ in range(int(state["count"]))]
        for key, value in state.items():
            number, dot, name = key.partition(".")
            if dot:
                self._answers[int(number)][name] = value

    def _stream(self, i: int, of: str) -> np.random.Generator:
        return np.random.default_rng([self._seed, i, {"problem": 0, "answer": 1}[of]])

    def _kept(self, name: str, value: Any) -> Tensor:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise UserError(
                f"answer {name!r} of {type(self).__name__} is no array of numbers", fix="return numpy arrays"
            )
        return torch.from_numpy(np.array(array, dtype=np.float64 if array.dtype.kind == "f" else np.int64))


class TableStudy(Study):
    """A study whose problems are choices of rows of the data, which travel with its state.

    Attributes:
        x, y: inputs (N, D) and column ``y`` (N, ...) of all rows, float64; without rows until `keep`.
    """

    def __init__(self, info: DataInfo, *, problems: int = 10) -> None:
        super().__init__(info, problems=problems)
        self.x, self.y = np.zeros((0, 1)), np.zeros(0)

    def keep(self, data: Batch) -> None:
        """Take the rows of the training set, for `start` of a heir that wants them."""
        self.x, self.y = (rows.double().cpu().numpy() for rows in (data.x.flatten(1), data.columns["y"]))

    def state_dict(self) -> dict[str, Tensor]:
        return {**super().state_dict(), "x": torch.from_numpy(self.x), "y": torch.from_numpy(self.y)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.x, self.y = state["x"].numpy(), state["y"].numpy()
