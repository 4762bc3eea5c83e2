"""Judging a paper's claims: what the seeds say of each, and a verdict over all of a suite's.

`judge_value`, `judge_order`, `judge_trend` and `judge_bound` each look at one claim; `settle` (or `decide`, for the
words alone) takes all claims of a suite together, corrects for their number and gives the verdicts. What is
guaranteed, what is assumed, and the error rates measured by simulation stand in docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal, TypedDict

import numpy as np

from latentbench.core.errors import UserError, did_you_mean
from latentbench.stats import wording
from latentbench.stats.conditions import beyond, within
from latentbench.stats.hypothesis_tests import slope_weights
from latentbench.stats.intervals import UNLIMITED, Limits, of_difference
from latentbench.stats.judgement import PILOT, Judgement, Verdict, decide, judged, settle, unjudged
from latentbench.stats.samples import Sample, Values, compare
from latentbench.stats.wording import Evidence

__all__ = [
    "PILOT",
    "Better",
    "Judgement",
    "Verdict",
    "decide",
    "judge_bound",
    "judge_order",
    "judge_trend",
    "judge_value",
    "settle",
]

Better = Literal["lower", "higher"]


class Whose(TypedDict):
    """Whose runs failed, for the text."""

    names: Sequence[str]
    unlisted: int


def judge_value(
    samples: Values,
    reported: float,
    tolerance: float,
    better: Better | None = None,
    *,
    reported_std: float | None = None,
    reported_runs: int | None = None,
    failed: int = 0,
    deterministic: bool | None = None,
    name: str = "the method",
    unit: str = "",
    limits: Limits = UNLIMITED,
    alpha: float = 0.05,
    power: float = 0.8,
) -> Judgement:
    """Whether the mean over seeds equals a reported number within a tolerance (two one-sided tests).

    Against the claim speaks a mean that lies outside the tolerance by more than chance, where chance includes that
    the reported number is itself a mean of `reported_runs` noisy runs (one, if unknown) which spread like ours.

    Args:
        samples: values by seed (or a plain sequence, or a `Sample`), in the metric's unit.
        reported: the paper's number.
        tolerance: > 0, same unit: differences up to it are none.
        better: which way is better; None if neither is.
        reported_std: the paper's standard deviation over its runs. Then the comparison, for and against, is with
            an uncertain mean instead of a fixed number.
        reported_runs: number of runs that the reported number averages.
        failed: failed seeds that `samples` does not list.
        deterministic: see `latentbench.stats.samples.Sample`.
        name: the method, for the text.
        unit: the metric's unit, for the text.
        limits: lowest and highest value of the metric, None for no end: intervals stay between them.
        alpha: level of the intervals and of the plan.
        power: for `needed_n`.

    Raises:
        UserError: a number that is not finite, a tolerance that is not positive, or a spread without its runs.
    """
    _finite("reported", reported)
    if not tolerance > 0 or not math.isfinite(tolerance):
        raise UserError(
            f"tolerance {tolerance!r} is not positive, and no number of seeds shows exact equality",
            fix="give at least half a unit of the last printed digit",
        )
    _choice("better", better, ("lower", "higher", None))
    if reported_runs is not None and reported_runs < 1:
        raise UserError(f"reported_runs {reported_runs!r} is below 1", fix="leave it out where it is unknown")
    if reported_std is not None:
        _finite("reported_std", reported_std)
        if reported_std < 0 or reported_runs is None or reported_runs < 2:
            raise UserError(
                "the paper's standard deviation needs its number of runs, at least 2",
                fix="give reported_runs, or leave reported_std out and let the tolerance cover the spread",
            )
    sample = Sample.of(samples, failed=failed, deterministic=deterministic)
    if sample.n == 0:
        return unjudged("value", None, reported, [sample], f"{name} has no result")
    runs = reported_runs or 1
    mean = float(sample.array().mean())
    if sample.blind:
        words = wording.value(name, mean, Evidence.unknown([sample]), reported, tolerance, unit)
        inside = 1 if abs(mean - reported) <= tolerance else -1
        return unjudged("value", mean, reported, [sample], words, side=inside)
    found = compare([sample], [1.0], limits)
    own = found.contrast
    contrast, doubt = (own, own.predicting(runs)) if reported_std is None else (own.widened(reported_std, runs),) * 2
    conditions = within(contrast, doubt, reported, tolerance, exact=found.exact)
    words = wording.value(name, mean, Evidence.of(found, 1 - alpha), reported, tolerance, unit)
    judgement = judged("value", found, reported, reported, [sample], conditions, words, alpha=alpha, power=power)
    low, high = doubt.interval(1 - alpha)
    outside: Verdict = "better" if better == ("higher" if mean > reported else "lower") else "not-reproduced"
    return replace(judgement, prediction=(float(low), float(high)), _against=outside)


def judge_bound(
    samples: Values,
    limit: float,
    side: Literal["above", "below"],
    *,
    failed: int = 0,
    deterministic: bool | None = None,
    name: str = "the method",
    unit: str = "",
    limits: Limits = UNLIMITED,
    alpha: float = 0.05,
    power: float = 0.8,
) -> Judgement:
    """Whether the mean over seeds lies above (or below) a number (one-sided t test).

    A deterministic value that equals the limit keeps it. Arguments as in `judge_value`; `limit` is in the metric's
    unit. The text says how many single seeds lie on the wrong side, which the test on the mean does not ask.

    Raises:
        UserError: `limit` is not finite, or `side` is unknown.
    """
    _finite("limit", limit)
    _choice("side", side, ("above", "below"))
    sample = Sample.of(samples, failed=failed, deterministic=deterministic)
    if sample.n == 0:
        return unjudged("bound", None, limit, [sample], f"{name} has no result")
    sign = 1 if side == "above" else -1
    values = sample.array()
    mean, wrong = float(values.mean()), int(np.sum(sign * (values - limit) < 0))
    if sample.blind:
        words = wording.bound(name, mean, Evidence.unknown([sample]), limit, side, wrong, sample.n, unit)
        return unjudged("bound", mean, limit, [sample], words, side=1 if sign * (mean - limit) >= 0 else -1)
    found = compare([sample], [1.0], limits)
    condition = beyond(found.contrast, limit, sign, closed=True, exact=found.exact)
    words = wording.bound(name, mean, Evidence.of(found, 1 - alpha), limit, side, wrong, sample.n, unit)
    return judged("bound", found, limit, limit, [sample], [condition], words, alpha=alpha, power=power)


def judge_order(
    a: Values,
    b: Values,
    better: Better,
    margin: float = 0.0,
    *,
    failed: int = 0,
    deterministic: bool | None = None,
    names: tuple[str, str] = ("A", "B"),
    unit: str = "",
    limits: Limits = UNLIMITED,
    alpha: float = 0.05,
    power: float = 0.8,
) -> Judgement:
    """Whether A is better than B by more than a margin (one-sided t test, paired by seed, else unequal-variance).

    Args:
        a: values of A by seed; a plain sequence is never paired. `Sample.of` gives each side its own `failed` and
            `deterministic`; those below apply to sides that are not `Sample` yet.
        b: values of B.
        better: whether ``lower`` or ``higher`` is better.
        margin: >= 0, in the metric's unit. The claim is refuted if the gain is significantly below it.
        failed: failed seeds, of either side, that are not listed.
        deterministic: see `latentbench.stats.samples.Sample`.
        names: of A and B, for the text.
        unit: the metric's unit, for the text.
        limits: lowest and highest value of the metric, None for no end: intervals stay between them.
        alpha: level of the intervals and of the plan.
        power: for `needed_n`.

    Raises:
        UserError: `margin` is negative or not finite, or `better` is unknown.
    """
    _margin(margin)
    _choice("better", better, ("lower", "higher"))
    sides = [Sample.of(x, deterministic=deterministic) for x in (a, b)]
    whose: Whose = {"names": names, "unlisted": failed}
    sign = 1 if better == "higher" else -1
    absent = [name for name, s in zip(names, sides) if s.n == 0]
    if absent:
        return unjudged("order", None, margin, sides, f"{' and '.join(absent)}: no result", **whose)
    if any(s.blind for s in sides):
        difference = float(sides[0].array().mean() - sides[1].array().mean())
        words = wording.order(names, difference, Evidence.unknown(sides), better, margin, unit)
        return unjudged("order", difference, margin, sides, words, side=_side(sign * difference, margin), **whose)
    found = compare(sides, [1.0, -1.0], of_difference(limits))
    condition = beyond(found.contrast, sign * margin, sign, closed=margin > 0, exact=found.exact)
    evidence = Evidence.of(found, 1 - alpha)
    words = wording.order(names, float(found.contrast.estimate), evidence, better, margin, unit)
    return judged("order", found, margin, 0.0, sides, [condition], words, alpha=alpha, power=power, **whose)


def judge_trend(
    levels: Sequence[Values],
    direction: Literal["rises", "falls"],
    *,
    shape: Literal["strict", "overall"] = "strict",
    positions: Sequence[float] | None = None,
    margin: float = 0.0,
    failed: int = 0,
    deterministic: bool | None = None,
    name: str = "the metric",
    labels: Sequence[str] | None = None,
    unit: str = "",
    limits: Limits = UNLIMITED,
    alpha: float = 0.05,
    power: float = 0.8,
) -> Judgement:
    """Whether a metric rises (or falls) along an ordered list of settings.

    ``strict`` says what "rises along the list" says: every step goes up. Each step has its one-sided test, paired by
    seed where seeds are shared, and all must pass (intersection-union, so no correction between steps). One step that
    significantly goes the other way refutes the claim. ``overall`` is the weaker claim that the least-squares slope of
    the level means is positive; a list that goes up, down and up again can pass it.

    Args:
        levels: values by seed of each setting, in the paper's order; at least two.
        direction: ``rises`` or ``falls``.
        shape: ``strict`` or ``overall``.
        positions: for ``overall``, where the levels stand on the axis (say log k), increasing; 0, 1, 2 ... if None.
        margin: >= 0: what each step, or the slope per unit of position, must exceed.
        failed: failed seeds that `levels` does not list.
        deterministic: see `latentbench.stats.samples.Sample`.
        name: the metric, for the text.
        labels: names of the levels, for the text.
        unit: the metric's unit, for the text.
        limits: lowest and highest value of the metric, None for no end: intervals stay between them.
        alpha: level of the intervals and of the plan.
        power: for `needed_n`.

    Raises:
        UserError: fewer than two levels, positions that do not fit, or an unknown word.
    """
    _margin(margin)
    _choice("direction", direction, ("rises", "falls"))
    _choice("shape", shape, ("strict", "overall"))
    if len(levels) < 2:
        raise UserError(f"a trend over {len(levels)} level(s)", fix="give at least two, in the paper's order")
    labels = [str(i + 1) for i in range(len(levels))] if labels is None else list(labels)
    if len(labels) != len(levels):
        raise UserError(f"{len(labels)} labels for {len(levels)} levels", fix="give one a level")
    weights = slope_weights(_positions(positions, len(levels), shape))
    samples = [Sample.of(x, deterministic=deterministic) for x in levels]
    whose: Whose = {"names": labels, "unlisted": failed}
    absent = [label for label, s in zip(labels, samples) if s.n == 0]
    if absent:
        return unjudged("trend", None, margin, samples, f"{name} at {', '.join(absent)}: no result", **whose)

    def words(changes: Sequence[float], weakest: int, evidence: Evidence) -> str:
        if shape == "strict":
            return wording.steps(name, labels, changes, weakest, evidence, direction, margin, unit)
        per = "level" if positions is None else "unit of position"
        return wording.slope(name, labels, changes[0], evidence, direction, margin, per, unit)

    sign = 1 if direction == "rises" else -1
    if any(s.blind for s in samples):
        means = np.array([s.array().mean() for s in samples])
        changes = np.diff(means) if shape == "strict" else np.array([weights @ means])
        least = int(np.argmin(sign * changes))
        text = words(changes.tolist(), least, Evidence.unknown(samples))
        side = _side(sign * float(changes[least]), margin)
        return unjudged("trend", float(changes[least]), margin, samples, text, side=side, **whose)
    if shape == "strict":
        found = [compare(pair, [-1.0, 1.0], of_difference(limits)) for pair in pairwise(samples)]
    else:
        found = [compare(samples, weights.tolist())]
    exact = all(f.exact for f in found)
    conditions = [beyond(f.contrast, sign * margin, sign, closed=margin > 0, exact=exact) for f in found]
    # The claim stands or falls with the step that is least sure.
    least = max(range(len(found)), key=lambda i: (float(conditions[i].p_met()), -float(conditions[i].gap)))
    text = words([float(f.contrast.estimate) for f in found], least, Evidence.of(found[least], 1 - alpha))
    judgement = judged("trend", found[least], margin, 0.0, samples, conditions, text, alpha=alpha, power=power, **whose)
    return replace(judgement, n=min(f.n for f in found))


def _side(gain: float, margin: float) -> int:
    """See `Judgement.side`; a margin that is met is part of the claim, and equality is none."""
    return 1 if gain > margin or gain == margin > 0 else 0 if gain == margin else -1


def _positions(positions: Sequence[float] | None, n: int, shape: str) -> Sequence[float]:
    if positions is None:
        return range(n)
    if shape == "strict":
        raise UserError("positions mean nothing to a strict trend", fix="leave them out, or set shape: overall")
    if len(positions) != n or not np.isfinite(positions).all() or not (np.diff(positions) > 0).all():
        raise UserError(f"positions {list(positions)!r} do not fit {n} levels", fix="give one a level, increasing")
    return positions


def _finite(what: str, number: float) -> None:
    if not math.isfinite(number):
        raise UserError(f"{what} {number!r} is not finite", fix="give a number")


def _margin(margin: float) -> None:
    if not (math.isfinite(margin) and margin >= 0):
        raise UserError(f"margin {margin!r} is not a number >= 0", fix="give 0 where the paper states none")


def _choice(what: str, word: str | None, known: Sequence[str | None]) -> None:
    if word not in known:
        raise UserError(f"{what} {word!r} is unknown", fix=did_you_mean(str(word), [k for k in known if k]))
