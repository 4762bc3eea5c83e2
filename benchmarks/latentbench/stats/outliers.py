"""Seeds that lie far from the others of their method: shown beside the mean, never taken out of it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from statistics import median
from typing import TypeVar

Seed = TypeVar("Seed", bound=Hashable)

FEWEST = 3
"""Of two values neither is the far one."""
#: Robust z that the farthest of n normal values exceeds with a probability of 0.5 %, by simulation
#: (`tests/stats/test_outliers.py`). Two of three often lie close together by chance, so a third must lie very far out.
CRITICAL = {3: 223.0, 4: 22.7, 5: 26.9, 6: 12.8, 7: 13.8, 8: 9.7, 9: 9.8, 10: 8.1, 12: 7.3, 15: 6.7, 20: 5.8, 50: 4.8}
#: Spread that is taken for the least, as a share of the median: values that agree to this are alike.
_ALIKE = 0.005


def far_out(values: Mapping[Seed, float]) -> dict[Seed, float]:
    """Robust z of each seed that lies far from the others, the farthest first.

    z is the distance from the median in median absolute deviations, scaled as the standard deviation of normal noise
    (Iglewicz and Hoaglin 1993). How far is far depends on the number of seeds, so that normal noise is reported for
    one method of 200.

    Args:
        values: finite values by seed, in the metric's unit.
    """
    if len(values) < FEWEST:
        return {}
    middle = median(values.values())
    scale = max(1.4826 * median(abs(value - middle) for value in values.values()), _ALIKE * abs(middle))
    if scale == 0:
        return {}
    limit = CRITICAL[max(n for n in CRITICAL if n <= len(values))]
    if max(middle - min(values.values()), max(values.values()) - middle) <= limit * scale:
        return {}
    z = {seed: (value - middle) / scale for seed, value in values.items()}
    return dict(sorted(((s, d) for s, d in z.items() if abs(d) > limit), key=lambda one: -abs(one[1])))
