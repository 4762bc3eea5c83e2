"""Claims about all runs of many methods together: one number of the whole table, with its spread over seeds.

A table has a row for each method and a column for each seed. Two numbers are read off it: how alike two metrics order
the runs (Spearman's rank correlation), and what share of a metric's variance the group of a method explains (R^2 of
the regression on the group, as Locatello et al. 2019 take it). Neither is a mean over seeds. Its spread is the
jackknife's, on Fisher's scale z = atanh r, where r is the correlation or the root of the share: with z of all n seeds
and z_(-i) without seed i, the pseudo-values n z - (n - 1) z_(-i) are taken as n values of one quantity, and a t test
holds their mean against that of the limit (Tukey 1958; Miller 1974). It also takes off most of what few seeds add to a
share: R^2 of eighteen methods by themselves, five seeds each, is 0.19 where nothing differs. Numbers are taken as they
are, whichever direction is better. The claim is about these methods; other methods would be another claim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latentbench.core.errors import UserError
from latentbench.stats import wording
from latentbench.stats.conditions import beyond
from latentbench.stats.intervals import FloatArray
from latentbench.stats.judgement import PILOT, Judgement, judged, unjudged
from latentbench.stats.ranks import rank_correlation
from latentbench.stats.samples import Sample, Values, compare
from latentbench.stats.wording import Evidence

Scale = Callable[[ArrayLike], FloatArray]
Side = Literal["above", "below"]
_NEAR = 1 - 1e-9


def judge_correlation(
    first: Mapping[str, Values],
    second: Mapping[str, Values],
    limit: float,
    side: Side,
    *,
    names: tuple[str, str] = ("the first metric", "the second"),
    alpha: float = 0.05,
    power: float = 0.8,
) -> Judgement:
    """Whether Spearman's rank correlation of two metrics over all runs lies above (or below) a number.

    Args:
        first, second: values by seed of each method, the same methods in both; a method without randomness gives its
            one value to every seed.
        limit: between -1 and 1, both left out.
        side: ``above`` or ``below``.
        names: of the metrics, for the text.
        alpha: level of the interval and of the plan.
        power: for `needed_n`.

    Raises:
        UserError: a limit out of range, other methods in `second`, or fewer than three methods.
    """
    if not -1 < limit < 1:
        raise UserError(f"a rank correlation {side} {limit!r} says nothing", fix="give a number between -1 and 1")
    if list(first) != list(second) or len(first) < 3:
        raise UserError("a rank correlation over runs needs the same three methods or more of both metrics")
    said = f"the rank correlation of {names[0]} and {names[1]} over the runs of {len(first)} methods"
    metrics = [[Sample.of(v) for v in of.values()] for of in (first, second)]
    return _judged("correlation", metrics, spearman, limit, side, said, _z, np.tanh, alpha=alpha, power=power)


def judge_variance(
    values: Mapping[str, Values],
    groups: Mapping[str, Sequence[str]],
    limit: float,
    side: Side,
    *,
    name: str = "the metric",
    alpha: float = 0.05,
    power: float = 0.8,
) -> Judgement:
    """Whether the share of a metric's variance over all runs that the group of a method explains lies above (below) a
    number; what is left is what methods of a group and seeds of a method differ by.

    Args:
        values: values by seed of each method.
        groups: name of each group to its methods; each method in one.
        limit: between 0 and 1, both left out.
        side, alpha, power: see `judge_correlation`.
        name: of the metric, for the text.

    Raises:
        UserError: a limit out of range, fewer than two groups, or a method in none or several.
    """
    if not 0 < limit < 1:
        raise UserError(f"a share {side} {limit!r} says nothing", fix="give a number between 0 and 1")
    listed = [m for group in groups.values() for m in group]
    if len(groups) < 2 or len(set(listed)) != len(listed) or set(listed) != set(values):
        raise UserError("a share of variance needs two groups or more, each method in one of them")
    belongs = np.repeat(np.arange(len(groups)), [len(g) for g in groups.values()])
    said = f"the share of {name}'s variance that {len(groups)} groups of {len(listed)} methods explain"
    return _judged(
        "variance",
        [[Sample.of(values[m]) for m in listed]],
        lambda table: explained(table, belongs),
        limit,
        side,
        said,
        _z_of_share,
        _share_of_z,
        alpha=alpha,
        power=power,
    )


def _judged(
    kind: Literal["correlation", "variance"],
    metrics: Sequence[Sequence[Sample]],
    statistic: Callable[[FloatArray], float],
    limit: float,
    side: Side,
    said: str,
    to_z: Scale,
    from_z: Scale,
    *,
    alpha: float,
    power: float,
) -> Judgement:
    """The judgement of a number of the table with a row for each method, one metric's rows above the next's."""
    runs = [_runs(of) for of in zip(*metrics)]
    if none := sum(r.n == 0 for r in runs):
        return unjudged(kind, None, limit, runs, f"{said}: {none} without a result")
    samples = [s for rows in metrics for s in rows]
    seeds = _seeds(samples)
    n = len(seeds)
    table = np.array([[s.values[k] if k in s.values else s.array()[0] for k in seeds] for s in samples])
    whole = statistic(table) if n else math.nan
    without = np.array([statistic(np.delete(table, i, axis=1)) for i in range(n)] if n >= PILOT else [math.nan])
    sign = 1 if side == "above" else -1
    if not np.isfinite([whole, *without]).all():
        known = whole if math.isfinite(whole) else None
        words = wording.of_table(said, known, Evidence(None, None, 0.0, wording.counts([n])), limit, side)
        where = None if known is None else 1 if sign * (whole - limit) >= 0 else -1
        return replace(unjudged(kind, known, limit, runs, words, side=where), n=max(n, 1))
    pseudo = n * to_z(whole) - (n - 1) * to_z(without)
    # ranks are coarse: pseudo-values that agree say that nothing is random only where no number varies
    sample = Sample.of(dict(zip(seeds, pseudo.tolist())), deterministic=False if np.ptp(table, axis=1).any() else None)
    found = compare([sample], [1.0])
    edge = float(to_z(limit))
    condition = beyond(found.contrast, edge, sign, closed=True, exact=found.exact)
    on_z = judged(kind, found, limit, edge, [sample], [condition], "", alpha=alpha, power=power)
    estimate, low, high = (float(from_z(z)) for z in (found.contrast.estimate, *found.contrast.interval(1 - alpha)))
    evidence = Evidence(low, high, 1 - alpha, wording.counts([n]))
    words = wording.of_table(said, estimate, evidence, limit, side) + wording.failures(runs, [])
    return replace(on_z, estimate=estimate, low=low, high=high, failed=sum(r.failed for r in runs), text=words)


def _seeds(samples: Sequence[Sample]) -> list[Any]:
    """Seeds with a value of every sample; those without randomness have one for all."""
    varying = _varying(samples)
    return [seed for seed in varying[0].values if all(seed in s.values for s in varying)]


def _varying(samples: Sequence[Sample]) -> list[Sample]:
    return [s for s in samples if not (s.n == 1 and s.deterministic)] or list(samples)


def _runs(of: Sequence[Sample]) -> Sample:
    """The runs of a method from its values of each metric; one that lacks a metric failed, once."""
    varying, seeds = _varying(of), _seeds(of)
    values = {seed: varying[0].values[seed] for seed in seeds}
    return replace(varying[0], values=values, failed=max(s.n + s.failed for s in varying) - len(seeds))


def _z(r: ArrayLike) -> FloatArray:
    """Fisher's z, which of 1 is finite here."""
    return np.arctanh(np.clip(r, -_NEAR, _NEAR))


def _z_of_share(share: ArrayLike) -> FloatArray:
    return _z(np.sqrt(np.clip(share, 0.0, 1.0)))


def _share_of_z(z: ArrayLike) -> FloatArray:
    return np.tanh(np.maximum(z, 0.0)) ** 2


def spearman(table: FloatArray) -> float:
    """Of (2 M, n), the first metric's rows above the second's; NaN where either is the same for all runs.

    Full agreement counts as what a tie of two neighbours leaves of it, the least step there is: so z is finite, and
    smaller for fewer runs, which can tell less.
    """
    first, second = (half.ravel() for half in np.split(table, 2))
    runs = len(first)
    most = 1 - 3 / (runs**3 - runs)
    return float(np.clip(rank_correlation(first, second), -most, most))


def explained(table: FloatArray, belongs: NDArray[np.int64]) -> float:
    """R^2 of the values (M, n) regressed on the group of their row (M,); NaN where nothing varies."""
    total = float(((table - table.mean()) ** 2).sum())
    if total <= (1e-12 * np.abs(table).max()) ** 2:
        return math.nan
    means = np.array([table[belongs == g].mean() for g in range(belongs.max() + 1)])
    return 1 - float(((table - means[belongs][:, None]) ** 2).sum()) / total
