"""How likely a run of one method is to be better than a run of another, as a square of all pairs on a leaderboard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from latentbench.results.leaderboard import Row
from latentbench.stats.superiority import Superiority, superiority

#: A wider square is none to read; the best stand in it.
MOST = 12
#: How many steps of colour there are on each side of one half.
STEPS = 4


@dataclass(frozen=True)
class Chance:
    """A pair, in per cent. `told` where a rank test tells it from one half at 5 %."""

    share: str
    interval: str
    says: str
    told: bool
    tone: str


@dataclass(frozen=True)
class Chances:
    """The square: methods as rows and, in the same order, as columns; None on the diagonal."""

    names: list[str]
    rows: list[list[Chance | None]]
    left_out: int


def chances(ranked: Sequence[tuple[str, Row, Sequence[float]]]) -> Chances | None:
    """Of methods with their names and values, best first, those with two runs or more; None where they are too few."""
    able = [(name, row, values) for name, row, values in ranked if _able(row, values)]
    shown = able[:MOST]
    if len(shown) < 2:
        return None
    square: list[list[Chance | None]] = [[None] * len(shown) for _ in shown]
    for (i, (a, row, values)), (j, (b, _, others)) in combinations(enumerate(shown), 2):
        found = superiority(values, others, "lower" if row.better == "lower" else "higher")
        square[i][j], square[j][i] = _chance(a, b, found), _chance(b, a, found.turned)
    return Chances([name for name, _, _ in shown], square, len(ranked) - len(shown))


def _able(row: Row, values: Sequence[float]) -> bool:
    return len(values) > 1 and not (row.impossible or row.refused)


def _chance(first: str, second: str, found: Superiority) -> Chance:
    share, low, high = (f"{100 * x:.0f}" for x in (found.share, found.low, found.high))
    step = math.ceil(STEPS * abs(2 * found.share - 1) - 1e-9)
    return Chance(
        share,
        f"{low}\N{EN DASH}{high}",
        f"A run of {first} is better than one of {second} in {share} of 100 pairs (95% interval {low} to {high})",
        found.p <= 0.05,
        f"{'up' if found.share > 0.5 else 'down'}{step}" if step else "",
    )
