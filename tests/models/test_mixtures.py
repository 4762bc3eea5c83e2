"""Mixtures against scikit-learn, their definitions, and data they can recover."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.models.baselines import Factorised
from latentbench.models.mixtures import BernoulliMixture, GaussianMixture, seed_from
from sklearn.mixture import GaussianMixture as Reference

G = torch.Generator().manual_seed(0)
CENTRES = torch.tensor([[6.0, 0.0, 0.0], [0.0, 6.0, 0.0], [0.0, 0.0, 6.0]])
X = CENTRES[torch.randint(3, (300,), generator=G)] + torch.randn(300, 3, generator=G) * torch.tensor([0.5, 1.0, 1.5])
INFO = DataInfo((3,), "real", 300)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("covariance", ["full", "diag", "tied"])
class TestGaussianMixture:
    def test_density_is_scikit_learns(self, covariance: str):
        model = GaussianMixture(INFO, components=3, covariance=covariance)
        model.fit(X, gen())
        reference = Reference(3, covariance_type=covariance, max_iter=200, random_state=seed_from(gen()))
        reference.fit(X.double().numpy())
        np.testing.assert_allclose(model.log_prob(X), reference.score_samples(X.double().numpy()), rtol=1e-5)

    def test_samples_follow_the_density(self, covariance: str):
        model = GaussianMixture(INFO, components=3, covariance=covariance)
        model.fit(X, gen())
        draws = model.sample(30000, gen())
        torch.testing.assert_close(draws.mean(0), X.mean(0), rtol=0, atol=0.1)
        torch.testing.assert_close(torch.cov(draws.T), torch.cov(X.T), rtol=0.05, atol=0.3)
        # The entropy that samples show is that of the training data under the maximum-likelihood fit.
        assert model.log_prob(draws).mean().item() == pytest.approx(model.log_prob(X).mean().item(), abs=0.1)


@pytest.mark.parametrize("covariance", ["full", "tied"])
def test_samples_of_one_component_have_its_covariance(covariance: str):
    """Coordinates that hang together: the transposed factor of a precision would give another covariance."""
    x = torch.randn(500, 3, generator=gen(1)) @ torch.tensor([[1.0, 2.0, -1.0], [0.0, 0.5, 1.0], [0.0, 0.0, 0.3]])
    model = GaussianMixture(INFO, components=1, covariance=covariance)
    model.fit(x, gen())
    found, expected = (torch.cov(rows.T, correction=0) for rows in (model.sample(40_000, gen()), x))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.03 * float(expected.max()))


class TestBernoulliMixture:
    def setup_method(self):
        g = gen(3)
        p = torch.tensor([[0.9] * 4 + [0.1] * 4, [0.1] * 4 + [0.9] * 4, [0.1, 0.9] * 4])
        self.p, self.which = p, torch.randint(3, (600,), generator=g)
        self.x = torch.bernoulli(p[self.which], generator=g)
        self.info = DataInfo((8,), "binary", 600)

    def test_is_a_probability(self):
        model = BernoulliMixture(self.info, components=4)
        model.fit(self.x, gen())
        every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=8)))
        p = model.log_prob(every).exp()
        assert p.sum().item() == pytest.approx(1.0, abs=1e-5)
        draws = model.sample(20000, gen())
        torch.testing.assert_close(draws.mean(0), (p[:, None] * every).sum(0), rtol=0, atol=0.02)

    def test_recovers_the_components_and_beats_the_factorised_model(self):
        model = BernoulliMixture(self.info, components=3)
        model.fit(self.x, gen())
        found = torch.sigmoid(model.logits).float()
        distance = torch.cdist(self.p, found, p=float("inf"))
        assert distance.min(1).values.max() < 0.1
        baseline = Factorised(self.info)
        baseline.fit(self.x, gen())
        assert model.log_prob(self.x).mean() > baseline.log_prob(self.x).mean() + 0.5

    def test_em_never_goes_down(self):
        values = []
        for iterations in (1, 2, 3, 5, 10, 40):
            model = BernoulliMixture(self.info, components=5, iterations=iterations, tolerance=0.0, smoothing=1e-6)
            model.fit(self.x, gen())
            values.append(model.log_prob(self.x).mean().item())
        assert all(b > a - 1e-5 for a, b in itertools.pairwise(values))
        assert values[-1] > values[0]

    def test_one_component_is_the_factorised_model(self):
        model, baseline = BernoulliMixture(self.info, components=1), Factorised(self.info)
        model.fit(self.x, gen())
        baseline.fit(self.x, gen())
        torch.testing.assert_close(model.log_prob(self.x), baseline.log_prob(self.x), rtol=1e-5, atol=1e-5)

    def test_duplicated_and_constant_data(self):
        model = BernoulliMixture(self.info, components=3)
        model.fit(torch.ones(10, 8), gen())
        assert model.log_prob(torch.zeros(1, 8)).isfinite().all()


@pytest.mark.parametrize(
    ("cls", "support", "params", "message"),
    [
        (GaussianMixture, "real", {"covariance": "spherical"}, "known: diag, full, tied"),
        (GaussianMixture, "real", {"components": 0}, "components is 0"),
        (GaussianMixture, "binary", {}, "support 'binary'"),
        (BernoulliMixture, "real", {}, "support 'real'"),
        (BernoulliMixture, "binary", {"smoothing": 0.0}, "above 0"),
    ],
)
def test_refusals(cls: type, support: str, params: dict, message: str):
    with pytest.raises(UserError, match=message):
        cls(DataInfo((3,), support, 9), **params)


def test_fewer_samples_than_components():
    with pytest.raises(UserError, match="10 or more"):
        GaussianMixture(INFO).fit(X[:5], gen())
