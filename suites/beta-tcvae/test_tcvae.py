"""beta-TCVAE: the decomposition against plain formulas and an enumerable aggregate posterior."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.models.vae import VAE
from latentbench.papers.beta_tcvae.tcvae import (
    BetaTCVAE,
    aggregate_log_densities,
    pairwise_log_density,
    stratified_log_weights,
)
from torch import Tensor
from torch import distributions as td

INFO = DataInfo((6,), "binary", 50)
X = (torch.rand(10, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()
SMALL = {"latent_dim": 3, "hidden": (7,), "decoder_hidden": (7,)}


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Posteriors:
    """q(z|n) for N training samples: an aggregate posterior that can be summed out."""

    def __init__(self, n: int, dims: int, spread: float, std: float) -> None:
        g = gen(2)
        self.mean = spread * torch.randn(n, dims, generator=g, dtype=torch.float64)
        self.log_std = math.log(std) + 0.2 * torch.randn(n, dims, generator=g, dtype=torch.float64)
        self.n, self.dims = n, dims

    def draw(self, index: Tensor, g: torch.Generator) -> Tensor:
        noise = torch.randn(len(index), self.dims, generator=g, dtype=torch.float64)
        return self.mean[index] + self.log_std[index].exp() * noise

    def pairs(self, z: Tensor, index: Tensor) -> Tensor:
        return pairwise_log_density(z, self.mean[index], self.log_std[index])

    def log_q(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Exact log q(z) and sum_d log q(z[d])."""
        each = td.Normal(self.mean, self.log_std.exp()).log_prob(z[:, None, :])
        return each.sum(-1).logsumexp(1) - math.log(self.n), (each.logsumexp(1) - math.log(self.n)).sum(-1)

    def decomposition(self, draws: int = 400) -> tuple[float, float, float]:
        """Mutual information, total correlation, dimension-wise KL, by many draws from every q(z|n)."""
        g, index = gen(3), torch.arange(self.n).repeat(draws)
        z = self.draw(index, g)
        joint, product = self.log_q(z)
        own = td.Normal(self.mean[index], self.log_std[index].exp()).log_prob(z).sum(-1)
        prior = td.Normal(0.0, 1.0).log_prob(z).sum(-1)
        return (own - joint).mean().item(), (joint - product).mean().item(), (product - prior).mean().item()

    def estimate(self, m: int, estimator: str, batches: int) -> tuple[float, float, float]:
        """The same from minibatches of m, averaged."""
        g, total = gen(4), torch.zeros(3, dtype=torch.float64)
        for _ in range(batches):
            index = torch.randperm(self.n, generator=g)[:m]
            z = self.draw(index, g)
            joint, product = aggregate_log_densities(self.pairs(z, index), self.n, estimator)
            own = td.Normal(self.mean[index], self.log_std[index].exp()).log_prob(z).sum(-1)
            prior = td.Normal(0.0, 1.0).log_prob(z).sum(-1)
            total += torch.stack([(own - joint).mean(), (joint - product).mean(), (product - prior).mean()])
        return tuple((total / batches).tolist())


def test_pairwise_log_density():
    q = Posteriors(5, 3, 1.0, 0.7)
    z = q.draw(torch.arange(5), gen())
    pairs = q.pairs(z, torch.arange(5))
    assert pairs.shape == (3, 5, 5)
    expected = td.Normal(q.mean[4, 1], q.log_std[4, 1].exp()).log_prob(z[2, 1])
    torch.testing.assert_close(pairs[1, 2, 4], expected)


def test_mws_on_the_whole_set_is_exact_up_to_log_n():
    """Each log density comes out too low by log N, so the terms by +log N, +(D - 1) log N and -D log N."""
    q = Posteriors(12, 3, 1.0, 0.5)
    index = torch.arange(12)
    z = q.draw(index, gen())
    joint, product = aggregate_log_densities(q.pairs(z, index), 12, "mws")
    exact_joint, exact_product = q.log_q(z)
    torch.testing.assert_close(joint + math.log(12), exact_joint)
    torch.testing.assert_close(product + 3 * math.log(12), exact_product)


def all_minibatches(q: Posteriors, z: Tensor, m: int, row: int, estimator: str) -> Tensor:
    """Mean over every ordered minibatch of m with sample 0 in place `row` of the estimate of q(z), z from q(z|0)."""
    values = []
    for others in itertools.permutations(range(1, q.n), m - 1):
        index = torch.tensor([*others[:row], 0, *others[row:]])
        zs = torch.zeros(m, q.dims, dtype=torch.float64)
        zs[row] = z
        values.append(aggregate_log_densities(q.pairs(zs, index), q.n, estimator)[0][row].exp())
    return torch.stack(values).mean()


@pytest.mark.parametrize("m", [2, 3, 4])
def test_mss_is_unbiased_for_the_aggregate_posterior(m: int):
    q = Posteriors(6, 2, 1.0, 0.6)
    z = q.draw(torch.tensor([0]), gen())
    for row in range(m):
        torch.testing.assert_close(all_minibatches(q, z[0], m, row, "mss"), q.log_q(z)[0][0].exp())


def test_mws_is_low_by_a_known_factor():
    """Its mean is 1/(N M) (q(z|own) + (M - 1) times the others' mean)."""
    q, m = Posteriors(6, 2, 1.0, 0.6), 3
    z = q.draw(torch.tensor([0]), gen())
    each = td.Normal(q.mean, q.log_std.exp()).log_prob(z).sum(-1).exp()
    expected = (each[0] + (m - 1) * each[1:].mean()) / (q.n * m)
    for row in range(m):
        torch.testing.assert_close(all_minibatches(q, z[0], m, row, "mws"), expected)
    assert 1 / q.n <= expected / each.mean() <= 1 / m


@pytest.mark.parametrize("m", [2, 5, 40])
def test_stratified_weights_sum_to_one(m: int):
    weights = stratified_log_weights(m, 40, torch.zeros(1)).exp()
    torch.testing.assert_close(weights.sum(1), torch.ones(m))
    torch.testing.assert_close(weights.diagonal(), torch.full((m,), 1 / 40))


def test_estimates_against_the_exact_decomposition():
    q, m = Posteriors(64, 3, 1.0, 0.5), 16
    exact, mss, mws = q.decomposition(), q.estimate(m, "mss", 600), q.estimate(m, "mws", 600)
    assert min(exact) > 0
    # Both keep the sum, which is the KL of the ELBO.
    assert sum(mss) == pytest.approx(sum(exact), abs=0.1)
    assert sum(mws) == pytest.approx(sum(mss), abs=1e-6)
    # The stratified estimate is near for this overlap; the weighted one is off as `aggregate_log_densities` says.
    assert mss[0] == pytest.approx(exact[0], abs=0.5)
    low, high = math.log(m), math.log(q.n)
    assert low - 0.05 < mws[0] - exact[0] < high + 0.05
    assert -q.dims * high - 0.05 < mws[2] - exact[2] < -q.dims * low + 0.05
    assert abs(mss[1] - exact[1]) < 0.2 * abs(mws[1] - exact[1])


def make(**params: object) -> BetaTCVAE:
    torch.manual_seed(0)
    return BetaTCVAE(INFO, **{**SMALL, **params})


@pytest.mark.parametrize("estimator", ["mws", "mss"])
def test_with_weights_of_one_it_is_the_elbo(estimator: str):
    model = make(beta=1.0, estimator=estimator)
    elbo = VAE(INFO, **SMALL, activation="relu", decoder_activation="tanh")
    elbo.load_state_dict(model.state_dict())
    ours, theirs = model.loss(Batch(X, 50), gen()), elbo.loss(Batch(X, 50), gen())
    for name in ("loss", "rate", "distortion"):
        torch.testing.assert_close(ours[name], theirs[name])


def test_loss_is_the_weighted_sum_by_plain_loops():
    """Eq. 4 with minibatch-weighted sampling, one pair at a time."""
    model = make(alpha=0.5, beta=4.0, gamma=2.0)
    out = model.loss(Batch(X, 50), gen(7))
    mean, log_var = model.encode_gaussian(X)
    q = td.Normal(mean, torch.exp(0.5 * log_var))
    z = q.mean + q.stddev * torch.randn(1, 10, 3, generator=gen(7))[0]
    information = correlation = dimension_wise = torch.zeros(())
    for i in range(10):
        density = torch.stack([td.Normal(q.mean[j], q.stddev[j]).log_prob(z[i]).exp() for j in range(10)])
        log_joint = (density.prod(1).sum() / (50 * 10)).log()
        log_product = (density.sum(0) / (50 * 10)).log().sum()
        information = information + (density[i].log().sum() - log_joint) / 10
        correlation = correlation + (log_joint - log_product) / 10
        dimension_wise = dimension_wise + (log_product - td.Normal(0.0, 1.0).log_prob(z[i]).sum()) / 10
    distortion = -td.Bernoulli(logits=model.decoder(z)).log_prob(X).sum(1).mean()
    torch.testing.assert_close(out["mutual_information"], information, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(out["total_correlation"], correlation, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(out["dimension_wise_kl"], dimension_wise, rtol=1e-4, atol=1e-4)
    total = distortion + 0.5 * information + 4.0 * correlation + 2.0 * dimension_wise
    torch.testing.assert_close(out["loss"], total, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [1, 10])
def test_minibatches_it_cannot_use_are_refused(n: int):
    with pytest.raises(UserError, match=f"minibatch of {n}"):
        make().loss(Batch(X[:n], 9), gen())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"estimator": "mwss"}, "did you mean 'mss' or 'mws'|did you mean 'mws'"),
        ({"alpha": -1.0}, "alpha"),
        ({"gamma": "x"}, "gamma"),
        ({"latent_dim": 0}, "latent_dim"),
        ({"likelihood": "gaussian"}, "support 'binary'"),
    ],
)
def test_refusals(params: dict, message: str):
    with pytest.raises(UserError, match=message):
        make(**params)
