"""Maximum likelihood without labels, the best predictors, excess risk and its rate, against the models' definitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.unsup_pretraining_theory import procedures
from latentbench.papers.unsup_pretraining_theory.worlds import Clusters, Factors
from scipy.stats import multivariate_normal

INFO = DataInfo((1,), "real", 1)
WORLDS = {"factors": Factors(), "clusters": Clusters()}


def answered(cls, **design):
    study, draws = cls(INFO, **design), torch.Generator().manual_seed(5)
    study.start(None, draws)
    while not study.done():
        study.advance(None, draws)
    return study


def risks(study):
    return procedures.excess_risk_exponent(study, None, {}, None).details


def loglik(world, latents, x):
    d = len(latents)
    if isinstance(world, Factors):
        return multivariate_normal(np.zeros(d), latents @ latents.T + np.eye(d)).logpdf(x).mean()
    return np.log(np.mean([multivariate_normal(c, np.eye(d)).pdf(x) for c in latents.T], axis=0)).mean()


@pytest.mark.parametrize("name", WORLDS)
def test_pretraining_is_maximum_likelihood(name):
    world, rng = WORLDS[name], np.random.default_rng(0)
    task, _ = world.draw(rng, m=4000, n=1, d=5, r=2)
    found = world.pretrain(task.unlabelled, 2, rng)
    best = loglik(world, found, task.unlabelled)
    assert best >= loglik(world, task.latents, task.unlabelled)
    for _ in range(20):
        assert best > loglik(world, found + 0.02 * rng.standard_normal(found.shape), task.unlabelled) - 1e-6
    for scale in (0.95, 1.05):
        assert best > loglik(world, scale * found, task.unlabelled)


def test_latents_of_factors_are_the_conditional_mean():
    rng = np.random.default_rng(1)
    loadings, x = rng.standard_normal((6, 2)), rng.standard_normal((9, 6))
    expected = x @ np.linalg.inv(loadings @ loadings.T + np.eye(6)) @ loadings
    np.testing.assert_allclose(WORLDS["factors"].encode(loadings, x), expected, atol=1e-12)


def test_latents_of_clusters_are_the_nearest_centre():
    rng = np.random.default_rng(1)
    centres, x = 3.0 * rng.standard_normal((4, 3)), rng.standard_normal((50, 4))
    z = WORLDS["clusters"].encode(centres, x)
    assert (z.sum(1) == 1).all()
    np.testing.assert_array_equal(z.argmax(1), ((x[:, :, None] - centres) ** 2).sum(1).argmin(1))


@pytest.mark.parametrize("name", WORLDS)
def test_excess_risk_is_risk_beyond_the_best(name):
    """Of the constant: its risk on rows with labels, less that of ERM on the true latents from as many."""
    world, rng = WORLDS[name], np.random.default_rng(2)
    task, optimum = world.draw(rng, m=1, n=100_000, d=4, r=2)
    told, constant = (cls(INFO, world=name, latents=2) for cls in (procedures.Told, procedures.Constant))
    on_rows = replace(task, test=task.x)
    loss = [np.mean((study.predict(on_rows, rng) - task.y) ** 2) for study in (constant, told)]
    best, excess = (
        np.mean(optimum.weight * (study.predict(task, rng) - optimum.best) ** 2) for study in (told, constant)
    )
    assert best < 0.01
    assert excess == pytest.approx(loss[0] - loss[1], rel=0.1)


@pytest.mark.parametrize("name", WORLDS)
def test_nothing_is_better_than_the_best(name):
    world, rng = WORLDS[name], np.random.default_rng(3)
    task, optimum = world.draw(rng, m=1, n=3000, d=4, r=4)
    assert (optimum.weight >= 0).all()
    if name == "clusters":
        assert set(np.unique(optimum.best)) == {0.0, 1.0}
        assert optimum.weight.max() <= 1 - 2 * Clusters.FLIPPED + 1e-9
        assert 0.4 < task.y.mean() < 0.6


@pytest.mark.parametrize("name", WORLDS)
def test_many_rows_lead_to_the_optimum(name):
    design = {"world": name, "sizes": (30, 20_000), "labelled": 5000, "dimensions": 6, "problems": 3}
    few, told = (risks(answered(cls, **design)) for cls in (procedures.Pretrained, procedures.Told))
    assert few["20000"] < 0.2 * few["30"]
    assert few["20000"] < 0.02
    assert told["30"] == pytest.approx(told["20000"], abs=2e-3)


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("tuned", [False, True])
def test_linear_predictors_learn_from_labels(name, tuned):
    found = risks(
        answered(
            procedures.Supervised,
            world=name,
            tuned=tuned,
            along="labelled",
            sizes=(30, 2000),
            dimensions=6,
            unlabelled=1,
            problems=3,
        )
    )
    assert found["2000"] < 0.5 * found["30"]


@pytest.mark.parametrize("name", WORLDS)
def test_labels_are_the_same_in_all_dimensions(name):
    study = procedures.Told(INFO, world=name, along="dimensions", sizes=(5, 9), labelled=40)
    first, second = study.problem(np.random.default_rng(4)).given["tasks"]
    np.testing.assert_array_equal(first.y, second.y)
    assert (first.x.shape, second.x.shape, second.unlabelled.shape) == ((40, 5), (40, 9), (5000, 9))


class Powers(procedures.Pretraining):
    """Predicts too much by size^(-1/4), so that squared errors fall as the root of the size."""

    def problem(self, rng):
        problem = super().problem(rng)
        problem.given["best"] = problem.truth["best"]
        return problem

    def answer(self, given, rng):
        return {"predictions": np.stack([b + s**-0.25 for b, s in zip(given["best"], self.sizes, strict=True)])}

    def predict(self, task, rng):
        raise NotImplementedError


def test_exponent_and_risk_of_a_known_curve():
    study = answered(Powers, sizes=(4, 16, 64), labelled=1, dimensions=2, problems=3)
    value = procedures.excess_risk_exponent(study, None, {}, None)
    assert value.value == pytest.approx(-0.5)
    assert value.se == pytest.approx(0.0, abs=1e-9)
    for size, expected in ((0, 0.5), (1, 0.25), (-1, 0.125)):
        assert procedures.excess_risk(study, None, {"size": size}, None).value == pytest.approx(expected)


def test_a_single_size_is_refused():
    with pytest.raises(UserError, match="sizes"):
        procedures.Told(INFO, sizes=(5,))
