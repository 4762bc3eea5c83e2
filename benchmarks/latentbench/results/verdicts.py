"""Claims and the verdicts that the records give them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from latentbench.records.declared import order
from latentbench.records.record import Record
from latentbench.results.gather import Gathered
from latentbench.results.interim import first_analysis, judge_so_far, planner_for
from latentbench.results.judging import methods_of
from latentbench.spec.registry import find_metric
from latentbench.stats.judgement import Judgement, settle
from latentbench.stats.samples import Sample, shared_seeds

ALPHA = 0.05


@dataclass(frozen=True)
class ClaimVerdict:
    """One claim of a suite at a tier, and what its seeds say.

    `interval` is the 95 % confidence interval of `estimate`; both are None where nothing was measured. `sequential` is
    true where seeds are added until claims are settled (`latentbench.results.interim`): then the test is the sequential
    one, and the interval one that covers at all analyses at once. `information` is true for a value claim below tier
    `paper`: it is shown and not judged. `missing` counts the planned seeds without a record, `stale` the records that
    other code than today's made, over all methods of the claim.
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
    sequential: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The documented JSON object."""
        return {**vars(self), "interval": list(self.interval) if self.interval else None}


def verdicts(gathered: Gathered, alpha: float = ALPHA) -> list[ClaimVerdict]:
    """A verdict for every claim of the suite, in its order, Holm-corrected over those that are judged at this tier.

    Which claims are judged is settled by the suite alone (value claims at tier `paper` only), never by the data.
    """
    suite, tier = gathered.loaded.suite, gathered.tier
    judged = {c.id: judge_so_far(c, gathered, alpha) for c in suite.claims}
    family = [c.id for c in suite.claims if tier in c.tiers and (c.kind != "value" or tier == "paper")]
    found = settle([judged[i] for i in family], alpha, planner=planner_for(gathered))
    settled = dict(zip(family, found, strict=True))
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
        if peeked := _peeked(gathered, methods, claim.dataset):
            text += (
                f"; {peeked} record{'s were' if peeked > 1 else ' was'} made by `run --until-settled` or `--budget`, "
                "whose declaration is missing: this verdict does not allow for the interim analyses that were made"
            )
        elif judgement.n and (added := _added(gathered, methods, claim.dataset)):
            text += (
                f"; it rests on {added} seed{'s' if added > 1 else ''} beyond the tier's own, and holds if their "
                "number was fixed before any was looked at"
            )
        if judgement.n and gathered.declared is not None and (there := gathered.declared.there):
            text += f"; {there} record{'s' if there > 1 else ''} from before the interim analyses were declared"
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
                sequential=gathered.declared is not None,
            )
        )
    return out


def _peeked(gathered: Gathered, methods: Iterable[str], dataset: str) -> int:
    """Records whose seeds were added by what others had said, where nothing declares the analyses any more."""
    if gathered.declared is not None:
        return 0
    suite, tier = gathered.loaded.suite, gathered.tier
    first = order(suite.tiers[tier].seeds, first_analysis(suite, tier))
    return sum(_was_added(r, first) for m in methods for r in gathered.records(m, dataset))


def _was_added(record: Record, first: Collection[int]) -> bool:
    """By its command. A budget buys the first analysis's seeds, `first`, whatever they say."""
    options = {word.partition("=")[0] for word in record.provenance.command}
    bought = "--budget" in options and record.seed not in first and not record.exact
    return bought or "--until-settled" in options


def _added(gathered: Gathered, methods: Iterable[str], dataset: str) -> int:
    """Seeds that the tier does not ask for and that a comparison of the claim uses, where no analyses were declared: of
    a paired one those on both sides, else those of the side that has more."""
    if gathered.declared is not None:
        return 0
    own = set(gathered.loaded.suite.tiers[gathered.tier].seeds)
    sides = [{r.seed: 0.0 for r in gathered.records(m, dataset) if not r.exact} for m in methods]
    used: list[set[Any]] = [] if len(sides) > 1 else [set(side) for side in sides]
    for a, b in pairwise(sides):
        shared = shared_seeds([Sample.of(a), Sample.of(b)])
        used += [set(shared)] if shared else [set(a), set(b)]
    return max(len(seeds - own) for seeds in used)


def _interval(judgement: Judgement) -> tuple[float, float] | None:
    if judgement.low is None or judgement.high is None:
        return None
    return judgement.low, judgement.high
