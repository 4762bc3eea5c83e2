from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from benchmarks.core.errors import UserError
from benchmarks.metrics import posterior as ps


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


def test_stratified_weights_over_the_whole_set_are_the_mixture():
    rng = np.random.default_rng(5)
    mu, lv = rng.normal(size=(64, 2)), np.full((64, 2), -1.0)
    exact = ps.aggregate_posterior(mu, lv, generator=generator(6))
    mss = ps.aggregate_posterior(mu, lv, generator=generator(6), estimator="mss", batch=64)
    assert mss.total_correlation.value == pytest.approx(exact.total_correlation.value, abs=1e-10)
    odd = ps.aggregate_posterior(mu, lv, generator=generator(6), estimator="mss", batch=63)  # a lone last row
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
    with pytest.raises(UserError):
        ps.aggregate_posterior(np.zeros((3, 2)), np.zeros((3, 1)), generator=generator(), samples=samples)
    with pytest.raises(UserError, match="estimator"):
        ps.aggregate_posterior(np.zeros((3, 2)), np.zeros((3, 2)), generator=generator(), samples=5, estimator="x")
    with pytest.raises(UserError):  # exp(-log variance) overflows: said, not passed on as NaN
        ps.aggregate_posterior(np.zeros((3, 2)), np.full((3, 2), -1e4), generator=generator(), samples=samples)
