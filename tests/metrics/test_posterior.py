from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.metrics import posterior as ps
from latentbench.papers.beta_tcvae import tcvae


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_active_units_counts_dimensions_that_move():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(2000, 4)) * np.array([1.0, 0.2, 0.05, 0.0])
    result = ps.active_units(means)
    assert result.value == 2.0
    assert result.details["share"] == 0.5
    assert ps.active_units(means, threshold=0.001).value == 3.0
    with pytest.raises(UserError, match="1 rows"):
        ps.active_units(means[:1])


def test_collapse_of_a_posterior_equal_to_the_prior():
    zeros = np.zeros((100, 3))
    result = ps.posterior_collapse(zeros, zeros)
    assert (result.value, result.details["fully"]) == (1.0, 1.0)
    means = zeros.copy()
    means[:, 0] = np.linspace(-2, 2, 100)
    assert ps.posterior_collapse(means, zeros).value == pytest.approx(2 / 3)
    with pytest.raises(UserError, match="overflows"):
        ps.posterior_collapse(zeros, zeros + 800)


def test_rate_is_torch_s_gaussian_kl():
    rng = np.random.default_rng(1)
    mu, lv = rng.normal(size=(50, 3)), rng.normal(size=(50, 3))
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(torch.tensor(mu), torch.tensor(lv).mul(0.5).exp()), normal(torch.zeros(50, 3), torch.ones(50, 3))
    )
    np.testing.assert_allclose(ps.gaussian_rate(mu, lv), expected, rtol=1e-6)


def test_parts_add_up_to_the_rate():
    rng = np.random.default_rng(2)
    mu, lv = rng.normal(size=(300, 3)), rng.normal(size=(300, 3)) - 1
    for estimator in ("mixture", "mws", "mss"):
        a = ps.aggregate_posterior(mu, lv, generator=generator(), estimator=estimator, batch=64)
        assert a.mutual_information.value + a.kl.value == pytest.approx(a.rate.value)
        assert a.total_correlation.value + a.dimension_wise_kl.value == pytest.approx(a.kl.value)
    assert a.rate.value == pytest.approx(ps.gaussian_rate(mu, lv).sum(1).mean(), abs=4 * a.rate.se)


def test_collapsed_and_separate_posteriors_bracket_mutual_information():
    zeros = np.zeros((200, 2))
    collapsed = ps.aggregate_posterior(zeros, zeros, generator=generator())
    for part in (collapsed.mutual_information, collapsed.kl, collapsed.total_correlation):
        assert part.value == pytest.approx(0, abs=1e-12)
    apart = np.arange(200.0)[:, None] * np.ones(2) * 10
    separate = ps.aggregate_posterior(apart, zeros - 4, generator=generator())
    assert separate.mutual_information.value == pytest.approx(math.log(200), abs=1e-9)
    assert separate.total_correlation.value == pytest.approx(math.log(200), abs=1e-9)  # z1 tells z2


def test_gaussian_aggregate_has_its_closed_form():
    # means ~ N(0, 0.75), posterior variance 0.25: the aggregate is N(0, 1) and I(x; z) = ½ log 4 a dimension
    means = torch.randn(4000, 1, generator=generator(3), dtype=torch.float64) * math.sqrt(0.75)
    a = ps.aggregate_posterior(means, torch.full_like(means, math.log(0.25)), generator=generator(4), samples=3000)
    assert a.mutual_information.value == pytest.approx(0.5 * math.log(4), abs=4 * a.mutual_information.se)
    assert a.kl.value == pytest.approx(0, abs=0.01)
    assert a.total_correlation.value == pytest.approx(0, abs=1e-9)


def correlated_gaussian(d: int, n: int, std: float) -> tuple[torch.Tensor, torch.Tensor, float, float]:
    """Posteriors of population aggregate N(0, C + std² I), C of correlation ½; its information and correlation."""
    cov = torch.full((d, d), 0.5, dtype=torch.float64).fill_diagonal_(1.0)
    means = torch.randn(n, d, generator=generator(8), dtype=torch.float64) @ torch.linalg.cholesky(cov).T
    aggregate = cov + std**2 * torch.eye(d, dtype=torch.float64)
    information = 0.5 * torch.logdet(aggregate) - d * math.log(std)
    correlation = -0.5 * (torch.logdet(aggregate) - aggregate.diagonal().log().sum())
    return means, torch.full_like(means, 2 * math.log(std)), float(information), float(correlation)


@pytest.mark.parametrize(
    ("d", "std", "saturated"), [(2, 0.5, False), (5, 1.0, False), (5, 0.1, True), (10, 0.25, True)]
)
def test_saturation_is_told_from_a_gaussian_s_closed_form(d, std, saturated):
    means, log_variances, information, correlation = correlated_gaussian(d, 2000, std)
    a = ps.aggregate_posterior(means, log_variances, generator=generator(9), samples=1000)
    tc, mi = a.total_correlation, a.mutual_information
    assert a.log_n == pytest.approx(math.log(2000))
    assert a.saturated is saturated
    # the population's figures lie between the two bounds, saturated or not
    assert mi.value - 4 * mi.se <= information <= mi.details["upper"] + 4 * mi.se
    assert tc.details["lower"] - 4 * tc.se <= correlation <= tc.value + 4 * tc.se
    if saturated:
        assert tc.value > correlation + 1.0
        assert mi.value < information - 1.0
        assert mi.value <= a.log_n
    else:
        assert tc.value == pytest.approx(correlation, abs=4 * tc.se + 0.1)
        assert mi.value == pytest.approx(information, abs=4 * mi.se + 0.1)


def test_own_share_runs_from_one_over_n_to_one():
    zeros = np.zeros((50, 2))
    assert ps.aggregate_posterior(zeros, zeros, generator=generator()).own_share == pytest.approx(1 / 50)
    apart = np.arange(50.0)[:, None] * np.full(2, 100.0)
    separate = ps.aggregate_posterior(apart, zeros, generator=generator())
    assert separate.own_share == pytest.approx(1.0)
    assert separate.saturated
    assert np.isfinite(separate.mutual_information.details["upper"])
    assert ps.aggregate_posterior(zeros, zeros, generator=generator(), estimator="mws").saturated is None


@pytest.mark.parametrize("estimator", ["mws", "mss"])
@pytest.mark.parametrize("n_train", [40, 1000])
def test_minibatch_estimators_are_those_that_training_uses(estimator, n_train):
    rng = np.random.default_rng(5)
    mu, lv = torch.from_numpy(rng.normal(size=(40, 2))), torch.from_numpy(rng.normal(size=(40, 2)) - 1)
    g = generator(6)
    order = torch.randperm(40, generator=g)
    z = mu[order] + torch.randn(40, 2, generator=g, dtype=torch.float64) * (0.5 * lv[order]).exp()
    pairs = tcvae.pairwise_log_density(z, mu[order], 0.5 * lv[order])
    joint, product = tcvae.aggregate_log_densities(pairs, n_train, estimator)
    a = ps.aggregate_posterior(mu, lv, generator=generator(6), estimator=estimator, batch=40, dataset_size=n_train)
    assert a.total_correlation.value == pytest.approx(float((joint - product).mean()), rel=1e-9)


def test_stratified_density_is_unbiased_and_a_lone_last_row_has_company():
    """Eq. S6 averaged over all minibatches of three that hold the code's own datum: the mixture's density."""
    rng = np.random.default_rng(5)
    q = torch.from_numpy(rng.random((6, 6))) + 0.1  # q[i, j]: density of code i under posterior j
    log_w = ps._stratified(3, 6, q)
    for own in range(6):
        others = [j for j in range(6) if j != own]
        batches = [(own, a, b) for a in others for b in others if a != b]
        found = np.mean([float((log_w[0].exp() * q[own, list(b)]).sum()) for b in batches])
        assert found == pytest.approx(float(q[own].mean()), rel=1e-12)
    mu, lv = rng.normal(size=(64, 2)), np.full((64, 2), -1.0)
    odd = ps.aggregate_posterior(mu, lv, generator=generator(6), estimator="mss", batch=63)
    assert odd.kl.n == 64
    assert np.isfinite(odd.kl.value)


def test_gaussian_total_correlation():
    cov = np.array([[1.0, 0.8], [0.8, 1.0]])
    x = np.random.default_rng(7).multivariate_normal([0, 0], cov, size=20000)
    assert ps.gaussian_total_correlation(x) == pytest.approx(-0.5 * math.log(1 - 0.64), abs=0.02)
    assert ps.gaussian_total_correlation(x * [1.0, 1e6]) == pytest.approx(ps.gaussian_total_correlation(x), rel=1e-9)
    assert ps.gaussian_total_correlation(np.c_[x[:, 0], np.ones(20000)]) == 0.0
    with pytest.raises(UserError, match="dependent"):
        ps.gaussian_total_correlation(np.c_[x, x[:, 0] * 2])


@pytest.mark.parametrize("samples", [1, 10])
def test_bad_posteriors_are_refused(samples):
    with pytest.raises(UserError):
        ps.aggregate_posterior(np.full((3, 2), np.nan), np.zeros((3, 2)), generator=generator(), samples=samples)
    with pytest.raises(UserError):  # no aggregate
        ps.aggregate_posterior(np.zeros((1, 2)), np.zeros((1, 2)), generator=generator(), samples=samples)
    with pytest.raises(UserError):
        ps.aggregate_posterior(np.zeros((3, 2)), np.zeros((3, 1)), generator=generator(), samples=samples)
    with pytest.raises(UserError, match="estimator"):
        ps.aggregate_posterior(np.zeros((3, 2)), np.zeros((3, 2)), generator=generator(), samples=5, estimator="x")
    with pytest.raises(UserError):  # exp(-log variance) overflows: said, not passed on as NaN
        ps.aggregate_posterior(np.zeros((3, 2)), np.full((3, 2), -1e4), generator=generator(), samples=samples)
