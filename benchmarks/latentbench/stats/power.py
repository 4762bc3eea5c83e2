"""How many seeds would settle a claim, from the mean and the spread seen so far.

The answer treats the observed mean and spread as the truth: a plan, not a promise, and a rough one from two or three
pilot seeds. Power comes from the noncentral t distribution; for several tests that must all pass it is bounded from
below by 1 - sum(1 - power_i), so the plan errs towards more seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from latentbench.core.errors import UserError
from latentbench.stats.hypothesis_tests import Contrast

CAP = 10_000
"""No plan goes beyond this many seeds: a claim that needs more is as good as undecidable by rerunning."""


def one_sided_power(gap: float, contrast: Contrast, n: int, alpha: float) -> float:
    """Probability that n seeds a part show "expectation > 0" at level `alpha`.

    Args:
        gap: the true expectation, measured from the limit: positive on the side to be shown.
        contrast: gives the spread of a seed, and what of the comparison does not depend on our seeds.
        n: seeds of every part, at least 2.
        alpha: one-sided level.
    """
    from scipy.special import chdtr, nctdtr, stdtrit

    planned = contrast.at(n)
    noise, se, df = float(planned.sampling_variance), float(planned.se), float(planned.df)
    if se == 0:
        return float(gap > float(contrast.dust))
    threshold = float(stdtrit(df, 1 - alpha)) * se
    if noise == 0:
        return float(gap > threshold)
    critical, centrality = threshold / math.sqrt(noise), gap / math.sqrt(noise)
    below = float(nctdtr(df, centrality, critical))
    if math.isfinite(below):
        return 1 - below
    # So far out that only the estimated spread is still uncertain: the test passes if its square stays small enough.
    return float(chdtr(df, df * (centrality / critical) ** 2)) if centrality > 0 else 0.0


def seeds_to_show_all(
    parts: Sequence[tuple[float, Contrast]], alpha: float = 0.05, power: float = 0.8, cap: int = CAP
) -> int | None:
    """Seeds (of each method) with which every one-sided test passes at `alpha`, with probability at least `power`.

    One part is a one-sided test; two (distance to either end of the tolerance) are an equivalence test; one per step
    are a strict trend.

    Args:
        parts: for each test the observed distance from its limit, positive on the side to be shown, and its contrast.
        alpha: level of each test.
        power: wanted probability.
        cap: largest answer.

    Returns:
        A number from 2 to `cap`, or None: an estimate lies on its limit or on the wrong side of it, or `cap` seeds
        would not do.
    """
    _check(alpha, power)
    if min(gap for gap, _ in parts) <= 0:
        return None
    return _smallest(lambda n: 1 - sum(1 - one_sided_power(g, c, n, alpha) for g, c in parts), power, cap)


def seeds_to_show_any(
    parts: Sequence[tuple[float, Contrast]], alpha: float = 0.05, power: float = 0.8, cap: int = CAP
) -> int | None:
    """Seeds with which at least one of the tests passes at `alpha` / len(parts); otherwise as `seeds_to_show_all`."""
    _check(alpha, power)
    share = alpha / len(parts)
    open_parts = [(g, c) for g, c in parts if g > 0]
    if not open_parts:
        return None
    return _smallest(lambda n: max(one_sided_power(g, c, n, share) for g, c in open_parts), power, cap)


def seeds_without_spread(alpha: float, tests: int = 1) -> int:
    """Seeds that must agree before identical values of a coarse metric count: tests * 2^-n <= alpha (sign test)."""
    return math.ceil(math.log2(tests / alpha))


def _smallest(reached: Callable[[int], float], power: float, cap: int) -> int | None:
    low, high = 1, 2
    while reached(high) < power:
        if high >= cap:
            return None
        low, high = high, min(2 * high, cap)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= power else (middle, high)
    return high


def _check(alpha: float, power: float) -> None:
    if not (0 < alpha < 0.5 and 0 < power < 1):
        raise UserError(f"alpha {alpha!r} or power {power!r} is out of range", fix="give alpha 0.05 and power 0.8")
