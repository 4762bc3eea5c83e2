"""A training whose loss torch's inductor has compiled into fewer and longer kernels, on a GPU also as CUDA graphs.

It draws the same random numbers as the model's own loss and computes the same but for rounding. That is not taken on
trust: before each of the first steps, loss, gradients, buffers and generators are held against the model's own, and a
model for which one of them differs trains as it is. `Compiled` is a strategy of Lightning Fabric: the loop does not
know of it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.fabric.strategies import SingleDeviceStrategy
from torch import Generator, Tensor, nn

from benchmarks.core.types import Batch
from benchmarks.training.likeness import plain_attributes
from benchmarks.training.stand_in import Loss, own_loss, put_in_place, take_out

Way = Literal["eager", "inductor", "graphs"]
"""How a loss is computed: by torch's own kernels, by compiled ones, or by those as CUDA graphs."""

#: Steps that are held against the model's own. At the first, torch compiles; at the second it may, where a number that
#: changes from step to step turns out to be no constant, and a CUDA graph is recorded; at the third it is replayed.
CHECKED = 4
#: Largest relative difference of a loss, and of the gradient as a whole, for rounding; the second pair is that of
#: reduced precision.
CLOSE, COARSE = (1e-4, 1e-3), (1e-2, 5e-2)


class Compiled(SingleDeviceStrategy):
    """One device, on which the loss is compiled.

    Args:
        way: ``inductor``, or ``graphs``.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, way: Way, device: str | torch.device = "cpu") -> None:
        super().__init__(device)
        self._loss = CompiledLoss(way)
        self._module: nn.Module | None = None

    def setup_module(self, module: nn.Module) -> nn.Module:
        torch.compiler.reset()  # what earlier runs of this process have left would decide what is compiled now
        put_in_place(module, self._loss)
        self._module = module
        return module

    def release(self) -> None:
        """The training is over: the model's loss is its own again."""
        if self._module is not None:
            take_out(self._module)

    @property
    def way(self) -> Way:
        """How the loss was computed in the end."""
        return self._loss.way

    @property
    def refused(self) -> str | None:
        """Why the model trained by its own loss, if it did."""
        return self._loss.refused


class CompiledLoss:
    """A model's loss, compiled for training on batches of the first one's size; others take the model's own."""

    def __init__(self, way: Way) -> None:
        self._way, self._rows, self._checked = way, 0, 0
        self._compiled: Loss = torch.compile(
            own_loss, options={"fallback_random": True, **({"triton.cudagraphs": True} if way == "graphs" else {})}
        )
        self.refused: str | None = None

    @property
    def way(self) -> Way:
        return "eager" if self.refused is not None else self._way

    def __call__(self, model: nn.Module, batch: Batch, noise: Generator) -> dict[str, Tensor]:
        self._rows = self._rows or len(batch.x)
        if self.refused is not None or not model.training or len(batch.x) != self._rows:
            return own_loss(model, batch, noise)
        if self._checked < CHECKED:
            self._checked += 1
            self.refused = self._fault(model, batch, noise)
            if self.refused is not None:
                return own_loss(model, batch, noise)
        return self._next(model, batch, noise)

    def _next(self, model: nn.Module, batch: Batch, noise: Generator) -> dict[str, Tensor]:
        if self._way == "graphs":
            torch.compiler.cudagraph_mark_step_begin()  # what the last step gave out is no longer needed
        return self._compiled(model, batch, noise)

    def _fault(self, model: nn.Module, batch: Batch, noise: Generator) -> str | None:
        """What the compiled loss does otherwise than the model's own, if anything; both leave no trace."""
        with _undone(model, noise):
            twin = copy.deepcopy(model)
            kept = plain_attributes(twin)
            own = _outcome(own_loss, twin, batch, noise)
            if plain_attributes(twin) != kept:
                return "the model keeps state outside of its buffers"
        with _undone(model, noise):
            try:
                made = _outcome(self._next, model, batch, noise)
            except torch.OutOfMemoryError:
                raise
            except Exception as e:  # whatever the compiler cannot do
                return f"it cannot be compiled: {type(e).__name__}: {' '.join(str(e).split())[:200]}"
        return _difference(own, made, coarse=_reduced(noise.device.type))


@dataclass(frozen=True)
class _Outcome:
    """A loss, its gradients by parameter, the buffers and the states of the generators after it."""

    loss: Tensor
    gradients: list[Tensor | None]
    buffers: list[Tensor]
    drawn: list[Tensor]


def _outcome(loss: Loss, model: nn.Module, batch: Batch, noise: Generator) -> _Outcome:
    trained = [p for p in model.parameters() if p.requires_grad]
    value = loss(model, batch, noise)["loss"]
    gradients = torch.autograd.grad(value, trained, allow_unused=True)
    return _Outcome(
        value.detach().clone(),
        [None if g is None else g.clone() for g in gradients],
        [b.detach().clone() for b in model.buffers()],
        _states(noise),
    )


def _states(noise: Generator) -> list[Tensor]:
    """Of the training's generator and of torch's own, from which layers may draw."""
    on_device = [torch.cuda.get_rng_state(noise.device)] if noise.device.type == "cuda" else []
    return [noise.get_state(), torch.get_rng_state(), *on_device]


@contextmanager
def _undone(model: nn.Module, noise: Generator) -> Iterator[None]:
    """Buffers and generators are after the block as they were before it."""
    places: list[tuple[nn.Module, str, Tensor, Tensor]] = [
        (module, key, buffer, buffer.detach().clone())
        for module in model.modules()
        for key, buffer in module.named_buffers(recurse=False)
    ]
    drawn = noise.get_state()
    with torch.random.fork_rng([noise.device] if noise.device.type == "cuda" else []):
        try:
            yield
        finally:
            noise.set_state(drawn)
            with torch.no_grad():
                for module, key, buffer, before in places:
                    module._buffers[key] = buffer
                    buffer.copy_(before)


def _reduced(device: str) -> bool:
    """Whether products are taken in less than single precision."""
    return torch.is_autocast_enabled(device) or (device == "cuda" and torch.backends.cuda.matmul.allow_tf32)


def _difference(own: _Outcome, made: _Outcome, *, coarse: bool) -> str | None:
    of_loss, of_gradient = COARSE if coarse else CLOSE
    if any(not torch.equal(a, b) for a, b in zip(own.drawn, made.drawn, strict=True)):
        return "compiled, it draws other random numbers"
    if not torch.allclose(own.loss, made.loss, rtol=of_loss, atol=of_loss, equal_nan=True):
        return f"its loss is {float(own.loss):.6g}, and {float(made.loss):.6g} compiled"
    if [g is None for g in own.gradients] != [g is None for g in made.gradients]:
        return "compiled, other parameters have a gradient"
    if any(not _close(a, b, of_loss) for a, b in zip(own.buffers, made.buffers, strict=True)):
        return "its buffers differ when it is compiled"
    size, off = (_norm(gradients) for gradients in (own.gradients, _minus(made.gradients, own.gradients)))
    if size.isfinite() and not bool(off <= of_gradient * size + 1e-12):
        return f"its gradients differ by {float(off / size):.2g} of their size when it is compiled"
    return None


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    if a.is_floating_point():
        return torch.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
    return torch.equal(a, b)


def _minus(a: list[Tensor | None], b: list[Tensor | None]) -> list[Tensor | None]:
    return [None if x is None or y is None else x - y for x, y in zip(a, b, strict=True)]


def _norm(gradients: list[Any]) -> Tensor:
    return torch.stack([torch.linalg.vector_norm(g.float()) for g in gradients if g is not None]).norm()
