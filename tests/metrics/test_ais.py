from __future__ import annotations

import itertools
import math

import pytest
import torch
from latentbench.core.errors import Diverged, UserError
from latentbench.metrics.ais import annealed_importance_sampling, temperatures

LOG_2PI = math.log(2 * math.pi)


def prior(z):
    return (-0.5 * (z.square() + LOG_2PI)).sum(-1)


@pytest.fixture(scope="module")
def linear_gaussian():
    """x | z ~ N(W z, 0.3²) in four dimensions with two codes: log p(x) = log N(x; 0, W W' + 0.09)."""
    g = torch.Generator().manual_seed(0)
    w = torch.randn(4, 2, generator=g, dtype=torch.float64)
    x = torch.randn(30, 2, generator=g, dtype=torch.float64) @ w.T + 0.3 * torch.randn(30, 4, generator=g).double()
    exact = torch.distributions.MultivariateNormal(
        torch.zeros(4, dtype=torch.float64), w @ w.T + 0.09 * torch.eye(4, dtype=torch.float64)
    ).log_prob(x)

    def likelihood(z):
        return (-0.5 * (((x - z @ w.T) / 0.3).square() + LOG_2PI) - math.log(0.3)).sum(-1)

    return exact, likelihood


def run(likelihood, steps, *, chains=16, seed=1, **options):
    g = torch.Generator().manual_seed(seed)
    start = torch.randn(chains, 30, 2, generator=g, dtype=torch.float64)
    return annealed_importance_sampling(
        prior, likelihood, start, generator=g, betas=temperatures(steps), leapfrog=5, **options
    )


def test_ais_reaches_the_exact_likelihood_where_importance_sampling_from_the_prior_does_not(linear_gaussian):
    exact, likelihood = linear_gaussian
    found = run(likelihood, 300)
    error = found.bound.log_prob() - exact
    assert abs(float(error.mean())) < 0.1
    assert 0.4 < float(found.acceptance[60:].mean()) < 0.9
    prior_only = run(likelihood, 1)
    assert float((prior_only.bound.log_prob() - exact).mean()) < -2
    assert float((run(likelihood, 10).bound.log_prob() - exact).mean()) < float(error.mean())


def test_same_generator_same_result(linear_gaussian):
    _, likelihood = linear_gaussian
    a, b, c = (run(likelihood, 5, seed=s).bound.log_prob() for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_temperatures_rise_from_zero_to_one_slowest_at_the_ends():
    betas = temperatures(50)
    steps = [b - a for a, b in itertools.pairwise(betas)]
    assert (betas[0], betas[-1]) == (0.0, 1.0)
    assert max(steps) == pytest.approx(steps[25], rel=0.05)
    assert steps[0] < steps[25] / 5


def test_bad_input():
    g = torch.Generator().manual_seed(0)
    start = torch.randn(2, 3, 1, generator=g)

    def flat(z):
        return z.sum(-1) * 0

    with pytest.raises(UserError, match="rise"):
        annealed_importance_sampling(prior, flat, start, generator=g, betas=[0, 0.5, 0.2, 1])
    with pytest.raises(UserError, match="start"):
        annealed_importance_sampling(prior, flat, start[0], generator=g)
    with pytest.raises(Diverged):
        annealed_importance_sampling(prior, lambda z: z.sum(-1) * math.nan, start, generator=g, betas=[0, 1])
    with pytest.raises(UserError, match="temperatures"):
        temperatures(0)
