"""Random numbers of models that train side by side: each draws from a generator of its own, as it would alone.

Under `torch.func.vmap` a call such as ``torch.randn(shape, generator=g)`` runs once for all members. Here the members
share a stand-in for `g`; a call that carries it is caught, and made once for each member with that member's generator.
So a member's draws are those of its separate run, bit for bit. Which functions are caught is a closed list. Anything
else that draws is refused: by name where it carries the stand-in, and by vmap itself where it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

from benchmarks.core.errors import UserError

_MAKERS = {torch.randn, torch.rand, torch.randint, torch.randperm}
_OF_TENSORS = {torch.bernoulli, Tensor.bernoulli, torch.multinomial, Tensor.multinomial}
_IN_PLACE = {Tensor.exponential_, Tensor.normal_, Tensor.uniform_, Tensor.bernoulli_}


class CannotStack(UserError):
    """Why these runs cannot train side by side; each alone they can."""


class MemberNoise(Generator):
    """Stands for the generators of all members where a model expects one.

    Args:
        streams: the members' own, all on one device.
    """

    streams: Sequence[Generator]

    def __new__(cls, streams: Sequence[Generator]) -> Self:
        made = super().__new__(cls, device=streams[0].device)  # type: ignore[call-arg]
        made.streams = streams
        return made

    def _refuse(self, *_: Any) -> Any:
        raise CannotStack("the model asks for the state or the seed of its generator")

    get_state = set_state = manual_seed = seed = initial_seed = _refuse  # type: ignore[assignment]


class _Draw(torch.autograd.Function):
    """One draw of all members; under vmap over members, whose tensors come in whole, the loop over them."""

    @staticmethod
    def forward(*_: Any) -> Tensor:
        raise CannotStack("the model draws outside of what is the members' own")

    @staticmethod
    def setup_context(ctx: Any, _: Any, output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        return (None,) * len(ctx.needs_input_grad)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        member_dim, _, *dims = in_dims
        _, call, *tensors = inputs
        if member_dim is None:
            raise CannotStack("the model draws inside a `vmap` of its own")
        drawn = []
        for i in range(info.batch_size):
            own = [t if d is None else t.select(d, i) for t, d in zip(tensors, dims, strict=True)]
            drawn.append(call(i, own))
        return torch.stack(drawn), 0


class _Caught(TorchFunctionMode):
    """Hands calls that carry the stand-in to `draw`."""

    def __init__(self, noise: MemberNoise, draw: Callable[[Any, tuple[Any, ...], dict[str, Any]], Tensor]) -> None:
        super().__init__()
        self._noise, self._draw = noise, draw

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if kwargs is None:
            return func(*args)
        if kwargs.get("generator") is self._noise:
            return self._draw(func, args, {k: v for k, v in kwargs.items() if k != "generator"})
        return func(*args, **kwargs)


@contextmanager
def by_member(noise: MemberNoise, member: Tensor) -> Iterator[None]:
    """Inside a function under vmap over members: draws with `noise` are each member's own.

    Args:
        noise: what the model is handed as its generator.
        member: anything batched over the members, a scalar inside.

    Raises:
        CannotStack: a function draws with `noise` that is not on the list.
    """
    streams = noise.streams

    def draw(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        if func in _MAKERS:
            return _Draw.apply(member, lambda i, _: func(*args, generator=streams[i], **kwargs))
        if func in _OF_TENSORS or func in _IN_PLACE:
            given, rest = args[0], args[1:]
            more = [a for a in (*rest, *kwargs.values()) if isinstance(a, Tensor)]
            if more:
                raise CannotStack(f"the model calls {_name(func)} with a second tensor")
            if func in _OF_TENSORS:
                return _Draw.apply(
                    member, lambda i, t: func(t[0], *rest, generator=streams[i], **kwargs), given.detach()
                )
            made = _Draw.apply(
                member, lambda i, t: func(torch.empty_like(t[0]), *rest, generator=streams[i], **kwargs), given.detach()
            )
            return given.copy_(made)  # vmap refuses it where `given` is one for all
        raise CannotStack(f"the model draws with {_name(func)}, which is not known to keep members apart")

    with _Caught(noise, draw):
        yield


@contextmanager
def by_rows(noise: MemberNoise) -> Iterator[None]:
    """For preprocessing of all members' rows at once, one member's after another's: draws are each member's own.

    Raises:
        CannotStack: a function other than `torch.rand` draws with `noise`, or not for every row.
    """
    streams = noise.streams

    def draw(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        shape = args[0] if len(args) == 1 and not isinstance(args[0], int) else args
        if func is not torch.rand or not shape or shape[0] % len(streams):
            raise CannotStack(
                f"preprocessing draws with {_name(func)} in a way that is not known to keep members apart"
            )
        own = (shape[0] // len(streams), *shape[1:])
        return torch.cat([torch.rand(own, generator=s, **kwargs) for s in streams])

    with _Caught(noise, draw):
        yield


def _name(func: Any) -> str:
    return str(getattr(func, "__name__", func))
