"""The paper's effect beside ours: a reproduction of another size is another phenomenon, or a bug."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from latentbench.results.gather import Gathered
from latentbench.results.judging import estimates
from latentbench.spec.claims import Order, Statement, Trend
from latentbench.spec.suite import Suite
from latentbench.stats.wording import quantity

FACTOR = 3.0
"""Beyond this factor, either way, two effects are not of one size."""


@dataclass(frozen=True)
class Effect:
    """How far apart methods are, here and in the paper.

    Attributes:
        ours: difference of means in the metric's unit: `better` minus `worse` of an order, last minus first of a trend;
            averaged over the cells of a pooled claim that the paper has numbers for.
        paper: the same of the paper's own numbers.
        ratio: ours by the paper's; negative where they point in opposite directions, None where the paper's is 0.
        flagged: whether they differ by more than a factor of `FACTOR`, or in sign.
    """

    ours: float
    paper: float
    unit: str = ""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.paper if self.paper else None

    @property
    def flagged(self) -> bool:
        ratio = self.ratio
        return ratio is None or not (1 / FACTOR <= ratio <= FACTOR)

    def __str__(self) -> str:
        ours, paper = quantity(self.ours, self.unit, abs(self.ours) / 10), quantity(self.paper, self.unit)
        text = f"the effect is {ours} here and {paper} in the paper"
        if not self.flagged:
            return text
        ratio = self.ratio
        if ratio is None or ratio <= 0:
            return f"{text}, not in the same direction"
        size = ratio if ratio > 1 else 1 / ratio if ratio else math.inf
        return f"{text}, a factor of {size:.2g} apart"


def effect_of(said: Sequence[Statement], gathered: Gathered, unit: str) -> Effect | None:
    """The effect of a claim over its statements; None where the paper's own numbers do not tell it."""
    suite = gathered.loaded.suite
    both: list[tuple[float, float]] = []
    for one in said:
        ends = _ends(one)
        if ends is None or (paper := _reported(suite, one, *ends)) is None:
            continue
        means = estimates(one, gathered)
        if all(method in means for method in ends):
            both.append((means[ends[0]] - means[ends[1]], paper))
    if not both:
        return None
    return Effect(sum(o for o, _ in both) / len(both), sum(p for _, p in both) / len(both), unit)


def _ends(said: Statement) -> tuple[str, str] | None:
    match said:
        case Order():
            return said.better, said.worse
        case Trend():
            return said.methods[-1], said.methods[0]
        case _:
            return None


def _reported(suite: Suite, said: Statement, first: str, second: str) -> float | None:
    if isinstance(said, Order | Trend) and said.reported_effect is not None:
        return said.reported_effect
    found = [suite.reported_for(method, said.dataset, said.metric) for method in (first, second)]
    values = [r.value for r in found if r is not None and r.own]
    return values[0] - values[1] if len(values) == 2 else None
