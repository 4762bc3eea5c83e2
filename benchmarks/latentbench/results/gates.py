"""Whether methods are trained enough for a claim about them to be judged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from latentbench.results.gather import Gathered
from latentbench.results.judging import seeds_of
from latentbench.spec.cells import gated
from latentbench.spec.claims import Gate, Statement
from latentbench.spec.registry import find_metric
from latentbench.stats.wording import behind, quantity


@dataclass(frozen=True)
class GateOutcome:
    """One method at one gate of a claim.

    Attributes:
        metric, method, dataset: what was asked, by the suite's names.
        condition: what its mean over seeds must be, in words.
        value: that mean, in the metric's unit; None where nothing was measured.
        open: whether it is so.
    """

    metric: str
    method: str
    dataset: str
    condition: str
    value: float | None
    open: bool
    unit: str = ""

    def __str__(self) -> str:
        seen = "has no result" if self.value is None else f"is {_short(self.value, self.unit)}"
        return f"{self.metric} of {self.method} on {self.dataset} {seen}, and must be {self.condition}"


def gates_of(said: Statement, gathered: Gathered) -> list[GateOutcome]:
    """Every gate of a statement, for each method that must pass it."""
    return [outcome for gate in said.gate for outcome in _outcomes(gate, said, gathered)]


def _outcomes(gate: Gate, said: Statement, gathered: Gathered) -> Iterator[GateOutcome]:
    suite = gathered.loaded.suite
    dataset = gate.dataset or said.dataset
    entry = find_metric(suite.metric_name(gate.metric))
    unit = behind(entry.unit)
    asked = gate.metric if gate.part is None else f"{gate.part} of {gate.metric}"
    unit = unit if gate.part is None else ""
    better, rival = 1 if entry.better == "higher" else -1, None
    if gate.better_than is not None:
        rival = _mean(gathered, gate.better_than, dataset, gate.reference or gate.metric)
        condition = f"better than {gate.reference or 'that'} of {gate.better_than}"
        condition += f", {_short(rival, unit)}" if rival is not None else ", which has no result"
    elif gate.at_least is not None:
        condition = f"at least {quantity(gate.at_least, unit)}"
    else:
        assert gate.at_most is not None  # the schema asks for one of the three
        condition = f"at most {quantity(gate.at_most, unit)}"
    for method in gated(suite, said, gate):
        value = _mean(gathered, method, dataset, gate.metric, gate.part)
        passed = value is not None and (
            (rival is not None and better * (value - rival) > 0)
            if gate.better_than is not None
            else value >= gate.at_least
            if gate.at_least is not None
            else gate.at_most is not None and value <= gate.at_most
        )
        yield GateOutcome(asked, method, dataset, condition, value, passed, unit)


def _short(value: float, unit: str) -> str:
    return f"{value:.4g} {unit}".rstrip()


def _mean(gathered: Gathered, method: str, dataset: str, metric: str, part: str | None = None) -> float | None:
    if part is not None:
        measured = [m for r in gathered.records(method, dataset) if (m := r.value(metric)) is not None]
        parts = [float(p) for m in measured if isinstance(p := m.details.get(part), int | float)]
        return sum(parts) / len(parts) if parts else None
    first = next((m for r in gathered.records(method, dataset) if (m := r.value(metric)) is not None), None)
    found = seeds_of(gathered, method, dataset, metric, first.identity if first else None)
    return float(found.array().mean()) if found.n else None
