"""How often sequential verdicts are wrong or right, by simulation: the numbers of docs/statistics.md.

Run `python -m latentbench.stats.simulate_sequential`; it prints Markdown tables. Claims, truths and noises are those
of `latentbench.stats.simulate`; here each is judged at every interim analysis up to a cap, on the first seeds of one
and the same draw, and a verdict at any analysis counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from latentbench.stats.conditions import Condition, beyond, seeds_to_settle
from latentbench.stats.hypothesis_tests import FloatArray, holm, one_sample
from latentbench.stats.judgement import Planner
from latentbench.stats.sequential import Schedule, planner
from latentbench.stats.simulate import (
    FALSE_AT_THE_LIMIT,
    FAR,
    TRUE_AT_THE_LIMIT,
    Draw,
    Kind,
    cycle,
    evidence,
    family,
    noise,
    options,
    order_paired,
    table,
    trend_all_flat,
)

POWER = 0.8
MOST = 60
"""Seeds beyond which nobody goes where they are planned from those before."""
PLANS = 5
"""Of so many repetitions, one for what is planned: that takes milliseconds each."""


class Replayed:
    """Noise that is drawn once, with most seeds first, and of which later calls see the first seeds."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._kept: list[FloatArray] = []
        self._at = 0

    def rewind(self) -> None:
        self._at = 0

    def __call__(self, shape: tuple[int, ...]) -> FloatArray:
        if self._at == len(self._kept):
            self._kept.append(self._draw(shape))
        self._at += 1
        return self._kept[self._at - 1][..., : shape[-1]]


def at_analyses(
    kinds: Sequence[Kind], effects: Sequence[float], draw: Draw, repetitions: int, schedule: Schedule
) -> list[tuple[float, FloatArray, FloatArray]]:
    """Share, evidence for and evidence against at each analysis up to the cap, (repetitions, len(kinds)) each."""
    replayed, found = Replayed(draw), []
    for analysis in reversed(schedule.within(schedule.cap)):
        replayed.rewind()
        found.append((analysis.share, *family(kinds, effects, replayed, repetitions, analysis.seeds)))
    return found[::-1]


def wrong(
    kinds: Sequence[Kind], clear: int, draw: Draw, repetitions: int, schedule: Schedule, alpha: float, *, against: bool
) -> tuple[float, float]:
    """Share of repetitions with any wrong verdict at any analysis: by the sequential test, and by applying the
    test for a fixed number of seeds each time.

    The claims of `kinds` lie on their limits. `clear` others ease Holm's threshold, as in `latentbench.stats.simulate`.
    """
    everything = [*kinds, *[order_paired] * clear]
    effects = [0.0] * len(kinds) + [-FAR if against else FAR] * clear
    taken = at_analyses(everything, effects, draw, repetitions, schedule)
    ps = [(share, broken if against else held) for share, held, broken in taken]
    q = np.minimum(1.0, np.min([p / share for share, p in ps], axis=0))
    peeked = [(holm(p) <= alpha)[:, : len(kinds)].any(axis=1) for _, p in ps]
    return (
        float((holm(q) <= alpha)[:, : len(kinds)].any(axis=1).mean()),
        float(np.any(peeked, axis=0).mean()),
    )


def right(
    kind: Kind, effect: float, m: int, draw: Draw, repetitions: int, schedule: Schedule, alpha: float
) -> tuple[float, float, float]:
    """Of true claims in a family of `m` like ones: share called reproduced by the cap, mean seeds spent on one, and the
    share that the fixed test calls reproduced with all seeds of the cap."""
    taken = at_analyses([kind] * m, [effect] * m, draw, max(1, repetitions // m), schedule)
    q = np.ones_like(taken[0][1])
    seeds = np.full(q.shape, float(schedule.cap))
    settled = np.zeros(q.shape, dtype=bool)
    for analysis, (share, held, _) in zip(schedule.within(schedule.cap), taken):
        q = np.minimum(q, held / share)
        now = holm(q) <= alpha
        seeds[now & ~settled] = analysis.seeds
        settled |= now
    return float(settled.mean()), float(seeds.mean()), float((holm(taken[-1][1]) <= alpha).mean())


class Ending(NamedTuple):
    """Where a claim whose seeds were planned from those before it ended: the seeds that it took and its verdict."""

    seeds: int
    reproduced: bool
    settled: bool


def planned(effect: float, draw: Draw, repetitions: int, schedule: Schedule, alpha: float) -> list[tuple[float, float]]:
    """Share called reproduced, and mean seeds, of a paired order of `effect` that is planned anew until it is settled.

    Three ways of judging it: by the fixed test each time; by the sequential one at declared analyses; by the fixed test
    at the first analysis and the sequential one after it, the first verdict counting.
    """
    ways: list[list[Ending]] = [[], [], []]
    for x in draw((repetitions, MOST)) + effect:
        fixed = _go_on(x, schedule.first, seeds_to_settle, _fixed, alpha)
        sequential = _go_on(x, schedule.first, planner(schedule), partial(_at_analyses, schedule), alpha)
        shown = fixed if fixed.settled and fixed.seeds == schedule.first else sequential
        for way, ending in zip(ways, (fixed, sequential, shown)):
            way.append(ending)
    return [(float(np.mean([e.reproduced for e in way])), float(np.mean([e.seeds for e in way]))) for way in ways]


def _go_on(
    x: FloatArray, n: int, plan: Planner, judge: Callable[[FloatArray], tuple[float, float]], alpha: float
) -> Ending:
    """`judge` the first `n` seeds, then as many as these ask for, until the claim is settled or nothing will do it."""
    while True:
        held, broken = judge(x[:n])
        if min(held, broken) <= alpha:
            return Ending(n, held <= broken, settled=True)
        wanted = plan(_order(x[:n]), n, alpha, POWER)
        if wanted is None or wanted > MOST:
            return Ending(n, reproduced=False, settled=False)
        n = max(wanted, n + 1)


def _order(x: FloatArray) -> list[Condition]:
    return [beyond(one_sample(x), 0.0, 1, closed=False)]


def _fixed(x: FloatArray) -> tuple[float, float]:
    held, broken = evidence(_order(x))
    return float(held), float(broken)


def _at_analyses(schedule: Schedule, x: FloatArray) -> tuple[float, float]:
    at = [(analysis.share, *_fixed(x[: analysis.seeds])) for analysis in schedule.within(len(x))]
    return min(held / share for share, held, _ in at), min(broken / share for share, _, broken in at)


def report(repetitions: int, seed: int, alpha: float, schedule: Schedule) -> str:
    """Every table, as Markdown; shares in per cent."""
    rng = np.random.default_rng(seed)
    at = ", ".join(str(analysis.seeds) for analysis in schedule.within(schedule.cap))
    parts = [f"{repetitions} repetitions, alpha {alpha}, seed {seed}; analyses at {at} seeds.\n"]
    head = ["noise", *FALSE_AT_THE_LIMIT, "5 claims", "20 claims", "20, half clear", "20, fixed test at each analysis"]
    for against, among in ((False, FALSE_AT_THE_LIMIT), (True, TRUE_AT_THE_LIMIT)):
        rows = []
        for shape in ("normal", "t3", "right", "left"):
            draw = noise(shape, rng)
            families: list[tuple[list[Kind], int]] = [([kind], 0) for kind in among.values()]
            families += [(cycle(among, 5), 0), (cycle(among, 20), 0), (cycle(among, 10), 10)]
            found = [wrong(kinds, c, draw, repetitions, schedule, alpha, against=against) for kinds, c in families]
            shares = [sequential for sequential, _ in found] + [found[-2][1]]
            rows.append([shape, *(f"{100 * share:.1f}" for share in shares)])
        word = "`not-reproduced` or `better`" if against else "`reproduced`"
        parts.append(table(f"Any wrong {word} at any analysis, claims at their limits", head, rows))
    draw, rows = noise("normal", rng), []
    for what, kind, effects in (
        ("order, paired", order_paired, (0.5, 1.0, 2.0, 4.0)),
        ("trend, strict, each step", trend_all_flat, (1.0, 2.0, 4.0)),
    ):
        for effect in effects:
            for m in (1, 5, 20):
                share, seeds, fixed = right(kind, effect, m, draw, repetitions, schedule, alpha)
                rows.append([what, f"{effect:g}", str(m), f"{100 * share:.0f}", f"{seeds:.1f}", f"{100 * fixed:.0f}"])
    parts.append(
        table(
            "True claims called `reproduced`, normal noise",
            ["claim", "effect", "claims", "sequential", "seeds, on average", f"fixed, {schedule.cap} seeds"],
            rows,
        )
    )
    parts.append(_planned_table(draw, max(1, repetitions // PLANS), schedule, alpha))
    return "\n".join(parts)


def _planned_table(draw: Draw, repetitions: int, schedule: Schedule, alpha: float) -> str:
    rows = []
    for effect in (0.0, 0.5, 1.0, 2.0, 4.0):
        ways = planned(effect, draw, repetitions, schedule, alpha)
        rows.append([f"{effect:g}", *(f"{100 * share:.1f}" for share, _ in ways), *(f"{n:.1f}" for _, n in ways[:2])])
    return table(
        f"A paired order called `reproduced`, planned anew until settled or {MOST} seeds ({repetitions} repetitions)",
        ["effect", "fixed", "sequential", "fixed, then sequential", "seeds: fixed", "sequential"],
        rows,
    )


def main() -> None:
    parser = options("simulate_sequential", __doc__, 10_000)
    parser.add_argument("--first", type=int, default=3)
    parser.add_argument("--cap", type=int, default=12)
    chosen = parser.parse_args()
    print(report(chosen.repetitions, chosen.seed, chosen.alpha, Schedule(chosen.first, chosen.cap)))


if __name__ == "__main__":
    main()
