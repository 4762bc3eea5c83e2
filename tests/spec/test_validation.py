"""Parameters of models, wherever a suite sets them: names, types and ranges, with file and line."""

from __future__ import annotations

import pytest
from latentbench.spec.loading import load_suite
from latentbench.spec.validation import problems


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"methods.wide": {"model": "vae", "params": {"latent_dim": 0}}},
            "latent_dim of model 'vae' is 0 (it should be",
        ),
        ({"methods.wide": {"model": "vae", "params": {"latent_dim": "2"}}}, "latent_dim of model 'vae' is '2'"),
        ({"methods.wide": {"model": "vae", "params": {"objective": "elbow"}}}, "it should be 'elbo' or 'iwae'"),
        ({"overrides": [{"methods": "wide", "params": {"width": 1}}]}, "model 'toy' has no parameter 'width'"),
        ({"tiers.cpu.overrides": [{"methods": "wide", "params": {"rak": 1}}]}, "did you mean 'rank'"),
    ],
)
def test_a_wrong_parameter_is_told_with_its_line(project, changes, said):
    path = project.suite(changes)
    found = [str(p) for p in problems(load_suite(path))]
    assert any(said in p and f"{path.name}:" in p for p in found), found
