"""Claims and the verdicts that the records give them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.results.gather import Gathered
from benchmarks.spec.registry import find_metric
from benchmarks.spec.suite import BoundClaim, Claim, OrderClaim, Suite, TrendClaim, ValueClaim
from benchmarks.stats.claims import Judgement, judge_bound, judge_order, judge_trend, judge_value, settle
from benchmarks.stats.samples import Sample

ALPHA = 0.05


@dataclass(frozen=True)
class ClaimVerdict:
    """One claim of a suite at a tier, and what its seeds say.

    `interval` is the 95 % confidence interval of `estimate`; both are None where nothing was measured. `information`
    is true for a value claim below tier `paper`: it is shown and not judged. `missing` counts the planned seeds without
    a record, `stale` the records that other code than today's made, over all methods of the claim.
    """

    suite: str
    version: int
    claim: str
    kind: str
    tier: str
    verdict: str
    estimate: float | None
    interval: tuple[float, float] | None
    effect_size: float | None
    n: int
    needed_n: int | None
    text: str
    where: str
    metric: str
    dataset: str
    unit: str
    information: bool = False
    missing: int = 0
    stale: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The documented JSON object."""
        return {**vars(self), "interval": list(self.interval) if self.interval else None}


def verdicts(gathered: Gathered, alpha: float = ALPHA) -> list[ClaimVerdict]:
    """A verdict for every claim of the suite, in its order, Holm-corrected over those that are judged at this tier.

    Which claims are judged is settled by the suite alone (value claims at tier `paper` only), never by the data.
    """
    suite, tier = gathered.loaded.suite, gathered.tier
    judged = {c.id: _judge(c, gathered, alpha) for c in suite.claims}
    family = [c.id for c in suite.claims if tier in c.tiers and (c.kind != "value" or tier == "paper")]
    settled = dict(zip(family, settle([judged[i] for i in family], alpha), strict=True))
    out = []
    for claim in suite.claims:
        judgement = settled.get(claim.id, judged[claim.id])
        information = claim.id not in settled
        word, text = judgement.verdict or "not-run", judgement.text
        if information:
            reason = (
                f"judged at tier paper only, so at tier {tier} for information"
                if claim.kind == "value"
                else f"not asked at tier {tier}"
            )
            text = f"{reason}: {text}"
        methods = dict.fromkeys(methods_of(claim))
        missing = sum(gathered.missing(m, claim.dataset) for m in methods)
        stale = sum(gathered.stale(m, claim.dataset) for m in methods)
        if judgement.n and missing:
            text += f"; {missing} planned run{'s have' if missing > 1 else ' has'} no record"
        if stale:
            text += f"; {stale} record{'s were' if stale > 1 else ' was'} made by other code than today's"
        out.append(
            ClaimVerdict(
                suite=suite.id,
                version=suite.version,
                claim=claim.id,
                kind=claim.kind,
                tier=tier,
                verdict="not-run" if information else word,
                estimate=judgement.estimate,
                interval=_interval(judgement),
                effect_size=judgement.effect_size,
                n=judgement.n,
                needed_n=None if information else judgement.needed_n,
                text=text,
                where=claim.where,
                metric=claim.metric,
                dataset=claim.dataset,
                unit=find_metric(suite.metric_name(claim.metric)).unit,
                information=information,
                missing=missing,
                stale=stale,
            )
        )
    return out


def _interval(judgement: Judgement) -> tuple[float, float] | None:
    if judgement.low is None or judgement.high is None:
        return None
    return judgement.low, judgement.high


def _judge(claim: Claim, gathered: Gathered, alpha: float) -> Judgement:
    suite = gathered.loaded.suite
    entry = find_metric(suite.metric_name(claim.metric))
    unit = "" if entry.unit == "1" else entry.unit

    identity: str | None = None

    def sample(method: str) -> Sample:
        nonlocal identity
        identity = identity or _identity(gathered, method, claim.dataset, claim.metric)
        return seeds_of(gathered, method, claim.dataset, claim.metric, identity)

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


def seeds_of(gathered: Gathered, method: str, dataset: str, metric: str, identity: str | None) -> Sample:
    """A metric's values by seed, failed seeds counted. Only values of one identity count: those of another are of
    another quantity, and stand with the failed."""
    values: dict[int, float] = {}
    failed, exact = 0, False
    counts = find_metric(gathered.loaded.suite.metric_name(metric)).counts
    for record in gathered.records(method, dataset):
        measured = record.value(metric)
        exact = exact or record.exact
        if measured is None or measured.value is None or measured.identity != identity:
            failed += 1
        else:
            values[record.seed] = measured.value
    return Sample.of(dict(values), failed=failed, deterministic=True if exact else False if counts else None)
