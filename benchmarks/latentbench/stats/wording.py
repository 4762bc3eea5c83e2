"""The sentences of a judgement: plain words, units, and numbers rounded to what the seeds can tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from latentbench.stats.samples import Comparison, Sample


@dataclass(frozen=True)
class Evidence:
    """What stands in brackets behind an estimate.

    Attributes:
        low: lower end of the confidence interval; None where the spread is unknown.
        high: upper end.
        level: its coverage.
        seeds: how many, in words.
    """

    low: float | None
    high: float | None
    level: float
    seeds: str

    @classmethod
    def of(cls, found: Comparison, level: float) -> Evidence:
        low, high = (float(x) for x in found.contrast.interval(level))
        return cls(low, high, level, counts(found.counts, paired=found.paired))

    @classmethod
    def unknown(cls, samples: Sequence[Sample]) -> Evidence:
        return cls(None, None, 0.0, counts([s.n for s in samples]))

    @property
    def half(self) -> float:
        """Half the interval's width, 0 where there is none."""
        return 0.0 if self.low is None or self.high is None else (self.high - self.low) / 2

    def bracket(self, sign: int = 1) -> str:
        """In brackets, for `sign` times the estimate: its interval and the number of seeds."""
        if self.low is None or self.high is None:
            return f"({self.seeds}, spread unknown)"
        if self.half == 0:
            return f"(no spread, {self.seeds})"
        low, high = sorted((sign * self.low, sign * self.high))
        return f"({percent(self.level)} CI {number(low, self.half)} to {number(high, self.half)}, {self.seeds})"


def percent(level: float) -> str:
    return f"{100 * level:.4g}%"


def behind(unit: str) -> str:
    """A unit as it stands behind a number: nothing for pure numbers."""
    return "" if unit == "1" else unit


def number(x: float, scale: float = 0.0) -> str:
    """`x` with two significant digits of `scale`, its uncertainty, or with six digits where that is 0 or not finite."""
    if not (0 < scale < math.inf):
        return f"{x:.6g}"
    decimals = 1 - math.floor(math.log10(scale))
    if decimals > 12 or scale >= 1e6:
        return f"{x:.6g}"
    text = f"{x:.{max(0, decimals)}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def quantity(x: float, unit: str, scale: float = 0.0) -> str:
    return f"{number(x, scale)} {unit}".rstrip()


def counts(seeds: Sequence[int], *, paired: bool = False) -> str:
    """As in "n = 5 paired seeds", "n = 5 and 3 seeds", "n = 4 seeds each", "n = 1 seed"."""
    if paired:
        return f"n = {seeds[0]} paired seeds"
    if len(set(seeds)) > 1:
        return f"n = {', '.join(map(str, seeds[:-1]))} and {seeds[-1]} seeds"
    return f"n = {seeds[0]} seed{'s' if seeds[0] != 1 else ''}{' each' if len(seeds) > 1 else ''}"


def failures(samples: Sequence[Sample], names: Sequence[str], unlisted: int = 0) -> str:
    """A clause that counts the failed runs and names whose they are, empty where there are none.

    `unlisted` are failed runs of which only the number is known.
    """
    failed = unlisted + sum(s.failed for s in samples)
    if not failed:
        return ""
    total = failed + sum(s.n for s in samples)
    whose = ", ".join(f"{s.failed} of {name}" for name, s in zip(names, samples) if s.failed)
    named = f" ({whose})" if whose and len(samples) > 1 else ""
    return f"; {failed} of {total} runs failed{named} and {'is' if failed == 1 else 'are'} left out"


def among(claims: int) -> str:
    """What was clear by itself is not so once the others are allowed for."""
    return f"; clear by itself, not as one of {claims} claims (Holm)"


def needed(n: int | None, power: float, *, each: bool) -> str:
    """A clause on the seeds that would settle the claim; `each`: of several methods."""
    if n is None:
        return "; more seeds are not likely to settle it"
    return (
        f"; about {n} seeds{' of each' if each else ''} would settle it ({percent(power)} power, were this the truth)"
    )


def pilot(n: int, *, each: bool) -> str:
    """A clause for where the spread is unknown."""
    return f"; run at least {n} seeds{' of each' if each else ''} to learn the spread"


def predicted(interval: tuple[float, float], level: float) -> str:
    low, high = interval
    half = (high - low) / 2
    span = f"{number(low, half)} to {number(high, half)}"
    return f"; the reported number lies in the {percent(level)} prediction interval {span}"


def value(name: str, mean: float, evidence: Evidence, reported: float, tolerance: float, unit: str) -> str:
    gap = mean - reported
    place = f"{number(abs(gap), evidence.half)} {'above' if gap > 0 else 'below'}" if gap else "equal to"
    return (
        f"{name} gives {quantity(mean, unit, evidence.half)} {evidence.bracket()}, {place} the reported "
        f"{quantity(reported, unit)} (tolerance {number(tolerance)})"
    )


def bound(name: str, mean: float, evidence: Evidence, limit: float, side: str, wrong: int, n: int, unit: str) -> str:
    gap = mean - limit
    where = "above" if gap > 0 else "below"
    place = f"{number(abs(gap), evidence.half)} {where} the limit" if gap else "at the limit"
    claim = f", where {side} is claimed" if gap and where != side else ""
    strays = f"; {wrong} of {n} seeds {'lies' if wrong == 1 else 'lie'} on the wrong side" if wrong else ""
    return (
        f"{name} gives {quantity(mean, unit, evidence.half)} {evidence.bracket()}, {place} "
        f"{quantity(limit, unit)}{claim}{strays}"
    )


def of_table(said: str, estimate: float | None, evidence: Evidence, limit: float, side: str) -> str:
    """A number of all runs of many methods, without a unit."""
    if estimate is None:
        return f"{said} is not defined {evidence.bracket()}: all are alike, or too few"
    seen = "above" if estimate > limit else "below"
    where = "where" if estimate != limit and seen != side else "as"
    return (
        f"{said} is {number(estimate, evidence.half)} {evidence.bracket()}, {where} {side} {number(limit)} is claimed"
    )


def order(names: tuple[str, str], difference: float, evidence: Evidence, better: str, margin: float, unit: str) -> str:
    """`difference` is mean A - mean B."""
    claim = f"{better} by at least {quantity(margin, unit)}" if margin else better
    if difference == 0:
        return f"{names[0]} equals {names[1]} {evidence.bracket()}, where {claim} is claimed"
    seen, sign = ("higher", 1) if difference > 0 else ("lower", -1)
    said = f", where {claim} is claimed" if margin or seen != better else ""
    amount = quantity(abs(difference), unit, evidence.half)
    return f"{names[0]} is {seen} than {names[1]} by {amount} {evidence.bracket(sign)}{said}"


def steps(
    name: str,
    labels: Sequence[str],
    changes: Sequence[float],
    weakest: int,
    evidence: Evidence,
    direction: str,
    margin: float,
    unit: str,
) -> str:
    """A strict trend: how many steps go the claimed way, and the least clear one."""
    sign = 1 if direction == "rises" else -1
    right = sum(sign * c > 0 for c in changes)
    by = f" by more than {quantity(margin, unit)}" if margin else ""
    step = f"{labels[weakest]} to {labels[weakest + 1]}"
    return (
        f"{name} {direction} at {right} of {len(changes)} steps of {', '.join(labels)}; "
        f"the least clear step, {step}, is {quantity(changes[weakest], unit, evidence.half)} {evidence.bracket()}"
        + (f", where every step is claimed to be one that {direction}{by}" if margin else "")
    )


def slope(
    name: str,
    labels: Sequence[str],
    change: float,
    evidence: Evidence,
    direction: str,
    margin: float,
    per: str,
    unit: str,
) -> str:
    """An overall trend; `per` is what the slope is measured by."""
    seen, sign = ("rises", 1) if change > 0 else ("falls", -1)
    if margin:
        claim = f", where {direction} by more than {quantity(margin, unit)} is claimed"
    else:
        claim = f", where {direction} is claimed" if seen != direction else ""
    amount = quantity(abs(change), unit, evidence.half)
    return f"{name} {seen} by {amount} a {per} on average over {', '.join(labels)} {evidence.bracket(sign)}{claim}"
