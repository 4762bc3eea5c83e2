"""How often the verdicts are wrong, and how often they come: ``python -m latentbench.stats.simulate``.

Draws seeds from a known truth, judges them with the same conditions, p-values and Holm correction as
`latentbench.stats.claims` (vectorised over repetitions; tests hold the two equal), and counts. Effects are in standard
deviations of what is tested over seeds: of a single seed for a value or a bound, of a paired difference, of a seed on
either side for unpaired ones.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from latentbench.stats.conditions import Condition, beyond, p_all_met, p_any_broken, within
from latentbench.stats.hypothesis_tests import FloatArray, holm, independent, one_sample, paired, weighted

Draw = Callable[[tuple[int, ...]], FloatArray]
Evidence = tuple[FloatArray, FloatArray]

TOLERANCE = 1.0
FAR = 1e4
"""An effect that even two seeds cannot miss."""


def noise(kind: str, rng: np.random.Generator) -> Draw:
    """A source of independent noise with mean 0 and variance 1: ``normal``, ``t3``, ``right`` or ``left`` (skewed).

    The skewed ones are exponential variables, shifted: a long tail of high (or low) values.
    """
    draws: dict[str, Draw] = {
        "normal": rng.standard_normal,
        "t3": lambda shape: rng.standard_t(3, shape) / math.sqrt(3),
        "right": lambda shape: rng.standard_exponential(shape) - 1,
        "left": lambda shape: 1 - rng.standard_exponential(shape),
    }
    return draws[kind]


def evidence(conditions: Sequence[Condition]) -> Evidence:
    """p for and p against."""
    return p_all_met(conditions), p_any_broken(conditions)


def value(draw: Draw, shape: tuple[int, int], n: int, effect: float) -> Evidence:
    """The mean lies `effect` inside the tolerance, at its upper end; the reported number is exact."""
    x = one_sample(draw((*shape, n)) + TOLERANCE - effect)
    return evidence(within(x, x.predicting(1), 0.0, TOLERANCE))


def value_one_run(draw: Draw, shape: tuple[int, int], n: int, effect: float) -> Evidence:
    """As `value`, but the reported number is itself one noisy run, and the limit lies between the two expectations."""
    x = one_sample(draw((*shape, n)) + TOLERANCE - effect - draw((*shape, 1)))
    return evidence(within(x, x.predicting(1), 0.0, TOLERANCE))


def order_paired(draw: Draw, shape: tuple[int, int], n: int, effect: float) -> Evidence:
    """A - B is `effect`; seeds are paired, and what they share is three times as large as what they do not."""
    shared = 3 * draw((*shape, n))
    a, b = shared + draw((*shape, n)) / math.sqrt(2) + effect, shared + draw((*shape, n)) / math.sqrt(2)
    return evidence([beyond(paired(a, b), 0.0, 1, closed=False)])


def order_unpaired(draw: Draw, shape: tuple[int, int], n: int, effect: float) -> Evidence:
    """A - B is `effect`; unpaired, B spreads three times as much as A and has five times the seeds."""
    a, b = draw((*shape, n)) + effect, 3 * draw((*shape, 5 * n))
    return evidence([beyond(independent(a, b), 0.0, 1, closed=False)])


def bound(draw: Draw, shape: tuple[int, int], n: int, effect: float) -> Evidence:
    """The mean lies `effect` above the limit."""
    return evidence([beyond(one_sample(draw((*shape, n)) + effect), 0.0, 1, closed=True)])


def trend_one_flat(draw: Draw, shape: tuple[int, int], n: int, effect: float) -> Evidence:
    """Four levels, strict: two steps are far above zero, one is `effect`; the worst case of a false claim."""
    return _steps(draw, shape, n, (FAR, effect, FAR))


def trend_all_flat(draw: Draw, shape: tuple[int, int], n: int, effect: float) -> Evidence:
    """Four levels, strict: all three steps are `effect`; the worst case of a true claim at its limit."""
    return _steps(draw, shape, n, (effect, effect, effect))


def _steps(draw: Draw, shape: tuple[int, int], n: int, steps: Sequence[float]) -> Evidence:
    levels = [draw((*shape, n)) / math.sqrt(2) + at for at in np.cumsum([0.0, *steps])]
    return evidence([beyond(paired(b, a), 0.0, 1, closed=False) for a, b in pairwise(levels)])


def slope(draw: Draw, shape: tuple[int, int], n: int, effect: float) -> Evidence:
    """Four levels, overall: the slope is `effect`."""
    levels = [draw((*shape, n)) * math.sqrt(5) + at * effect for at in range(4)]
    return evidence([beyond(weighted(levels, [-0.3, -0.1, 0.1, 0.3], paired=True), 0.0, 1, closed=False)])


Kind = Callable[[Draw, tuple[int, int], int, float], Evidence]
FALSE_AT_THE_LIMIT: dict[str, Kind] = {
    "value": value,
    "order, paired": order_paired,
    "order, unpaired": order_unpaired,
    "bound": bound,
    "trend, strict": trend_one_flat,
    "trend, overall": slope,
}
"""Truths on the limit, each at its worst for a wrong "reproduced"."""
TRUE_AT_THE_LIMIT: dict[str, Kind] = FALSE_AT_THE_LIMIT | {"trend, strict": trend_all_flat}
"""Truths on the limit, each at its worst for a wrong "not-reproduced"."""


def family(kinds: Sequence[Kind], effects: Sequence[float], draw: Draw, repetitions: int, n: int) -> Evidence:
    """Evidence for and against a family of claims, (repetitions, len(kinds)) each."""
    found = [kind(draw, (repetitions, 1), n, effect) for kind, effect in zip(kinds, effects)]
    return np.concatenate([f for f, _ in found], axis=1), np.concatenate([a for _, a in found], axis=1)


def wrong_reproduced(kinds: Sequence[Kind], clear: int, draw: Draw, repetitions: int, n: int, alpha: float) -> float:
    """Share of repetitions in which a family calls any false claim reproduced.

    The claims of `kinds` are false by nothing. `clear` true ones come on top: their wins ease Holm's threshold.
    """
    held, _ = family([*kinds, *[order_paired] * clear], [0.0] * len(kinds) + [FAR] * clear, draw, repetitions, n)
    return float((holm(held) <= alpha)[:, : len(kinds)].any(axis=1).mean())


def wrong_against(kinds: Sequence[Kind], clear: int, draw: Draw, repetitions: int, n: int, alpha: float) -> float:
    """Share of repetitions in which a family calls any true claim not-reproduced (or better).

    The claims of `kinds` are true by nothing. `clear` false ones come on top.
    """
    _, broken = family([*kinds, *[order_paired] * clear], [0.0] * len(kinds) + [-FAR] * clear, draw, repetitions, n)
    return float((holm(broken) <= alpha)[:, : len(kinds)].any(axis=1).mean())


def right(kind: Kind, effect: float, m: int, draw: Draw, repetitions: int, n: int, alpha: float) -> float:
    """Share of true claims called reproduced, in a family of `m` like claims with the same effect."""
    held, _ = family([kind] * m, [effect] * m, draw, max(1, repetitions // m), n)
    return float((holm(held) <= alpha).mean())


def peeking(draw: Draw, sizes: Sequence[int], repetitions: int, alpha: float) -> float:
    """Share of ties called reproduced when one judges at each number of seeds and stops at the first verdict."""
    x = draw((repetitions, max(sizes)))
    hits = [one_sample(x[:, :n]).p_above(0.0) <= alpha for n in sizes]
    return float(np.any(hits, axis=0).mean())


def cycle(kinds: dict[str, Kind], m: int) -> list[Kind]:
    """`m` claims of all kinds in turn."""
    chosen = list(kinds.values())
    return [chosen[i % len(chosen)] for i in range(m)]


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table under a line of title."""
    lines = [f"| {' | '.join(r)} |" for r in (head, ["---"] * len(head), *rows)]
    return "\n".join([title, "", *lines, ""])


def report(repetitions: int, seed: int, alpha: float) -> str:
    """Every table, as Markdown; shares in per cent."""
    rng = np.random.default_rng(seed)
    ns, kinds = (2, 3, 5, 10), ("normal", "t3", "right", "left")
    error = 100 * math.sqrt(alpha * (1 - alpha) / repetitions)
    parts = [
        f"{repetitions} repetitions, alpha {alpha}, seed {seed}; Monte Carlo error at alpha: {error:.2f} points.\n"
    ]

    def rows(cells: Callable[[Draw, int], list[float]]) -> list[list[str]]:
        return [
            [shape, str(n), *(f"{100 * c:.1f}" for c in cells(noise(shape, rng), n))] for shape in kinds for n in ns
        ]

    def single(share: Callable[..., float], among: dict[str, Kind]) -> Callable[[Draw, int], list[float]]:
        return lambda draw, n: [share([kind], 0, draw, repetitions, n, alpha) for kind in among.values()]

    sizes = ((5, 0), (20, 0), (10, 10))

    def families(draw: Draw, n: int) -> list[float]:
        told = [wrong_reproduced(cycle(FALSE_AT_THE_LIMIT, m), c, draw, repetitions, n, alpha) for m, c in sizes]
        return told + [wrong_against(cycle(TRUE_AT_THE_LIMIT, m), c, draw, repetitions, n, alpha) for m, c in sizes]

    head = ["noise", "n"]
    parts.append(
        table(
            "Wrong `reproduced`, one false claim at its limit",
            [*head, *FALSE_AT_THE_LIMIT],
            rows(single(wrong_reproduced, FALSE_AT_THE_LIMIT)),
        )
    )
    parts.append(
        table(
            "Wrong `not-reproduced` or `better`, one true claim at its limit",
            [*head, *TRUE_AT_THE_LIMIT],
            rows(single(wrong_against, TRUE_AT_THE_LIMIT)),
        )
    )
    wide = [f"{word} {what}" for word in ("for", "against") for what in ("5", "20", "20, half clear")]
    parts.append(table("Any wrong verdict in a family of mixed claims at their limits", [*head, *wide], rows(families)))
    parts.append(
        table(
            "Any value called `not-reproduced` or `better` where the paper's numbers are single noisy runs, "
            "whose expectations lie at the tolerance",
            [*head, "1 claim", "5 claims", "20 claims"],
            rows(
                lambda draw, n: [wrong_against([value_one_run] * m, 0, draw, repetitions, n, alpha) for m in (1, 5, 20)]
            ),
        )
    )
    draw = noise("normal", rng)
    power = [
        [what, f"{effect:g}", str(m), *(f"{100 * right(kind, effect, m, draw, repetitions, n, alpha):.0f}" for n in ns)]
        for what, kind, effects in (
            ("order, paired", order_paired, (0.5, 1.0, 2.0, 4.0)),
            ("trend, strict, each step", trend_all_flat, (1.0, 2.0, 4.0)),
        )
        for effect in effects
        for m in (1, 5, 20)
    ]
    parts.append(
        table(
            "True claims called `reproduced`, normal noise",
            ["claim", "effect", "claims", *map("n = {}".format, ns)],
            power,
        )
    )
    equivalence = [
        [f"{tolerance:g}", *(f"{100 * _value_power(tolerance, draw, repetitions, n, alpha):.0f}" for n in ns)]
        for tolerance in (0.5, 1.0, 2.0, 4.0)
    ]
    parts.append(
        table(
            "Values that agree exactly called `reproduced`, one claim, by tolerance",
            ["tolerance", *map("n = {}".format, ns)],
            equivalence,
        )
    )
    peeked = [
        [", ".join(map(str, sizes)), f"{100 * peeking(draw, sizes, repetitions, alpha):.1f}"]
        for sizes in ((10,), (3, 5, 10))
    ]
    parts.append(
        table("A tie called `reproduced`, judged anew after each batch of seeds", ["analyses at n", "share"], peeked)
    )
    return "\n".join(parts)


def _value_power(tolerance: float, draw: Draw, repetitions: int, n: int, alpha: float) -> float:
    x = one_sample(draw((repetitions, n)))
    return float((x.p_equivalent(0.0, tolerance) <= alpha).mean())


def options(module: str, says: str | None, repetitions: int) -> argparse.ArgumentParser:
    """What every simulation of this folder asks for: `module` of it, which `says` what it is."""
    parser = argparse.ArgumentParser(
        prog=f"python -m latentbench.stats.{module}", description=(says or "").splitlines()[0]
    )
    parser.add_argument("--repetitions", type=int, default=repetitions)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--alpha", type=float, default=0.05)
    return parser


def main() -> None:
    chosen = options("simulate", __doc__, 20_000).parse_args()
    print(report(chosen.repetitions, chosen.seed, chosen.alpha))


if __name__ == "__main__":
    main()
