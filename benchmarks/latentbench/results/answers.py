"""What a suite's records say, in words: a line for each question of the paper, and what is still to be run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby, takewhile

from latentbench.results.answered import WORDS, Answer, Answers, counted, percent, tallied
from latentbench.results.effects import Effect
from latentbench.results.gather import Gathered
from latentbench.results.leaderboard import Row, leaderboard
from latentbench.results.training_share import TrainingShare
from latentbench.results.verdicts import ClaimVerdict, verdicts
from latentbench.spec.claims import (
    Bound,
    Claim,
    Correlation,
    Order,
    PooledClaim,
    Trend,
    Variance,
    kind_of,
    methods_of,
    statements,
)
from latentbench.spec.loading import LoadedSuite
from latentbench.spec.registry import find_metric
from latentbench.spec.suite import Suite
from latentbench.stats.wording import behind, number, quantity

#: So many claims of one template, or more, are one line.
FOLDED = 3


def answers(
    gathered: Gathered, found: Sequence[ClaimVerdict] | None = None, rows: Sequence[Row] | None = None
) -> Answers:
    """The answers that the records of a suite give.

    Args:
        gathered: the suite and its records.
        found, rows: its verdicts and its leaderboard, if they are known already.
    """
    suite, tier = gathered.loaded.suite, gathered.tier
    found = verdicts(gathered) if found is None else found
    rows = leaderboard(gathered) if rows is None else rows
    cells = {(r.method, r.dataset, r.metric): r for r in rows}
    share = TrainingShare(gathered.loaded, tier)
    shares = [s for r in rows if (s := share.of(r.method, r.dataset)) is not None]
    seeds = [r.n for r in rows if r.n > 1] or [r.n for r in rows] or [0]
    by_id = {c.id: c for c in suite.claims}
    told = [v for v in found if v.verdict != "not-run" and not (v.sanity and v.verdict == "holds")]
    judged = [(by_id[v.claim], v) for v in told]
    claims, checks = tallied(found)
    return Answers(
        suite=suite.id,
        version=suite.version,
        title=suite.paper.title,
        tier=tier,
        seeds=(min(seeds), max(seeds)),
        share=(min(shares), max(shares)) if shares and tier != "paper" else None,
        counts=claims,
        checks=checks,
        analogue=suite.analogue,
        sequential=gathered.declared is not None,
        distances=_distances(suite, rows),
        answers=[
            *_folded(gathered.loaded, [(c, v) for c, v in judged if v.kind != "value"], cells),
            *_values([(c, v) for c, v in judged if v.kind == "value"]),
        ],
        waiting=_waiting(gathered, found),
    )


def _distances(suite: Suite, rows: Sequence[Row]) -> list[str]:
    """How far each reported quantity is from what was measured, over the cells that have both."""
    said = []
    for (dataset, metric), group in groupby(rows, key=lambda r: (r.dataset, r.metric)):
        near = [(r.difference, r) for r in group if r.difference is not None]
        if not near:
            continue
        first = near[0][1]
        cells = sum(x.dataset == dataset and x.metric == metric and x.own for x in suite.reported)
        low, high = min(d for d, _ in near), max(d for d, _ in near)
        unit = "" if first.unit == "1" else f" {first.unit}"
        half = max(abs(low), abs(high)) / 10
        if low == high or number(low, half) == number(high, half):
            far = f"{number(abs(low), half)}{unit} {_side(low, first.better)}"
        elif low * high > 0:
            ends = sorted((abs(low), abs(high)))
            far = f"{number(ends[0], half)} to {number(ends[1], half)}{unit} {_side(low, first.better)}"
        else:
            far = f"from {number(-low, half)} below to {number(high, half)}{unit} above"
        where = "; ".join(dict.fromkeys(x.table for x in suite.reported if (x.dataset, x.metric) == (dataset, metric)))
        measured = f"{len(near)} of {max(cells, len(near))} numbers" if max(cells, len(near)) > 1 else "the number"
        said.append(f"{metric} on {dataset} ({where}): ours is {far}, for {measured} reported")
    return said


def _side(difference: float, better: str) -> str:
    worse = (difference > 0) == (better == "lower")
    return f"{'above' if difference > 0 else 'below'} the paper's ({'worse' if worse else 'better'})"


def _said(claim: Claim, v: ClaimVerdict, cells: dict[tuple[str, str, str], Row], suite: Suite) -> str:
    """What the seeds say of an order, a trend, a bound or several of them, in a few words."""
    if v.reason:
        return v.reason
    effect = f" ({_size(v.effect)})" if v.effect is not None and v.effect.flagged else ""
    if isinstance(claim, PooledClaim):
        return _pooled(v) + _to_settle(v) + effect
    unit = behind(v.unit)
    half = 0.0 if v.interval is None else (v.interval[1] - v.interval[0]) / 2
    named = [(m, cells.get((m, claim.dataset, claim.metric))) for m in methods_of(claim)]
    measured = [r.mean if r is not None else None for _, r in named]
    reported = [x.value if (x := suite.reported_for(m, claim.dataset, claim.metric)) else None for m, _ in named]
    seeds = f"{v.n} seed{'s' if v.n != 1 else ''}"
    papers = _pair(reported, 0.0, " against " if isinstance(claim, Order) else ", ")
    match claim:
        case Order():
            ours = _pair(measured, half, " against ")
            said = f"{ours}{f' {unit}' if unit else ''}: {_lower(v.estimate, half)}{_turned(v, half, seeds)}"
            said += _contrary(claim, v, suite)
        case Trend():
            ours = _pair(measured, half, ", ")
            step = "least clear step" if claim.form == "strict" else "slope a level"
            said = f"{ours}{f' {unit}' if unit else ''}: {step} {_signed(v.estimate, half)}{_between(v, half)}"
        case Bound() | Correlation() | Variance():
            side = "at least" if claim.side == "above" else "at most"
            value = "no result" if v.estimate is None else quantity(v.estimate, unit, half)
            said = f"{value}{_between(v, half)}, claimed {side} {claim.limit:g}"
        case _:
            said = v.text
    return said + _to_settle(v) + (f". Paper: {papers}" if papers else "") + effect


def _size(effect: Effect) -> str:
    """An effect of another size than the paper's, as a share of it."""
    ratio = effect.ratio
    if ratio is None or ratio <= 0:
        return "not the paper's direction"
    return f"{ratio:.2g} times the paper's effect" if ratio > 1 else f"{percent(ratio)} of the paper's effect"


def _pooled(v: ClaimVerdict) -> str:
    """How many cells go as claimed, and the estimate over all of them."""
    right = sum(c.as_claimed is True for c in v.cells)
    half = 0.0 if v.interval is None else (v.interval[1] - v.interval[0]) / 2
    unit = behind(v.unit)
    pooled = {"mean": "on average", "rank": "mean rank"}.get(v.pool)
    said = f"{right} of {len(v.cells)} cells as claimed"
    if pooled and v.estimate is not None:
        said += f", {pooled} {_signed(v.estimate, half)}{f' {unit}' if unit and v.pool == 'mean' else ''}"
        said += _between(v, half)
    return said


def _between(v: ClaimVerdict, half: float) -> str:
    seeds = f"{v.n} seed{'s' if v.n != 1 else ''}"
    return (
        f" ({number(v.interval[0], half)} to {number(v.interval[1], half)}, {seeds})" if v.interval else f" ({seeds})"
    )


def _turned(v: ClaimVerdict, half: float, seeds: str) -> str:
    """The interval of the size of a difference, which is told without its sign."""
    if v.interval is None or v.estimate is None:
        return f" ({seeds}, spread unknown)"
    low, high = sorted(x if v.estimate >= 0 else -x for x in v.interval)
    return f" ({number(low, half)} to {number(high, half)}, {seeds})"


def _pair(values: Sequence[float | None], half: float, between: str) -> str:
    if any(x is None for x in values):
        return ""
    return between.join(number(x, half) for x in values if x is not None)


def _contrary(claim: Order, v: ClaimVerdict, suite: Suite) -> str:
    better = find_metric(suite.metric_name(claim.metric)).better
    opposite = v.estimate is not None and v.estimate * (1 if better == "higher" else -1) < 0
    margin = f"{better} by {claim.margin:g}" if claim.margin else better
    return f", where {margin} is claimed" if opposite or claim.margin else ""


def _lower(estimate: float | None, half: float) -> str:
    if estimate is None:
        return "no result"
    return f"{number(abs(estimate), half)} {'lower' if estimate < 0 else 'higher'}" if estimate else "equal"


def _signed(estimate: float | None, half: float) -> str:
    return "no result" if estimate is None else f"{'+' if estimate > 0 else ''}{number(estimate, half)}"


def _to_settle(v: ClaimVerdict) -> str:
    if v.verdict not in ("insufficient", "consistent"):
        return ""
    if v.needed_n is None:
        return "; more seeds are not likely to settle it"
    return f"; about {v.needed_n} seeds would settle it"


def _folded(
    loaded: LoadedSuite, judged: Sequence[tuple[Claim, ClaimVerdict]], cells: dict[tuple[str, str, str], Row]
) -> list[Answer]:
    """A line for each claim; one for those that a grid wrote out of one template, where they are many."""
    at = {c.id: loaded.file.line(("claims", i, "id")) for i, c in enumerate(loaded.suite.claims)}
    out = []
    for _, group in groupby(judged, key=lambda p: at[p[0].id]):
        part = list(group)
        if len(part) < FOLDED:
            out += [Answer(c.id, v.verdict, c.text, _said(c, v, cells, loaded.suite)) for c, v in part]
            continue
        worst, said = _together([v for _, v in part])
        name, text = (_alike([getattr(c, key) for c, _ in part]) for key in ("id", "text"))
        out.append(Answer(name, worst, text, f"{len(part)} claims: {said}"))
    return out


def _alike(texts: Sequence[str]) -> str:
    """The words that texts begin and end with alike, ``…`` for what is between."""
    words = [re.findall(r"\w+|\W", text) for text in texts]
    if all(w == words[0] for w in words):
        return texts[0]
    first = _shared(words)
    last = _shared([w[len(first) :][::-1] for w in words])[::-1]
    return "".join([*first, "…", *last])


def _shared(words: Sequence[Sequence[str]]) -> list[str]:
    """What all begin with."""
    return [one[0] for one in takewhile(lambda one: len(set(one)) == 1, zip(*words, strict=False))]


def _together(found: Sequence[ClaimVerdict]) -> tuple[str, str]:
    """The worst of several verdicts, and how often each is among them."""
    counts = counted(found)
    worst = next(w for w in ("not-reproduced", "fails", "insufficient", *counts) if w in counts)
    return worst, ", ".join(f"{n} {WORDS.get(word, word)}" for word, n in counts.items())


def _values(judged: Sequence[tuple[Claim, ClaimVerdict]]) -> list[Answer]:
    """The judged values of each place, metric and dataset in one line, under the worst of their verdicts."""
    out = []
    for (where, metric, dataset), group in groupby(judged, key=lambda p: (p[0].where, p[1].metric, p[1].dataset)):
        part = list(group)
        if len(part) == 1:
            claim, v = part[0]
            out.append(Answer(claim.id, v.verdict, claim.text, v.text))
            continue
        worst, said = _together([v for _, v in part])
        out.append(Answer(where, worst, f"{len(part)} values of {metric} on {dataset} in {where}.", said))
    return out


def _waiting(gathered: Gathered, found: Sequence[ClaimVerdict]) -> list[tuple[str, str]]:
    """Claims without a verdict: those of another tier, and those whose runs are missing here; each with its command."""
    suite, tier = gathered.loaded.suite, gathered.tier
    by_id = {c.id: c for c in suite.claims}
    elsewhere = [v for v in found if v.verdict == "not-run" and v.information]
    here = [v for v in found if v.verdict == "not-run" and not v.information]
    out = []
    if here:
        methods = list(dict.fromkeys(m for v in here for said in statements(by_id[v.claim]) for m in methods_of(said)))
        only = "" if len(methods) > 3 else "".join(f" --method '{m}'" for m in methods)
        out.append((f"{_kinds(here)} without a result", f"latentbench run {suite.id} --tier {tier}{only}"))
    for other in dict.fromkeys(_tier_of(by_id[v.claim], suite, tier) for v in elsewhere):
        part = [v for v in elsewhere if _tier_of(by_id[v.claim], suite, tier) == other]
        out.append((f"{_kinds(part)} judged at tier {other} only", f"latentbench run {suite.id} --tier {other}"))
    return out


def _tier_of(claim: Claim, suite: Suite, tier: str) -> str:
    if kind_of(claim) == "value":
        return "paper"
    return next((t for t in suite.tiers if t in claim.tiers and t not in (tier, "smoke")), "paper")


def _kinds(found: Sequence[ClaimVerdict]) -> str:
    counts = Counter(v.kind for v in found)
    kinds = ", ".join(f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in counts.items())
    return f"{len(found)} claim{'s' if len(found) > 1 else ''} ({kinds})"
