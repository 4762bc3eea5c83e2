"""Claims as inequalities between expectations, and the two p-values that they give.

Every kind of claim says that one or more expectations lie on one side of a limit:

* value: mean > reported - tolerance, and mean < reported + tolerance;
* order: A - B beyond the margin; bound: the mean beyond the limit;
* strict trend: every step beyond the margin; overall trend: the slope beyond the margin.

The claim holds if all conditions do, so the evidence for it is an intersection-union test: the largest of the
one-sided p-values, with no correction. It fails if any condition fails, so the evidence against it is the smallest
p-value of the opposites times their number (Bonferroni). Both are valid whatever the dependence between conditions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from latentbench.stats.hypothesis_tests import Contrast, FloatArray
from latentbench.stats.power import seeds_to_show_all, seeds_to_show_any, seeds_without_spread


@dataclass(frozen=True)
class Condition:
    """One inequality that a claim makes.

    Attributes:
        gap: (...) observed distance from the limit, positive where the inequality holds.
        contrast: the estimate behind it, by which the inequality is judged.
        doubt: the estimate by which its opposite is judged: the same, or a wider one.
        closed: whether equality satisfies it; matters only where nothing varies.
        exact: whether identical values over the seeds are taken for a deterministic number (else for a coarse metric,
            and only the number of seeds that agree counts: p = 2^-n, the sign test's).
    """

    gap: FloatArray
    contrast: Contrast
    doubt: Contrast
    closed: bool
    exact: bool = True

    def p_met(self) -> FloatArray:
        """One-sided p for the inequality, (...)."""
        return self._p(self.gap, self.contrast, self.closed)

    def p_broken(self) -> FloatArray:
        """One-sided p for its opposite, (...)."""
        return self._p(-self.gap, self.doubt, not self.closed)

    def _p(self, gap: FloatArray, contrast: Contrast, tie_counts: bool) -> FloatArray:
        p = replace(contrast, estimate=gap).p_above(0.0)
        still = contrast.se == 0
        if not self.exact:
            return np.where(still & (gap > contrast.dust), 0.5 ** min(contrast.counts), p)
        return np.where(still & tie_counts & (np.abs(gap) <= contrast.dust), 0.0, p)


def within(
    contrast: Contrast, doubt: Contrast, centre: float, tolerance: float, *, exact: bool = True
) -> list[Condition]:
    """Conditions of a value claim: first "not too low", then "not too high"."""
    above = contrast.estimate - centre + tolerance
    below = centre + tolerance - contrast.estimate
    return [Condition(np.asarray(gap), contrast, doubt, True, exact) for gap in (above, below)]


def beyond(contrast: Contrast, limit: float, sign: int, *, closed: bool, exact: bool = True) -> Condition:
    """The condition sign * expectation > sign * limit (>= if `closed`)."""
    return Condition(np.asarray(sign * (contrast.estimate - limit)), contrast, contrast, closed, exact)


def p_all_met(conditions: Sequence[Condition]) -> FloatArray:
    """p for "every condition holds", (...)."""
    return np.max([c.p_met() for c in conditions], axis=0)


def p_any_broken(conditions: Sequence[Condition]) -> FloatArray:
    """p for "some condition fails", (...)."""
    return np.minimum(1.0, len(conditions) * np.min([c.p_broken() for c in conditions], axis=0))


def seeds_to_settle(conditions: Sequence[Condition], n: int, alpha: float, power: float) -> int | None:
    """Seeds of each method that would settle the claim, for or against as the estimate now points.

    Args:
        conditions: of one claim, unvectorised.
        n: seeds so far: the answer where nothing varies and the claim is settled exactly.
        alpha: level of the claim's test; pass alpha / m for one claim of m, which Holm's first step asks for.
        power: wanted probability of a verdict.

    Returns:
        A number from 2 to `power.CAP`, or None where more seeds are not likely to help: the estimate lies on the
        limit, or too near it for any number within the cap.
    """
    gaps = [float(c.gap) for c in conditions]
    if all(float(c.contrast.se) == 0 and float(c.doubt.se) == 0 for c in conditions):
        if conditions[0].exact:
            return n
        return seeds_without_spread(alpha, 1 if min(gaps) > 0 else len(gaps)) if min(gaps) != 0 else None
    if min(gaps) > 0:
        return seeds_to_show_all([(g, c.contrast) for g, c in zip(gaps, conditions)], alpha, power)
    return seeds_to_show_any([(-g, c.doubt) for g, c in zip(gaps, conditions)], alpha, power)
