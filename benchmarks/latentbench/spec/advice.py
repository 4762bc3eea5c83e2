"""What could be better in a suite that can be run: claims that nothing can settle, numbers that nobody uses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from latentbench.core.errors import UserError
from latentbench.data.registry import load_entry, names
from latentbench.spec.cells import gated
from latentbench.spec.claims import (
    Claim,
    PooledClaim,
    Statement,
    Tier,
    is_judged,
    kind_of,
    methods_of,
    metrics_of,
    statements,
)
from latentbench.spec.loading import LoadedSuite
from latentbench.spec.registry import find_metric
from latentbench.spec.suite import Suite, selects

ALPHA = 0.05
MOST_JUDGED = 6
"""Judged claims beyond which Holm's correction costs more than the claims tell."""
_TABLES = re.compile(r"\bTables?\s+([A-Z]?\d+[a-z]?(?:(?:\s*,\s*|\s+and\s+|\s*-\s*)[A-Z]?\d+[a-z]?)*)")
_NUMBER = re.compile(r"[A-Z]?\d+[a-z]?")


def advice(loaded: LoadedSuite) -> list[UserError]:
    """What to think about in a suite that has no fault, each with file, line and a way to mend it."""
    return [
        *_seeds(loaded),
        *_many(loaded),
        *_ungated(loaded),
        *_tables(loaded),
        *_unused(loaded),
        *_unmeasured(loaded),
        *_optimum(loaded),
    ]


def _seeds(loaded: LoadedSuite) -> Iterator[UserError]:
    """Claims at a tier whose seeds, or cells, cannot judge them whatever comes out."""
    suite = loaded.suite
    for tier, spec in suite.tiers.items():
        family = [c for c in suite.claims if is_judged(c, tier) and not c.sanity]
        few: list[str] = []
        for i, claim in enumerate(suite.claims):
            if not is_judged(claim, tier):
                continue
            level = ALPHA if claim.sanity else ALPHA / max(1, len(family))
            if isinstance(claim, PooledClaim) and claim.pool in ("sign", "rank"):
                if (chance := _least_p(claim)) > level:
                    yield loaded.file.error(
                        f"claim {claim.id!r} can settle nothing: with {len(claim.cells)} cells no p-value lies below "
                        f"{chance:.2g}, and {level:.2g} is asked for (Holm, {len(family)} claims)",
                        ("claims", i),
                        "pool more cells, or by `mean`",
                    )
            elif not _can_tell(suite, claim, len(spec.seeds)):
                few.append(claim.id)
        if few:
            n = len(spec.seeds)
            yield loaded.file.error(
                f"tier {tier!r} has {n} seed{'s' if n > 1 else ''}, which cannot judge {_some(few)}",
                ("tiers", tier, "seeds"),
                "give three seeds or more, or `exact: true` to claims of numbers without spread",
            )


def _least_p(claim: PooledClaim) -> float:
    """The least p-value that a test over cells can come to."""
    first = claim.cells[0]
    choices = 2 if claim.pool == "sign" else len(methods_of(first))
    return float(choices) ** -len(claim.cells)


def _can_tell(suite: Suite, claim: Claim, seeds: int) -> bool:
    return all(_enough(suite, said, seeds) for said in statements(claim))


def _enough(suite: Suite, said: Statement, seeds: int) -> bool:
    """Whether so many seeds can show anything: one has no spread."""
    return said.exact or seeds > 1 or all(suite.methods[m].exact for m in methods_of(said))


def _many(loaded: LoadedSuite) -> Iterator[UserError]:
    suite = loaded.suite
    for tier in suite.tiers:
        judged = [c for c in suite.claims if is_judged(c, tier) and not c.sanity]
        if len(judged) > MOST_JUDGED:
            yield loaded.file.error(
                f"{len(judged)} claims are judged together at tier {tier!r}, each at {ALPHA / len(judged):.2g} (Holm)",
                ("claims",),
                f"pool copies (`pool`, `cells`), and mark sanity checks; {MOST_JUDGED} is many",
            )


def _ungated(loaded: LoadedSuite) -> Iterator[UserError]:
    """Claims on a number that a model which has learned nothing gets best."""
    suite = loaded.suite
    for i, claim in enumerate(suite.claims):
        named = {key for s in statements(claim) for key in metrics_of(s)}
        helped = {key for key in named if find_metric(suite.metric_name(key)).collapse_helps}
        if helped and kind_of(claim) != "value" and not claim.sanity and not all(s.gate for s in statements(claim)):
            yield loaded.file.error(
                f"claim {claim.id!r} is about {', '.join(sorted(helped))}, best where nothing is learned",
                ("claims", i),
                "add a `gate`, such as {metric: rate, at_least: 0.1}",
            )


def _tables(loaded: LoadedSuite) -> Iterator[UserError]:
    """Claims that cite a table in which their methods have no reported number, a warning a table."""
    suite = loaded.suite
    reported: dict[str, set[str]] = {}
    for r in suite.reported:
        for table in _cited(r.table):
            reported.setdefault(table, set()).add(r.method)
    lacking: dict[str, dict[int, list[str]]] = {}
    for i, claim in enumerate(suite.claims):
        cited = _cited(claim.where)
        there = set().union(*(reported.get(table, set()) for table in cited))
        named = dict.fromkeys(m for s in statements(claim) for m in methods_of(s))
        if cited and (without := [m for m in named if m not in there]):
            lacking.setdefault(" and ".join(f"Table {t}" for t in cited), {})[i] = without
    for table, claims in lacking.items():
        methods = list(dict.fromkeys(m for without in claims.values() for m in without))
        ids = [suite.claims[i].id for i in claims]
        cite = "cites" if len(ids) == 1 else "cite"
        yield loaded.file.error(
            f"{_some(ids)} {cite} {table}, which has no reported number of {_some(methods)}",
            ("claims", min(claims)),
            "add it under `reported`, or cite where the claim stands",
        )


def _cited(text: str) -> list[str]:
    """Numbers of the tables that a text names, e.g. ``Tables 1 and 2, right``."""
    return [number for listed in _TABLES.findall(text) for number in _NUMBER.findall(listed)]


def _unused(loaded: LoadedSuite) -> Iterator[UserError]:
    """Methods that are run and that no claim, gate or reported number is about."""
    suite = loaded.suite
    used = {r.method for r in suite.reported}
    for claim in suite.claims:
        for said in statements(claim):
            used |= set(methods_of(said))
            for gate in said.gate:
                used |= {*gated(suite, said, gate), *([gate.better_than] if gate.better_than else [])}
    ranked = [spec.methods for tier, spec in suite.tiers.items() if tier != "smoke"]
    idle = [m for m in suite.methods if m not in used and any(selects(patterns, m) for patterns in ranked)]
    if idle and suite.claims:
        yield loaded.file.error(
            f"no claim and no reported number is about {_some(idle)}, which {'is' if len(idle) == 1 else 'are'} run",
            ("methods", idle[0]),
            "claim something of it, or leave it out",
        )


def _unmeasured(loaded: LoadedSuite) -> Iterator[UserError]:
    """Metrics that no tier comes to measure: its datasets and methods are none of theirs."""
    suite = loaded.suite
    for key in suite.metrics:
        if not any(_measured_on(suite, tier, key) for tier in suite.tiers):
            yield loaded.file.error(
                f"metric {key!r} is measured at no tier",
                ("metrics", key),
                "mend its `methods` and `datasets`, or leave it out",
            )


def _measured_on(suite: Suite, tier: Tier, key: str) -> list[str]:
    """The datasets on which a tier measures a metric of some method."""
    spec = suite.tiers[tier]
    methods = [m for m in suite.methods if selects(spec.methods, m)]
    return [
        d
        for d in suite.datasets
        if selects(spec.datasets, d)
        and any(suite.metrics[key].applies(m, d) and suite.methods[m].runs_on(d) for m in methods)
    ]


def _some(called: Sequence[str], most: int = 4) -> str:
    """As in ``'a', 'b' and 3 more``."""
    listed = ", ".join(map(repr, called[:most]))
    return listed + (f" and {len(called) - most} more" if len(called) > most else "")


def _optimum(loaded: LoadedSuite) -> Iterator[UserError]:
    """Likelihoods that are measured on no dataset whose best likelihood is known."""
    suite = loaded.suite
    for tier in ("smoke", "cpu"):
        if tier not in suite.tiers or suite.no_optimum is not None:
            continue
        measured = _likelihood_datasets(suite, tier)
        if measured and not any(_known(suite, d) for d in measured):
            yield loaded.file.error(
                f"tier {tier!r} measures likelihoods on no dataset with a known optimum: none too good is seen",
                ("tiers", tier),
                "add a generated dataset with an oracle, or say under `no_optimum` why there is none",
            )
            return


def _likelihood_datasets(suite: Suite, tier: Tier) -> list[str]:
    keys = [k for k in suite.metrics if find_metric(suite.metric_name(k)).likelihood is not None]
    return list(dict.fromkeys(d for k in keys for d in _measured_on(suite, tier, k)))


def _known(suite: Suite, dataset: str) -> bool:
    source = suite.datasets[dataset].source or dataset
    return source in names() and load_entry(source).oracle is not None
