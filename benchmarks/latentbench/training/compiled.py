"""A training whose loss torch's inductor has compiled into fewer and longer kernels, on a GPU also as CUDA graphs.

It draws the same random numbers as the model's own loss and computes the same but for rounding. That is not taken on
trust: before each of the first steps, and again when torch has compiled anew, terms, gradients, buffers and generators
are held against the model's own, and a model for which one of them differs trains as it is. `Compiled` is a strategy of
Lightning Fabric: the loop does not know of it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from lightning.fabric.strategies import SingleDeviceStrategy
from torch import Generator, Tensor, nn

from latentbench.core.types import Batch
from latentbench.training.likeness import same_attributes
from latentbench.training.rounding import apart, close, tolerance
from latentbench.training.stand_in import Loss, own_loss, put_in_place, take_out

Way = Literal["eager", "inductor", "graphs"]
"""How a loss is computed: by torch's own kernels, by compiled ones, or by those as CUDA graphs."""

#: Steps that are held against the model's own. At the first, torch compiles; at the second it may, where a number that
#: changes from step to step turns out to be no constant, and a CUDA graph is recorded; at the third it is replayed.
CHECKED = 4


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
            torch.compiler.reset()  # what was compiled holds memory

    @property
    def way(self) -> Way:
        """How the loss was computed in the end."""
        return self._loss.way

    @property
    def refused(self) -> str | None:
        """Why the model trained by its own loss, if it did."""
        return self._loss.refused


class CompiledLoss:
    """A model's loss, compiled for training on the largest batches that it sees; smaller ones take the model's own."""

    def __init__(self, way: Way) -> None:
        self._way, self._rows, self._checked, self._graphs = way, 0, 0, 0
        self._compiled: Loss = torch.compile(
            own_loss, options={"fallback_random": True, **({"triton.cudagraphs": True} if way == "graphs" else {})}
        )
        self.refused: str | None = None

    @property
    def way(self) -> Way:
        return "eager" if self.refused is not None else self._way

    def __call__(self, model: nn.Module, batch: Batch, noise: Generator) -> dict[str, Tensor]:
        if len(batch.x) > self._rows:  # a training that goes on may begin with an epoch's last, smaller batch
            self._rows, self._checked = len(batch.x), 0
        if self.refused is not None or not model.training or len(batch.x) < self._rows:
            return own_loss(model, batch, noise)
        if self._checked < CHECKED:
            self._checked += 1
            self.refused = self._fault(model, batch, noise)
            self._graphs = _graphs()
            if self.refused is not None:
                return own_loss(model, batch, noise)
        drawn = noise.get_state()
        try:
            terms = self._next(model, batch, noise)
        except Exception as e:  # compiling anew, torch may fail where it did not at first
            self.refused = _why(e)
            noise.set_state(drawn)
            return own_loss(model, batch, noise)
        if _graphs() != self._graphs:
            self._checked = CHECKED - 1  # it has compiled anew: the next step is held against the model's own
        return terms

    def _next(self, model: nn.Module, batch: Batch, noise: Generator) -> dict[str, Tensor]:
        if self._way == "graphs":
            torch.compiler.cudagraph_mark_step_begin()  # what the last step gave out is no longer needed
        return self._compiled(model, batch, noise)

    def _fault(self, model: nn.Module, batch: Batch, noise: Generator) -> str | None:
        """What the compiled loss does otherwise than the model's own, if anything; both leave no trace."""
        try:
            with _undone(model, noise):
                twin = copy.deepcopy(model)
                take_out(twin)
                own = _outcome(own_loss, twin, batch, noise)
                if not same_attributes(twin, model):
                    return "the model keeps state outside of its parameters and buffers"
            with _undone(model, noise):
                made = _outcome(self._next, model, batch, noise)
        except Exception as e:  # whatever the compiler, or a copy of the model, cannot do
            return _why(e)
        return _difference(own, made, tolerance(noise.device.type))


def _why(error: Exception) -> str:
    return f"it cannot be compiled: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _graphs() -> int:
    """How many graphs torch has compiled in this process."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


@dataclass(frozen=True)
class _Outcome:
    """A loss's terms, its gradients by parameter, and the state after it: parameters, buffers, generators."""

    terms: dict[str, Tensor]
    gradients: list[Tensor | None]
    state: dict[str, Tensor]
    drawn: list[Tensor]


def _outcome(loss: Loss, model: nn.Module, batch: Batch, noise: Generator) -> _Outcome:
    terms = loss(model, batch, noise)
    trained = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(terms["loss"], trained, allow_unused=True)
    return _Outcome(
        {name: torch.as_tensor(term).detach().clone() for name, term in terms.items()},
        [None if g is None else g.clone() for g in gradients],
        {name: t.detach().clone() for name, t in (*model.named_parameters(), *model.named_buffers())},
        _states(noise),
    )


def _states(noise: Generator) -> list[Tensor]:
    """Of the training's generator and of torch's own, from which layers may draw."""
    on_device = [torch.cuda.get_rng_state(noise.device)] if noise.device.type == "cuda" else []
    return [noise.get_state(), torch.get_rng_state(), *on_device]


@contextmanager
def _undone(model: nn.Module, noise: Generator) -> Iterator[None]:
    """Parameters, buffers and generators are after the block as they were before it."""
    buffers = [(m, key, b) for m in model.modules() for key, b in m.named_buffers(recurse=False)]
    before = [(t, t.detach().clone()) for t in (*model.parameters(), *(b for _, _, b in buffers))]
    drawn = noise.get_state()
    with torch.random.fork_rng([noise.device] if noise.device.type == "cuda" else []):
        try:
            yield
        finally:
            noise.set_state(drawn)
            for module, key, buffer in buffers:
                module._buffers[key] = buffer
            with torch.no_grad():
                for tensor, value in before:
                    tensor.copy_(value)


def _difference(own: _Outcome, made: _Outcome, rounding: float) -> str | None:
    if any(not torch.equal(a, b) for a, b in zip(own.drawn, made.drawn, strict=True)):
        return "compiled, it draws other random numbers"
    for name, right in own.terms.items():
        if not close(right, made.terms[name], rounding):
            return f"its {name} is {float(right):.6g}, and {float(made.terms[name]):.6g} compiled"
    if [g is None for g in own.gradients] != [g is None for g in made.gradients]:
        return "compiled, other parameters have a gradient"
    for name, right in own.state.items():
        if not close(right, made.state[name], rounding):
            return f"{name} differs when it is compiled"
    pairs = [(a, b) for a, b in zip(made.gradients, own.gradients, strict=True) if a is not None and b is not None]
    if (off := apart(*zip(*pairs, strict=True))) > 10 * rounding:
        return f"a gradient differs by {off:.2g} of its size when it is compiled"
    return None
