"""How far each paper has come."""

from __future__ import annotations

import pytest
from latentbench.core.errors import UserError
from latentbench.spec.papers import catalogue
from latentbench.spec.standing import states

from tests.project import write_made_up

PAPERS = """\
- {id: small, title: A, family: vae, scope: core, priority: 1, needs: gpu}
- {id: other, title: B, family: flow, scope: theory, priority: 4}
"""


def test_catalogue_keeps_its_order(project):
    project.write("papers", PAPERS)
    assert [(p.id, p.priority) for p in catalogue()] == [("small", 1), ("other", 4)]


def test_a_broken_catalogue_says_where(project):
    project.write("papers", PAPERS.replace("scope: core", "scope: centre"))
    with pytest.raises(UserError, match=r"papers\.yaml: 0\.scope"):
        catalogue()


def test_states_climb(project):
    assert states() == {}
    project.write("small", "id: [")
    assert states() == {"small": "invalid"}
    project.suite({"methods.wide.model": "no-such-model"})
    assert states() == {"small": "invalid"}
    project.suite()
    assert states() == {"small": "validates"}
    for tier, state in [("smoke", "runs (smoke)"), ("cpu", "verdict at cpu"), ("paper", "verdict at paper")]:
        write_made_up(project.plan(tier)[0], {"nll": 1.0}, status="failed")
        assert states() != {"small": state}, "a failed run proves nothing"
        write_made_up(project.plan(tier)[0], {"nll": 1.0})
        assert states() == {"small": state}


def test_reference_records_count(project):
    project.suite()
    path = write_made_up(project.plan("cpu")[0], {"nll": 1.0}, folder=project.root / "elsewhere")
    reference = project.results / "reference/small"
    reference.mkdir(parents=True)
    path.rename(reference / f"{path.parent.name}.json")
    assert states() == {"small": "verdict at cpu"}
