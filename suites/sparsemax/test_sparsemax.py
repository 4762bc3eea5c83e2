"""What is exact in sparsemax: projection, loss, gradient, Huber's loss of two labels; and simulated documents."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.sparsemax.proportions import (
    PARTS,
    ProjectedRidge,
    Softmax,
    Sparsemax,
    jensen_shannon,
    proportions_js,
    proportions_mse,
    proportions_nonzero,
)
from latentbench.papers.sparsemax.sparsemax import fitted, logistic_loss, softmax, sparsemax, sparsemax_loss
from scipy.optimize import check_grad, minimize
from scipy.spatial.distance import jensenshannon

INFO = DataInfo((1,), "real", 1)
RNG = np.random.default_rng(0)
Z = RNG.normal(0, [[0.1], [0.7], [3.0], [1.0]], (4, 5))
Q = sparsemax(RNG.normal(0, 1, (4, 5)))


def test_it_is_the_nearest_point_of_the_simplex():
    for z, p in zip(Z, sparsemax(Z), strict=True):
        best = minimize(
            lambda a, z=z: np.square(a - z).sum(),
            np.full(5, 0.2),
            bounds=[(0, 1)] * 5,
            constraints={"type": "eq", "fun": lambda a: a.sum() - 1},
            options={"ftol": 1e-14},
        ).x
        np.testing.assert_allclose(p, best, atol=1e-6)


def test_points_of_the_simplex_stay_and_shifts_change_nothing():
    np.testing.assert_allclose(sparsemax(Q), Q, atol=1e-12)
    np.testing.assert_allclose(sparsemax(Z + 3.5), sparsemax(Z), atol=1e-12)
    assert sparsemax(np.array([[0.0, 5.0, 1.0]])).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize(("loss", "link"), [(sparsemax_loss, sparsemax), (logistic_loss, softmax)])
def test_gradients_are_what_is_predicted_less_what_is_true(loss, link):
    for z, q in zip(Z, Q, strict=True):
        assert check_grad(lambda a, q=q: loss(a[None], q[None])[0][0], lambda a, q=q: link(a[None])[0] - q, z) < 1e-5
    np.testing.assert_allclose(loss(Z, Q)[1], link(Z), atol=1e-12)


def test_the_loss_is_nothing_at_the_truth_alone():
    assert (sparsemax_loss(Z, Q)[0] > 1e-3).all()
    np.testing.assert_allclose(sparsemax_loss(Q + 2.0, Q)[0], 0, atol=1e-12)


def test_with_two_labels_it_is_the_huber_loss_of_the_margin():
    margin = np.linspace(-3, 3, 25)
    z = np.column_stack([margin, np.zeros(25)])
    found = sparsemax_loss(z, np.tile([1.0, 0.0], (25, 1)))[0]
    huber = np.where(margin >= 1, 0, np.where(margin <= -1, -margin, (margin - 1) ** 2 / 4))
    np.testing.assert_allclose(found, huber, atol=1e-12)


@pytest.mark.parametrize(("loss", "link"), [(sparsemax_loss, sparsemax), (logistic_loss, softmax)])
def test_fitted_weights_are_where_the_gradient_is_nothing(loss, link):
    x, q, decay = RNG.normal(0, 1, (60, 3)), sparsemax(RNG.normal(0, 1, (60, 4))), 0.05
    w = fitted(x, q, loss, decay)
    gap = link(w[0] + x @ w[1:]) - q
    np.testing.assert_allclose(gap.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(x.T @ gap / 60 + decay * w[1:], 0, atol=1e-4)


def test_the_divergence_is_scipys():
    p, q = sparsemax(Z), Q
    np.testing.assert_allclose(jensen_shannon(p, q), [jensenshannon(a, b) ** 2 for a, b in zip(p, q, strict=True)])
    assert jensen_shannon(np.eye(2), np.eye(2)[::-1]).tolist() == pytest.approx([np.log(2)] * 2)


@pytest.mark.parametrize("mixture", ["uniform", "random"])
def test_documents_have_the_shares_and_lengths_that_are_asked(mixture):
    study = Sparsemax(INFO, labels=6, mixture=mixture, lengths=[30, 400])
    problem = study.problem(np.random.default_rng(3))
    shares = np.concatenate([problem.given["shares"], problem.truth["shares"]], 1)
    assert shares.shape == (2, sum(PARTS), 6)
    np.testing.assert_allclose(shares.sum(2), 1)
    count = (shares > 0).sum(2)
    counts = np.array([1, 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720])
    expected = (counts * np.arange(1, 7)).sum() / counts.sum()
    assert abs(count.mean() - expected) < 4 * count.std() / count.size**0.5
    several = shares[count == 2]
    lowest = np.sort(several, 1)[:, -2]
    assert (lowest == 0.5).all() if mixture == "uniform" else lowest.std() > 0.1
    alone = (shares[count == 1] > 0).mean(0)
    frequency = np.random.default_rng(3).random(6)
    np.testing.assert_allclose(alone, frequency / frequency.sum(), atol=4 * 0.5 / (count == 1).sum() ** 0.5)
    long = problem.given["words"].sum(2)
    for mean, lengths in zip((30, 400), long, strict=True):
        assert abs(lengths.mean() - mean) < 4 * (mean / len(lengths)) ** 0.5
        assert lengths.var() == pytest.approx(mean, rel=0.15)


def test_words_follow_the_mixture_of_the_labels():
    study = Sparsemax(INFO, labels=4, mixture="random", lengths=[3000])
    problem = study.problem(np.random.default_rng(5))
    q, words = problem.given["shares"][0], problem.given["words"][0][: PARTS[0] + PARTS[1]]
    rates = words / words.sum(1, keepdims=True)
    topics = np.linalg.lstsq(q, rates, rcond=None)[0]
    assert np.abs(topics.sum(1) - 1).max() < 0.01
    p = q @ topics
    assert 0.95 < ((rates - p) ** 2 / (p * (1 - p) / words.sum(1, keepdims=True))).mean() < 1.05


class Told(Sparsemax):
    """Knows what to say, and is asked with each decay."""

    def predictor(self, x, q, decay):
        self.asked = [*getattr(self, "asked", []), (x, q, decay)]
        return lambda rows: np.tile(np.eye(3)[0] if decay == 1e-4 else np.full(3, 1 / 3), (len(rows), 1))


def test_the_decay_is_chosen_on_the_second_part_and_the_third_is_judged():
    study = Told(INFO, labels=3, lengths=[20])
    problem = study.problem(np.random.default_rng(1))
    first = problem.given["shares"][0].copy()
    for certain, choice in ((True, [1, 0, 0]), (False, [1 / 3] * 3)):
        given = dict(problem.given)
        shares = first.copy()
        shares[PARTS[0] :] = np.eye(3)[0] if certain else 1 / 3
        given["shares"] = shares[None]
        found = study.answer(given, np.random.default_rng(0))["shares"]
        assert found.shape == (1, PARTS[2], 3)
        np.testing.assert_allclose(found[0], np.tile(choice, (PARTS[2], 1)))
    x, q, _ = study.asked[0]
    assert len({decay for _, _, decay in study.asked}) == 5
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(x.std(0), 1)
    assert np.array_equal(q, first[: PARTS[0]])


def test_measures_are_of_the_length_that_is_named():
    class Known(Sparsemax):
        def problem(self, rng):
            problem = super().problem(rng)
            self.truth = problem.truth["shares"]
            return problem

        def answer(self, given, rng):
            off = self.truth.copy()
            off[1] = 1 / 3
            return {"shares": off}

    study = Known(INFO, labels=3, lengths=[20, 50])
    study.start(None, torch.Generator().manual_seed(2))
    study.advance(None, torch.Generator())
    truth = study.truth
    assert proportions_js(study, None, {"length": 20}, None).value == 0
    assert proportions_mse(study, None, {"length": 20}, None).value == 0
    assert proportions_nonzero(study, None, {"length": 20}, None).value == (truth[0] > 0).sum(1).mean()
    assert proportions_mse(study, None, {"length": 50}, None).value == pytest.approx(np.square(truth[1] - 1 / 3).mean())
    assert proportions_nonzero(study, None, {"length": 50}, None).value == 3
    with pytest.raises(UserError, match="length 30"):
        proportions_js(study, None, {"length": 30}, None)


def test_predictors_are_those_of_their_loss():
    x, q = RNG.normal(0, 1, (80, 3)), sparsemax(RNG.normal(0, 1, (80, 3)))
    rows = RNG.normal(0, 1, (7, 3))
    for kind, loss, link in ((Sparsemax, sparsemax_loss, sparsemax), (Softmax, logistic_loss, softmax)):
        w = fitted(x, q, loss, 0.1)
        np.testing.assert_allclose(kind(INFO, labels=3).predictor(x, q, 0.1)(rows), link(w[0] + rows @ w[1:]))
    centred = x - x.mean(0)
    w = np.linalg.solve(centred.T @ centred + 0.1 * 80 * np.eye(3), centred.T @ q)
    want = sparsemax(q.mean(0) + (rows - x.mean(0)) @ w)
    np.testing.assert_allclose(ProjectedRidge(INFO, labels=3).predictor(x, q, 0.1)(rows), want, atol=1e-8)
