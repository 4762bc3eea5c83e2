"""Models of one architecture as one program: `torch.func.vmap` over their parameters, buffers, scalars and batches.

Where each model has a parameter of shape (...), the stack has one tensor (S, ...), and the models' own are views of it.
So whatever reads or writes one model (a validation, a checkpoint, a moving average) needs to know of no stack.
Gradients come from ordinary reverse mode behind vmap, so that a parameter which a step does not use has none, as alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, vjp, vmap

from latentbench.core.types import Batch
from latentbench.training.draws_by_member import CannotStack, Drawn, MemberNoise, Tiling, by_member, heard
from latentbench.training.likeness import differing_numbers, plain_attributes
from latentbench.training.rounding import apart, close, tolerance

#: How vmap says that it knows an operation only by its parts.
_COMPOSED = "Batching rule not implemented"


class _Loss(nn.Module):
    """A model whose call is its loss; buffers that are assigned anew are written into those that were passed."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, noise: Generator) -> dict[str, Tensor]:
        before = dict(self.model.named_buffers())
        terms: dict[str, Tensor] = self.model.loss(batch, noise)  # type: ignore[operator]
        for name, now in self.model.named_buffers():
            if now is not before[name]:
                before[name].copy_(now)
        return terms


class Stack:
    """`models` side by side; all in training mode, on one device, of one architecture.

    Args:
        models: their parameters become views of the stack's.
        streams: each member's generator of noise.
        in_parts: have torch take composed operations apart before vmap sees them, so that autocast, too, treats their
            parts as it does outside of vmap.
        draws: name of the attribute that counts draws a row, in which they may differ: all run with a common multiple,
            for which each repeats its own (`Tiling`). Empty: none.

    Attributes:
        parameters: name -> (S, ...), in the order of `Module.parameters`.
        in_parts: as given, or as found to be needed.
        counts: draws a row of each member, where they differ; else None.

    Raises:
        CannotStack: they differ in more than weights, plain numbers and draws.
    """

    def __init__(
        self, models: Sequence[nn.Module], streams: Sequence[Generator], *, in_parts: bool = False, draws: str = ""
    ) -> None:
        self._losses = [_Loss(m) for m in models]
        self._noise = MemberNoise(streams)
        self._scalars, counts = differing_numbers(models, draws)
        self.counts = next(iter(counts.values()), None)
        if any(c != self.counts for c in counts.values()):
            raise CannotStack(f"members differ in two numbers of draws: {' and '.join(counts)}")
        self._common = dict.fromkeys(counts, math.lcm(*self.counts or [1]))
        self.parameters = _gather([dict(loss.named_parameters()) for loss in self._losses])
        for name, whole in self.parameters.items():
            own = [loss.get_parameter(name) for loss in self._losses]
            if len({p.requires_grad for p in own}) > 1:
                raise CannotStack(f"parameter {name} is trained in some members only")
            for i, p in enumerate(own):
                p.data = whole[i]
            whole.requires_grad_(own[0].requires_grad)
        shared = {n for loss in self._losses for n in _constants(loss)}
        buffers = [dict(loss.named_buffers()) for loss in self._losses]
        fixed = {n for n in shared if n in buffers[0] and _same([m[n] for m in buffers])}
        self._buffers = _gather([{n: b for n, b in m.items() if n not in fixed} for m in buffers])
        self._own_buffers: list[dict[str, Tensor]] = [{} for _ in models]
        for i in range(len(models)):
            self._tie(i)
        self._member = torch.arange(len(models), device=streams[0].device)
        self.in_parts = in_parts

    def _tie(self, i: int) -> None:
        """Make the buffers of member i views of the stack's."""
        for name, whole in self._buffers.items():
            owner, _, last = name.rpartition(".")
            self._own_buffers[i][name] = whole[i]
            setattr(self._losses[i].get_submodule(owner), last, self._own_buffers[i][name])

    def take_up(self) -> None:
        """After members were used alone: take up what they assigned to their buffers anew."""
        for i, loss in enumerate(self._losses):
            for name, now in loss.named_buffers():
                if name in self._buffers and now is not self._own_buffers[i][name]:
                    self._own_buffers[i][name].copy_(now)
            self._tie(i)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of each member's loss, (S,) each; `batch` holds (S, N, ...) tensors.

        Raises:
            CannotStack: the model does what vmap cannot follow, or draws from where members cannot be kept apart.
        """
        base, noise = self._losses[0], self._noise
        tiling = Tiling(self.counts, batch.x.shape[1]) if self.counts is not None else None

        def one(
            parameters: Mapping[str, Tensor],
            buffers: Mapping[str, Tensor],
            scalars: Mapping[str, Tensor],
            x: Tensor,
            columns: Mapping[str, Tensor],
            member: Tensor,
        ) -> dict[str, Tensor]:
            own = Batch(x, batch.n_train, batch.step, batch.progress, columns)

            def terms_of(buffers: Mapping[str, Tensor]) -> dict[str, Tensor]:
                terms = functional_call(base, {**parameters, **buffers}, (own, noise))
                return {k: _as_output(v, x.device) for k, v in terms.items()}

            def in_parts(_: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
                now = {n: b.clone() for n, b in buffers.items()}
                return terms_of(now), now

            with by_member(noise, member, tiling), _attributes(base, {**scalars, **self._common}):
                if not self.in_parts:
                    return terms_of(buffers)
                # below a level of differentiation, torch takes operations apart; what lies above it cannot be written
                terms, now = vjp(in_parts, x.new_zeros(()))[0]
            for name, buffer in buffers.items():
                buffer.copy_(now[name])
            return terms

        arguments = (self.parameters, self._buffers, self._scalars, batch.x, dict(batch.columns), self._member)
        try:
            return vmap(one)(*arguments)
        except (RuntimeError, ValueError, NotImplementedError) as e:
            if isinstance(e, torch.OutOfMemoryError) or "not enough memory" in str(e):
                raise
            raise CannotStack(" ".join(f"{type(e).__name__}: {e}".split())[:300]) from e

    def checked_losses(self, batch: Batch, alone: Callable[[int], tuple[Batch, Generator]]) -> dict[str, Tensor]:
        """`losses`, held against each member's own.

        Args:
            batch: as for `losses`.
            alone: for member i the same batch (N, ...) and its generator as they are before the loss.

        Raises:
            CannotStack: a loss or what is drawn is another one than alone, or the model keeps a state that is no
                buffer. Where members differ in their draws: another term or a gradient is another one than alone, or
                a buffer changes at all.
        """
        before = {name: whole.clone() for name, whole in self._buffers.items()}
        kept = plain_attributes(self._losses[0])
        terms, drawn = self._heard_losses(batch)
        if kept != plain_attributes(self._losses[0]):
            raise CannotStack("the model keeps state outside of its buffers")
        if self.counts and not all(torch.equal(b, self._buffers[name]) for name, b in before.items()):
            raise CannotStack("the model keeps statistics, which repeated draws would change")  # a variance by n - 1
        rounding = tolerance(terms["loss"].device.type)
        gradients = _gradients(terms["loss"], self.parameters) if self.counts else {}
        for i, loss in enumerate(self._losses):
            own, noise = alone(i)
            with torch.set_grad_enabled(bool(gradients)), heard(noise) as by_itself:
                expected = functional_call(loss, {n: b[i] for n, b in before.items()}, (own, noise))
            if by_itself != drawn[i] or not torch.equal(noise.get_state(), self._noise.streams[i].get_state()):
                raise CannotStack("it draws other numbers than alone")
            for name in terms if self.counts else ("loss",):
                _hold(name, terms[name][i], expected[name], rounding)
            if gradients:
                right = _gradients(expected["loss"], dict(loss.named_parameters()))
                if apart([gradients[n][i] for n in right], list(right.values())) > 10 * rounding:
                    raise CannotStack("its gradient is another one than alone")
        return terms

    def _heard_losses(self, batch: Batch) -> tuple[dict[str, Tensor], list[list[Drawn]]]:
        """`losses`, in parts if need be, and what each member has drawn."""
        noise = self._noise
        states = [s.get_state() for s in noise.streams]
        drawn: list[list[Drawn]] = [[] for _ in states]
        noise.drawn = drawn
        try:
            return self.losses(batch), drawn
        except CannotStack as e:
            if self.in_parts or _COMPOSED not in str(e):
                raise
            self.in_parts = True
            for stream, state in zip(noise.streams, states, strict=True):
                stream.set_state(state)
            noise.drawn = drawn = [[] for _ in states]
            return self.losses(batch), drawn
        finally:
            noise.drawn = None

    def clip(self, max_norm: float) -> None:
        """Scale each member's gradient to a norm of at most `max_norm`, as `torch.nn.utils.clip_grad_norm_` does."""
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients])
        factor = (max_norm / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)
        for g in gradients:
            g.mul_(factor.view(-1, *[1] * (g.dim() - 1)))

    def zero_grad(self) -> None:
        for p in self.parameters.values():
            p.grad = None


def _as_output(term: Any, device: torch.device) -> Tensor:
    """A term as the training loop has it: in full precision whatever autocast made of it."""
    made = torch.as_tensor(term, device=device)
    return made.to(torch.get_default_dtype()) if made.is_floating_point() else made


def _gather(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """name -> the members' tensors (...) as one (S, ...)."""
    names = list(states[0])
    for state in states[1:]:
        if list(state) != names or any(state[n].shape != states[0][n].shape for n in names):
            raise CannotStack("members have parameters or buffers of different names or shapes")
    return {n: torch.stack([s[n].detach() for s in states]) for n in names}


def _hold(name: str, found: Tensor, right: Any, rounding: float) -> None:
    """Hold a term against that of the member alone."""
    found, right = found.detach().float(), torch.as_tensor(right, device=found.device).detach().float()
    if not close(right, found, rounding):
        raise CannotStack(f"its {name} is {float(right):.6g} alone and {float(found):.6g} stacked")


def _gradients(loss: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of the sum of `loss`, by name; its graph is kept."""
    wanted = {n: p for n, p in parameters.items() if p.requires_grad}
    found = torch.autograd.grad(loss.sum(), list(wanted.values()), retain_graph=True, materialize_grads=True)
    return dict(zip(wanted, found, strict=True))


def _same(tensors: Sequence[Tensor]) -> bool:
    return all(t.shape == tensors[0].shape and torch.equal(t, tensors[0]) for t in tensors[1:])


def _constants(root: nn.Module) -> Iterator[str]:
    """Buffers that are no part of a model's state: what construction fixed."""
    for prefix, module in root.named_modules():
        for name in module._non_persistent_buffers_set:
            yield f"{prefix}.{name}"


class _attributes:  # noqa: N801
    """Inside the block, attributes of submodules hold other values; ``path.of.module.name`` -> value."""

    def __init__(self, root: nn.Module, values: Mapping[str, Any]) -> None:
        self._places = [(root.get_submodule(k.rpartition(".")[0]), k.rpartition(".")[2], v) for k, v in values.items()]

    def __enter__(self) -> None:
        self._before = [getattr(module, name) for module, name, _ in self._places]
        for module, name, value in self._places:
            setattr(module, name, value)

    def __exit__(self, *_: object) -> None:
        for (module, name, _), value in zip(self._places, self._before, strict=True):
            setattr(module, name, value)
