"""Whether reported numbers and claims are about cells of the suite: a method, dataset and metric that it measures."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from latentbench.core.errors import UserError
from latentbench.core.yamlfile import Path_
from latentbench.spec.claims import Gate, PooledClaim, Statement, Value, methods_of, metrics_of, statements
from latentbench.spec.loading import LoadedSuite
from latentbench.spec.registry import metrics
from latentbench.spec.suite import Suite


def reported(loaded: LoadedSuite) -> Iterator[UserError]:
    """Reported numbers that stand twice, of what the suite does not measure, or in another unit."""
    suite = loaded.suite
    seen: set[tuple[str, ...]] = set()
    for i, r in enumerate(suite.reported):
        at: Path_ = ("reported", i)
        cell = (r.method, r.dataset, r.metric, r.table, r.source)
        if cell in seen:
            yield loaded.file.error(
                f"{r.metric!r} of {r.method!r} on {r.dataset!r} in {r.table!r} is reported twice", at, "keep one"
            )
        seen.add(cell)
        yield from _cell(loaded, f"reported number {i + 1}", [r.method], r.dataset, r.metric, at)
        entry = metrics().get(suite.metric_name(r.metric)) if r.metric in suite.metrics else None
        if entry is not None and r.unit != entry.unit:
            yield loaded.file.error(
                f"reported number {i + 1} is in {r.unit!r}, metric {r.metric!r} in {entry.unit!r}",
                (*at, "unit"),
                "convert it, and say so in `note`",
            )


def claims(loaded: LoadedSuite) -> Iterator[UserError]:
    """Claims that stand twice, are about what the suite does not measure, or are judged nowhere."""
    suite = loaded.suite
    seen: set[str] = set()
    for i, claim in enumerate(suite.claims):
        at: Path_ = ("claims", i)
        if claim.id in seen:
            yield loaded.file.error(f"claim {claim.id!r} stands twice", (*at, "id"), "give each its own id")
        seen.add(claim.id)
        said = statements(claim)
        for n, one in enumerate(said):
            here: Path_ = (*at, "cells", n) if isinstance(claim, PooledClaim) else at
            yield from _statement(loaded, f"claim {claim.id!r}", one, here)
        if isinstance(claim, PooledClaim) and claim.pool == "mean":
            units = {suite.metric_name(one.metric) for one in said if one.metric in suite.metrics}
            if len(units) > 1:
                yield loaded.file.error(
                    f"claim {claim.id!r} takes a mean over {' and '.join(sorted(units))}", at, "pool by sign instead"
                )
        if not any(tier in suite.tiers for tier in claim.tiers):
            yield loaded.file.error(
                f"claim {claim.id!r} is judged at no tier of this suite",
                (*at, "tiers"),
                "the suite has " + ", ".join(suite.tiers),
            )


def _statement(loaded: LoadedSuite, what: str, said: Statement, at: Path_) -> Iterator[UserError]:
    suite = loaded.suite
    wrong = [e for key in metrics_of(said) for e in _cell(loaded, what, methods_of(said), said.dataset, key, at)]
    yield from wrong
    if wrong:
        return
    if (
        isinstance(said, Value)
        and said.reported is None
        and suite.reported_for(said.method, said.dataset, said.metric) is None
    ):
        yield loaded.file.error(
            f"{what} has no reported number", at, "add it under `reported`, or give `reported` here"
        )
    for gate in said.gate:
        yield from _gate(loaded, what, said, gate, at)


def _gate(loaded: LoadedSuite, what: str, said: Statement, gate: Gate, at: Path_) -> Iterator[UserError]:
    if gate.metric not in loaded.suite.metrics:
        yield from _cell(loaded, f"gate of {what}", [], gate.dataset or said.dataset, gate.metric, at)
        return
    named = gated(loaded.suite, said, gate)
    if not named:
        yield loaded.file.error(
            f"gate of {what} is about {gate.metric!r}, which none of its methods has", at, "name `methods` that have it"
        )
    dataset = gate.dataset or said.dataset
    yield from _cell(loaded, f"gate of {what}", named, dataset, gate.metric, at)
    if gate.better_than is not None:
        reference = gate.reference or gate.metric
        yield from _cell(loaded, f"gate of {what}", [gate.better_than], dataset, reference, at)
        units = {e.unit for m in (gate.metric, reference) if (e := metrics().get(loaded.suite.metric_name(m)))}
        if reference in loaded.suite.metrics and len(units) > 1:
            yield loaded.file.error(
                f"gate of {what} compares {' with '.join(sorted(units))}", at, "name a `reference` of the same unit"
            )


def gated(suite: Suite, said: Statement, gate: Gate) -> list[str]:
    """The methods that must pass a gate of a statement."""
    if gate.methods is not None:
        return list(gate.methods)
    dataset = gate.dataset or said.dataset
    has = suite.metrics[gate.metric].applies
    return [m for m in dict.fromkeys(methods_of(said)) if m != gate.better_than and has(m, dataset)]


def gate_cells(suite: Suite, said: Statement, gate: Gate) -> list[tuple[str, str]]:
    """The methods and metrics that a gate of a statement rests on."""
    rival = [(gate.better_than, gate.reference or gate.metric)] if gate.better_than is not None else []
    return [*((method, gate.metric) for method in gated(suite, said, gate)), *rival]


def _cell(
    loaded: LoadedSuite, what: str, methods: list[str], dataset: str, metric: str, at: Path_
) -> Iterator[UserError]:
    suite = loaded.suite
    tables: list[tuple[str, str, list[str]]] = [
        *(("method", m, list(suite.methods)) for m in methods),
        ("dataset", dataset, list(suite.datasets)),
        ("metric", metric, list(suite.metrics)),
    ]
    for kind, name, table in tables:
        if name not in table:
            yield loaded.file.error(
                f"{what} names {kind} {name!r}, which this suite does not have", at, _near(name, table)
            )
            return
    for method in methods:
        if not suite.metrics[metric].applies(method, dataset) or not suite.methods[method].runs_on(dataset):
            yield loaded.file.error(
                f"{what} is about {metric!r} of {method!r} on {dataset!r}, which this suite does not measure",
                at,
                f"widen `methods` or `datasets` of metric {metric!r}",
            )


def _near(name: str, table: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(table), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "it has " + ", ".join(list(table)[:12])
