from __future__ import annotations

from pathlib import Path

import pytest

from tests.project import Project, leave_curve, write_made_up

VALUES = {"wide": [1.50, 1.52, 1.55], "narrow": [2.1, 2.0, 2.3], "floor": [3.0, 3.0, 3.0]}

NUMBER = {"dataset": "line", "unit": "nats", "source": "arXiv 1"}
CLAIM = {"metric": "nll", "dataset": "line", "where": "Table 1", "text": "what is claimed"}
#: A suite with two tables, of which the second has its own rows and columns, and a claim of each kind.
CHANGES = {
    "summary": "What is compared.",
    "reported": [
        NUMBER | {"table": "Table 1", "metric": "nll", "rows": {"wide": 1.51, "narrow": 2.5}, "method": "{row}"},
        NUMBER
        | {
            "table": "Table 2",
            "method": "{column}",
            "metric": "{row}",
            "columns": ["wide", "floor"],
            "rows": {"nll": [1.40, None], "bits_per_dim": [0.5, {"value": 0.7, "note": "read off"}]},
        },
    ],
    "claims": [
        CLAIM | {"id": "o", "kind": "order", "better": "wide", "worse": "narrow"},
        CLAIM | {"id": "t", "kind": "trend", "methods": ["wide", "narrow", "floor"], "direction": "rises"},
        CLAIM | {"id": "b", "kind": "bound", "method": "narrow", "at_most": 1.0},
        CLAIM | {"id": "v", "kind": "value", "method": "wide", "tolerance": 0.1},
        CLAIM | {"id": "later", "kind": "bound", "method": "wide", "at_least": 1.0, "tiers": ["paper"]},
    ],
    "protocol": [{"item": "optimiser", "value": "Adam", "status": "unknown"}],
}


def fill(project: Project, changes: dict, tier: str = "cpu", curves: bool = True) -> None:
    """Made-up records of every run of a tier; seeds with learning curves."""
    for spec in project.plan(tier, changes):
        value = VALUES[spec.method][spec.seed % 3]
        path = write_made_up(spec, {"nll": value, "bits_per_dim": value / 3})
        if curves and spec.method != "floor":
            rows = "".join(f"{e},{e}.0,{value + 4 / e}\n" for e in range(1, 6))
            leave_curve(path, "step,epoch,loss\n" + rows)


@pytest.fixture
def filled(project: Project) -> Project:
    fill(project, CHANGES)
    return project


@pytest.fixture
def built(filled: Project) -> Path:
    """The site of the project, built by the command."""
    answer = filled("report")
    assert answer.code == 0, answer.err
    return filled.results / "site"
