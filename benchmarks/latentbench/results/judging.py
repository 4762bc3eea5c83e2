"""What the records say of one claim: the values by seed of the methods that it names, given to the test of its kind."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from latentbench.results.gather import Gathered
from latentbench.spec.claims import (
    Bound,
    Claim,
    Correlation,
    Order,
    PooledClaim,
    Rank,
    Statement,
    Trend,
    Value,
    Variance,
    methods_of,
    metrics_of,
)
from latentbench.spec.registry import MetricEntry, find_metric
from latentbench.spec.suite import Suite
from latentbench.stats.across_runs import judge_correlation, judge_variance
from latentbench.stats.claims import Judgement, judge_bound, judge_order, judge_trend, judge_value
from latentbench.stats.judgement import unjudged
from latentbench.stats.pooling import judge_all, judge_mean, judge_rank, judge_sign
from latentbench.stats.samples import Sample
from latentbench.stats.wording import behind

#: Values of a number without spread differ by no more than this share of themselves.
SAME = 1e-9


@dataclass(frozen=True)
class Samples:
    """The values by seed of a statement's methods, of its dataset and metric."""

    gathered: Gathered
    said: Statement
    seeds: Collection[int] | None = None

    def of(self, method: str, metric: str | None = None) -> Sample:
        """One method's values of the statement's metric, or of another one that it is about; of another identity than
        those of the statement's first method they count as failed."""
        said, key = self.said, metric or self.said.metric
        identities = (_identity(self.gathered, m, said.dataset, key) for m in methods_of(said))
        first = next((i for i in identities if i is not None), None)
        found = seeds_of(self.gathered, method, said.dataset, key, first, self.seeds)
        return replace(found, deterministic=True) if said.exact and found.n else found


def judge_claim(claim: Claim, gathered: Gathered, alpha: float, seeds: Collection[int] | None = None) -> Judgement:
    """A claim's judgement before it is settled with the others.

    Args:
        claim, gathered: the claim and its suite's records.
        alpha: level of its interval.
        seeds: only these seeds; an exact method's one record counts whatever its seed.

    Raises:
        UserError: a value claim without a reported number, in a suite that was not validated.
    """
    if not isinstance(claim, PooledClaim):
        return judge_statement(claim, gathered, alpha, seeds)
    names = [cell.label for cell in claim.cells]
    if claim.pool == "rank":
        return _ranked([cell for cell in claim.cells if isinstance(cell, Rank)], gathered, seeds)
    if claim.pool == "mean":
        return _mean(claim, gathered, alpha, seeds)
    cells = [judge_statement(cell, gathered, alpha, seeds) for cell in claim.cells]
    return (judge_sign if claim.pool == "sign" else judge_all)(cells, names, alpha=alpha)


def _ranked(cells: Sequence[Rank], gathered: Gathered, seeds: Collection[int] | None) -> Judgement:
    suite, first = gathered.loaded.suite, cells[0]
    means: list[dict[str, float]] = []
    counts: list[int] = []
    failed = 0
    for cell in cells:
        # a rank is of places: each cell names its methods in the same order
        found = dict(zip(first.among, map(Samples(gathered, cell, seeds).of, cell.among), strict=True))
        means.append({m: float(s.array().mean()) for m, s in found.items() if s.n})
        counts += [s.n for s in found.values() if s.n]
        failed += sum(s.failed for s in found.values())
    return judge_rank(
        means,
        first.method,
        first.among,
        find_metric(suite.metric_name(first.metric)).better,
        labels={m: _label(suite, m) for m in first.among} if all(c.among == first.among for c in cells) else None,
        n=min(counts, default=0),
        failed=failed,
    )


def _mean(claim: PooledClaim, gathered: Gathered, alpha: float, seeds: Collection[int] | None) -> Judgement:
    suite = gathered.loaded.suite
    orders = [cell for cell in claim.cells if isinstance(cell, Order)]
    entry = find_metric(suite.metric_name(orders[0].metric))
    views = [Samples(gathered, cell, seeds) for cell in orders]
    return judge_mean(
        [(v.of(o.better), v.of(o.worse)) for v, o in zip(views, orders)],
        entry.better,
        [o.margin for o in orders],
        [o.label for o in orders],
        unit=_unit(entry),
        limits=entry.within,
        alpha=alpha,
    )


def judge_statement(
    said: Statement, gathered: Gathered, alpha: float, seeds: Collection[int] | None = None
) -> Judgement:
    """The judgement of one cell, by itself; otherwise as `judge_claim`."""
    suite = gathered.loaded.suite
    entry = find_metric(suite.metric_name(said.metric))
    unit, limits = _unit(entry), entry.within
    sample = Samples(gathered, said, seeds).of
    if said.exact and (differs := _differing(said, sample, suite, unit)) is not None:
        return differs
    match said:
        case Value():
            reported = suite.reported_for(said.method, said.dataset, said.metric)
            target = said.reported if said.reported is not None else (reported.value if reported else None)
            if target is None:  # validation refuses such a suite; a suite that was not validated says so here
                raise gathered.loaded.file.error(f"claim {_name(said)} has no reported number", ("claims",))
            spread = reported if reported and reported.std is not None and (reported.runs or 0) > 1 else None
            return judge_value(
                sample(said.method),
                target,
                said.tolerance,
                entry.better,
                reported_std=spread.std if spread else None,
                reported_runs=reported.runs if reported else None,
                name=_label(suite, said.method),
                unit=unit,
                limits=limits,
                alpha=alpha,
            )
        case Order():
            return judge_order(
                sample(said.better),
                sample(said.worse),
                entry.better,
                said.margin,
                names=(_label(suite, said.better), _label(suite, said.worse)),
                unit=unit,
                limits=limits,
                alpha=alpha,
            )
        case Trend():
            return judge_trend(
                [sample(m) for m in said.methods],
                said.direction,
                shape=said.form,
                name=said.metric,
                labels=[_label(suite, m) for m in said.methods],
                unit=unit,
                limits=limits,
                alpha=alpha,
            )
        case Bound():
            name = _label(suite, said.method)
            found = sample(said.method)
            return judge_bound(found, said.limit, said.side, name=name, unit=unit, limits=limits, alpha=alpha)
        case Correlation():
            first, second = ({m: sample(m, key) for m in said.methods} for key in metrics_of(said))
            names = (said.metric, said.other)
            return judge_correlation(first, second, said.limit, said.side, names=names, alpha=alpha)
        case Variance():
            values = {m: sample(m) for m in methods_of(said)}
            return judge_variance(values, said.parts, said.limit, said.side, name=said.metric, alpha=alpha)
        case Rank():
            return _ranked([said], gathered, seeds)


def _differing(said: Statement, sample: Callable[[str], Sample], suite: Suite, unit: str) -> Judgement | None:
    """What a statement of exact numbers comes to where the seeds do not agree: nothing can be judged."""
    found = {m: sample(m) for m in methods_of(said)}
    for method, values in found.items():
        x = values.array()
        if len(x) > 1 and np.ptp(x) > SAME * float(np.abs(x).max()):
            words = (
                f"{_label(suite, method)} is claimed to have no spread, and its seeds differ: "
                f"{x.min():.6g} to {x.max():.6g} {unit}".rstrip()
            )
            none = unjudged(said.kind, float(x.mean()), 0.0, list(found.values()), words, names=list(found))
            return replace(none, _to_settle="; leave out `exact`, or mend what varies")
    return None


def estimates(said: Statement, gathered: Gathered) -> dict[str, float]:
    """The mean over seeds of each method of a statement that has a value."""
    view = Samples(gathered, said)
    found = {m: view.of(m) for m in dict.fromkeys(methods_of(said))}
    return {m: float(s.array().mean()) for m, s in found.items() if s.n}


def _name(said: Statement) -> str:
    return repr(getattr(said, "id", said.label))


def _unit(entry: MetricEntry) -> str:
    return behind(entry.unit)


def _label(suite: Suite, method: str) -> str:
    return suite.methods[method].label or method


def _identity(gathered: Gathered, method: str, dataset: str, metric: str) -> str | None:
    """The identity under which a method's first seed was measured."""
    found = (record.value(metric) for record in gathered.records(method, dataset))
    return next((measured.identity for measured in found if measured is not None), None)


def seeds_of(
    gathered: Gathered,
    method: str,
    dataset: str,
    metric: str,
    identity: str | None,
    seeds: Collection[int] | None = None,
) -> Sample:
    """A metric's values by seed, failed seeds counted. Only values of one identity count: those of another are of
    another quantity, and stand with the failed."""
    values: dict[int, float] = {}
    failed, exact = 0, False
    counts = find_metric(gathered.loaded.suite.metric_name(metric)).counts
    for record in gathered.records(method, dataset):
        if seeds is not None and record.seed not in seeds and not record.exact:
            continue
        measured = record.value(metric)
        exact = exact or record.exact
        if measured is None or measured.value is None or measured.identity != identity:
            failed += 1
        else:
            values[record.seed] = measured.value
    return Sample.of(dict(values), failed=failed, deterministic=True if exact else False if counts else None)
