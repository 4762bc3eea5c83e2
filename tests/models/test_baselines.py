"""Closed-form densities against scikit-learn, scipy and their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.models.baselines import PPCA, Factorised, Gaussian
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA

G = torch.Generator().manual_seed(0)
REAL = torch.randn(200, 4, generator=G) @ torch.randn(4, 4, generator=G) + torch.tensor([1.0, -2.0, 0.0, 5.0])
INFO = DataInfo((4,), "real", 200)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fit(model: torch.nn.Module, x: torch.Tensor = REAL) -> torch.nn.Module:
    model.fit(x, gen())
    return model


class TestFactorised:
    def test_binary_with_laplace_smoothing(self):
        x = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
        model = fit(Factorised(DataInfo((3,), "binary", 3)), x)
        p = torch.tensor([4 / 5, 1 / 5, 2 / 5])
        expected = p[0].log() + (1 - p[1]).log() + p[2].log()
        assert model.log_prob(x[:1]).item() == pytest.approx(expected.item(), rel=1e-6)
        assert model.log_prob(1 - x).isfinite().all()

    def test_discrete(self):
        x = torch.tensor([[0.0, 2.0], [1.0, 2.0], [1.0, 1.0]])
        model = fit(Factorised(DataInfo((2,), "discrete", 3, levels=3), smoothing=0.5), x)
        expected = math.log(2.5 / 4.5) + math.log(2.5 / 4.5)
        assert model.log_prob(torch.tensor([[1.0, 2.0]])).item() == pytest.approx(expected, rel=1e-6)
        every = torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0))
        assert model.log_prob(every).exp().sum().item() == pytest.approx(1.0, rel=1e-6)
        draws = model.sample(20000, gen())
        frequency = (draws == torch.tensor([1.0, 2.0])).all(1).float().mean().item()
        assert frequency == pytest.approx(math.exp(expected), abs=0.01)

    def test_real(self):
        model = fit(Factorised(INFO))
        expected = torch.distributions.Normal(REAL.mean(0), REAL.std(0, correction=0)).log_prob(REAL).sum(1)
        torch.testing.assert_close(model.log_prob(REAL), expected, rtol=1e-5, atol=1e-4)

    def test_a_constant_coordinate_keeps_a_variance(self):
        model = fit(Factorised(INFO, min_variance=0.25), torch.zeros(5, 4))
        expected = -0.5 * 4 * math.log(2 * math.pi * 0.25)
        assert model.log_prob(torch.zeros(1, 4)).item() == pytest.approx(expected)


class TestGaussian:
    def test_maximum_likelihood(self):
        model = fit(Gaussian(INFO, jitter=0.0))
        reference = multivariate_normal(REAL.double().mean(0).numpy(), np.cov(REAL.double().T, bias=True))
        np.testing.assert_allclose(model.log_prob(REAL), reference.logpdf(REAL.double()), rtol=1e-5)

    @pytest.mark.parametrize("shrinkage", [0.3, "ledoit_wolf"])
    def test_shrinkage(self, shrinkage: float | str):
        model = fit(Gaussian(INFO, shrinkage=shrinkage, jitter=0.0))
        x = REAL.double().numpy()
        s = np.cov(x.T, bias=True)
        target = (1 - 0.3) * s + 0.3 * np.trace(s) / 4 * np.eye(4) if shrinkage == 0.3 else ledoit_wolf(x)[0]
        np.testing.assert_allclose((model.root @ model.root.T).numpy(), target, rtol=1e-6)

    def test_jitter_is_relative_to_the_mean_variance(self):
        x = 100.0 * REAL.double()
        model = fit(Gaussian(INFO, jitter=0.1), x)
        s = torch.cov(x.T, correction=0)
        torch.testing.assert_close(model.root @ model.root.T, s + 0.1 * s.trace() / 4 * torch.eye(4, dtype=s.dtype))

    def test_samples_have_the_covariance(self):
        draws = fit(Gaussian(INFO)).sample(50000, gen())
        torch.testing.assert_close(torch.cov(draws.T), torch.cov(REAL.T, correction=0), rtol=0.05, atol=0.1)
        torch.testing.assert_close(draws.mean(0), REAL.mean(0), rtol=0.05, atol=0.05)

    def test_more_coordinates_than_samples(self):
        info = DataInfo((30,), "real", 10)
        x = torch.randn(10, 30, generator=gen())
        assert fit(Gaussian(info), x).log_prob(x).isfinite().all()
        with pytest.raises(UserError, match="singular"):
            fit(Gaussian(info, jitter=0.0), torch.cat([x, x[:, :0]], 1) * torch.tensor([0.0] + [1.0] * 29))

    def test_one_coordinate(self):
        x = torch.tensor([[0.0], [2.0]])
        model = fit(Gaussian(DataInfo((1,), "real", 2), jitter=0.0), x)
        assert model.log_prob(torch.tensor([[1.0]])).item() == pytest.approx(-0.5 * math.log(2 * math.pi))


class TestPPCA:
    def test_against_scikit_learn(self):
        """scikit-learn divides the covariance by n - 1: a factor n / (n - 1) is the only difference."""
        n = len(REAL)
        pca = PCA(2).fit(REAL.double().numpy())
        model = fit(PPCA(INFO, latent_dim=2))
        covariance = pca.get_covariance() * (n - 1) / n
        reference = multivariate_normal(pca.mean_, covariance)
        np.testing.assert_allclose(model.log_prob(REAL), reference.logpdf(REAL.double().numpy()), rtol=1e-5)
        np.testing.assert_allclose(model.log_prob(REAL).mean(), pca.score(REAL.double().numpy()), atol=2e-2)

    def test_score_samples_exactly_where_the_factor_is_taken_out(self):
        n = len(REAL)
        pca = PCA(3).fit(REAL.double().numpy())
        model = PPCA(INFO, latent_dim=3)
        stretched = REAL.double().mean(0) + (REAL.double() - REAL.double().mean(0)) * math.sqrt(n / (n - 1))
        fit(model, stretched)
        np.testing.assert_allclose(model.log_prob(REAL), pca.score_samples(REAL.double().numpy()), rtol=1e-5)

    def test_posterior_is_exact(self):
        """log p(x) = log p(x | z) + log p(z) - log p(z | x) at any z."""
        model = fit(PPCA(INFO, latent_dim=2))
        mean, log_var = model.encode_gaussian(REAL)
        z = model.encode_sample(REAL, gen())
        normal = torch.distributions.Normal
        total = normal(model.decode(z), model.noise.sqrt().float()).log_prob(REAL).sum(1)
        total += normal(0.0, 1.0).log_prob(z).sum(1) - normal(mean, torch.exp(0.5 * log_var)).log_prob(z).sum(1)
        torch.testing.assert_close(total, model.log_prob(REAL), rtol=1e-4, atol=1e-3)

    def test_beats_every_perturbation(self):
        """Maximum likelihood: no scaled noise or direction does better on the training data."""
        model = fit(PPCA(INFO, latent_dim=2))
        best = model.log_prob(REAL).mean()
        for factor in (0.9, 1.1):
            for name in ("noise", "variances"):
                other = fit(PPCA(INFO, latent_dim=2))
                getattr(other, name).mul_(factor)
                assert other.log_prob(REAL).mean() < best

    def test_samples(self):
        model = fit(PPCA(INFO, latent_dim=3))
        draws = model.sample(50000, gen())
        expected = model.log_prob(REAL).mean().item()
        assert model.log_prob(draws).mean().item() == pytest.approx(expected, abs=0.1)

    def test_noise_has_a_floor(self):
        flat = torch.zeros(10, 4)
        flat[:, 0] = torch.arange(10.0)
        assert fit(PPCA(INFO, latent_dim=1, min_variance=1e-4), flat).log_prob(flat).isfinite().all()


@pytest.mark.parametrize(
    ("cls", "info", "params", "message"),
    [
        (Gaussian, DataInfo((4,), "binary", 9), {}, "support 'binary'"),
        (Gaussian, INFO, {"shrinkage": 1.5}, "at most 1"),
        (Gaussian, INFO, {"shrinkage": "oas"}, "ledoit_wolf"),
        (Gaussian, INFO, {"jitter": -1.0}, "jitter"),
        (PPCA, INFO, {"latent_dim": 4}, "fewer components"),
        (PPCA, INFO, {"latent_dim": 0}, "latent_dim is 0"),
        (PPCA, DataInfo((4,), "discrete", 9, levels=3), {"latent_dim": 2}, "support 'discrete'"),
        (Factorised, INFO, {"min_variance": 0.0}, "above 0"),
        (Factorised, DataInfo((4,), "discrete", 9), {}, "levels"),
    ],
)
def test_refusals(cls: type, info: DataInfo, params: dict, message: str):
    with pytest.raises(UserError, match=message):
        cls(info, **params)


def test_use_before_fit_and_wrong_shapes_are_refused():
    with pytest.raises(UserError, match="has not been fitted"):
        Gaussian(INFO).log_prob(REAL)
    with pytest.raises(UserError, match="has not been fitted"):
        Factorised(INFO).sample(3, gen())
    with pytest.raises(UserError, match=r"shape \(5,\)"):
        Gaussian(INFO).fit(torch.zeros(9, 5), gen())
    with pytest.raises(UserError, match="2 or more"):
        Gaussian(INFO).fit(REAL[:1], gen())
