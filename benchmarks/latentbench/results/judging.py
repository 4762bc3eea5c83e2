"""What the records say of one claim: the values by seed of the methods that it names, given to the test of its kind."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from latentbench.results.gather import Gathered
from latentbench.spec.claims import BoundClaim, Claim, OrderClaim, TrendClaim, ValueClaim
from latentbench.spec.registry import find_metric
from latentbench.spec.suite import Suite
from latentbench.stats.claims import Judgement, judge_bound, judge_order, judge_trend, judge_value
from latentbench.stats.samples import Sample


def judge_claim(claim: Claim, gathered: Gathered, alpha: float, seeds: Collection[int] | None = None) -> Judgement:
    """A claim's judgement before it is settled with the others.

    Args:
        claim, gathered: the claim and its suite's records.
        alpha: level of its interval.
        seeds: only these seeds; an exact method's one record counts whatever its seed.

    Raises:
        UserError: a value claim without a reported number, in a suite that was not validated.
    """
    suite = gathered.loaded.suite
    entry = find_metric(suite.metric_name(claim.metric))
    unit = "" if entry.unit == "1" else entry.unit

    identity: str | None = None

    def sample(method: str) -> Sample:
        nonlocal identity
        identity = identity or _identity(gathered, method, claim.dataset, claim.metric)
        return seeds_of(gathered, method, claim.dataset, claim.metric, identity, seeds)

    match claim:
        case ValueClaim():
            reported = suite.reported_for(claim.method, claim.dataset, claim.metric)
            target = claim.reported if claim.reported is not None else (reported.value if reported else None)
            if target is None:  # validation refuses such a suite; a suite that was not validated says so here
                raise gathered.loaded.file.error(f"claim {claim.id!r} has no reported number", ("claims",))
            spread = reported if reported and reported.std is not None and (reported.runs or 0) > 1 else None
            return judge_value(
                sample(claim.method),
                target,
                claim.tolerance,
                entry.better,
                reported_std=spread.std if spread else None,
                reported_runs=reported.runs if reported else None,
                name=_label(suite, claim.method),
                unit=unit,
                alpha=alpha,
            )
        case OrderClaim():
            return judge_order(
                sample(claim.better),
                sample(claim.worse),
                entry.better,
                claim.margin,
                names=(_label(suite, claim.better), _label(suite, claim.worse)),
                unit=unit,
                alpha=alpha,
            )
        case TrendClaim():
            return judge_trend(
                [sample(m) for m in claim.methods],
                claim.direction,
                shape=claim.form,
                name=claim.metric,
                labels=[_label(suite, m) for m in claim.methods],
                unit=unit,
                alpha=alpha,
            )
        case BoundClaim():
            side: Literal["above", "below"] = "above" if claim.at_least is not None else "below"
            limit = claim.at_least if claim.at_least is not None else claim.at_most
            assert limit is not None  # the schema asks for one of the two
            return judge_bound(
                sample(claim.method), limit, side, name=_label(suite, claim.method), unit=unit, alpha=alpha
            )


def methods_of(claim: Claim) -> list[str]:
    """The methods that a claim is about."""
    match claim:
        case OrderClaim():
            return [claim.better, claim.worse]
        case TrendClaim():
            return list(claim.methods)
        case _:
            return [claim.method]


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
