"""Spirals of two directions: geometry, noise and masks."""

from __future__ import annotations

import numpy as np
import pytest
from latentbench.papers.neural_ode.spirals import two_way

PARAMS = {"length": 50, "ahead": 40, "points": 400, "turns": 3.0, "growth": 0.3, "kept": [10, 25]}


def test_points_lie_on_their_arm():
    made = two_way(300, np.random.default_rng(0), noise=0.0, **PARAMS)
    whole = np.concatenate([made["x"], made["future"]], 1).astype(float)
    centre = np.where(made["arm"] == 1, 5.0, -5.0)[:, None]
    r = np.hypot(whole[..., 0] - centre, whole[..., 1])
    turn = np.unwrap(np.arctan2(whole[..., 1], whole[..., 0] - centre), axis=1)
    outward = made["arm"] == 1
    assert 0 < outward.sum() < len(outward)
    assert (np.diff(r[outward], axis=1) > 0).all()
    assert (np.diff(turn[outward], axis=1) > 0).all(), "counter-clockwise"
    assert (np.diff(turn[~outward], axis=1) < 0).all(), "clockwise"
    # r = 0.3 θ counter-clockwise, r (θ) = 15 / θ clockwise, the angle being the unwrapped one up to whole turns
    step = 6 * np.pi / 399
    assert np.diff(r[outward], axis=1) == pytest.approx(0.3 * step, abs=1e-5)
    assert np.diff(1 / r[~outward], axis=1) == pytest.approx(-step / 15, abs=1e-5)


def test_noise_and_masks():
    made = two_way(500, np.random.default_rng(0), noise=0.3, **PARAMS)
    clean = two_way(500, np.random.default_rng(0), noise=0.0, **PARAMS)
    assert (made["x"] - clean["x"]).std() == pytest.approx(0.3, abs=0.01)
    assert np.array_equal(made["future"], clean["future"])
    for k in (10, 25):
        assert (made[f"observed{k}"].sum(1) == k).all()
        assert made[f"observed{k}"].mean(0) == pytest.approx(k / 50, abs=0.12)
