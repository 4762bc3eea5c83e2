"""Parameters of models, wherever a suite sets them: names, types and ranges, with file and line."""

from __future__ import annotations

import pytest
from latentbench.spec.loading import load_suite
from latentbench.spec.registry import ModelEntry, metrics, models
from latentbench.spec.validation import missing, problems


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


VAE = {"model": "vae", "params": {"latent_dim": 2, "hidden": [4]}}
PIXEL = {"model": "pixel-vae", "params": {"latent_dim": 2, "hidden": [4], "prior_flow": 0}}
FLOWS = {"model": "pixel-vae", "params": {"latent_dim": 2, "hidden": [4], "prior_flow": 2}}


@pytest.mark.parametrize(
    ("metric", "method", "lacks"),
    [
        ("aggregate_mmd", VAE, ""),
        ("aggregate_mmd", PIXEL, ""),
        ("aggregate_mmd", FLOWS, "StandardNormalPrior"),
        ("aggregate_mmd", {"model": "autoencoder"}, "StandardNormalPrior"),
        ("posterior_collapse", VAE, ""),
        ("aggregate_log_det", {"model": "hierarchical-vae"}, "StandardNormalPrior"),
        ("nll_iw_mcmc", VAE, ""),
        ("nll_iw_mcmc", FLOWS, ""),
        ("nll_iw_mcmc", {"model": "coupling-flow"}, "StandardNormalPrior or CodePrior"),
        ("nll_iw", VAE, ""),
        ("nll_iw", {"model": "sentence-vae"}, ""),
        ("nll_iw", {"model": "toy-bound"}, "LikelihoodHead or NormalisedLikelihood"),
    ],
)
def test_what_a_metric_assumes_of_a_model_is_asked_for(metric, method, lacks, monkeypatch, project):
    bound = ModelEntry("latentbench_toy_model:Toy", frozenset({"Trainable", "VariationalBound"}), "a bound of its own")
    monkeypatch.setitem(models(), "toy-bound", bound)
    said = missing(models()[method["model"]], metrics()[metric], method.get("params", {}))
    assert said.startswith(lacks)
    assert bool(said) == bool(lacks)
    path = project.suite({"methods.wide": method, "metrics": {metric: {"methods": "wide"}}})
    told = [str(p) for p in problems(load_suite(path)) if "needs" in str(p)]
    assert any(lacks in p for p in told) if lacks else not told


def test_a_fault_of_a_gate_over_cells_is_said_once(project):
    claim = {"id": "p", "kind": "order", "text": "x", "where": "y", "metric": "nll", "dataset": "line", "pool": "all"}
    claim |= {"better": "wide", "worse": "{m}", "cells": {"m": ["narrow", "floor"]}}
    changes = {
        "metrics": {"nll": {}, "rate": {"metric": "nll", "methods": []}},
        "claims": [claim | {"gate": {"metric": "rate", "at_least": 0.1}}],
    }
    told = [p.what for p in problems(load_suite(project.suite(changes)))]
    assert told == ["gate of claim 'p' is about 'rate', which none of its methods has"]
