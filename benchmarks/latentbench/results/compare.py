"""Two sides compared, metric by metric: how far B is from A, whether seeds can tell, and how many it would take.

A side is any set of records: a run, a method, what a revision made, a folder of results. Values are compared where
their metric's identity is the same, paired by seed where both sides have a suite's seeds, and the two-sided tests are
corrected over all comparisons made (Holm), at 5 % in all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from latentbench.core.errors import UserError
from latentbench.records.record import Measured, Record
from latentbench.results.environments import UNKNOWN, environment, mixture
from latentbench.results.filters import Wanted
from latentbench.spec.registry import find_metric
from latentbench.stats.claims import judge_order, settle
from latentbench.stats.judgement import Judgement
from latentbench.stats.samples import Sample
from latentbench.stats.wording import behind, quantity

Word = Literal["better", "worse", "failed", "open", "same", "spread unknown"]
ALPHA = 0.05
#: What a number without randomness may change by, as a share of its size, when it is summed in another order.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Side:
    """What is compared.

    Attributes:
        name: as a reader knows it.
        what: what it is, in words.
        records: one for each seed of each cell, failed ones included.
        single: whether all of them are of one method, which the other side's method is compared with, whatever its
            name.
    """

    name: str
    what: str
    records: Sequence[Record] = field(repr=False)
    single: bool


@dataclass(frozen=True)
class Compared:
    """One metric on one dataset, on both sides.

    `difference` is the mean of B minus that of A in `unit`, `ci_low` and `ci_high` its 95 % interval (None where the
    spread is unknown), `effect_size` its size in standard deviations of a seed (Hedges' g), `needed_n` the seeds of
    each side that would tell, were the difference as seen (None: not likely to). `word` says how B stands to A:
    ``better``, ``worse``, ``failed`` (a seed that A finished), ``same`` (value for value), ``open`` (the seeds cannot
    tell), ``spread unknown`` (a seed each). `mixed` says in which environments the runs of both sides were made, where
    there are several (`latentbench.results.environments`).
    """

    suite: str
    tier: str
    dataset: str
    method: str
    metric: str
    identity: str
    likelihood: str
    unit: str
    better: str
    n_a: int
    n_b: int
    failed_a: int
    failed_b: int
    mean_a: float | None
    mean_b: float | None
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    effect_size: float | None
    needed_n: int | None
    word: Word
    text: str
    mixed: str = ""

    @property
    def regression(self) -> bool:
        """Whether B is worse than A by more than chance, or fails where A did not."""
        return self.word in ("worse", "failed")

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "regression": self.regression}


@dataclass(frozen=True)
class Comparison:
    """All of a comparison.

    Attributes:
        a, b: the sides.
        rows: what both have, in A's order.
        only_a, only_b: how many values (method, dataset, metric) one side alone has.
        other_identity: how many both have under other identities: other data, settings or versions.
    """

    a: Side
    b: Side
    rows: list[Compared]
    only_a: int
    only_b: int
    other_identity: int

    @property
    def regressions(self) -> list[Compared]:
        return [r for r in self.rows if r.regression]

    def summary(self) -> str:
        """One sentence on all rows."""
        if not self.rows:
            return f"{self.b.name} and {self.a.name} share no metric of one identity, so nothing can be compared"
        counts = {word: sum(r.word == word for r in self.rows) for word in Word.__args__}  # type: ignore[attr-defined]
        words = {
            "better": "better",
            "worse": "worse",
            "failed": "failing where A did not",
            "same": "the same",
            "open": "that the seeds cannot tell apart",
            "spread unknown": "of a seed each, whose spread is unknown",
        }
        said = ", ".join(f"{n} {words[word]}" for word, n in counts.items() if n)
        values = f"{len(self.rows)} value{'s' if len(self.rows) > 1 else ''}"
        return f"of {values} that B and A share, B has {said}"


@dataclass
class _Values:
    """Values of one metric by seed, under one identity."""

    measured: Measured
    record: Record
    values: dict[int, float] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    records: list[Record] = field(default_factory=list)

    @cached_property
    def sample(self) -> Sample:
        try:
            counts = find_metric(self.measured.metric).counts
        except UserError:  # of a plug-in that is not here
            counts = False
        exact = self.record.exact
        return Sample.of(dict(self.values), deterministic=True if exact else False if counts else None)


Key = tuple[str, ...]


def compare_sides(a: Side, b: Side, *, dataset: str | None = None, metric: str | None = None) -> Comparison:
    """Compare B with A.

    Args:
        a: what was before, or what is held against.
        b: what is new.
        dataset, metric: only what these name (`latentbench.results.filters`).
    """
    single = a.single and b.single
    left, right = (_values(side.records, single, Wanted(dataset, metric)) for side in (a, b))
    shared = [key for key in left if key in right]
    judged = [_judged(left[key], right[key], a, b, single) for key in shared]
    settled = settle(judged, ALPHA / 2)
    rows = [_row(left[k], right[k], j, a, b, single) for k, j in zip(shared, settled, strict=True)]
    lone_a, lone_b = ({k for k in one if k not in other} for one, other in ((left, right), (right, left)))
    differ = {k[:-1] for k in lone_a} & {k[:-1] for k in lone_b}
    return Comparison(
        a,
        b,
        rows,
        sum(k[:-1] not in differ for k in lone_a),
        sum(k[:-1] not in differ for k in lone_b),
        len(differ),
    )


def _values(records: Iterable[Record], single: bool, wanted: Wanted) -> dict[Key, _Values]:
    found: dict[Key, _Values] = {}
    for record in records:
        if not wanted.of(record.dataset, record.spec.get("data", {}).get("source") or record.dataset):
            continue
        for one in record.metrics:
            if not wanted.by(one.name, one.metric):
                continue
            place = (one.metric,) if single else (record.suite, record.tier, record.method, record.dataset, one.name)
            values = found.setdefault((*place, one.identity), _Values(one, record))
            if record.status == "finished" and one.value is not None:
                values.values[record.seed] = one.value
                values.records.append(record)
            else:
                values.failed.add(record.seed)
    return found


def _judged(left: _Values, right: _Values, a: Side, b: Side, single: bool) -> Judgement:
    """Whether B is better; against it, whether it is worse."""
    samples = [right.sample, left.sample]
    if single and left.record.suite != right.record.suite:  # a seed means nothing to another suite's
        samples = [Sample(s.values, False, s.failed, s.deterministic) for s in samples]
    names = (_method_name(right, b, single), _method_name(left, a, single))
    unit = behind(left.measured.unit)
    better = left.measured.better
    return judge_order(samples[0], samples[1], better, names=names, unit=unit, alpha=ALPHA)


def _method_name(values: _Values, side: Side, single: bool) -> str:
    return side.name if single else f"{values.record.method} of {side.name}"


def _row(left: _Values, right: _Values, found: Judgement, a: Side, b: Side, single: bool) -> Compared:
    record, measured = left.record, left.measured
    word, text = _word(left, right, found)
    same_place = record.suite == right.record.suite
    return Compared(
        suite=record.suite if same_place else f"{record.suite}, {right.record.suite}",
        tier=record.tier if record.tier == right.record.tier else f"{record.tier}, {right.record.tier}",
        dataset=record.dataset if record.dataset == right.record.dataset else _source(record),
        method=record.method if not single or record.method == right.record.method else f"{b.name} - {a.name}",
        metric=measured.name if measured.name == right.measured.name else measured.metric,
        identity=measured.identity,
        likelihood=measured.likelihood,
        unit=measured.unit,
        better=measured.better,
        n_a=len(left.values),
        n_b=len(right.values),
        failed_a=len(left.failed),
        failed_b=len(right.failed),
        mean_a=_mean(left.values.values()),
        mean_b=_mean(right.values.values()),
        difference=found.estimate,
        ci_low=found.low,
        ci_high=found.high,
        effect_size=found.effect_size,
        needed_n=found.needed_n if word == "open" else None,
        word=word,
        text=text,
        mixed=_mixed(left, right),
    )


def _mixed(left: _Values, right: _Values) -> str:
    """What differs between the environments of all runs; of each side, where it is of one by itself."""
    if not (whole := mixture([*left.records, *right.records])):
        return ""
    if mixture(left.records) or mixture(right.records):
        return whole
    a, b = environment(left.records[0]), environment(right.records[0])
    return "; ".join(
        f"{name} {a.get(name, UNKNOWN)} in A, {b.get(name, UNKNOWN)} in B"
        for name in dict.fromkeys((*a, *b))
        if a.get(name) != b.get(name)
    )


def _word(left: _Values, right: _Values, found: Judgement) -> tuple[Word, str]:
    newly = sorted(right.failed & left.values.keys())
    if newly:
        seeds = ", ".join(map(str, newly))
        return "failed", f"{found.text}; seed{'s' if len(newly) > 1 else ''} {seeds} failed in B and finished in A"
    if left.values and left.values == right.values:
        mean = _mean(left.values.values())
        unit = behind(left.measured.unit)
        n = len(left.values)
        return "same", f"{quantity(mean or 0.0, unit)} in both, in every bit of {n} seed{'s' if n > 1 else ''}"
    if found.verdict == "not-run":
        return "spread unknown", found.text
    if left.sample.constant and right.sample.constant and not (left.sample.blind or right.sample.blind):
        size = max(abs(x) for x in (*left.values.values(), *right.values.values()))
        if abs(found.estimate or 0.0) <= ROUNDING * size:
            return "same", f"{found.text}: no more than rounding"
    if found.verdict == "reproduced":
        return "better", found.text
    if found.verdict == "not-reproduced":
        return "worse", found.text.partition(", where ")[0]
    unknown: Word = "spread unknown" if found.low is None else "open"
    return unknown, _plain(found.text)


def _plain(text: str) -> str:
    """A judgement's sentence without what it says of the direction that was tested."""
    for better in ("lower", "higher"):
        text = text.replace(f", where {better} is claimed", "")
    return text.replace(" claims (Holm)", " comparisons (Holm)")


def _mean(values: Iterable[float]) -> float | None:
    kept = list(values)
    return sum(kept) / len(kept) if kept else None


def _source(record: Record) -> str:
    return str(record.spec.get("data", {}).get("source", record.dataset))


def one_a_seed(records: Iterable[Record]) -> Iterator[Record]:
    """Of several records of a run (suite, tier, method, dataset, seed), the newest finished one, else the newest.

    An exact method says the same under every seed, and has one record.
    """
    best: dict[tuple[str, str, str, str, int], Record] = {}
    for record in records:
        key = (record.suite, record.tier, record.method, record.dataset, -1 if record.exact else record.seed)
        if key not in best or _rank(record) > _rank(best[key]):
            best[key] = record
    yield from best.values()


def _rank(record: Record) -> tuple[bool, str]:
    return record.status == "finished", record.provenance.ended
