"""What a step of a training does that is no gradient descent: one iteration of the model's own algorithm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn

from latentbench.core.capabilities import Iterative
from latentbench.core.types import Batch

if TYPE_CHECKING:
    from lightning.fabric import Fabric


class Iterations:
    """Iterations of an `Iterative` model on its whole training set.

    Attributes:
        names, optimizers: as those of `latentbench.training.descent.Descent`.
    """

    def __init__(self, model: Any, data: Batch, noise: Generator, fabric: Fabric) -> None:
        if isinstance(model, nn.Module):
            fabric.to_device(model)
        self._model: Iterative = model
        self._data, self._noise = data, noise
        self.names = ("",)
        self.optimizers: Sequence[torch.optim.Optimizer] = ()

    def begin(self) -> None:
        """Nothing has been done yet."""
        self._model.start(self._data, self._noise)

    def done(self) -> bool:
        return self._model.done()

    def rates(self) -> dict[str, float]:
        return {}

    def step(
        self,
        step: int,
        draw: Callable[[], Batch],
    ) -> tuple[dict[str, Tensor | float], Tensor | None]:
        """One iteration; its terms, and the one called ``loss`` if it has one."""
        terms = dict(self._model.advance(self._data, self._noise))
        loss = terms.get("loss")
        return terms, None if loss is None else torch.as_tensor(loss).detach().to(torch.float32)
