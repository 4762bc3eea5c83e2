"""How often claims about all runs are wrong at their limits: ``python -m latentbench.stats.simulate_runs``.

Tables of methods by seeds are drawn with normal noise of variance 1 over seeds, and judged by `judge_correlation` and
`judge_variance` with the limit at what the number is with seeds without end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentbench.stats.across_runs import explained, judge_correlation, judge_variance, spearman
from latentbench.stats.intervals import FloatArray
from latentbench.stats.judgement import Judgement
from latentbench.stats.simulate import options, table

#: Seeds that stand for seeds without end.
ENDLESS = 20_000


@dataclass(frozen=True)
class Design:
    """Methods whose means lie evenly on 0 to `range`, in `groups` of as many; the second metric is `slope` times the
    first and noise of standard deviation `noise`."""

    methods: int
    range: float
    groups: int = 0
    slope: float = 0.0
    noise: float = 1.0

    def draw(self, seeds: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """(methods, seeds) of either metric."""
        means = np.linspace(0.0, self.range, self.methods)[:, None]
        x = means + rng.standard_normal((self.methods, seeds))
        return x, self.slope * x + self.noise * rng.standard_normal(x.shape)

    @property
    def belongs(self) -> NDArray[np.int64]:
        return np.arange(self.methods, dtype=np.int64) * self.groups // self.methods

    def truth(self, rng: np.random.Generator) -> float:
        """The number that a claim is about."""
        x, y = self.draw(ENDLESS, rng)
        return explained(x, self.belongs) if self.groups else spearman(np.concatenate([x, y]))

    def judged(self, seeds: int, limit: float, rng: np.random.Generator) -> Judgement:
        names = [f"m{i}" for i in range(self.methods)]
        x, y = ({m: dict(enumerate(row)) for m, row in zip(names, table)} for table in self.draw(seeds, rng))
        if not self.groups:
            return judge_correlation(x, y, limit, "above")
        groups = {f"g{g}": [m for m, b in zip(names, self.belongs) if b == g] for g in range(self.groups)}
        return judge_variance(x, groups, limit, "above")


DESIGNS = [
    *(Design(m, r, groups=g) for m, g in ((5, 2), (18, 6)) for r in (1.0, 3.0, 8.0)),
    *(
        Design(m, r, slope=s, noise=e)
        for m in (5, 18)
        for r in (1.0, 4.0)
        for s, e in ((0.0, 1.0), (0.6, 1.0), (1.0, 0.3))
    ),
]


def wrong(design: Design, seeds: int, repetitions: int, rng: np.random.Generator, alpha: float) -> tuple[float, ...]:
    """The number itself, and the shares in which it is called above and not above where it is the limit."""
    limit = design.truth(rng)
    found = [design.judged(seeds, limit, rng) for _ in range(repetitions)]
    return limit, *(
        float(np.mean([p <= alpha for p in ps])) for ps in zip(*((j.p_reproduced, j.p_against) for j in found))
    )


def report(repetitions: int, seed: int, alpha: float, ns: Sequence[int] = (3, 5, 8)) -> str:
    """A line a design, in per cent."""
    rng = np.random.default_rng(seed)
    rows = []
    for design in DESIGNS:
        found = [wrong(design, n, repetitions, rng, alpha) for n in ns]
        kind = f"variance, {design.groups} groups" if design.groups else "correlation"
        shares = [f"{100 * above:.1f}, {100 * below:.1f}" for _, above, below in found]
        rows.append([kind, str(design.methods), f"{found[0][0]:.2f}", *shares])
    head = ["claim", "methods", "the number", *(f"n = {n}: above, not above" for n in ns)]
    return table(f"Called above a limit, or not, that it is at ({repetitions} repetitions)", head, rows)


def main() -> None:
    chosen = options("simulate_runs", __doc__, 1000).parse_args()
    print(report(chosen.repetitions, chosen.seed, chosen.alpha))


if __name__ == "__main__":
    main()
