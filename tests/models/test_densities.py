"""Log-densities against torch.distributions, and where they must hold beyond it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from latentbench.models import densities
from torch import distributions as td

seeds = st.integers(0, 2**31 - 1)
examples = settings(max_examples=25, deadline=None)


def normals(seed: int, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [2.0 * torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes]


@examples
@given(seeds)
def test_normal(seed: int):
    x, mean, log_std = normals(seed, (4, 3), (2, 4, 3), (3,))
    torch.testing.assert_close(
        densities.normal(x, mean, log_std), td.Normal(mean, log_std.exp()).log_prob(x).sum(-1), rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(densities.standard_normal(x), td.Normal(0.0, 1.0).log_prob(x).sum(-1))


def test_normal_draw():
    mean, log_std = torch.tensor([[2.0, -3.0, 0.5]]).expand(20000, 3), torch.tensor([0.4, -1.0, 0.0]).expand(20000, 3)
    drawn = densities.normal_draw(mean, log_std, torch.Generator().manual_seed(1))
    torch.testing.assert_close(drawn.mean(0), mean[0], atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.std(0), log_std[0].exp(), atol=0.05, rtol=0)
    assert torch.equal(drawn, densities.normal_draw(mean, log_std, torch.Generator().manual_seed(1)))


@examples
@given(seeds)
def test_normal_kl(seed: int):
    mean, log_std = normals(seed, (5, 3), (5, 3))
    expected = td.kl_divergence(td.Normal(mean, log_std.exp()), td.Normal(torch.zeros(3).double(), 1.0)).sum(-1)
    torch.testing.assert_close(densities.normal_kl(mean, log_std), expected)


@examples
@given(seeds)
def test_bernoulli(seed: int):
    logits, x = normals(seed, (3, 4, 6), (4, 6))
    b = (x > 0).double()
    expected = td.Bernoulli(logits=logits).log_prob(b).sum(-1)
    torch.testing.assert_close(densities.bernoulli(b, logits), expected)
    torch.testing.assert_close(densities.bernoulli_cross_entropy(b, logits), expected)
    grey = torch.sigmoid(x)
    expected = -torch.nn.functional.binary_cross_entropy_with_logits(logits, grey.expand(3, 4, 6), reduction="none")
    torch.testing.assert_close(densities.bernoulli_cross_entropy(grey, logits), expected.sum(-1))


def test_bernoulli_is_exact_for_confident_logits():
    x = torch.tensor([[1.0, 0.0, 1.0]])
    assert densities.bernoulli(x, torch.tensor([[60.0, -60.0, -300.0]])).item() == -300.0


@examples
@given(seeds, st.integers(2, 12))
def test_discretised_logistic_is_a_probability(seed: int, levels: int):
    mean, log_scale = normals(seed, (5,), (5,))
    x = torch.arange(levels).double()[:, None, None]
    log_p = densities.discretised_logistic(x, mean[:, None], log_scale[:, None], levels)
    torch.testing.assert_close(log_p.exp().sum(0), torch.ones(5).double())


def test_discretised_logistic_is_a_difference_of_distribution_functions():
    levels, (mean, log_scale) = 256, normals(0, (9,), (9,))
    x = torch.tensor([0, 1, 17, 128, 129, 200, 253, 254, 255]).double()
    low, high = (2 * x - 1) / 255 - 1, (2 * x + 1) / 255 - 1
    cdf = lambda v: torch.sigmoid((v - mean) / log_scale.exp())  # noqa: E731
    p = torch.where(x == 255, 1.0, cdf(high)) - torch.where(x == 0, 0.0, cdf(low))
    each = densities.discretised_logistic(x[:, None], mean[:, None], log_scale[:, None], levels)
    torch.testing.assert_close(each.exp(), p)


def test_discretised_logistic_survives_a_point_mass_far_away():
    values = [torch.tensor([[v]]) for v in (255.0, -1.0, -7.0)]
    log_p = densities.discretised_logistic(*values, 256)
    assert log_p.isfinite().all()
    assert log_p.item() < -1000.0
    # Half way up the scale, a 256-level bin at its own centre with a tiny scale has all the mass.
    centre = torch.tensor([[2.0 * 100 / 255 - 1.0]])
    assert densities.discretised_logistic(torch.tensor([[100.0]]), centre, torch.tensor([[-9.0]]), 256).item() > -1e-6


@examples
@given(seeds)
def test_categorical(seed: int):
    (logits,) = normals(seed, (2, 4, 5, 3))
    x = torch.randint(5, (4, 3), generator=torch.Generator().manual_seed(seed))
    expected = td.Categorical(logits=logits.transpose(-1, -2)).log_prob(x).sum(-1)
    torch.testing.assert_close(densities.categorical(x.double(), logits), expected)


def test_log_mean_exp():
    values = torch.tensor([[1000.0, -1000.0], [1001.0, -1001.0]])
    expected = [1000.0 + math.log((1 + math.e) / 2), -1000.0 + math.log((1 + 1 / math.e) / 2)]
    torch.testing.assert_close(densities.log_mean_exp(values), torch.tensor(expected))


@pytest.mark.parametrize("spread", [0.1, 5.0, 60.0])
def test_importance_weighted_bound(spread: float):
    """Its value is the log-mean-exp; its gradient the normalised weights (Burda et al. section 3), none denormal."""
    (w,) = normals(3, (50, 20))
    w = (spread * w).float().requires_grad_()
    bound = densities.importance_weighted_bound(w)
    torch.testing.assert_close(bound, densities.log_mean_exp(w))
    bound.sum().backward()
    torch.testing.assert_close(w.grad, torch.softmax(w.detach(), 0), rtol=1e-4, atol=1e-10)
    positive = w.grad[w.grad > 0]
    assert positive.min() > 1e-14
