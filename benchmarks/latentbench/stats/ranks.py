"""Several methods over several datasets: mean ranks, and by how much two of them must differ to be told apart.

Friedman's test asks whether the methods differ at all, Nemenyi's critical difference which pairs do (Demšar 2006).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latentbench.core.errors import UserError


@dataclass(frozen=True)
class MeanRanks:
    """Methods ranked within each dataset, and over all of them.

    Attributes:
        ranks: (datasets, methods), 1 for the best; methods that tie share their mean rank.
        p: of Friedman's test that all methods are alike, by its chi-squared limit; 1 where all tie everywhere.
        critical_difference: of two mean ranks, over all pairs at once, at the level that was asked for.
    """

    ranks: NDArray[np.float64]
    p: float
    critical_difference: float

    @property
    def means(self) -> list[float]:
        """The mean rank of each method."""
        return [float(r) for r in self.ranks.mean(axis=0)]

    def alike(self) -> list[tuple[int, ...]]:
        """The largest groups of two methods or more whose mean ranks lie within the critical difference, best first."""
        means = self.means
        order = sorted(range(len(means)), key=lambda i: means[i])
        found: list[tuple[int, ...]] = []
        for start, first in enumerate(order):
            group = tuple(i for i in order[start:] if means[i] - means[first] < self.critical_difference)
            if len(group) > 1 and not (found and set(group) <= set(found[-1])):
                found.append(group)
        return found


def mean_ranks(values: ArrayLike, better: Literal["lower", "higher"], alpha: float = 0.05) -> MeanRanks:
    """Rank methods over datasets.

    Args:
        values: (datasets, methods), finite: one number a method and dataset, e.g. a mean over seeds.
        better: which values are better.
        alpha: level of the critical difference.

    Raises:
        UserError: fewer than three methods or two datasets, or a value is not finite.
    """
    from scipy.stats import friedmanchisquare, rankdata

    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 3:
        raise UserError(f"ranks of a table of shape {table.shape}", fix="give at least two datasets and three methods")
    if not np.isfinite(table).all():
        raise UserError("a value to rank is not finite", fix="leave out the method or the dataset that lacks it")
    datasets, methods = table.shape
    ranks = rankdata(table if better == "lower" else -table, axis=1)
    tied = bool((ranks == ranks[:, :1]).all())
    p = 1.0 if tied else float(friedmanchisquare(*ranks.T).pvalue)
    return MeanRanks(ranks, p, _quantile(methods, alpha) * math.sqrt(methods * (methods + 1) / (6 * datasets)))


@cache
def _quantile(methods: int, alpha: float) -> float:
    """Of the studentised range over the root of two, which mean ranks approach (Nemenyi 1963)."""
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(1 - alpha, methods, math.inf)) / math.sqrt(2)


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rank correlation of two rows of numbers (N,), ties at their mean rank; NaN where one is constant."""
    from scipy.stats import rankdata

    a, b = rankdata(first), rankdata(second)
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else np.nan
