"""The probability that a run of one method is better than a run of another (Agarwal et al. 2021, who call it the
probability of improvement): P(X > Y) + P(X = Y) / 2, the Mann-Whitney statistic divided by the number of pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from latentbench.core.errors import UserError


@dataclass(frozen=True)
class Superiority:
    """An estimate in [0, 1], its interval, and the p of the two-sided rank test that it is one half (Mann-Whitney)."""

    share: float
    low: float
    high: float
    p: float

    @property
    def turned(self) -> Superiority:
        """That of the second method against the first."""
        return Superiority(1 - self.share, 1 - self.high, 1 - self.low, self.p)


def superiority(
    first: Sequence[float], second: Sequence[float], better: Literal["lower", "higher"], level: float = 0.95
) -> Superiority:
    """How often a run of `first` is better than one of `second`; ties count half.

    The interval is a score interval (Newcombe 2006, part 2, method 5), which few seeds do not make a point where all
    pairs agree, as a bootstrap would. The test is exact where no values tie.

    Args:
        first, second: one finite value a run, at least two each; the runs are taken for independent.
        better: which values are better.
        level: of the interval.

    Raises:
        UserError: fewer than two values on a side.
    """
    if min(len(first), len(second)) < 2:
        raise UserError("the probability of improvement of a single run", fix="give two runs or more of each method")
    places = np.unique(np.concatenate([first, second]), return_inverse=True)[1]
    if better == "lower":
        places = -places
    of_first, of_second = (tuple(sorted(side.tolist())) for side in np.split(places, [len(first)]))
    return _of_ranks(of_first, of_second, level)


@lru_cache(maxsize=4096)
def _of_ranks(first: tuple[int, ...], second: tuple[int, ...], level: float) -> Superiority:
    """All of it is in the order of the values, and orders repeat: a method that always wins has but one."""
    from scipy.stats import mannwhitneyu

    share = float((np.sign(np.subtract.outer(first, second)).mean() + 1) / 2)
    low = _lowest(share, len(first), len(second), level)
    high = 1 - _lowest(1 - share, len(first), len(second), level)
    return Superiority(share, low, high, float(mannwhitneyu(first, second).pvalue))


def _lowest(share: float, m: int, n: int, level: float) -> float:
    """The least probability that is not refuted by a share of pairs that was seen."""
    from scipy.optimize import brentq
    from scipy.special import ndtri

    if share <= 0:
        return 0.0
    z = float(ndtri((1 + level) / 2))
    mean = (m + n) / 2 - 1

    def excess(theta: float) -> float:
        variance = theta * (1 - theta) * (1 + mean * (1 - theta) / (2 - theta) + mean * theta / (1 + theta)) / (m * n)
        return share - theta - z * math.sqrt(variance)

    return float(brentq(excess, 0.0, share * (1 - 1e-9)))  # at share = 1 the end is a root too, and no bound
