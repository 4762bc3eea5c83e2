"""Another function in the place of a model's own loss: the training loop knows of none but `loss`."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

from torch import Generator, Tensor, nn

from latentbench.core.types import Batch

Loss = Callable[[nn.Module, Batch, Generator], dict[str, Tensor]]
"""From a model, a batch and a generator of noise to the terms of the loss, as a model's own `loss` has them."""


def own_loss(model: nn.Module, batch: Batch, noise: Generator) -> dict[str, Tensor]:
    """The loss of the model's class, whatever stands in its place."""
    own: Any = type(model)
    terms: dict[str, Tensor] = own.loss(model, batch, noise)
    return terms


def put_in_place(model: nn.Module, loss: Loss) -> None:
    """Put `loss` in the place of the model's own; a deep copy of the model takes it along, bound to the copy."""
    vars(model)["loss"] = MethodType(loss, model)


def take_out(model: nn.Module) -> None:
    """Give the model its own loss back."""
    vars(model).pop("loss", None)
