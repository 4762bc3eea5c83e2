"""How many seeds a sweep was to have: fixed beforehand, or added until the claims of its suite are settled.

Each record says it, sealed with the rest, so that a folder of records that has lost its declaration
(`latentbench.records.declared`) is judged as it was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, islice
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from latentbench.spec.claims import Tier


class Fixed(BaseModel):
    """That a sweep asked for all of its seeds at once.

    Attributes:
        seeds: which; n stands for 0 to n - 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seeds: int | list[int]

    @classmethod
    def of(cls, seeds: Sequence[int]) -> Fixed:
        """That these were asked for."""
        asked = sorted(set(seeds))
        return cls(seeds=len(asked) if asked == list(range(len(asked))) else asked)

    def has(self, seed: int) -> bool:
        """Whether a seed was asked for."""
        return 0 <= seed < self.seeds if isinstance(self.seeds, int) else seed in self.seeds


class Declared(BaseModel):
    """See the module.

    Attributes:
        suite, version, tier: what it is about, as it was then.
        declared: when, ISO 8601.
        seeds: the first seeds in their order; further ones follow in the order of `order`.
        first: seeds at the first analysis.
        cap: seeds at the last analysis that was declared.
        there: how many runs had a record already.
        seal: hash of the above.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    suite: str
    version: int
    tier: Tier
    declared: str
    seeds: list[int] = Field(min_length=1, max_length=10_000)
    first: int = Field(ge=2, le=10_000)
    cap: int = Field(ge=2, le=10_000)
    there: int = Field(ge=0)
    seal: str = ""

    def order(self, n: int) -> list[int]:
        """The first `n` seeds."""
        return order(self.seeds, n)


def order(seeds: Sequence[int], n: int) -> list[int]:
    """`n` seeds: those of `seeds` first, then the smallest numbers that are not among them."""
    known = set(seeds)
    return [*seeds, *islice((s for s in count() if s not in known), max(0, n - len(seeds)))][:n]


Design = Fixed | Declared
