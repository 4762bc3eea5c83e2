"""The robust loss against its supremum, rules against their stationarity, measurements against drawn rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.types import DataInfo
from latentbench.papers.ood_unlabeled_dro import robust_self_training as rst
from scipy.stats import multivariate_normal, norm

INFO = DataInfo((1,), "real", 1)


def answered(cls, **design):
    study, draws = cls(INFO, **design), torch.Generator().manual_seed(5)
    study.start(None, draws)
    while not study.done():
        study.advance(None, draws)
    return study


def rows(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


@pytest.mark.parametrize("labels", [np.resize([1.0, -1.0, -1.0], 9), None], ids=["given", "its own"])
def test_ramp_is_the_supremum_over_moved_rows(labels):
    theta, x, gamma = rst.unit(np.array([0.6, -1.1])), rows(9, 2), 0.8
    axis, expected = np.linspace(-4, 4, 321), []
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    for row, label in zip(x, np.sign(x @ theta) if labels is None else labels, strict=True):
        wrong = label * (grid @ theta) <= 0
        expected.append(max(float(label * (row @ theta) <= 0), np.max(wrong - gamma * np.hypot(*(grid - row).T)), 0))
    loss, slope = rst.ramp(theta, x, gamma, labels)
    assert loss == pytest.approx(np.mean(expected), abs=0.02)
    for along, e in zip(slope, 1e-6 * np.eye(2), strict=True):
        numeric = rst.ramp(theta + e, x, gamma, labels)[0] - rst.ramp(theta - e, x, gamma, labels)[0]
        assert along == pytest.approx(numeric / 2e-6, abs=1e-6)


def test_rules_have_the_least_loss_of_all_directions():
    away = np.array([0.9, 1.2])
    x, y = rows(30, 2, 1) + away, np.ones(30)
    u = np.concatenate([rows(200, 2, 2) + away, rows(200, 2, 3) - away])
    circle = [np.array([np.cos(a), np.sin(a)]) for a in np.linspace(0, 2 * np.pi, 500)]

    def loss(theta):  # with lambda = weight n / m
        return rst.ramp(theta, x, 0.4, y)[0] + 0.2 * 400 / 30 * rst.ramp(theta, u, 0.9, None)[0]

    found = rst.RSS(INFO, gamma=0.4, gamma_prime=0.9, weight=0.2).rule(x, y, u)
    assert loss(found) <= min(loss(theta) for theta in circle) + 1e-3
    erm = rst.ERM(INFO, gamma=1.5).rule(x, y, u)
    assert rst.ramp(erm, x, 1.5, y)[0] <= min(rst.ramp(theta, x, 1.5, y)[0] for theta in circle) + 1e-3


@pytest.mark.parametrize("cls", [rst.RSS, rst.PseudoLabels])
def test_within_the_margins_rules_are_sums_of_rows_that_are_not_lost(cls):
    x, y, u = rows(6, 50) + 0.2, np.resize([1.0, -1.0], 6), rows(80, 50, 1) + 0.1
    theta = cls(INFO, gamma=0.02, gamma_prime=0.01, weight=0.5).rule(x, y, u)
    labels = np.sign(u @ (theta if cls is rst.RSS else y @ x))
    kept, right = y * (y * (x @ theta) > 0), labels * (labels * (u @ theta) > 0)
    np.testing.assert_allclose(theta, rst.unit(0.02 * kept @ x + 0.5 * 0.01 * right @ u), atol=1e-4)


def test_em_is_maximum_likelihood():
    rng = np.random.default_rng(4)
    mean, signs = np.array([0.7, -0.4, 0.2]), rng.choice([-1.0, 1.0], 300)
    drawn = signs[:, None] * mean + 0.6 * rng.standard_normal((300, 3))
    x, y, u = drawn[:20], signs[:20], drawn[20:]

    def likelihood(mean, variance):
        law = [multivariate_normal(s * mean, variance * np.eye(3)) for s in (1, -1)]
        return law[0].logpdf(y[:, None] * x).sum() + np.log(sum(p.pdf(u) for p in law) / 2).sum()

    study = rst.GaussianEM(INFO, steps=300)
    found, variance = study.likeliest(x, y, u)
    np.testing.assert_allclose(study.rule(x, y, u), found / np.linalg.norm(found))
    best = likelihood(found, variance)
    for step in 0.02 * np.concatenate([np.eye(3), -np.eye(3)]):
        assert best > likelihood(found + step, variance)
    assert best > max(likelihood(found, variance * 0.95), likelihood(found, variance * 1.05))
    first = rst.GaussianEM(INFO, steps=1).likeliest(x, y, u)[0]
    scale = (x**2).sum() + (u**2).sum()
    np.testing.assert_allclose(first, (y @ x + np.tanh(u @ (y @ x) / 20 * 900 / scale) @ u) / 300)


def test_problems_are_those_of_the_design():
    design = {"dimensions": 3, "shift": 0.5, "noise": 0.6}
    problem = rst.ERM(INFO, labelled=(100_000,), unlabelled=100_000, **design).problem(np.random.default_rng(1))
    x, y, u = (problem.given[k].astype(float) for k in ("x", "y", "unlabelled"))
    mean = problem.truth["mean"]
    assert np.linalg.norm(mean) == pytest.approx(1.0)
    assert abs(y.mean()) < 0.02
    np.testing.assert_allclose(y @ x / len(x), mean, atol=0.01)
    np.testing.assert_allclose(np.cov((x - y[:, None] * mean).T), 0.36 * np.eye(3), atol=0.01)
    np.testing.assert_allclose(u.mean(0), 0.0, atol=0.02)
    values, vectors = np.linalg.eigh(u.T @ u / len(u))
    np.testing.assert_allclose(values[:2], 0.36, atol=0.01)
    shifted = vectors[:, 2] * np.sqrt(values[2] - 0.36)
    assert np.linalg.norm(shifted * np.sign(shifted @ mean) - mean) == pytest.approx(0.5, abs=0.02)
    few, more = (
        rst.ERM(INFO, labelled=m, unlabelled=n, **design).problem(np.random.default_rng(2)).given
        for m, n in (((5, 3), 7), ((4, 9), 20))
    )
    for name, n in (("x", 5), ("y", 5), ("unlabelled", 7)):
        assert len(few[name]) == n
        np.testing.assert_array_equal(few[name], more[name][:n])


class Turned(rst.ERM):
    """Rules at an angle of 1 / m to (1, 0), whose length is 1; means are (1, 0)."""

    def problem(self, rng):
        problem = super().problem(rng)
        return type(problem)(problem.given, {**problem.truth, "mean": np.array([1.0, 0.0])})

    def rule(self, x, y, unlabelled):
        assert len(x) == len(y) in (2, 4)
        return np.array([np.cos(1 / len(x)), np.sin(1 / len(x))])


def test_measurements():
    study = answered(Turned, dimensions=2, labelled=(2, 4), noise=0.7, problems=2)
    z = np.cos(1 / 4) + 0.7 * np.random.default_rng(0).standard_normal(400_000)
    assert rst.right_in_domain(study, None, {}, None).value == pytest.approx(np.mean(z > 0), abs=0.003)
    excess = norm.sf(np.cos([1 / 2, 1 / 4]) / 0.7) - norm.sf(1 / 0.7)
    found = rst.excess_error_exponent(study, None, {}, None)
    assert found.value == pytest.approx(np.log(excess[1] / excess[0]) / np.log(2))
    assert found.details["2"] == pytest.approx(excess[0])


def test_labelled_rows_alone_are_as_right_as_theory_says():
    """The signed mean of m rows is at an angle of cosine (1 + d / m)^-1/2 to mu."""
    study = answered(rst.ERM, labelled=(20,), dimensions=200, problems=60)
    expected = norm.cdf((1 + 200 / 20) ** -0.5)
    assert rst.right_in_domain(study, None, {}, None).value == pytest.approx(expected, abs=0.008)
