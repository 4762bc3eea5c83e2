"""What a run will cost: from records of the same method and dataset, whatever their tier, and never from nothing.

Training is scaled by the samples that it goes through, evaluation by its rows and by the settings that multiply its
work. What cannot be scaled, such as a larger network, makes the cost unknown, and the estimate says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from statistics import median
from typing import Any, Literal

from latentbench.core.errors import UserError
from latentbench.planning.fingerprint import canonical
from latentbench.planning.plan import RunSpec
from latentbench.records.archive import Collected, is_reference, record_files
from latentbench.records.former import asked
from latentbench.records.intact import Intact
from latentbench.records.known import Read, as_read, like, priced
from latentbench.records.record import Record
from latentbench.results.work import Work, evaluation_factors
from latentbench.running.pilot import FEW, FIT_FEW, Pilot
from latentbench.spec.protocol import Training

Source = Literal["measured", "scaled", "pilot", "unknown"]

HELD_UP = 5.0
"""Times the median: a record that took longer, or was shorter by as much, tells of the machine, and is left out."""
MARGIN = 1.3
"""How far the spread of a few records, or a pilot, falls short of what a machine's load does: recorded spreads of the
same run are 1.3 in the median over 70 cells."""
GROWTH = 2.0
"""Margins that each power of ten of extrapolation adds."""
RECORD_BYTES = 20_000


@dataclass(frozen=True)
class Estimate:
    """Cost of one run.

    Attributes:
        seconds: wall time, the middle; None where unknown.
        low, high: an honest range of it.
        threads: cores, or GPUs, that the run keeps busy.
        source: ``measured`` (records of the very same run), ``scaled`` (records of another tier or length), ``pilot``
            (measured here on a few steps), ``unknown``.
        text: where the number comes from, or why there is none.
        parameters: trainable parameters; None where unknown.
    """

    seconds: float | None
    low: float | None
    high: float | None
    threads: int
    source: Source
    text: str
    parameters: int | None = None

    @property
    def hours(self) -> float | None:
        """Core-hours on a CPU, GPU hours on a GPU."""
        return None if self.seconds is None else self.seconds * self.threads / 3600

    @property
    def range_hours(self) -> tuple[float, float] | None:
        if self.low is None or self.high is None:
            return None
        return self.low * self.threads / 3600, self.high * self.threads / 3600

    @property
    def disk(self) -> int | None:
        """Bytes that stay: record, curve and final weights in single precision."""
        return None if self.parameters is None else RECORD_BYTES + 4 * self.parameters


def unknown(why: str) -> Estimate:
    """The estimate where there is none."""
    return Estimate(None, None, None, 1, "unknown", why)


@dataclass(frozen=True)
class Known:
    """The finished records of a suite that costs can be read from."""

    records: Sequence[tuple[Read, bool]]

    @classmethod
    def of(cls, suite: str, results: Path, there: Collected | None = None) -> Known:
        """Every record of a suite, of any tier and age; broken ones are passed over.

        Args:
            suite: its id.
            results: folder of the results.
            there: records that were read already, which are not read again.
        """
        read = {} if there is None else {there.files[cell]: one for cell, one in as_read(there.found).items()}
        found = []
        intact = Intact(suite, results)
        for _, file in record_files(suite, results):
            try:
                one = read.get(file) or priced(intact.unmade(file)).model_copy(update={"metrics": []})
            except UserError:
                continue
            record = like(one)
            if record.status == "finished" and record.provenance.resumed_from is None:
                found.append((one, not is_reference(file)))
        intact.save()
        return cls(found)

    @cached_property
    def _by_pair(self) -> dict[tuple[str, str], list[tuple[Read, bool]]]:
        table: dict[tuple[str, str], list[tuple[Read, bool]]] = {}
        for one, own in self.records:
            record = like(one)
            table.setdefault((record.method, record.dataset), []).append((one, own))
        return table

    def estimate(self, run: RunSpec, device: str) -> Estimate:
        """The cost of a run on a kind of device, from the nearest records: of the very same run before others, then of
        the nearest amount of work, and of these the ones made here."""
        there = [(priced(one), own) for one, own in self._by_pair.get((run.method, run.dataset), [])]
        on_device = [(r, own) for r, own in there if r.provenance.device == device]
        if not on_device:
            return unknown(f"no record on {device}" if there else "no record of any tier")
        settled = run.settled()
        same = _very_same(on_device, settled)
        if same:
            return _measured([r for r, own in same if own] or [r for r, _ in same], own=any(own for _, own in same))
        like = [(r, own) for r, own in on_device if not _unlike(asked(r), settled)]
        if not like:
            unlike = min((_unlike(asked(r), settled) for r, _ in on_device), key=len)
            tiers = ", ".join(sorted({r.tier for r, _ in on_device}))
            return unknown(f"records of tier {tiers} have other {', '.join(unlike)}")
        return _scaled(like, settled)


def _very_same(records: Sequence[tuple[Record, bool]], settled: Mapping[str, Any]) -> list[tuple[Record, bool]]:
    """Records of what is asked, but for its seed; those that share the parts of their specifications, as the seeds in a
    pack do, are looked at once."""
    wanted = _but_seed(settled)
    answers: dict[tuple[tuple[str, int], ...], bool] = {}
    same = []
    for record, own in records:
        parts = tuple((k, id(v)) for k, v in record.spec.items() if k not in ("seed", "axes"))
        if parts not in answers:
            answers[parts] = _but_seed(asked(record)) == wanted
        if answers[parts]:
            same.append((record, own))
    return same


def _but_seed(settled: Mapping[str, Any]) -> dict[str, Any]:
    """What a specification asks, without its seed and with training's defaults filled in."""
    training = _not_by_default(canonical(settled.get("training", {})))
    return {**{k: v for k, v in settled.items() if k not in ("seed", "axes")}, "training": training}


@lru_cache(maxsize=4096)
def _not_by_default(training: str) -> dict[str, Any]:
    """The settings of a training, given as JSON, that are not at their defaults; the same for all seeds."""
    return Training.model_validate_json(training).model_dump(mode="json", exclude_defaults=True)


def _unlike(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two specifications and cannot be scaled."""
    found = [] if old.get("model") == new["model"] else ["model"]
    before, now = old.get("params", {}), new["params"]
    found += sorted(k for k in {*before, *now} if before.get(k) != now.get(k))
    found += ["preprocessing"] if old.get("data", {}).get("preprocess") != new["data"]["preprocess"] else []
    found += ["source"] if old.get("data", {}).get("source") != new["data"]["source"] else []
    trained = [(s.get("training") or {}).get("precision", "32-true") for s in (old, new)]
    return found + (["precision"] if trained[0] != trained[1] else [])


def _usual(records: Sequence[Record]) -> list[Record]:
    """Those that nothing held up."""
    middle = median(r.cost.wall_seconds for r in records)
    return [r for r in records if middle / HELD_UP <= r.cost.wall_seconds <= HELD_UP * middle] or list(records)


def _whose(own: bool) -> str:
    return "" if own else "reference "


def _alone(record: Record) -> float:
    """Seconds at most, were the run done by itself: what trained side by side has recorded its share."""
    return record.cost.wall_seconds * record.provenance.stacked


def _stacked(records: Sequence[Record]) -> str:
    return ", trained side by side" if any(r.provenance.stacked > 1 for r in records) else ""


def _measured(records: Sequence[Record], *, own: bool) -> Estimate:
    kept = _usual(records)
    times = [r.cost.wall_seconds for r in kept]
    n = len(kept)
    return Estimate(
        seconds=median(times),
        low=min(times) / (MARGIN if n == 1 else 1),
        high=max(map(_alone, kept)) * (MARGIN if n == 1 else 1),
        threads=_threads(kept[0]),
        source="measured",
        text=f"measured, {n} {_whose(own)}record{'s' if n > 1 else ''}{_stacked(kept)}",
        parameters=kept[0].cost.parameters,
    )


def _scaled(records: Sequence[tuple[Record, bool]], settled: Mapping[str, Any]) -> Estimate:
    """From the records whose work is nearest, those made here (marked) before others where their work is the same."""
    try:
        wanted = Work.of(settled)
        works = [(r, own, Work.of(r.spec)) for r, own in records]
    except (KeyError, TypeError, ValueError, UserError):
        return unknown("the length of its training cannot be read")
    least = min(_apart(w, wanted) for _, _, w in works)
    nearest = [(r, own, w) for r, own, w in works if _apart(w, wanted) <= least + 1e-9]
    own = any(own for _, own, _ in nearest)
    near = [(r, w) for r, mine, w in nearest if mine or not own]
    fitted = near[0][0].cost.steps == 0
    if not (fitted or (near[0][1].steps and wanted.steps)):
        return unknown("the length of its training cannot be read")
    kept = _usual([r for r, _ in near])
    near = [(r, w) for r, w in near if r in kept]
    ends: list[tuple[float, float]] = []
    for record, work in near:
        evaluation = evaluation_factors(work, wanted)
        if evaluation is None:
            return unknown("no record has measured " + ", ".join(sorted(wanted.metrics.keys() - work.metrics.keys())))
        cost = record.cost
        train = wanted.training_factors(work, fitted=fitted)
        rest = max(0.0, cost.wall_seconds - cost.training_seconds - cost.evaluation_seconds)
        low, high = (cost.training_seconds * t + cost.evaluation_seconds * e + rest for t, e in zip(train, evaluation))
        ends.append((low, high))
    lows, highs = zip(*ends)
    tiers = ", ".join(sorted({r.tier for r, _ in near}))
    factor = max(wanted.training_factors(near[0][1], fitted=fitted))
    margin = _margin(factor)
    return Estimate(
        seconds=median([math.sqrt(a * b) for a, b in ends]),
        low=min(lows) / margin,
        high=max(high * r.provenance.stacked for high, (r, _) in zip(highs, near)) * margin,
        threads=_threads(near[0][0]),
        source="scaled",
        text=f"tier {tiers}{'' if 0.995 < factor < 1.005 else f' x {factor:.3g}'}, "
        f"{len(near)} {_whose(own)}record{'s' if len(near) > 1 else ''}{_stacked(kept)}",
        parameters=near[0][0].cost.parameters,
    )


def _apart(old: Work, new: Work) -> float:
    """How far two amounts of work lie apart: the logarithm of their ratio, of samples, or of rows where none train."""
    before, now = (old.samples, new.samples) if old.samples and new.samples else (old.rows, new.rows)
    return abs(math.log(now / before)) if before and now else math.inf


def _margin(factor: float) -> float:
    """How far off a time extrapolated by `factor` may be: `MARGIN`, and `GROWTH` of them more for each power of ten.

    docs/planning.md has the share of recorded times that lie within.
    """
    return MARGIN ** (1 + abs(math.log10(factor)) * GROWTH) if factor > 0 else MARGIN


def from_pilot(run: RunSpec, pilot: Pilot, threads: int) -> Estimate:
    """The cost of a run from a few of its steps and rows, timed here.

    What is extrapolated the furthest is the least sure: the range is wider by `MARGIN` where models are fitted at once,
    whose time need not grow with the rows alone.
    """
    try:
        work = Work.of(run.settled())
    except (KeyError, TypeError, ValueError, UserError):
        return unknown("the length of its training cannot be read")
    rows = max((rows for rows, _ in work.metrics.values()), default=0.0)
    evaluation = _ends(pilot.evaluation, rows, FEW, pilot)
    if pilot.step_seconds is not None:
        training = (work.steps * pilot.step_seconds,) * 2
    else:
        training = _ends(pilot.fit, work.rows, FIT_FEW, pilot)
    low, high = (pilot.fixed_seconds + t + e for t, e in zip(training, evaluation))
    margin = MARGIN if pilot.step_seconds is not None else MARGIN**3
    text = "timed here" + (f", without {', '.join(pilot.unmeasured)}" if pilot.unmeasured else "")
    return Estimate(math.sqrt(low * high), low / margin, high * margin, threads, "pilot", text, pilot.parameters)


def _ends(line: tuple[float, float], rows: float, tried: int, pilot: Pilot) -> tuple[float, float]:
    """Least and most seconds at `rows` rows, which differ where one size alone was tried."""
    most = line[0] + line[1] * rows
    return (min(most, line[0] + line[1] * tried) if pilot.one_size else most), most


def _threads(record: Record) -> int:
    """Cores, or GPUs, that a run keeps busy."""
    where = record.provenance
    return where.devices * (1 if where.device == "cuda" else max(1, where.threads))


def total(estimates: Iterable[Estimate]) -> tuple[float, float, float, int]:
    """Hours, their low and high end (ends added up: runs on one machine err together), and how many are unknown."""
    hours = low = high = 0.0
    missing = 0
    for each in estimates:
        if each.hours is None or each.range_hours is None:
            missing += 1
            continue
        hours, low, high = hours + each.hours, low + each.range_hours[0], high + each.range_hours[1]
    return hours, low, high, missing
