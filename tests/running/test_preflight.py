"""What a plan cannot be, said before anything trains."""

from __future__ import annotations

import pytest
from latentbench.running.preflight import check_device

CLAIM = {
    "id": "other",
    "kind": "order",
    "text": "t",
    "where": "w",
    "metric": "nll",
    "dataset": "line",
    "better": "wide",
    "worse": "narrow",
}


@pytest.mark.parametrize(
    ("override", "mixed"),
    [
        ({"methods": "wide", "preprocess": [{"binarise": "deterministic"}]}, True),
        ({"methods": "wide", "preprocess": []}, False),
    ],
)
def test_a_claim_over_two_quantities_is_refused(project, override, mixed):
    """No number of seeds settles it, and their finished runs would count as failed."""
    project.suite({"claims": [CLAIM], "datasets.line.preprocess": [], "overrides": [override]})
    answer = project("validate", "small")
    said = [e for e in answer.errors if "different quantities" in e]
    assert bool(said) == mixed, answer.err
    if mixed:
        assert answer.code == 2
        assert "claim 'other' compares nll of 'wide' and 'narrow'" in said[0]
        ran = project.run("small", "--method", "wide", "--method", "narrow", "-q")
        assert ran.code == 2
        assert not (project.results / "runs").exists()


@pytest.mark.parametrize(
    ("precision", "device", "fits"),
    [("16-mixed", "cpu", False), ("16-mixed", "cuda", True), ("bf16-mixed", "cpu", True), ("32-true", "cpu", True)],
)
def test_a_precision_that_a_device_has_not_is_refused(project, precision, device, fits):
    """Else the record would say another than the run had."""
    changes = {"methods.wide.training": {"precision": precision}}
    faults = check_device(project.load(changes), project.plan("cpu", changes), device)
    assert ["bf16-mixed" in (f.fix or "") for f in faults] == ([] if fits else [True])
    if not fits:
        assert project.run("small", "--method", "wide", "-q").code == 2
        assert not (project.results / "runs").exists()
