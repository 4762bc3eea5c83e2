"""A run timed from a few steps."""

from __future__ import annotations

import pytest
from latentbench.running.pilot import measure


def test_a_trained_method(project):
    project.suite()
    [spec] = project.plan("paper", methods=["wide"], seeds=[0])
    found = measure(spec, "cpu", 1)
    assert 0 < found.step_seconds < 5
    assert found.parameters > 0
    assert found.unmeasured == ()
    assert not project.results.exists(), "nothing is kept"


def test_a_fitted_method(project):
    [spec] = project.plan("cpu", methods=["floor"], seeds=[0])
    found = measure(spec, "cpu", 1)
    assert found.step_seconds is None
    assert sum(found.fit) > 0


def test_protocols_whose_length_is_in_the_schedule(project):
    changes = {"training": {"schedule": {"name": "stages", "stages": [{"epochs": 2, "factor": 1.0}]}, "batch_size": 40}}
    [spec] = project.plan("cpu", changes, methods=["wide"], seeds=[0])
    assert measure(spec, "cpu", 1).step_seconds > 0


def test_threads_are_given_back(project):
    import torch

    before = torch.get_num_threads()
    [spec] = project.plan("cpu", methods=["floor"], seeds=[0])
    measure(spec, "cpu", before + 1)
    assert torch.get_num_threads() == before
    spec.params["nonsense"] = 1
    with pytest.raises(Exception, match="nonsense"):
        measure(spec, "cpu", before + 1)
    assert torch.get_num_threads() == before
