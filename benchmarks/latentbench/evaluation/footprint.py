"""What training a model keeps in memory, counted and not measured, so that it is the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from latentbench.core.capabilities import Trainable
from latentbench.core.types import Batch, MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View

Settings = Mapping[str, Any]


class Kept:
    """Counts the bytes that autograd keeps for backward passes while it is a context; parameters do not count, and what
    several operations keep counts once.

    Attributes:
        peak: the most bytes that were kept at one time.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._not_counted = {p.untyped_storage().data_ptr() for p in parameters}
        self._holders: dict[int, int] = {}
        self._bytes = self.peak = 0
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda held: held.tensor)

    def __enter__(self) -> Kept:
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)

    def _pack(self, tensor: Tensor) -> _Held:
        return _Held(tensor, self)

    def hold(self, tensor: Tensor) -> None:
        place = tensor.untyped_storage().data_ptr()
        if place not in self._not_counted:
            self._holders[place] = self._holders.get(place, 0) + 1
            if self._holders[place] == 1:
                self._bytes += tensor.untyped_storage().nbytes()
                self.peak = max(self.peak, self._bytes)

    def release(self, tensor: Tensor) -> None:
        place = tensor.untyped_storage().data_ptr()
        if place not in self._not_counted:
            self._holders[place] -= 1
            if self._holders[place] == 0:
                del self._holders[place]
                self._bytes -= tensor.untyped_storage().nbytes()


class _Held:
    """A tensor that the graph keeps; it is released when the graph lets go of it."""

    def __init__(self, tensor: Tensor, count: Kept) -> None:
        self.tensor, self._count = tensor.detach(), count
        count.hold(self.tensor)

    def __del__(self) -> None:
        self._count.release(self.tensor)


@metric(
    "training_memory",
    "Trainable",
    "MiB",
    "lower",
    "peak of what one step's gradients keep in memory, counted from the tensors that autograd saves",
    settings={"rows": 128},
    lowest={"rows": 1},
    counts=True,
    within=(0.0, None),
)
def training_memory(model: Trainable, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """MiB that one step's forward and backward pass keep for gradients at their peak, on `rows` training rows.

    Counted from the tensors that autograd saves, those of the adjoint method's backward pass included; parameters,
    gradients and passing results of single operations are not in it.
    """
    train = view.train
    rows = min(int(settings["rows"]), len(train))
    columns = {k: torch.from_numpy(v[:rows].copy()).to(view.device) for k, v in train.columns.items()}
    parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
    with torch.enable_grad(), Kept(parameters) as kept:
        model.loss(Batch(train.x[:rows], len(train), columns=columns), generator)["loss"].backward()
    for p in parameters:
        p.grad = None
    return MetricValue(kept.peak / 2**20, None, rows)


@metric(
    "parameters",
    "Trainable",
    "million",
    "lower",
    "trainable parameters",
    within=(0.0, None),
)
def parameters(model: nn.Module, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Number of trainable parameters, in millions."""
    return MetricValue(sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6)
