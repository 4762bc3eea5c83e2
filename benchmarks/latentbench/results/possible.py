"""Numbers that cannot be: outside a metric's range, beyond a known optimum, a bound better than what it bounds.

Such a number says that something is computed wrongly, so it bears no mark in a leaderboard and no verdict rests on it.
Each check allows five standard errors of the number over the test rows. What it is made from is declared: a metric's
range and what it tightens (`latentbench.declare.metric`), and the oracle of a generated dataset.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from latentbench.core.errors import UserError
from latentbench.data.registry import call, load_entry
from latentbench.declare import MetricEntry
from latentbench.discovery import finding
from latentbench.records.known import Kind, PackedRun, Read, like, made
from latentbench.records.record import Measured, Record
from latentbench.spec.registry import find_metric, metrics
from latentbench.stats.intervals import UNLIMITED

ERRORS = 5.0
"""Standard errors beyond which chance is no explanation."""
#: Of the range's width, or of the bound, for a number without a standard error.
_SLACK, _ROUNDING = 0.01, 1e-6
#: Steps that leave whole numbers whole.
_WHOLE = ("flatten", "flip")

Cell = tuple[str, str, str]
"""Method, dataset, the suite's name of the metric."""


@dataclass(frozen=True)
class Impossible:
    """What cannot be of one method's number.

    Attributes:
        reason: of the seed that is farthest out, in words; or that another number of the method is impossible.
        seeds: of which it was found; empty where another number of the method is at fault.
    """

    reason: str
    seeds: tuple[int, ...] = ()

    def __str__(self) -> str:
        return self.reason + (f" (seed{'s' * (len(self.seeds) > 1)} {_some(self.seeds)})" if self.seeds else "")


def impossible(records: Iterable[Read]) -> dict[Cell, Impossible]:
    """The cells of a suite's records that hold a number which cannot be.

    A model whose likelihood is found wrong on one dataset is not believed on another: all its likelihoods are named.
    """
    read = [(one, like(one)) for one in records]
    finished = [(one, record) for one, record in read if record.status == "finished" and record.metrics]
    optima, of_whole = _optima(finished), _of_whole_samples()
    sound = _sound(finished, optima, of_whole)
    found: dict[Cell, list[tuple[float, int, str]]] = {}
    whole: dict[int, str] = {}  # by the part of the specification that decides it, which records of one pack share
    for record in (made(one) for one, _ in finished if not (isinstance(one, PackedRun) and one.kind in sound)):
        optimum, data = optima.get(record.dataset), id(record.spec.get("data"))
        if data not in whole:
            whole[data] = _whole_numbers(record.spec)
        for measured, excess, reason in _of_record(record, optimum, of_whole, whole[data]):
            found.setdefault((record.method, record.dataset, measured.name), []).append((excess, record.seed, reason))
    out = {
        cell: Impossible(max(faults)[2], tuple(sorted({seed for _, seed, _ in faults})))
        for cell, faults in found.items()
    }
    blamed = {method: (dataset, key) for method, dataset, key in reversed(out) if _is_density(_named(finished, key))}
    for _, record in finished if blamed else ():
        for measured in record.metrics if record.method in blamed else ():
            cell = (record.method, record.dataset, measured.name)
            if cell not in out and _is_density(find_metric(measured.metric)):
                dataset, key = blamed[record.method]
                out[cell] = Impossible(f"{key} of the same method on {dataset} is impossible")
    return out


def _named(finished: Sequence[tuple[Read, Record]], key: str) -> MetricEntry:
    return find_metric(next(m.metric for _, r in finished for m in r.metrics if m.name == key))


def _sound(finished: Sequence[tuple[Read, Record]], optima: Mapping[str, float], of_whole: frozenset[str]) -> set[Kind]:
    """Kinds of packed runs of which none holds a number that cannot be, as far as their least and greatest tell."""
    runs: dict[Kind, list[PackedRun]] = {}
    for one, _ in finished:
        if isinstance(one, PackedRun):
            runs.setdefault(one.kind, []).append(one)
    return {kind for kind, each in runs.items() if _is_sound(each, optima.get(kind.first.dataset), of_whole)}


def _is_sound(runs: Sequence[PackedRun], optimum: float | None, of_whole: frozenset[str]) -> bool:
    """Whether `_of_record` can find nothing in any of these runs of one kind, by metric instead of run by run."""
    first = runs[0].kind.first
    columns = [list(zip(*rows, strict=True)) for rows in zip(*(run.measured for run in runs), strict=True)]
    if any(None in column[0] for column in columns):
        return False
    losses, known = [], 0.0 if _whole_numbers(first.spec) else None
    for one, (values, *_) in zip(first.metrics, columns, strict=True):
        entry, (least, most) = find_metric(one.metric), find_metric(one.metric).within
        if (least is not None and min(values) < least) or (most is not None and max(values) > most):
            return False
        losses.append(values if one.better == "lower" else [-value for value in values])
        limit = None if optimum is None or one.metric not in of_whole else _in_unit(optimum, one, first)
        if entry.likelihood is not None and any(min(losses[-1]) < x for x in (known, limit) if x is not None):
            return False
    for i, j in _bounding(tuple((one.metric, one.likelihood) for one in first.metrics)):
        errors = zip(losses[i], columns[i][1], losses[j], columns[j][1], strict=True)
        if any(None not in (s, t) and tight - loose > ERRORS * math.hypot(s, t) for loose, s, tight, t in errors):
            return False
    return True


def _of_record(
    record: Record, optimum: float | None, of_whole: frozenset[str], whole: str
) -> Iterator[tuple[Measured, float, str]]:
    """Numbers of a record that cannot be, how far out they lie in tolerances, and why."""
    values = [m for m in record.metrics if m.value is not None]
    for one in values:
        entry = find_metric(one.metric)
        if entry.within != UNLIMITED:
            yield from _outside(one, entry)
        if entry.likelihood is None:
            continue
        if whole and (
            fault := _too_good(one, 0.0, f"the data are {whole}, of which no event has more than probability 1")
        ):
            yield one, *fault
        limit = None if optimum is None or one.metric not in of_whole else _in_unit(optimum, one, record)
        if limit is not None and (fault := _too_good(one, limit, "the entropy of the data's known density")):
            yield one, *fault
    if len(values) > 1:
        yield from _bounds(values)


def _outside(one: Measured, entry: MetricEntry) -> Iterator[tuple[Measured, float, str]]:
    assert one.value is not None
    least, most = entry.within
    ends = ((least, -1, "below", "lowest"), (most, 1, "above", "highest"))
    for end, sign, where, which in ends:
        if end is None or (beyond := sign * (one.value - end)) <= 0:
            continue
        if one.se is not None and one.se > 0:
            tolerance = max(ERRORS * one.se, _ROUNDING * max(1.0, abs(end)))  # near an end the error is tiny, too
        else:
            both = least is not None and most is not None
            tolerance = _SLACK * (most - least) if both else _ROUNDING * max(1.0, abs(end))  # type: ignore[operator]
        if beyond > tolerance:
            yield one, beyond / tolerance, f"{_shown(one)} lies {where} {end:g}, the {which} value that there can be"


def _too_good(one: Measured, limit: float, why: str) -> tuple[float, str] | None:
    """Whether a likelihood is better than `limit`, a negative log-likelihood in its unit, by more than chance."""
    assert one.value is not None
    gain = limit - _loss(one)
    if one.se is None or not gain > max(ERRORS * one.se, _ROUNDING * max(1.0, abs(limit))):
        return None
    best = f"{limit if one.better == 'lower' else -limit:.5g} {one.unit}"
    errors = f"by {gain / one.se:.0f} standard errors" if one.se > 0 else "without any spread"
    return gain / (ERRORS * one.se or 1), f"{_shown(one)} is better than {best} can be, {errors}: {why}"


def _bounds(values: Sequence[Measured]) -> Iterator[tuple[Measured, float, str]]:
    """Bounds of one record that are better than what they bound."""
    for i, j in _bounding(tuple((one.metric, one.likelihood) for one in values)):
        loose, tight = values[i], values[j]
        if loose.unit != tight.unit or loose.n != tight.n or loose.se is None or tight.se is None:
            continue
        gain, error = _loss(tight) - _loss(loose), math.hypot(loose.se, tight.se)
        if gain > ERRORS * error and gain > _ROUNDING * max(1.0, abs(_loss(tight))):
            kind = "likelihood" if find_metric(tight.metric).likelihood == "exact" else "tighter bound"
            reason = f"{_shown(loose)} is a bound, and better than the {kind} {_shown(tight)} of the same model"
            for one in (loose, tight):  # either may be the wrong one
                yield one, gain / (ERRORS * error or 1), reason


@lru_cache(maxsize=1024)
def _bounding(measured: tuple[tuple[str, str], ...]) -> tuple[tuple[int, int], ...]:
    """Which of some measurements, by metric and kind, can be no better in expectation than which: by their places."""
    return tuple(
        (i, j)
        for j, (tight, tight_kind) in enumerate(measured)
        for i, (loose, loose_kind) in enumerate(measured)
        if loose in find_metric(tight).tightens or (loose == tight and _samples(loose_kind) < _samples(tight_kind))
    )


def _samples(kind: str) -> int:
    """Importance samples of a kind of likelihood, e.g. ``importance-weighted, K=50``; 0 for others."""
    count = kind.partition("K=")[2]
    return int(count) if count.isdecimal() else 0


def _loss(one: Measured) -> float:
    assert one.value is not None
    return one.value if one.better == "lower" else -one.value


def _shown(one: Measured) -> str:
    return f"{one.name} of {one.value:.5g}{'' if one.unit == '1' else f' {one.unit}'}"


def _of_whole_samples() -> frozenset[str]:
    """Metrics that are of a sample's whole density: exact ones, and the bounds of these."""
    exact = {name: entry for name, entry in metrics().items() if entry.likelihood == "exact"}
    return frozenset(exact) | {bound for entry in exact.values() for bound in entry.tightens}


def _is_density(entry: MetricEntry) -> bool:
    """Whether a number comes from the model's density, or a bound of it."""
    return entry.likelihood is not None or any("ExactLikelihood" in need for need in entry.needs)


def _whole_numbers(spec: Mapping[str, Any]) -> str:
    """What makes the data discrete, or discrete but for noise of one level's width; empty where they are not."""
    data = spec.get("data", {})
    steps = [step if isinstance(step, str) else next(iter(step), "") for step in data.get("preprocess", ())]
    for step, word in (("dequantise", "dequantised"), ("binarise", "binarised")):
        if step in steps:
            return word
    stored = str((data.get("stored") or {}).get("dtype") or "")
    return "whole numbers" if "int" in stored and all(step in _WHOLE for step in steps) else ""


def _optima(finished: Sequence[tuple[Read, Record]]) -> dict[str, float]:
    """Nats a sample that no model can come below in expectation, by the suite's name of the dataset."""
    found: dict[str, float] = {}
    measured: dict[str, list[float]] = {}
    seen: set[str] = set()
    for one, record in finished:
        if record.dataset not in seen:
            seen.add(record.dataset)
            if (known := _entropy_of(record)) is not None:
                found[record.dataset] = known
        for details in _details(one) if record.dataset not in found else ():
            if "optimum" in details and isinstance(optimum := details["optimum"], int | float):
                measured.setdefault(record.dataset, []).append(-float(optimum))
    return {d: sum(values) / len(values) for d, values in measured.items()} | found


def _details(one: Read) -> list[dict[str, Any]]:
    return [own[4] for own in one.measured] if isinstance(one, PackedRun) else [m.details for m in one.metrics]


def _entropy_of(record: Record) -> float | None:
    data = record.spec.get("data", {})
    steps = [step if isinstance(step, str) else next(iter(step), "") for step in data.get("preprocess", ())]
    kept = finding.found("step")
    if not all(step in kept and kept[step].arguments["same_quantity"] for step in steps):
        return None
    return entropy(str(data.get("source")))


@cache
def entropy(source: str) -> float | None:
    """Entropy of a dataset's known density, nats a sample; None where none is known in closed form."""
    with suppress(UserError):
        entry = load_entry(source)
        if entry.oracle is not None:
            found = getattr(call("oracle", entry.oracle, **entry.params), "entropy", None)
            return float(found) if isinstance(found, int | float) else None
    return None


def _in_unit(nats: float, one: Measured, record: Record) -> float | None:
    if one.unit == "nats":
        return nats
    if one.unit != "bits/dim":
        return None
    stored = (record.spec.get("data", {}).get("stored") or {}).get("shape")
    return nats / (math.prod(stored) * math.log(2)) if stored else None


def _some(seeds: Sequence[int], most: int = 5) -> str:
    listed = ", ".join(map(str, seeds[:most]))
    return listed + (f" and {len(seeds) - most} more" if len(seeds) > most else "")
