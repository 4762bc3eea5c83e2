"""One claim over many cells (data sets, sizes, methods): what its cells say together.

Four ways, which answer different questions:

* ``mean``: the gain, averaged over these very cells, lies beyond the margin. One paired t test: cells are averaged
  within each seed, so it holds whatever the dependence between cells. For cells of one metric and one scale.
* ``sign``: the claim goes the right way in more cells than chance would have it. An exact binomial test over cells,
  which are taken for independent draws from those that the claim speaks of; seeds only give each cell's mean.
* ``rank``: a method's mean rank over the cells is better than chance would have it. The exact distribution of the sum
  of ranks if each order within a cell were as likely as any other (Friedman 1937); ties share their mean rank.
* ``all``: the claim holds in every cell. The cells' own tests, all of which must pass (intersection-union).

A cell without a result counts against evidence either way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from latentbench.core.errors import UserError
from latentbench.stats import wording
from latentbench.stats.conditions import beyond, seeds_to_settle
from latentbench.stats.intervals import Limits, of_difference
from latentbench.stats.judgement import PILOT, Judgement, judged, unjudged
from latentbench.stats.samples import Sample, compare
from latentbench.stats.wording import Evidence

Pooling = Literal["mean", "sign", "rank", "all"]


def judge_all(
    cells: Sequence[Judgement], names: Sequence[str], *, alpha: float = 0.05, power: float = 0.8
) -> Judgement:
    """Whether the claim holds in every cell.

    Evidence for it is the largest of the cells' p-values, evidence against it the smallest times their number.

    Args:
        cells: each cell's judgement, of one kind.
        names: of the cells, for the text.
        alpha, power: for the plan.
    """
    _some(cells)
    conditions = tuple(c for cell in cells for c in cell._conditions)
    there = [c for c in cells if c.n]
    able = len(conditions) > 0 and all(cell._conditions for cell in cells)
    least = _weakest(cells)
    right = sum(c.side == 1 for c in cells)
    weakest = f"; the least clear, {names[least]}: {cells[least].text}" if there else ""
    return replace(
        cells[least],
        n=min((c.n for c in there), default=0),
        failed=sum(c.failed for c in cells),
        p_reproduced=max(c.p_reproduced for c in cells),
        p_against=min(1.0, len(cells) * min(c.p_against for c in cells)),
        needed_n=seeds_to_settle(conditions, min(c.n for c in cells), alpha, power) if able else PILOT,
        text=f"as claimed in {right} of {len(cells)} cells{_absent(cells)}{weakest}",
        prediction=None,
        side=None if len(there) < len(cells) else min(c.side or 0 for c in cells),
        _conditions=conditions if able else (),
        _against="not-reproduced",
    )


def judge_sign(cells: Sequence[Judgement], names: Sequence[str], *, alpha: float = 0.05) -> Judgement:
    """Whether the claim goes the right way in more cells than chance would have it (sign test; ties are left out).

    The estimate is the share of cells that do, with the interval of Clopper and Pearson (1934).

    Args:
        cells: each cell's judgement, of one kind.
        names: of the cells, for the text.
        alpha: level of the interval.
    """
    from scipy.special import bdtrc, betaincinv

    _some(cells)
    right, wrong = (sum(c.side == side for c in cells) for side in (1, -1))
    absent = sum(c.side is None for c in cells)
    told = right + wrong + absent
    share, low, high = None, None, None
    if right + wrong:
        n = right + wrong
        share = right / n
        low = float(betaincinv(right, n - right + 1, alpha / 2)) if right else 0.0
        high = float(betaincinv(right + 1, n - right, 1 - alpha / 2)) if wrong else 1.0
    against = [name for c, name in zip(cells, names) if c.side == -1]
    ties = sum(c.side == 0 for c in cells)
    words = (
        f"as claimed in {right} of {right + wrong} cells"
        + (f", {ties} tied" if ties else "")
        + _absent(cells)
        + (f"; not in {', '.join(against)}" if against and right else "")
    )
    fewest = np.log2(1 / alpha)
    return Judgement(
        kind=cells[0].kind,
        estimate=share,
        low=low,
        high=high,
        reference=0.5,
        effect_size=None,
        n=min((c.n for c in cells if c.n), default=0),
        failed=sum(c.failed for c in cells),
        p_reproduced=_binomial_tail(right, told, bdtrc),
        p_against=_binomial_tail(wrong, told, bdtrc),
        needed_n=None,
        text=words,
        side=None if not right + wrong else int(np.sign(right - wrong)),
        _to_settle=f"; a sign test over {told} cells is settled by more cells, not by more seeds"
        if told >= fewest
        else f"; a sign test over {told} cells can settle nothing at all",
    )


def _binomial_tail(successes: int, n: int, bdtrc: np.ufunc) -> float:
    """P(at least so many of n fair coins)."""
    return float(bdtrc(successes - 1, n, 0.5)) if successes > 0 else 1.0


def judge_mean(
    pairs: Sequence[tuple[Sample, Sample]],
    better: Literal["lower", "higher"],
    margins: Sequence[float],
    names: Sequence[str],
    *,
    unit: str = "",
    limits: Limits = (None, None),
    alpha: float = 0.05,
    power: float = 0.8,
) -> Judgement:
    """Whether A is better than B on average over these cells, by more than the mean of the margins.

    Args:
        pairs: A and B in each cell, values by seed.
        better: which way is better.
        margins: one a cell, each >= 0, in the metric's unit.
        names: of the cells, for the text.
        unit: of the metric, the same in all cells.
        limits: of the metric.
        alpha: level of the interval and of the plan.
        power: for the plan.
    """
    _some(pairs)
    samples = [s for pair in pairs for s in pair]
    sign = 1 if better == "higher" else -1
    margin = float(np.mean(margins))
    labels = [label for name in names for label in (f"{name}, better", f"{name}, worse")]
    absent = [name for name, pair in zip(names, pairs) if any(s.n == 0 for s in pair)]
    if absent:
        words = f"{len(absent)} of {len(pairs)} cells have no result: {', '.join(absent)}"
        none = unjudged("order", None, margin, samples, words, names=labels)
        return replace(none, n=min((s.n for s in samples if s.n), default=0))
    gains = [float(a.array().mean() - b.array().mean()) for a, b in pairs]
    right = sum(sign * g > m for g, m in zip(gains, margins))
    each = f"; as claimed in {right} of {len(pairs)} cells"
    over = f"the mean over {len(pairs)} cells"
    said = (f"better in {over}", f"worse in {over}")
    if any(s.blind for s in samples):
        words = wording.order(said, float(np.mean(gains)), Evidence.unknown(samples), better, margin, unit) + each
        return unjudged("order", float(np.mean(gains)), margin, samples, words, names=labels)
    weights = [w / len(pairs) for _ in pairs for w in (1.0, -1.0)]
    found = compare(samples, weights, of_difference(limits))
    condition = beyond(found.contrast, sign * margin, sign, closed=margin > 0, exact=found.exact)
    estimate, evidence = float(found.contrast.estimate), Evidence.of(found, 1 - alpha)
    evidence = replace(evidence, seeds=wording.counts([found.n] * 2, paired=found.paired))
    words = wording.order(said, estimate, evidence, better, margin, unit) + each
    return judged("order", found, margin, 0.0, samples, [condition], words, alpha=alpha, power=power, names=labels)


def judge_rank(
    cells: Sequence[Mapping[str, float]],
    method: str,
    among: Sequence[str],
    better: Literal["lower", "higher"],
    *,
    labels: Mapping[str, str] | None = None,
    n: int = 1,
    failed: int = 0,
) -> Judgement:
    """Whether a method's mean rank over the cells is better than that of a method drawn by lot.

    Args:
        cells: for each cell the mean of each method that has one.
        method: whose rank it is; one of `among`.
        among: the methods that are ranked, 1 for the best; methods that tie share their mean rank.
        better: which values are better.
        labels: names for the text.
        n, failed: seeds of the smallest side, and those that failed.

    Raises:
        UserError: fewer than two methods.
    """
    _some(cells)
    if len(set(among)) < 2 or method not in among:
        raise UserError(f"a rank of {method!r} among {list(among)!r}", fix="give two methods or more, it among them")
    sign = 1 if better == "lower" else -1
    k = len(among)
    ranks: list[dict[str, float]] = []
    doubled: list[list[int]] = []  # twice the ranks of each whole cell, which are whole numbers
    for cell in cells:
        if all(m in cell for m in among):
            values = sign * np.array([cell[m] for m in among])
            own = [float(np.sum(values < v) + (np.sum(values == v) + 1) / 2) for v in values]
            ranks.append(dict(zip(among, own)))
            doubled.append([round(2 * r) for r in own])
    absent = len(cells) - len(ranks)
    called = {m: (labels or {}).get(m, m) for m in among}
    middle = (k + 1) / 2
    base = Judgement(
        kind="rank",
        estimate=None,
        low=None,
        high=None,
        reference=middle,
        effect_size=None,
        n=n if ranks else 0,
        failed=failed,
        p_reproduced=1.0,
        p_against=1.0,
        needed_n=None,
        text=f"no cell of {len(cells)} has a result of every method",
        _to_settle="; ranks over cells are settled by more cells, not by more seeds",
    )
    if not ranks:
        return base
    chance = np.ones(1)
    for cell_ranks in doubled:
        one = np.bincount(cell_ranks, minlength=2 * k + 1) / k
        chance = np.convolve(chance, one)
    total = sum(round(2 * r[method]) for r in ranks)
    means = {m: float(np.mean([r[m] for r in ranks])) for m in among}
    listed = ", ".join(f"{called[m]} {means[m]:.3g}" for m in sorted(among, key=lambda m: means[m]))
    missed = f", {absent} of {len(cells)} cells without a result of every method" if absent else ""
    best = chance[: total + 1].sum() if not absent else _with_missing(chance, total, absent, k, worst=True)
    worst = chance[total:].sum() if not absent else _with_missing(chance, total, absent, k, worst=False)
    return replace(
        base,
        estimate=means[method],
        p_reproduced=min(1.0, float(best)),
        p_against=min(1.0, float(worst)),
        side=int(np.sign(middle - means[method])),
        text=f"mean rank of {called[method]} over {len(ranks)} cells is {means[method]:.3g} of 1 to {k}, where chance "
        f"gives {middle:g} ({listed}){missed}",
    )


def _with_missing(chance: np.ndarray, total: int, absent: int, k: int, *, worst: bool) -> float:
    """The tail where cells without a result had given the rank that speaks least for it."""
    one = np.zeros(2 * k + 1)
    one[2 : 2 * k + 1 : 2] = 1 / k
    for _ in range(absent):
        chance = np.convolve(chance, one)
    if worst:
        return float(chance[: total + absent * 2 * k + 1].sum())
    return float(chance[total + absent * 2 :].sum())


def _absent(cells: Sequence[Judgement]) -> str:
    none = sum(c.n == 0 for c in cells)
    return f", {none} of {len(cells)} without a result" if none else ""


def _weakest(cells: Sequence[Judgement]) -> int:
    """The cell that the claim stands or falls with."""
    return max(range(len(cells)), key=lambda i: (cells[i].n > 0, cells[i].p_reproduced, -(cells[i].side or 0)))


def _some(cells: Sequence[object]) -> None:
    if not cells:
        raise UserError("a claim over no cells", fix="give at least one")
