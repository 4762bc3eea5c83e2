"""Random numbers of models that train side by side: each draws from a generator of its own, as it would alone.

Under `torch.func.vmap` a call such as ``torch.randn(shape, generator=g)`` runs once for all members. Here the members
share a stand-in for `g`; a call that carries it is caught, and made once for each member with that member's generator.
So a member's draws are those of its separate run, bit for bit. Which functions are caught is a closed list. Anything
else that draws is refused: by name where it carries the stand-in, and by vmap itself where it does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

from latentbench.core.errors import UserError

_MAKERS = {torch.randn, torch.rand, torch.randint, torch.randperm}
_TILED = {torch.randn, torch.rand}
_OF_TENSORS = {torch.bernoulli, Tensor.bernoulli, torch.multinomial, Tensor.multinomial}
_IN_PLACE = {Tensor.exponential_, Tensor.normal_, Tensor.uniform_, Tensor.bernoulli_}

#: A draw: by which function, and how many numbers. These two and the generator's state decide what comes.
Drawn = tuple[str, int]


class CannotStack(UserError):
    """Why these runs cannot train side by side; each alone they can."""


class MemberNoise(Generator):
    """Stands for the generators of all members where a model expects one.

    Args:
        streams: the members' own, all on one device.

    Attributes:
        drawn: what a member has drawn since, a list for each; None where nobody wants to know.
    """

    streams: Sequence[Generator]
    drawn: list[list[Drawn]] | None

    def __new__(cls, streams: Sequence[Generator]) -> Self:
        made = super().__new__(cls, device=streams[0].device)  # type: ignore[call-arg]
        made.streams, made.drawn = streams, None
        return made

    def of(self, i: int, func: Any, *args: Any, **kwargs: Any) -> Tensor:
        """A draw of member i."""
        made: Tensor = func(*args, generator=self.streams[i], **kwargs)
        if self.drawn is not None:
            self.drawn[i].append((_name(func), made.numel()))
        return made

    def _refuse(self, *_: Any) -> Any:
        raise CannotStack("the model asks for the state or the seed of its generator")

    get_state = set_state = manual_seed = seed = initial_seed = _refuse  # type: ignore[assignment]


@dataclass(frozen=True)
class Tiling:
    """How members that take different numbers of draws a row share a model that takes `most` for all.

    The model asks for noise of shape (most, rows, ...). A member that alone takes k draws makes its (k, rows, ...), or
    (rows, ...) for one, and gets it most / k times over: the same numbers from the same state, each draw equally often.
    So a mean or a log-mean-exp over the draws comes out as alone.

    Attributes:
        counts: draws a row that each member takes alone.
        rows: rows of a batch.
    """

    counts: Sequence[int]
    rows: int

    @property
    def most(self) -> int:
        """The least multiple of all counts: the largest of them, where the others divide it."""
        return math.lcm(*self.counts)

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a draw of that shape is one of `most` for each row."""
        return tuple(shape[:2]) == (self.most, self.rows)

    def fill(self, i: int, shape: Sequence[int], make: Callable[[Sequence[int]], Tensor]) -> Tensor:
        """Noise of `shape` for member i, made by `make` at the member's own size."""
        k = self.counts[i]
        own = make((k, *shape[1:]) if k > 1 else shape[1:])
        return own.repeat(self.most // k, *[1] * (len(shape) - 1))


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
    """Hands calls that carry a generator, or the stand-in for several, to `draw`."""

    def __init__(self, noise: Generator, draw: Callable[[Any, tuple[Any, ...], dict[str, Any]], Tensor]) -> None:
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
def heard(noise: Generator) -> Iterator[list[Drawn]]:
    """What is drawn inside with a model's generator; with a `MemberNoise`, see its `drawn`."""
    drawn: list[Drawn] = []

    def draw(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        made: Tensor = func(*args, generator=noise, **kwargs)
        drawn.append((_name(func), made.numel()))
        return made

    with _Caught(noise, draw):
        yield drawn


@contextmanager
def by_member(noise: MemberNoise, member: Tensor, tiling: Tiling | None = None) -> Iterator[None]:
    """Inside a function under vmap over members: draws with `noise` are each member's own.

    Args:
        noise: what the model is handed as its generator.
        member: anything batched over the members, a scalar inside.
        tiling: where members differ in their draws a row, what each makes of them.

    Raises:
        CannotStack: a function draws with `noise` that is not on the list.
    """

    def draw(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        if tiling is not None and func in _TILED and tiling.fits(shape := _shape(args)):

            def make(i: int, _: Any) -> Tensor:
                return tiling.fill(i, shape, lambda own: noise.of(i, func, own, **kwargs))

            return _Draw.apply(member, make)
        if func in _MAKERS:
            return _Draw.apply(member, lambda i, _: noise.of(i, func, *args, **kwargs))
        if func in _OF_TENSORS or func in _IN_PLACE:
            given, rest = args[0], args[1:]
            more = [a for a in (*rest, *kwargs.values()) if isinstance(a, Tensor)]
            if more:
                raise CannotStack(f"the model calls {_name(func)} with a second tensor")
            if func in _OF_TENSORS:
                return _Draw.apply(member, lambda i, t: noise.of(i, func, t[0], *rest, **kwargs), given.detach())
            made = _Draw.apply(
                member, lambda i, t: noise.of(i, func, torch.empty_like(t[0]), *rest, **kwargs), given.detach()
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
        shape = _shape(args)
        if func is not torch.rand or not shape or shape[0] % len(streams):
            raise CannotStack(
                f"preprocessing draws with {_name(func)} in a way that is not known to keep members apart"
            )
        own = (shape[0] // len(streams), *shape[1:])
        return torch.cat([torch.rand(own, generator=s, **kwargs) for s in streams])

    with _Caught(noise, draw):
        yield


def _shape(args: tuple[Any, ...]) -> Sequence[int]:
    """What `torch.randn` and its like are asked for."""
    return args[0] if len(args) == 1 and not isinstance(args[0], int) else args


def _name(func: Any) -> str:
    return str(getattr(func, "__name__", func))
