"""Uniform draws: from a generator's stream, or from the values of a row."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from latentbench.core.errors import UserError


def uniform(like: Tensor, generator: Generator | None) -> Tensor:
    """Uniform draws on [0, 1) of the shape of `like`, on its device, from `generator`'s stream."""
    if generator is None:
        raise UserError("stochastic preprocessing needs a generator")
    return torch.rand(like.shape, generator=generator, device=generator.device).to(like.device)


def _signed(constant: int) -> int:
    return constant - (1 << 64) if constant >= 1 << 63 else constant


def _mix(z: Tensor) -> Tensor:
    """splitmix64 (Steele, Lea & Flood 2014) on int64, whose products wrap as uint64's do."""
    z = z + _signed(0x9E3779B97F4A7C15)
    z = (z ^ ((z >> 30) & ((1 << 34) - 1))) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ ((z >> 27) & ((1 << 37) - 1))) * _signed(0x94D049BB133111EB)
    return z ^ ((z >> 31) & ((1 << 33) - 1))


def hashed_uniform(rows: Tensor, seed: int) -> Tensor:
    """Uniform draws on [0, 1) that depend on the values of each row and on `seed` alone; (N, ...) float32.

    The same on every device and in every batch; equal rows get equal draws.
    """
    flat = rows.to(torch.float32).reshape(len(rows), -1)
    bits = flat.contiguous().view(torch.int32).to(torch.int64)
    place = _mix(torch.arange(flat.shape[1], device=flat.device))
    key = _mix((_mix(bits) * (place | 1)).sum(1) ^ _mix(torch.tensor(seed, device=flat.device)))
    drawn = (_mix(key[:, None] ^ place) >> 40) & ((1 << 24) - 1)
    return (drawn.to(torch.float32) * 2.0**-24).reshape(rows.shape)
