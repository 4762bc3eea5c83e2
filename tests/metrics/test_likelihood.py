from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from latentbench.core.errors import Diverged, UserError
from latentbench.core.types import MetricValue
from latentbench.metrics import likelihood as lk
from scipy.special import logsumexp


def linear_gaussian(n: int, seed: int = 0):
    """z ~ N(0,1), x|z ~ N(z, 1): log p(x) = log N(x; 0, 2), posterior N(x/2, 1/2)."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, generator=g, dtype=torch.float64) * math.sqrt(2)
    exact = -0.5 * (math.log(2 * math.pi * 2) + x.square() / 2)

    def draw(k: int, *, mean=0.5, var=0.8) -> torch.Tensor:
        z = mean * x + math.sqrt(var) * torch.randn(k, n, generator=g, dtype=torch.float64)
        log_q = -0.5 * (math.log(2 * math.pi * var) + (z - mean * x).square() / var)
        log_p = -0.5 * (2 * math.log(2 * math.pi) + z.square() + (x - z).square())
        return log_p - log_q

    return x, exact, draw


def test_importance_bound_meets_the_exact_likelihood_of_a_linear_gaussian_model():
    _, exact, draw = linear_gaussian(400)
    bound, noted = lk.importance_weighted(draw, 2000, chunk=64, record=(1, 10, 100))
    result = bound.summary()
    assert result.details["k"] == 2000
    assert result.value == pytest.approx(float(exact.mean()), abs=4 * result.details["mc_se"] + 1e-4)
    assert result.se == pytest.approx(float(exact.std() / 20), rel=0.02)
    assert noted[1] < noted[10] < noted[100] <= result.value + 3 * result.details["mc_se"]
    assert result.details["warnings"] == ()


def test_importance_bound_with_the_true_posterior_is_exact_at_one_sample():
    _, exact, draw = linear_gaussian(50)
    bound, _ = lk.importance_weighted(lambda k: draw(k, var=0.5), 1)
    assert torch.allclose(bound.log_prob(), exact, atol=1e-12)
    more, _ = lk.importance_weighted(lambda k: draw(k, var=0.5), 100)
    assert torch.allclose(more.ess(), torch.full((50,), 100.0, dtype=torch.float64))
    assert float(more.bias().abs().max()) < 1e-12


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 41), st.floats(0, 300), st.integers(0, 10**6))
def test_streaming_equals_one_logsumexp_whatever_the_chunks(k, chunk, spread, seed):
    w = np.random.default_rng(seed).normal(scale=spread, size=(k, 3))
    rows = iter(torch.from_numpy(w).split(1))
    bound, _ = lk.importance_weighted(lambda m: torch.cat([next(rows) for _ in range(m)]), k, chunk=chunk)
    np.testing.assert_allclose(bound.log_prob(), logsumexp(w, axis=0) - math.log(k), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(bound.ess(), np.exp(2 * logsumexp(w, axis=0) - logsumexp(2 * w, axis=0)), rtol=1e-9)


@pytest.mark.parametrize("estimate", ["bias", "bias_jackknife"])
def test_bias_estimates_agree_with_the_bias_over_many_repeats(estimate):
    _, exact, draw = linear_gaussian(4000)
    k = 20
    bound, _ = lk.importance_weighted(draw, k)
    summary = bound.summary()
    true_bias = float(bound.log_prob().mean() - exact.mean())
    assert true_bias < 0
    assert summary.details[estimate] == pytest.approx(true_bias, rel=0.35)


def test_the_jackknife_leaves_out_each_interleaved_group_in_turn():
    """Against loops, for groups of unequal size, fed in chunks that no group fits into."""
    w, groups = np.random.default_rng(3).normal(scale=2.0, size=(23, 4)), 5
    bound = lk.ImportanceBound(4, groups=groups)
    for part in torch.from_numpy(w).split(7):
        bound.update(part)
    whole = logsumexp(w, axis=0) - math.log(23)
    left = [np.delete(w, np.s_[g::groups], axis=0) for g in range(groups)]
    without = np.mean([logsumexp(rest, axis=0) - math.log(len(rest)) for rest in left], axis=0)
    np.testing.assert_allclose(bound.jackknife_bias(), (groups - 1) * (without - whole), rtol=1e-9)


def test_weights_of_zero_count_and_nothing_else_passes_silently():
    bound = lk.ImportanceBound(2)
    bound.update(torch.tensor([[-math.inf, -math.inf]]))
    assert torch.equal(bound.ess(), torch.zeros(2, dtype=torch.float64))
    bound.update(torch.tensor([[0.0, -math.inf]]))
    np.testing.assert_allclose(bound.log_prob(), [-math.log(2), -math.inf])
    with pytest.raises(Diverged):
        bound.summary()
    for bad in (math.nan, math.inf):
        with pytest.raises(UserError, match="NaN or \\+inf"):
            lk.ImportanceBound(1).update(torch.tensor([[bad]]))
    with pytest.raises(UserError, match="shape"):
        lk.ImportanceBound(3).update(torch.zeros(4, 2))
    with pytest.raises(UserError, match="0 weights"):
        lk.ImportanceBound(3).log_prob()


def test_low_effective_sample_size_is_said():
    _, _, draw = linear_gaussian(100)
    bound, _ = lk.importance_weighted(lambda k: draw(k, mean=-2.0, var=0.02), 50)
    result = bound.summary()
    assert result.details["share_low_ess"] > 0.5
    assert "effective sample size under 10 of 50" in result.details["warnings"][0]


def test_memory_of_the_bound_does_not_grow_with_k():
    bound = lk.ImportanceBound(10)
    size = sum(v.numel() for v in vars(bound).values() if isinstance(v, torch.Tensor))
    for _ in range(50):
        bound.update(torch.randn(7, 10))
    assert bound.k == 350
    assert sum(v.numel() for v in vars(bound).values() if isinstance(v, torch.Tensor)) == size


def test_bits_per_dim_of_uniform_pixels_is_eight_bits():
    n, dims = 5, 12
    # uniform density over [0, 256)^dims seen through y = x / 256: log p(y) = 0, log |dy/dx| = -dims log 256
    result = lk.bits_per_dim(np.zeros(n), dims, np.full(n, -dims * math.log(256)))
    assert result.value == pytest.approx(8, abs=1e-12)
    assert lk.bits_per_dim(np.zeros(n), dims, -dims * math.log(256)).value == pytest.approx(8, abs=1e-12)
    # a tensor that numpy cannot read as it is, like those on a GPU
    assert lk.bits_per_dim(torch.zeros(3, requires_grad=True), 1).n == 3
    assert result.se == pytest.approx(0, abs=1e-12)


def test_means_and_standard_errors():
    lp = np.array([-1.0, -2.0, -3.0, -6.0])
    result = lk.log_likelihood(lp, np.array([1.0, 0, 0, 0]))
    assert (result.value, result.n) == (-2.75, 4)
    assert result.se == pytest.approx(np.std([0, -2, -3, -6], ddof=1) / 2)
    assert lk.log_likelihood([-1.0]).se is None
    assert lk.nats_to_bits(math.log(2)) == pytest.approx(1)
    assert lk.bits_to_nats(lk.nats_to_bits(3.3)) == pytest.approx(3.3)


def test_elbo_is_minus_rate_and_distortion():
    result = lk.elbo([1.0, 3.0], [10.0, 20.0], log_abs_det=-1.0)
    assert (result.value, result.details["rate"], result.details["distortion"]) == (-18.0, 2.0, 15.0)


def test_perplexity_pools_tokens():
    lengths = np.array([1, 3, 10])
    assert lk.perplexity(-lengths * math.log(50), lengths).value == pytest.approx(50)
    mixed = lk.perplexity([-2.0, -9.0], [1, 9])
    assert mixed.value == pytest.approx(math.exp(1.1))
    rng = np.random.default_rng(0)
    t = rng.integers(5, 30, size=200)
    lp = -t * 2.0 + rng.normal(scale=3, size=200)
    draws = [lk.perplexity(lp[i], t[i]).value for i in (rng.integers(0, 200, 200) for _ in range(400))]
    assert lk.perplexity(lp, t).se == pytest.approx(np.std(draws), rel=0.15)
    with pytest.raises(UserError, match="positive"):
        lk.perplexity([-1.0], [0])
    with pytest.raises(UserError, match="overflows"):
        lk.perplexity([-1e4], [1])


def test_attainable_share():
    share = lk.attainable_share(MetricValue(-1.5, 0.1, 10), floor=-2.0, optimum=-1.0)
    assert (share.value, share.se) == (0.5, pytest.approx(0.1))
    with pytest.raises(UserError, match="not above"):
        lk.attainable_share(MetricValue(0.0), floor=1.0, optimum=1.0)


@pytest.mark.parametrize("bad", [[np.nan, 1.0], [-np.inf], [], [[1.0]], ["a"]])
def test_bad_log_probs_are_refused(bad):
    with pytest.raises(UserError, match="log_prob"):
        lk.log_likelihood(np.array(bad))


def test_unequal_lengths_and_dims_are_refused():
    with pytest.raises(UserError, match="rows"):
        lk.elbo([1.0], [1.0, 2.0])
    with pytest.raises(UserError, match="dims"):
        lk.bits_per_dim([1.0], 0)
