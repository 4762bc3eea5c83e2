"""Claims and the verdicts that the records give them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any

from latentbench.results.designs import added, analyses_of, peeked
from latentbench.results.effects import Effect, effect_of
from latentbench.results.environments import mixture
from latentbench.results.gates import GateOutcome, gates_of
from latentbench.results.gather import Gathered
from latentbench.results.interim import judge_so_far, planner_for
from latentbench.results.judging import Samples, judge_claim, judge_statement
from latentbench.spec.cells import gate_cells
from latentbench.spec.claims import (
    Claim,
    Correlation,
    PooledClaim,
    Statement,
    Variance,
    is_judged,
    kind_of,
    methods_of,
    metrics_of,
    pairs_of,
    statements,
)
from latentbench.spec.registry import find_metric
from latentbench.spec.suite import Suite
from latentbench.stats.judgement import OF_SANITY, Judgement, settle
from latentbench.stats.outliers import far_out
from latentbench.stats.wording import behind, quantity

ALPHA = 0.05

Pair = tuple[str, str]
"""Method and dataset."""


@dataclass(frozen=True)
class CellEvidence:
    """One cell of a pooled claim, judged by itself: evidence, and no verdict.

    Attributes:
        label: what tells it from the other cells.
        methods, dataset, metric: what it is about.
        estimate, interval, n, text: as in `ClaimVerdict`; of a rank, the place of its method.
        as_claimed: whether its estimate lies where the claim says; None where nothing finished, or on a tie.
    """

    label: str
    methods: tuple[str, ...]
    dataset: str
    metric: str
    unit: str
    estimate: float | None
    interval: tuple[float, float] | None
    n: int
    as_claimed: bool | None
    text: str


@dataclass(frozen=True)
class ClaimVerdict:
    """One claim of a suite at a tier, and what its seeds say.

    Attributes:
        verdict: ``reproduced``, ``consistent``, ``better``, ``not-reproduced`` or ``insufficient``; ``holds``,
            ``fails`` or ``insufficient`` of a sanity check; ``not-tested`` where a gate is shut, ``impossible`` where
            it rests on a number that cannot be, ``not-run`` without records or where it is not asked at this tier.
        reason: why it is ``not-tested`` or ``impossible`` whatever its seeds say, or not judged; empty otherwise.
        interval: the 95 % confidence interval of `estimate`; both are None where nothing was measured.
        needed_n: seeds of each method that would settle it; None where more are not likely to.
        dataset, metric: of all its cells, apart by commas, each once.
        information: a value claim below tier `paper`, or one of another tier: it is shown and not judged.
        missing: planned seeds without a record.
        stale: records that other code than today's made, over all methods of the claim.
        sequential: seeds are added until claims are settled (`latentbench.results.interim`): the test is the sequential
            one, and the interval one that covers at all analyses at once.
        sanity: it must hold, stands outside Holm's correction, and is no reproduction.
        exact: it is of numbers without spread.
        analogue: its suite is an analogue of another scale, and speaks of the mechanism alone.
        pool: how its cells are pooled: ``mean``, ``sign``, ``rank`` or ``all``; empty where it has one cell.
        cells: of a pooled claim.
        gates: all that it has, for each method.
        effect: its effect beside the paper's, where the paper's numbers tell it.
        failed: runs of its methods without a value.
        outliers: seeds that lie far from the others of their method, and those that failed, in words.
        mixed: in which environments its runs were made, where there are several
            (`latentbench.results.environments`); empty where there is one. Where that is refused, it is
            ``insufficient`` for this `reason`.
        environment: the one that it is judged in, where environments are apart.
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
    statement: str = ""
    reason: str = ""
    sanity: bool = False
    exact: bool = False
    analogue: bool = False
    pool: str = ""
    cells: tuple[CellEvidence, ...] = ()
    gates: tuple[GateOutcome, ...] = ()
    effect: Effect | None = None
    failed: int = 0
    outliers: tuple[str, ...] = field(default=())
    mixed: str = ""
    environment: str = ""

    @property
    def counted(self) -> bool:
        """Whether it is among the paper's judged claims: asked at this tier, and no sanity check."""
        return not (self.information or self.sanity)

    def as_dict(self) -> dict[str, Any]:
        """The documented JSON object."""
        out = {**vars(self), "interval": list(self.interval) if self.interval else None, "counted": self.counted}
        out["cells"] = [asdict(c) | {"interval": list(c.interval) if c.interval else None} for c in self.cells]
        out["gates"] = [asdict(g) for g in self.gates]
        out["outliers"] = list(self.outliers)
        effect = self.effect
        out["effect"] = effect and asdict(effect) | {"ratio": effect.ratio, "flagged": effect.flagged}
        return out


def verdicts(gathered: Gathered, alpha: float = ALPHA) -> list[ClaimVerdict]:
    """A verdict for every claim of the suite, in its order, Holm-corrected over those that are judged at this tier.

    Which claims are judged together is settled by the suite alone, never by the data: values at tier `paper` only, no
    sanity checks; and claims whose gate is shut, or that rest on what cannot be, keep their place in the family.
    """
    suite, tier = gathered.loaded.suite, gathered.tier
    judged = {
        c.id: (judge_so_far if is_judged(c, tier) or gathered.declared else judge_claim)(c, gathered, alpha)
        for c in suite.claims
    }
    against = {c.id: _against(c, gathered) for c in suite.claims}
    mute = {i: replace(j, p_reproduced=1.0, p_against=1.0) if against[i][1] else j for i, j in judged.items()}
    family = [c.id for c in suite.claims if is_judged(c, tier) and not c.sanity]
    found = settle([mute[i] for i in family], alpha, planner=planner_for(gathered))
    settled = dict(zip(family, found, strict=True))
    for claim in suite.claims:
        if claim.sanity and is_judged(claim, tier):
            (settled[claim.id],) = settle([mute[claim.id]], alpha, planner=planner_for(gathered))
    return [
        _verdict(claim, settled.get(claim.id, judged[claim.id]), claim.id in settled, against[claim.id], gathered)
        for claim in suite.claims
    ]


def _against(claim: Claim, gathered: Gathered) -> tuple[str, str]:
    """The verdict that a claim has whatever its seeds say, and why; both empty where there is none."""
    for said in statements(claim):
        for method, key in product(methods_of(said), metrics_of(said)):
            if (fault := gathered.impossible.get((method, said.dataset, key))) is not None:
                return "impossible", f"{method} on {said.dataset}: {fault}"
    for said in statements(claim):
        for asked in said.gate:
            for method, key in gate_cells(gathered.loaded.suite, said, asked):
                if (fault := gathered.impossible.get((method, asked.dataset or said.dataset, key))) is not None:
                    return "impossible", f"its gate's {method} on {asked.dataset or said.dataset}: {fault}"
        for gate in gates_of(said, gathered):
            if not gate.open:
                return "not-tested", f"its gate is shut: {gate}"
    if gathered.refuses_mixed and (mixed := _mixed(claim, gathered)):
        return "insufficient", f"its runs are of several environments: {mixed}"
    return "", ""


def _mixed(claim: Claim, gathered: Gathered) -> str:
    """What differs between the environments of all runs that a claim rests on."""
    return mixture(r for pair in pairs_of(claim) for r in gathered.records(*pair) if r.status == "finished")


def _verdict(
    claim: Claim, judgement: Judgement, judged: bool, against: tuple[str, str], gathered: Gathered
) -> ClaimVerdict:
    suite, tier = gathered.loaded.suite, gathered.tier
    said = statements(claim)
    pairs = pairs_of(claim)
    word: str = judgement.verdict or "not-run"
    text, reason = judgement.text, ""
    if not judged:
        word = "not-run"
        why = (
            f"judged at tier paper only, so at tier {tier} for information"
            if kind_of(claim) == "value"
            else f"not asked at tier {tier}"
        )
        text = f"{why}: {text}"
    elif word != "not-run" and against[0]:
        word, reason = against
        text = f"{reason}; {judgement.text}"
    elif claim.sanity:
        word = OF_SANITY.get(judgement.verdict, word) if judgement.verdict else word
    metrics = list(dict.fromkeys(key for one in said for key in metrics_of(one)))
    units = list(dict.fromkeys(_unit(suite, one) for one in said))
    effect = effect_of(said, gathered, behind(units[0])) if len(units) == 1 else None
    outliers = tuple(_outliers(claim, gathered))
    mixed = _mixed(claim, gathered)
    told = [f"several environments: {mixed}"] if mixed and not reason else []
    told += [*outliers, *([str(effect)] if effect else [])]
    for addition in (_remarks(claim, judgement, pairs, gathered), *told):
        text += f"; {addition}" if addition else ""
    return ClaimVerdict(
        suite=suite.id,
        version=suite.version,
        claim=claim.id,
        kind=kind_of(claim),
        tier=tier,
        verdict=word,
        estimate=judgement.estimate,
        interval=_interval(judgement),
        effect_size=judgement.effect_size,
        n=judgement.n,
        needed_n=judgement.needed_n if judged and not (mixed and gathered.refuses_mixed) else None,
        text=text,
        where=claim.where,
        metric=", ".join(metrics),
        dataset=", ".join(dict.fromkeys(one.dataset for one in said)),
        unit=", ".join(units),
        information=not judged,
        missing=sum(gathered.missing(m, d) for m, d in pairs),
        stale=sum(gathered.stale(m, d) for m, d in pairs),
        sequential=gathered.declared is not None or (judged and analyses_of(claim, gathered) is not None),
        statement=claim.text,
        reason=reason,
        sanity=claim.sanity,
        exact=all(one.exact for one in said),
        analogue=suite.analogue,
        pool=claim.pool if isinstance(claim, PooledClaim) else "",
        cells=tuple(_cells(claim, gathered)) if isinstance(claim, PooledClaim) else (),
        gates=tuple(gate for one in said for gate in gates_of(one, gathered)),
        effect=effect,
        failed=judgement.failed,
        outliers=outliers,
        mixed=mixed,
        environment=gathered.environment,
    )


def _cells(claim: PooledClaim, gathered: Gathered) -> Iterable[CellEvidence]:
    for said in claim.cells:
        own = judge_statement(said, gathered, ALPHA)
        yield CellEvidence(
            label=said.label,
            methods=tuple(methods_of(said)),
            dataset=said.dataset,
            metric=", ".join(metrics_of(said)),
            unit=_unit(gathered.loaded.suite, said),
            estimate=own.estimate,
            interval=_interval(own),
            n=own.n,
            as_claimed=None if own.side in (None, 0) else own.side == 1,
            text=own.text,
        )


def _unit(suite: Suite, said: Statement) -> str:
    """The unit of what a statement estimates: its metric's, but of a number of all runs that has none."""
    return "1" if isinstance(said, Correlation | Variance) else find_metric(suite.metric_name(said.metric)).unit


def _remarks(claim: Claim, judgement: Judgement, pairs: Sequence[Pair], gathered: Gathered) -> str:
    """What a reader must know of the records behind a verdict, as clauses."""
    said = []
    missing = sum(gathered.missing(m, d) for m, d in pairs)
    stale = sum(gathered.stale(m, d) for m, d in pairs)
    if judgement.n and missing:
        said.append(f"{missing} planned run{'s have' if missing > 1 else ' has'} no record")
    if judgement.n and gathered.declared is None and is_judged(claim, gathered.tier):
        said += _on_design(claim, gathered)
    if judgement.n and gathered.declared is not None and (there := gathered.declared.there):
        said.append(f"{there} record{'s' if there > 1 else ''} from before the interim analyses were declared")
    if stale:
        said.append(f"{stale} record{'s were' if stale > 1 else ' was'} made by other code than today's")
    return "; ".join(said)


def _on_design(claim: Claim, gathered: Gathered) -> list[str]:
    """What a reader must know of how the number of a claim's seeds came about, where nothing declares it."""
    seeds, by_command = added(claim, gathered), peeked(claim, gathered)
    words = f"{seeds} seed{'s' if seeds > 1 else ''} beyond the tier's own"
    if analyses_of(claim, gathered) is None:
        return [f"it rests on {words}, which were asked for together with the others"] if seeds else []
    if by_command:
        why = f"{by_command} record{'s were' if by_command > 1 else ' was'} made by `run --until-settled` or `--budget`"
        why += ", whose declaration is missing"
    else:
        why = f"there are {words}, and no record says that all were asked for at once"
    return [f"{why}: judged as if each had been added by what the others said"]


def _outliers(claim: Claim, gathered: Gathered) -> Iterable[str]:
    """Seeds of a claim's methods that lie far from the others, each cell and method once."""
    seen: set[tuple[str, str, str]] = set()
    for said, key in ((one, key) for one in statements(claim) for key in metrics_of(one)):
        view = Samples(gathered, said)
        unit = find_metric(gathered.loaded.suite.metric_name(key)).unit
        for method in methods_of(said):
            if (at := (method, said.dataset, key)) in seen:
                continue
            seen.add(at)
            if lost := [r for r in gathered.records(method, said.dataset) if r.status != "finished"]:
                listed = ", ".join(f"seed {r.seed} ({r.status})" for r in lost)
                yield f"without a result of {method} on {said.dataset}: {listed}"
            values: Mapping[Any, float] = view.of(method, key).values
            if far := far_out(values):
                listed = ", ".join(f"seed {s} ({quantity(values[s], behind(unit))})" for s in far)
                yield f"far from the other seeds of {method} on {said.dataset}: {listed}"


def _interval(judgement: Judgement) -> tuple[float, float] | None:
    if judgement.low is None or judgement.high is None:
        return None
    return judgement.low, judgement.high
