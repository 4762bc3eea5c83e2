from __future__ import annotations

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.metrics import samples as sm
from scipy.stats import entropy

RNG = np.random.default_rng(0)


def test_inception_score_in_closed_form():
    certain = np.eye(5)[np.arange(500) % 5] * 1000.0
    assert sm.inception_score(certain, splits=1).value == pytest.approx(5)
    assert sm.inception_score(np.zeros((50, 5))).value == pytest.approx(1)
    assert sm.inception_score(np.tile([1000.0, 0, 0], (50, 1))).value == pytest.approx(1)


def test_inception_score_is_the_mean_divergence_from_the_marginal():
    logits = RNG.normal(size=(60, 4)) * 3
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    order = np.random.RandomState(2020).permutation(60)
    scores = []
    for part in np.split(p[order], 3):
        scores.append(np.exp(np.mean([entropy(row, part.mean(0)) for row in part])))
    ours = sm.inception_score(logits + 50, splits=3, rng=np.random.RandomState(2020))
    assert ours.value == pytest.approx(np.mean(scores))
    assert ours.details["std"] == pytest.approx(np.std(scores))
    with pytest.raises(UserError, match="splits"):
        sm.inception_score(logits, splits=61)


@pytest.mark.parametrize("classifier", ["mlp", "forest", "linear"])
def test_c2st_controls(classifier):
    x, same, far = RNG.normal(size=(150, 2)), RNG.normal(size=(180, 2)), RNG.normal(size=(150, 2)) + 6
    assert sm.c2st(x, same, classifier=classifier).value == pytest.approx(0.5, abs=0.12)
    assert sm.c2st(x, far, classifier=classifier).value > 0.98


def test_linear_c2st_of_shifted_gaussians_reaches_the_bayes_accuracy():
    from scipy.stats import norm

    x, y = RNG.normal(size=(2000, 3)), RNG.normal(size=(2000, 3)) + np.array([1.0, 0, 0])
    result = sm.c2st(x, y, classifier="linear")
    assert result.value == pytest.approx(norm.cdf(0.5), abs=4 * result.se)


def test_bad_input():
    x = RNG.normal(size=(20, 2))
    with pytest.raises(UserError, match="classifier"):
        sm.c2st(x, x, classifier="svm")
    with pytest.raises(UserError, match="folds"):
        sm.c2st(x, x, folds=30)
