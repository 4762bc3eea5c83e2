"""The suites and the catalogue that come with the repository."""

from __future__ import annotations

from functools import cache

import pytest
from latentbench.planning.plan import plan
from latentbench.spec.loading import load_suite, suite_files, suite_id
from latentbench.spec.papers import catalogue
from latentbench.spec.validation import problems

from tests.project import OWN, REPOSITORY

SUITES = sorted(p for p in (REPOSITORY / "suites").glob("*/suite.yaml"))


@pytest.fixture(autouse=True)
def repository(monkeypatch):
    monkeypatch.setenv("LATENTBENCH_ROOT", str(REPOSITORY))
    monkeypatch.delenv("LATENTBENCH_DATA", raising=False)
    monkeypatch.delenv("LATENTBENCH_RESULTS", raising=False)


@pytest.mark.parametrize("path", SUITES, ids=suite_id)
def test_a_suite_is_without_fault_and_plans_every_tier(path):
    loaded = load_suite(path)
    assert [str(p) for p in problems(loaded)] == []
    for tier, spec in loaded.suite.tiers.items():
        runs = plan(loaded, tier)
        assert runs
        assert len({r.cell for r in runs}) == len(runs)
        assert {r.seed for r in runs if not r.exact} <= set(spec.seeds)


@cache
def _papers():
    """Ids of the catalogue, which is read once."""
    return {paper.id for paper in catalogue()}


@pytest.mark.parametrize("path", SUITES, ids=suite_id)
def test_a_suite_stands_in_the_folder_of_its_paper(path):
    assert path.parent.parent == REPOSITORY / "suites"
    assert suite_id(path) in OWN or suite_id(path) in _papers()


def test_every_suite_is_found():
    assert set(suite_files().values()) == set(SUITES)


def test_the_catalogue_is_whole():
    papers = catalogue()
    assert len(papers) == 326
    assert len({p.id for p in papers}) == 326
    assert all(p.title and p.family for p in papers)
    assert {p.priority for p in papers} == {1, 2, 3, 4}
