from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.metrics import prediction as pd
from scipy.integrate import quad, trapezoid
from scipy.stats import norm
from sklearn.metrics import brier_score_loss, mean_pinball_loss, roc_curve

RNG = np.random.default_rng(0)


def test_accuracy():
    assert pd.accuracy([1, 2, 3, 3], [1, 2, 3, 4]).value == 0.75


def test_brier_score_is_twice_scikit_learn_s_for_two_classes():
    p, y = RNG.random(50), RNG.integers(0, 2, 50)
    assert pd.brier_score(p, y).value == pytest.approx(2 * brier_score_loss(y, p))
    assert pd.brier_score(np.eye(3), [0, 1, 2]).value == 0
    assert pd.brier_score(np.eye(3), [1, 2, 0]).value == 2


def test_calibration_error():
    # confidence 0.8, right 6 times of 10, and 0.6, right 6 of 10
    p = np.repeat([[0.8, 0.2], [0.4, 0.6]], 10, axis=0)
    y = np.r_[[0] * 6, [1] * 4, [1] * 6, [0] * 4]
    assert pd.expected_calibration_error(p, y, bins=10) == pytest.approx(0.1)
    assert pd.expected_calibration_error(p, y, bins=1) == pytest.approx(0.1)
    assert pd.expected_calibration_error(p, y, bins=2, equal="mass") == pytest.approx(0.1)
    confidence = RNG.random(20_000) / 2 + 0.5
    right = RNG.random(20_000) < confidence
    labels = np.where(right, 0, 1)
    calibrated = np.stack([confidence, 1 - confidence], axis=1)
    assert pd.expected_calibration_error(calibrated, labels) < 0.02
    assert pd.expected_calibration_error(calibrated, 1 - labels) > 0.3


def test_calibration_error_bins_are_closed_on_the_right():
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    p = RNG.dirichlet(np.ones(4), size=500)
    y = RNG.integers(0, 4, 500)
    theirs = multiclass_calibration_error(torch.tensor(p), torch.tensor(y), num_classes=4, n_bins=15)
    assert pd.expected_calibration_error(p, y) == pytest.approx(float(theirs), abs=1e-6)


def test_calibration_error_of_confidences_on_an_edge_and_of_both_signs():
    """By hand: 0.5 lies in the first of two bins, which is too shy (0.2), the second too sure (0.4), of six rows."""
    p = np.repeat([[0.5, 0.25, 0.25], [0.4, 0.35, 0.25], [0.7, 0.2, 0.1]], 2, axis=0)
    assert pd.expected_calibration_error(p, [0, 0, 1, 2, 0, 1], bins=2) == pytest.approx((0.2 + 0.4) / 6)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 60), st.integers(2, 60), st.integers(0, 1000))
def test_auroc_is_the_share_of_pairs_in_order(n, m, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 8, n), rng.integers(-3, 6, m)
    pairs = (a[:, None] > b) + 0.5 * (a[:, None] == b)
    found = pd.auroc(np.r_[a, b], np.r_[np.ones(n, int), np.zeros(m, int)])
    assert found.value == pytest.approx(pairs.mean())
    delong = pairs.mean(1).var(ddof=1) / n + pairs.mean(0).var(ddof=1) / m
    assert found.se == pytest.approx(np.sqrt(delong), abs=1e-9)


def test_auroc_standard_error_is_the_spread():
    y = np.repeat([1, 0], 100)
    runs = [pd.auroc(np.r_[RNG.normal(1, 1, 100), RNG.normal(0, 1, 100)], y) for _ in range(200)]
    assert np.mean([r.value for r in runs]) == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.01)
    assert np.mean([r.se for r in runs]) == pytest.approx(np.std([r.value for r in runs]), rel=0.15)


def test_average_precision():
    assert pd.average_precision([3.0, 2, 1, 0], [1, 0, 1, 0]) == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("tpr", [0.8, 0.95, 1.0])
def test_fpr_at_tpr_is_read_off_the_roc_curve(tpr):
    s, y = RNG.normal(size=300), RNG.integers(0, 2, 300)
    s = s + y
    fpr, hit, _ = roc_curve(y, s, drop_intermediate=False)
    assert pd.fpr_at_tpr(s, y, tpr=tpr) == pytest.approx(fpr[np.argmax(hit >= tpr - 1e-12)])
    assert pd.fpr_at_tpr(y.astype(float), y, tpr=tpr) == 0.0


@pytest.mark.parametrize(("tpr", "expected"), [(0.25, 0.0), (0.5, 1 / 3), (0.75, 1 / 3), (0.8, 2 / 3), (1.0, 2 / 3)])
def test_fpr_at_tpr_counts_the_tied(tpr, expected):
    assert pd.fpr_at_tpr([3.0, 2, 2, 1, 2, 1, 0], [1, 1, 1, 1, 0, 0, 0], tpr=tpr) == pytest.approx(expected)


def test_errors_of_numbers():
    p, t = RNG.normal(size=400), RNG.normal(size=400)
    found = pd.rmse(p, t)
    assert found.value == pytest.approx(np.sqrt(np.mean((p - t) ** 2)))
    draws = [pd.rmse(p[i], t[i]).value for i in (RNG.integers(0, 400, 400) for _ in range(300))]
    assert found.se == pytest.approx(np.std(draws), rel=0.2)
    assert pd.rmse(t, t).se == 0.0
    assert pd.mae(p, t).value == pytest.approx(np.abs(p - t).mean())
    assert pd.quantile_loss(p, t, quantile=0.9).value == pytest.approx(mean_pinball_loss(t, p, alpha=0.9))


def test_crps_of_an_ensemble_is_the_integral_of_squared_differences():
    x, t = RNG.normal(size=(3, 6)), RNG.normal(size=3)
    grid = np.linspace(-6, 6, 200_001)
    cdf = (
        (x[:, :, None] <= grid).mean(1)
        if False
        else np.stack([np.searchsorted(np.sort(r), grid, "right") / 6 for r in x])
    )
    expected = trapezoid((cdf - (grid >= t[:, None])) ** 2, grid, axis=1).mean()
    assert pd.crps_samples(x, t).value == pytest.approx(expected, abs=1e-3)


def test_crps_of_a_gaussian_and_of_many_draws_from_it():
    mean, std, t = 0.3, 1.7, -0.4
    expected = quad(lambda y: (norm.cdf(y, mean, std) - (y >= t)) ** 2, -15, 15, points=[t])[0]
    assert pd.crps_gaussian([mean], [std], [t]).value == pytest.approx(expected, abs=1e-8)
    draws = RNG.normal(mean, std, size=(1, 200_000))
    assert pd.crps_samples(draws, [t]).value == pytest.approx(expected, abs=0.01)
    few = pd.crps_samples(RNG.normal(mean, std, size=(20_000, 3)), np.full(20_000, t), fair=True)
    assert few.value == pytest.approx(expected, abs=4 * few.se)  # unbiased in the size of the ensemble


def test_intervals():
    low, high = np.zeros(4), np.array([1.0, 1, 1, 3])
    assert pd.interval_coverage(low, high, [0, 1, 1.5, 2]).value == 0.75
    assert pd.interval_width(low, high).value == 1.5
    y = RNG.normal(size=5000)
    nominal = pd.interval_coverage(np.full(5000, -1.96), np.full(5000, 1.96), y)
    assert nominal.value == pytest.approx(0.95, abs=4 * nominal.se)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: pd.brier_score([[0.5, 0.6]], [0]), "sum to one"),
        (lambda: pd.brier_score([[0.5, 0.5]], [2]), "labels"),
        (lambda: pd.auroc([1.0, 2.0], [1, 1]), "both 0 and 1"),
        (lambda: pd.auroc([1.0, np.nan], [1, 0]), "NaN"),
        (lambda: pd.auroc([1.0], [1, 0]), "rows"),
        (lambda: pd.fpr_at_tpr([1.0, 0.0], [1, 0], tpr=0), "tpr"),
        (lambda: pd.quantile_loss([1.0], [1.0], quantile=1), "quantile"),
        (lambda: pd.crps_gaussian([0.0], [0.0], [0.0]), "positive"),
        (lambda: pd.crps_samples([[0.0]], [0.0], fair=True), "two draws"),
        (lambda: pd.interval_width([2.0], [1.0]), "above upper"),
        (lambda: pd.expected_calibration_error([0.2, 0.8], [0, 1], equal="x"), "equal"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(UserError, match=says):
        call()
