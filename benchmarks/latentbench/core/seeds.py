"""Random seeds by named axes.

A run has one seed; initialisation, data order, training noise and evaluation each draw from a generator of their own,
derived by hashing the seed with the axis and what else tells them apart. So no two axes or runs share a stream by
accident, and one axis can be varied while the others stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Generator

#: Seeds of runs lie in 0 … LARGEST_SEED, which every program that reads a record can hold.
LARGEST_SEED = 2**63 - 1
#: Far more than any paper has; beyond them a file is no suite but an attempt on one's memory.
MOST_SEEDS = 10_000

Axis = Literal["init", "order", "noise", "preprocess", "evaluation", "data"]


@dataclass(frozen=True)
class Seeds:
    """A run's seed, with axes that take another one: how a number's spread is split by axis."""

    base: int
    axes: Mapping[Axis, int] = field(default_factory=dict)


def derive(seed: int | Seeds, axis: Axis, *context: str | int) -> int:
    """A 63-bit seed for `axis` of a run; `context` separates further streams (split, metric, block)."""
    number = seed if isinstance(seed, int) else seed.axes.get(axis, seed.base)
    # "/" in a name must not read as a separator
    parts = [str(part).replace("%", "%25").replace("/", "%2F") for part in ("latentbench", number, axis, *context)]
    text = "/".join(parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int | Seeds, axis: Axis, *context: str | int, device: str = "cpu") -> Generator:
    """A fresh `torch.Generator` on `device`, seeded by `derive`."""
    import torch

    made = torch.Generator(device=device)
    made.manual_seed(derive(seed, axis, *context))
    return made
