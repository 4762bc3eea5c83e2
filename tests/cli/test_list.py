"""`latentbench list`: what there is, for people and for scripts."""

from __future__ import annotations

import json
import shutil

import pytest
from latentbench.spec.registry import metrics, models

from tests.project import REPOSITORY, toy_entries, write_made_up


@pytest.fixture
def papers(project):
    shutil.copy(REPOSITORY / "suites/papers.yaml", project.root / "suites")
    return project


def listed(project, *args: str) -> list[dict]:
    answer = project("list", *args, "--format", "json")
    assert (answer.code, answer.err) == (0, "")
    return json.loads(answer.out)


def test_all_papers_with_their_states(papers):
    found = listed(papers, "papers")
    assert len(found) == 326
    assert all(list(p) == ["id", "title", "family", "scope", "priority", "state"] for p in found)
    assert {p["state"] for p in found} == {"no suite"}
    papers.suite({}, "iwae")
    assert {p["id"]: p["state"] for p in listed(papers, "papers")}["iwae"] == "validates"
    write_made_up(papers.plan("cpu")[0], {"nll": 1.0})
    papers.suite({"methods.wide.model": "typo"}, "iwae")
    assert {p["id"]: p["state"] for p in listed(papers, "papers")}["iwae"] == "invalid"


def test_papers_with_a_suite_come_first_then_by_priority(papers):
    papers.suite({}, "iwae")
    found = listed(papers, "papers")
    assert found[0]["id"] == "iwae"
    rest = [(p["priority"], p["id"]) for p in found[1:]]
    assert rest == sorted(rest)


@pytest.mark.parametrize(
    ("args", "said"),
    [(("papers", "--family", "flwo"), "did you mean 'flow'?"), (("models", "--family", "vae"), "it is for papers")],
)
def test_a_choice_that_means_nothing_is_refused(papers, args, said):
    answer = papers("list", *args)
    assert answer.code == 2
    assert said in answer.err


def test_papers_are_searched(papers):
    papers.suite({}, "iwae")
    found = listed(papers, "papers", "--search", "Weighted IMPORTANCE")
    assert "iwae" in [p["id"] for p in found]
    assert all("importance" in p["title"].lower() + p["id"] for p in found)
    assert [p["id"] for p in listed(papers, "papers", "--state", "validates")] == ["iwae"]
    assert len(listed(papers, "papers", "--state", "No Suite")) == 325
    assert [s["id"] for s in listed(papers, "suites", "--state", "validates")] == ["iwae"]
    assert [m["name"] for m in listed(papers, "metrics", "--search", "nll_iw_mcmc")] == ["nll_iw_mcmc"]
    for args in (("papers", "--state", "odd"), ("models", "--state", "validates")):
        assert papers("list", *args).code == 2


def test_papers_as_a_table(papers):
    answer = papers("list", "papers")
    assert "326 papers" in answer.out
    assert "Importance Weighted Autoencoders" in answer.out


def test_papers_by_family_and_priority(papers):
    flows = listed(papers, "papers", "--family", "flow")
    assert flows
    assert {p["family"] for p in flows} == {"flow"}
    first = listed(papers, "papers", "--family", "flow", "--priority", "1")
    assert [p for p in flows if p["priority"] == 1] == first


def test_suites(project):
    assert listed(project) == []
    project.suite()
    project.write("broken", "id: [")
    found = {s["id"]: s for s in listed(project, "suites")}
    assert found["small"] == {
        "id": "small",
        "title": "A small suite",
        "version": 3,
        "tiers": ["smoke", "cpu", "paper"],
        "methods": 3,
        "datasets": ["line"],
        "claims": 0,
        "state": "validates",
    }
    assert found["broken"]["state"] == "invalid"
    assert found["broken"]["title"].startswith("unreadable: suites/broken.yaml:")


def test_models_metrics_and_datasets(project):
    assert {m["name"] for m in listed(project, "models")} == {*models(), "toy"}
    assert {m["name"] for m in listed(project, "metrics")} == {*metrics(), "toy_metric"}
    assert {d["name"] for d in listed(project, "datasets")} == {"digits", *toy_entries()}
    vae = next(m for m in listed(project, "models") if m["name"] == "vae")
    assert "latent_dim" in vae["parameters"]
    assert "VariationalBound" in vae["can"]


def test_titles_are_text_not_markup(project):
    project.suite({"paper": {"title": "[red]bold\u001b[2J", "authors": ["x"], "year": 2026}})
    answer = project("list", "suites")
    assert "[red]bold" in answer.out
    assert "\u001b" not in answer.out
