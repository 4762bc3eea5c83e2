"""Bias and direction of gradient estimates: closed forms, controls, and what sampling noise must not do."""

from __future__ import annotations

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.metrics.gradients import cosine, relative_bias

EXACT = np.array([[3.0, 0.0], [0.0, 4.0]])  # of length 5


def noisy(shift: np.ndarray, spread: float, draws: int = 4000, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return EXACT + shift + spread * rng.standard_normal((draws, *EXACT.shape))


def test_closed_forms():
    same = np.stack([EXACT, EXACT])
    assert cosine(same, EXACT).value == pytest.approx(1.0)
    assert cosine(-same, EXACT).value == pytest.approx(-1.0)
    assert relative_bias(same, EXACT).value == 0.0
    assert relative_bias(2.0 * same, EXACT).value == pytest.approx(1.0)
    across = np.stack([[[0.0, 1.0], [0.0, 0.0]]] * 2)
    assert cosine(across, EXACT).value == pytest.approx(0.0)


def test_a_positive_scale_changes_the_bias_but_not_the_cosine():
    sample = noisy(np.zeros((2, 2)), 1.0)
    assert cosine(7.0 * sample, EXACT).value == pytest.approx(cosine(sample, EXACT).value)
    assert relative_bias(7.0 * sample, EXACT).value > 5.0


def test_noise_is_no_bias():
    """Eight draws with a spread of ten: the plain ratio is far off zero, the corrected one is not on average."""
    corrected, raw = [], []
    for seed in range(300):
        value = relative_bias(noisy(np.zeros((2, 2)), 10.0, draws=8, seed=seed), EXACT)
        corrected.append(value.value**2)
        raw.append(value.details["raw"] ** 2)
    assert np.mean(raw) == pytest.approx(4 * 100 / 8 / 25, rel=0.15)
    assert np.mean(corrected) < 0.35 * np.mean(raw)


def test_bias_and_spread_are_found():
    value = relative_bias(noisy(np.full((2, 2), 0.5), 1.0, draws=20_000), EXACT)
    assert value.value == pytest.approx(1.0 / 5.0, rel=0.05)
    assert value.details["relative_std"] == pytest.approx(2.0 / 5.0, rel=0.05)
    single = cosine(noisy(np.zeros((2, 2)), 1.0, draws=20_000), EXACT)
    assert single.value > 0.999
    assert 0.85 < single.details["single_draw"] < 0.98


def test_bad_input():
    with pytest.raises(UserError, match="estimates"):
        cosine(np.ones((5, 3)), EXACT)
    with pytest.raises(UserError, match="zero"):
        relative_bias(np.ones((5, 2, 2)), np.zeros((2, 2)))
    with pytest.raises(UserError):
        cosine(np.ones((1, 2, 2)), EXACT)
    with pytest.raises(UserError):
        cosine(np.full((4, 2, 2), np.nan), EXACT)
