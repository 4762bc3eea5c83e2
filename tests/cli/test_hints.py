"""What the command line says to a slip that is easily made."""

from __future__ import annotations

import pytest
from latentbench.cli.metric import ALSO_CALLED
from latentbench.data.dataset import open_dataset
from latentbench.data.progress import silent
from latentbench.metrics.catalog import metrics_of_arrays

from tests.project import write_made_up


@pytest.mark.parametrize("option", [["--plugins", "x"], ["--trust"]])
def test_options_of_latentbench_after_the_command(project, option):
    answer = project("list", *option)
    assert answer.code == 2
    assert f"{option[0]} goes before the command: latentbench {option[0]}" in answer.err


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("fid", "frechet_distance"),
        ("fid_inception", "frechet_distance"),
        ("kid_pixels", "kid"),
        ("nll", "log_likelihood"),
    ],
)
def test_names_that_suites_use_for_metrics_of_arrays(project, name, known):
    answer = project("metric", name, "x.npz")
    assert answer.code == 2
    assert repr(known) in answer.err


def test_every_hint_names_a_metric_of_arrays():
    assert all(metrics_of_arrays()[name].from_file for name in ALSO_CALLED.values())
    assert not ALSO_CALLED.keys() & metrics_of_arrays().keys()


def test_states_are_explained(project):
    project.suite()
    assert "state: validates: it can be run" in project("list").err


def test_a_dry_run_marks_what_is_there(project):
    open_dataset("line", silent)
    project.suite()
    write_made_up(project.plan("cpu")[0], {"nll": 1.0})
    said = project.run("small", "--dry-run").out.splitlines()
    assert [line for line in said if line.endswith("  there already")] == ["small  wide--line--cpu--s0  there already"]
    assert len(said) == 9
    assert "there already" not in project.run("small", "--dry-run", "--force").out


def test_validate_names_every_fault_of_the_form(project):
    project.suite({"colour": "red", "training.epochs": "many", "tiers.cpu.sedes": 3})
    answer = project("validate", "small")
    assert answer.code == 2
    for word in ("colour", "many", "sedes"):
        assert word in answer.err, word
    assert len(answer.errors) == 3


def test_validate_names_faults_of_names_and_of_models_together(project):
    project.suite({"methods.wide.model": "no-such", "methods.narrow.params": {"spread": -1.0}})
    answer = project("validate", "small")
    assert len(answer.errors) == 2
    for word in ("no-such", "spread is -1.0"):
        assert word in answer.err, word


def test_validate_says_a_fault_once(project):
    project.suite({"metrics.typo": {}})
    assert len(project("validate", "small").errors) == 1
