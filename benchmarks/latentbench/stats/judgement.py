"""What the seeds say of a claim, and the verdicts over all claims of a suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from latentbench.core.errors import UserError
from latentbench.stats import wording
from latentbench.stats.conditions import Condition, p_all_met, p_any_broken, seeds_to_settle
from latentbench.stats.hypothesis_tests import hedges_g, holm
from latentbench.stats.samples import Comparison, Sample

Kind = Literal["value", "order", "trend", "bound", "rank", "correlation", "variance"]
Verdict = Literal[
    "reproduced",
    "consistent",
    "better",
    "not-reproduced",
    "insufficient",
    "not-run",
    "not-tested",
    "impossible",
    "holds",
    "fails",
]
#: What a claim that is a sanity check is called instead: it is no reproduction.
OF_SANITY: dict[Verdict, Verdict] = {"reproduced": "holds", "better": "fails", "not-reproduced": "fails"}

PILOT = 3
"""Seeds to start with where the spread is unknown."""

Planner: TypeAlias = Callable[[Sequence[Condition], int, float, float], int | None]
"""Seeds that settle a claim, from its conditions, seeds so far, level and power: `seeds_to_settle`, or one like it."""


@dataclass(frozen=True)
class Judgement:
    """What the seeds say of one claim.

    Attributes:
        kind: of the claim.
        estimate: value, bound: the mean; order: mean A - mean B; trend: the least clear step, or the slope; in the
            metric's unit. None where nothing finished.
        low: lower end of the confidence interval of `estimate` (level 1 - alpha); None where the spread is unknown.
        high: its upper end.
        reference: what the estimate is held against: the reported number, the limit, or the margin.
        effect_size: distance from the reference in standard deviations of a seed (of paired differences, or pooled)
            with Hedges' correction; for order and trend from 0. None where it has no meaning (no spread, n < 3).
        n: seeds behind the claim: pairs, or those of the smallest side.
        failed: seeds without a finite value. They count for nothing, and the text names them.
        p_reproduced: p-value for the claim; 1 where the seeds cannot speak.
        p_against: p-value against it.
        needed_n: seeds of each method that would settle it, either way, with the wanted power; `PILOT` where the
            spread is unknown. `settle` plans it for the whole suite (and gives `n` where the claim is settled);
            before, it is for this claim alone. None: more seeds are not likely to help.
        text: one sentence for a reader.
        prediction: value only: where the paper's number would fall with probability 1 - alpha, were it a mean of as
            many runs like ours (or, with the paper's own spread, of runs like its own).
        side: 1 where the estimate lies where the claim says (for several conditions: all do), -1 where it does not, 0
            on a limit that is not part of the claim; None where nothing finished.
        verdict: None until `settle`.
    """

    kind: Kind
    estimate: float | None
    low: float | None
    high: float | None
    reference: float
    effect_size: float | None
    n: int
    failed: int
    p_reproduced: float
    p_against: float
    needed_n: int | None
    text: str
    prediction: tuple[float, float] | None = None
    side: int | None = None
    verdict: Verdict | None = None
    _conditions: tuple[Condition, ...] = field(default=(), repr=False, compare=False)
    _against: Verdict = field(default="not-reproduced", repr=False, compare=False)
    _run: int = field(default=0, repr=False, compare=False)  # seeds, failed ones included, where analyses count them
    _to_settle: str = field(default="", repr=False, compare=False)  # in words, where no number of seeds says it

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values of the public attributes."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items() if not k.startswith("_")}


def unjudged(
    kind: Kind,
    estimate: float | None,
    reference: float,
    samples: Sequence[Sample],
    words: str,
    *,
    side: int | None = None,
    names: Sequence[str] = (),
    unlisted: int = 0,
) -> Judgement:
    """The judgement where nothing can be judged: a side has no value, or one, so that its spread is unknown."""
    return Judgement(
        kind=kind,
        estimate=estimate,
        low=None,
        high=None,
        reference=reference,
        effect_size=None,
        n=min(s.n for s in samples),
        failed=unlisted + sum(s.failed for s in samples),
        p_reproduced=1.0,
        p_against=1.0,
        needed_n=PILOT,
        text=words + wording.failures(samples, names, unlisted),
        side=side,
    )


def judged(
    kind: Kind,
    found: Comparison,
    reference: float,
    centre: float,
    samples: Sequence[Sample],
    conditions: Sequence[Condition],
    words: str,
    *,
    alpha: float,
    power: float,
    names: Sequence[str] = (),
    unlisted: int = 0,
) -> Judgement:
    """The judgement from the conditions of a claim.

    Args:
        kind: of the claim.
        found: the contrast to report (the least clear one where there are several).
        reference: see `Judgement`.
        centre: what the effect size is measured from.
        samples: all that went in, for the failures.
        conditions: what the claim says.
        words: the sentence, without the failures.
        alpha: level of the interval and of the plan.
        power: for the plan.
        names: of the samples.
        unlisted: failed runs that no sample counts.
    """
    contrast = found.contrast
    low, high = (float(x) for x in contrast.interval(1 - alpha))
    return Judgement(
        kind=kind,
        estimate=float(contrast.estimate),
        low=low,
        high=high,
        reference=reference,
        effect_size=_effect_size(found, centre),
        n=found.n,
        failed=unlisted + sum(s.failed for s in samples),
        p_reproduced=float(p_all_met(conditions)),
        p_against=float(p_any_broken(conditions)),
        needed_n=seeds_to_settle(conditions, found.n, alpha, power),
        text=words + wording.failures(samples, names, unlisted),
        side=side_of(conditions),
        _conditions=tuple(conditions),
    )


def side_of(conditions: Sequence[Condition]) -> int:
    """On which side of its limits a claim's estimates lie: see `Judgement.side`."""
    sides = [
        1 if float(c.gap) > 0 or (c.closed and float(c.gap) >= -float(c.contrast.dust)) else -1 for c in conditions
    ]
    on_it = [abs(float(c.gap)) <= float(c.contrast.dust) and not c.closed for c in conditions]
    return 0 if any(on_it) and all(s > 0 or tie for s, tie in zip(sides, on_it)) else min(sides)


def _effect_size(found: Comparison, centre: float) -> float | None:
    contrast = found.contrast
    difference = float(contrast.estimate) - centre
    variances, counts = [float(v) for v in contrast.variances], contrast.counts
    if len(variances) > 2:
        return None  # the slope over unpaired levels: there is no one spread to measure it by
    df = sum(counts) - len(counts)
    pooled = sum(v * (n - 1) for v, n in zip(variances, counts)) / df if df else 0.0
    return hedges_g(difference, pooled**0.5, df)


def settle(
    judgements: Sequence[Judgement], alpha: float = 0.05, power: float = 0.8, planner: Planner = seeds_to_settle
) -> list[Judgement]:
    """Verdicts over all claims of a suite, with the seeds that each still needs.

    Holm's correction runs over two families, the evidence for each claim and the evidence against it, each at
    `alpha`: the probability that any false claim is called reproduced is at most alpha, and so is the probability that
    any true one is called not-reproduced (or better). Pass every claim of the suite, run or not: a claim without data
    has p = 1, keeps its place in the family, and so no verdict changes because another claim was left out.

    Args:
        judgements: of all claims.
        alpha: for each of the two families.
        power: for `needed_n`.
        planner: finds `needed_n`; another one where seeds are added sequentially.

    Returns:
        The judgements in the same order, with `verdict`, `needed_n` (planned at alpha / number of claims) and `text`
        completed.
    """
    if not 0 < alpha < 0.5:
        raise UserError(f"alpha {alpha!r} is out of range", fix="give 0.05")
    if not judgements:
        return []
    for_it = holm([j.p_reproduced for j in judgements]) <= alpha
    against = holm([j.p_against for j in judgements]) <= alpha
    settled = []
    for judgement, holds, fails in zip(judgements, for_it, against):
        verdict = _verdict(judgement, bool(holds), bool(fails))
        needed, text = judgement.needed_n, judgement.text
        if verdict in ("reproduced", "better", "not-reproduced"):
            needed = judgement.n
        elif judgement._conditions:
            so_far = max(judgement.n, judgement._run)
            planned = planner(judgement._conditions, so_far, alpha / len(judgements), power)
            needed = None if planned is None else max(planned, judgement.n + 1)
        if verdict == "consistent" and judgement.prediction is not None:
            text += wording.predicted(judgement.prediction, 1 - alpha)
        if verdict == "insufficient" and min(judgement.p_reproduced, judgement.p_against) <= alpha:
            text += wording.among(len(judgements))
        if verdict in ("consistent", "insufficient") and judgement._to_settle:
            needed, text = None, text + judgement._to_settle
        elif verdict in ("consistent", "insufficient"):
            each = judgement.kind in ("order", "trend", "correlation", "variance")
            text += (
                wording.needed(needed, power, each=each) if judgement._conditions else wording.pilot(PILOT, each=each)
            )
        settled.append(replace(judgement, verdict=verdict, needed_n=needed, text=text))
    return settled


def decide(judgements: Sequence[Judgement], alpha: float = 0.05) -> list[Verdict]:
    """The verdict words of `settle`, in the same order."""
    return [j.verdict for j in settle(judgements, alpha) if j.verdict is not None]


def _verdict(judgement: Judgement, holds: bool, fails: bool) -> Verdict:
    if judgement.n == 0:
        return "not-run"
    if holds:
        return "reproduced"
    if fails:
        return judgement._against
    if judgement.prediction is not None and judgement.prediction[0] <= judgement.reference <= judgement.prediction[1]:
        return "consistent"
    return "insufficient"
