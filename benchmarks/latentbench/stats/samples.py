"""What the seeds of one method gave, and how the seeds of several are set against each other."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from latentbench.core.errors import UserError
from latentbench.stats.hypothesis_tests import Contrast, weighted
from latentbench.stats.intervals import UNLIMITED, Limits


@dataclass(frozen=True)
class Sample:
    """Values of one method, one a seed. Make it with `Sample.of`.

    Attributes:
        values: finite values by seed, in the metric's unit.
        seeded: whether the keys are seeds, so that they pair with those of another method.
        failed: seeds that gave no finite value.
        deterministic: True: the method has no randomness, one value is all there is. False: it has, and identical
            values only show a coarse metric (a count, a share of few items). None: identical values over two seeds
            or more are taken for a deterministic method.
    """

    values: Mapping[Hashable, float]
    seeded: bool = True
    failed: int = 0
    deterministic: bool | None = None

    @classmethod
    def of(cls, values: Values, *, failed: int = 0, deterministic: bool | None = None) -> Sample:
        """Take values by seed, or a plain sequence (no seeds, never paired).

        Args:
            values: numbers; NaN, infinite or None is a failed seed and counts as such.
            failed: failed seeds that `values` does not list; added to those of a `Sample`.
            deterministic: see the attribute; None keeps what a `Sample` says.

        Raises:
            UserError: a value is not a number, or `failed` is negative.
        """
        if failed < 0:
            raise UserError(f"failed = {failed!r} is negative", fix="give the number of failed seeds")
        if isinstance(values, Sample):
            known = values.deterministic if deterministic is None else deterministic
            return replace(values, failed=values.failed + failed, deterministic=known)
        seeded = isinstance(values, Mapping)
        items = dict(values) if isinstance(values, Mapping) else dict(enumerate(values))
        finite: dict[Hashable, float] = {}
        for seed, value in items.items():
            try:
                number = math.nan if value is None else float(value)
            except (TypeError, ValueError):
                raise UserError(
                    f"value {value!r} of seed {seed!r} is not a number", fix="give one number a seed"
                ) from None
            if math.isfinite(number):
                finite[seed] = number
        return cls(finite, seeded, failed + len(items) - len(finite), deterministic)

    @property
    def n(self) -> int:
        """Seeds with a finite value."""
        return len(self.values)

    @property
    def blind(self) -> bool:
        """Whether the spread cannot be known: fewer than two values of a method not declared deterministic."""
        return self.n < 2 and not (self.n == 1 and self.deterministic is True)

    @property
    def constant(self) -> bool:
        """Whether it counts as a number without randomness: declared so, or undeclared and the same for every seed."""
        return self.deterministic is True or (self.deterministic is None and len(set(self.values.values())) <= 1)

    def array(self) -> NDArray[np.float64]:
        """(n,) the values, in the order given."""
        return np.fromiter(self.values.values(), dtype=np.float64, count=self.n)


Values: TypeAlias = Sample | Mapping[Any, float | None] | Sequence[float | None] | NDArray[np.float64]


def shared_seeds(samples: Sequence[Sample]) -> list[Hashable]:
    """Seeds on which the samples are paired, or none when they are not.

    They are paired when at least two seeds have a value on every side, and these are more than half of the seeds of
    the smallest side. Values never decide it, so the choice does not bias the test.
    """
    if not all(s.seeded for s in samples):
        return []
    common = [seed for seed in samples[0].values if all(seed in s.values for s in samples[1:])]
    return common if len(common) >= 2 and 2 * len(common) > min(s.n for s in samples) else []


@dataclass(frozen=True)
class Comparison:
    """A contrast of samples, and whether it was made seed by seed.

    Attributes:
        contrast: unvectorised.
        paired: whether seeds were paired.
        counts: seeds used, one number a sample.
        exact: whether no side varies, so that the comparison is between numbers without randomness.
    """

    contrast: Contrast
    paired: bool
    counts: tuple[int, ...]
    exact: bool

    @property
    def n(self) -> int:
        """Seeds of the smallest side, a single deterministic value left out where the other side varies."""
        several = [n for n in self.counts if n > 1]
        return min(several or self.counts)


def compare(samples: Sequence[Sample], weights: Sequence[float], limits: Limits = UNLIMITED) -> Comparison:
    """The contrast sum_i weights[i] * mean of sample i, paired where the seeds are (see `shared_seeds`).

    No sample may be blind or empty. `limits` are those of the contrast, for its interval.
    """
    exact = all(s.constant for s in samples)
    seeds = shared_seeds(samples) if len(samples) > 1 else []
    if seeds:
        contrast = weighted([[s.values[k] for k in seeds] for s in samples], weights, paired=True)
        return Comparison(replace(contrast, limits=limits), True, (len(seeds),) * len(samples), exact)
    contrast = weighted([s.array() for s in samples], weights, paired=False)
    variances = tuple(np.zeros(()) if s.n == 1 else v for s, v in zip(samples, contrast.variances))
    return Comparison(replace(contrast, variances=variances, limits=limits), False, tuple(s.n for s in samples), exact)


def differences(first: Sample, others: Sequence[Sample], level: float = 0.95) -> list[tuple[float, float]]:
    """Intervals of the mean of `first` minus that of each of `others`, as `compare` makes them one by one.

    Those with the very seeds of `first` are computed at once. No sample may be blind or empty.
    """
    seeds = list(first.values)
    alike = [i for i, s in enumerate(others) if s.seeded and first.seeded and s.n > 1 and list(s.values) == seeds]
    found: dict[int, tuple[float, float]] = {}
    if alike:
        rows = np.stack([others[i].array() for i in alike])
        contrast = weighted([np.broadcast_to(first.array(), rows.shape), rows], [1.0, -1.0], paired=True)
        found = dict(zip(alike, zip(*(side.tolist() for side in contrast.interval(level)))))
    for i in set(range(len(others))) - found.keys():
        low, high = compare([first, others[i]], [1.0, -1.0]).contrast.interval(level)
        found[i] = float(low), float(high)
    return [found[i] for i in range(len(others))]
