"""Pairs of known entropic plan: its density against its form, samples and moments against its density."""

from __future__ import annotations

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.papers.light_schrodinger_bridge.plans import EntropicPlan, pairs
from scipy.stats import multivariate_normal

PARAMS = {"components": 3, "epsilon": 0.6, "radius": 1.5, "scales": (0.2, 0.8), "structure_seed": 4}


@pytest.mark.parametrize("rotated", [False, True])
class TestPlan:
    def plan(self, rotated: bool, dims: int = 2) -> EntropicPlan:
        return EntropicPlan(dims=dims, rotated=rotated, **PARAMS)

    def test_has_the_form_of_an_optimal_plan(self, rotated: bool):
        """log π(y | x) - xᵀy / ε is a function of x plus one of y, which is what optimality asks (Gushchin et al. 2023,
        theorem 3.2)."""
        plan, rng = self.plan(rotated), np.random.default_rng(0)
        x, y = rng.standard_normal((30, 2)), 2 * rng.standard_normal((40, 2))
        grid = np.stack([plan.log_conditional(np.repeat(x[i : i + 1], 40, 0), y) for i in range(30)])
        rest = grid - x @ y.T / 0.6
        rest = rest - rest.mean(0) - rest.mean(1, keepdims=True) + rest.mean()
        assert np.abs(rest).max() < 1e-9

    def test_is_a_density(self, rotated: bool):
        plan = self.plan(rotated)
        side = np.linspace(-9, 9, 361)
        y = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
        for x in ([0.0, 0.0], [1.5, -2.0]):
            p = np.exp(plan.log_conditional(np.tile(x, (len(y), 1)), y)) * (side[1] - side[0]) ** 2
            assert p.sum() == pytest.approx(1, abs=1e-6)
            mean, covariance = plan.conditional_moments(np.array([x]))
            assert mean[0] == pytest.approx(p @ y, abs=1e-5)
            apart = y - mean[0]
            assert covariance[0] == pytest.approx((p[:, None] * apart).T @ apart, abs=1e-5)

    def test_components_are_gaussians(self, rotated: bool):
        plan, x, y = self.plan(rotated), np.array([[0.4, -0.8]]), np.array([[1.0, 0.3]])
        weights = np.exp(plan.log_weights(x))[0]
        assert weights.sum() == pytest.approx(1)
        expected = sum(
            w * multivariate_normal(r + s @ x[0], 0.6 * s).pdf(y[0])
            for w, r, s in zip(weights, plan.centres, plan.matrices)
        )
        assert plan.log_conditional(x, y)[0] == pytest.approx(np.log(expected))

    def test_samples_have_its_moments(self, rotated: bool):
        plan, rng = self.plan(rotated, 3), np.random.default_rng(0)
        x = np.array([[0.5, -0.2, 1.0]])
        y = plan.sample_conditional(np.repeat(x, 200_000, 0), rng)
        mean, covariance = plan.conditional_moments(x)
        assert y.mean(0) == pytest.approx(mean[0], abs=0.01)
        assert np.cov(y.T) == pytest.approx(covariance[0], abs=0.02)

    def test_target_moments(self, rotated: bool):
        plan = self.plan(rotated, 3)
        y = pairs(200_000, np.random.default_rng(3), 3, rotated=rotated, **PARAMS)["x"][:, 1]
        mean, covariance = plan.target_moments
        assert y.mean(0) == pytest.approx(mean, abs=0.03)
        assert np.cov(y.T) == pytest.approx(covariance, abs=0.05)


def test_rows_are_unpaired():
    x = pairs(50_000, np.random.default_rng(0), 2, rotated=False, **PARAMS)["x"]
    assert x.shape == (50_000, 2, 2)
    assert x.dtype == np.float32
    assert np.abs(np.corrcoef(x.reshape(-1, 4).T)[:2, 2:]).max() < 0.02
    with pytest.raises(UserError, match="no closed form"):
        EntropicPlan(dims=2, rotated=False, **PARAMS).log_prob(x)
