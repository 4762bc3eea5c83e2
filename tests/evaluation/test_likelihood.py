"""Likelihoods against closed forms: bits of the raw data, whatever the preprocessing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from latentbench.core.capabilities import Elbo
from latentbench.core.errors import Diverged, UserError
from latentbench.core.seeds import generator
from latentbench.data.generated.gaussians import LinearGaussian
from latentbench.evaluation import likelihood
from scipy.stats import norm

from tests.evaluation.views import pixels, view_of


class Normal:
    """Independent N(mean, scale^2) in the space of the preprocessed data."""

    def __init__(self, mean: float = 0.0, scale: float = 1.0) -> None:
        self.mean, self.scale = mean, scale

    def log_prob(self, x):
        return torch.distributions.Normal(self.mean, self.scale).log_prob(x.double()).flatten(1).sum(1)


def bits(model, view) -> float:
    return likelihood.bits_per_dim(model, view, {}, generator(0, "evaluation")).value


def test_standardised_real_data():
    rng = np.random.default_rng(0)
    train, test = (rng.normal([3.0, -1.0], [2.0, 0.1], (n, 2)).astype(np.float32) for n in (500, 200))
    view = view_of(test, ["standardise"], train=train)
    expected = norm.logpdf(test, train.mean(0), train.std(0)).sum(1)
    nll = likelihood.nll(Normal(), view, {}, generator(0, "evaluation"))
    assert nll.value == pytest.approx(-expected.mean(), rel=1e-4)
    assert nll.se == pytest.approx(expected.std(ddof=1) / math.sqrt(200), rel=1e-4)
    assert nll.n == 200
    assert bits(Normal(), view) == pytest.approx(-expected.mean() / (2 * math.log(2)), rel=1e-4)


def test_dequantised_pixels_are_bits_of_256_levels():
    """A uniform density on [0, 256) needs 8 bits a pixel, on [0, 1) after scaling likewise, whatever the shape."""

    class Uniform:
        def __init__(self, width):
            self.width = width

        def log_prob(self, x):
            assert ((x >= 0) & (x < self.width + 1e-6)).all()
            return torch.full((len(x),), -x[0].numel() * math.log(self.width))

    raw = pixels(40)
    assert bits(Uniform(256.0), view_of(raw, ["dequantise"], levels=256)) == pytest.approx(8.0)
    assert bits(Uniform(1.0), view_of(raw, ["dequantise", "to_unit", "flatten"], levels=256)) == pytest.approx(8.0)
    digits = raw % 17
    assert bits(Uniform(1.0), view_of(digits, ["dequantise", "to_unit"], levels=17)) == pytest.approx(math.log2(17))


def test_dequantise_then_standardise():
    raw = pixels(300)
    view = view_of(raw, ["dequantise", "flatten", "standardise"], levels=256)
    # the noise is not ours to know, but y determines it: x = y * scale + shift with integer part `raw`
    y, flat = view.x.double().numpy(), raw.reshape(300, -1).astype(float)
    scale, shift = np.empty(6), np.empty(6)
    for d in range(6):
        scale[d], shift[d] = np.polyfit(y[:, d], flat[:, d] + 0.5, 1)
    expected = norm.logpdf(y) - np.log(scale)
    assert bits(Normal(), view) == pytest.approx(-expected.mean() / math.log(2), rel=2e-3)
    assert np.all(np.abs(y * scale + shift - flat - 0.5) < 0.75), "the noise is less than a level"


def test_the_logits_jacobian_by_hand():
    view = view_of(pixels(200), ["dequantise", {"logit": 0.05}], levels=256)
    y = view.x.double().flatten(1).numpy()
    p = 1 / (1 + np.exp(-y))
    expected = (norm.logpdf(y, 0.3, 1.7) + np.log(0.95 / 256) - np.log(p * (1 - p))).sum(1)
    assert bits(Normal(0.3, 1.7), view) == pytest.approx(-expected.mean() / (6 * math.log(2)), rel=1e-5)


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_density_through_the_logit_still_integrates_to_its_mass(symmetric):
    """The mean of p(x) over x uniform on [0, 256), times 256, is the mass that N(0, 2) has where the logit leads."""
    raw = np.arange(256, dtype=np.uint8).repeat(200)[:, None, None]
    view = view_of(raw, ["dequantise", {"logit": {"alpha": 0.05, "symmetric": symmetric}}], levels=256)
    density = torch.exp(likelihood.log_prob(Normal(0.0, 2.0), view) + view.log_abs_det)
    top = math.log(0.95 / 0.05) if symmetric else math.inf
    mass = norm.cdf(top, 0, 2) - norm.cdf(math.log(0.05 / 0.95), 0, 2)
    assert 256 * float(density.mean()) == pytest.approx(mass, rel=0.01)


def test_a_bijection_changes_no_bits():
    """The same density, said of pixels, of [0, 1) and of standardised values, costs the same bits."""
    raw = pixels(200)
    found = []
    for steps in (["dequantise"], ["dequantise", "to_unit"], ["dequantise", {"to_range": [-1.0, 1.0]}]):
        view = view_of(raw, steps, levels=256)
        scale = math.exp(view.pipeline.log_volume / view.dims)
        shift = -1.0 if "to_range" in str(steps) else 0.0
        found.append(bits(Normal(128 * scale + shift, 80 * scale), view))
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0] == pytest.approx(found[2], rel=1e-5)


class LinearVAE:
    """The linear-Gaussian model with a posterior of our choice: exact, or blown up by `wider`."""

    def __init__(self, truth: LinearGaussian, wider: float = 1.0) -> None:
        self.truth, self.wider = truth, wider
        self.weight = torch.as_tensor(truth.weight)
        self.mean = torch.as_tensor(truth.mean)

    def posterior(self, x):
        means, covariance = self.truth.posterior(x.double().numpy())
        return torch.as_tensor(means), torch.linalg.cholesky(torch.as_tensor(covariance) * self.wider**2)

    def _log_joint(self, x, z):
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
        return prior + torch.distributions.Normal(z @ self.weight.T + self.mean, self.truth.noise).log_prob(x).sum(-1)

    def log_importance_weights(self, x, posterior, k, generator):
        means, factor = posterior
        z = means + torch.randn((k, *means.shape), generator=generator, dtype=torch.float64) @ factor.T
        q = torch.distributions.MultivariateNormal(means, scale_tril=factor)
        return self._log_joint(x.double(), z) - q.log_prob(z)

    def elbo(self, x, generator):
        means, factor = self.posterior(x)
        z = means + torch.randn(means.shape, generator=generator, dtype=torch.float64) @ factor.T
        q = torch.distributions.MultivariateNormal(means, scale_tril=factor).log_prob(z)
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
        return Elbo(rate=q - prior, distortion=prior - self._log_joint(x.double(), z))


@pytest.fixture(scope="module")
def linear():
    truth = LinearGaussian(dims=5, latent=2, noise=0.5, structure_seed=1)
    rng = np.random.default_rng(0)
    test, train = (truth.sample_with_latents(n, rng)[0].astype(np.float32) for n in (230, 500))
    return truth, view_of(test, train=train, oracle=truth)


def test_the_importance_bound_is_exact_under_the_exact_posterior(linear):
    truth, view = linear
    exact = -truth.log_prob(view.raw).mean()
    for k in (1, 7, 120):
        found = likelihood.nll_iw(LinearVAE(truth), view, {"k": k}, generator(0, "evaluation"))
        assert found.value == pytest.approx(exact, rel=1e-6)
        assert found.details["k"] == k
    found = likelihood.elbo(LinearVAE(truth), view, {"samples": 3}, generator(0, "evaluation"))
    assert found.value == pytest.approx(-exact, rel=1e-6)
    assert -found.value == pytest.approx(found.details["rate"] + found.details["distortion"])


def test_under_another_posterior_the_bound_closes_in_from_above(linear):
    truth, view = linear
    exact = -truth.log_prob(view.raw).mean()
    gaps = [
        likelihood.nll_iw(LinearVAE(truth, 3.0), view, {"k": k}, generator(0, "evaluation")).value - exact
        for k in (1, 5, 50, 2000)
    ]
    assert gaps[0] > gaps[1] > gaps[2] > 0.02
    assert abs(gaps[3]) < 0.02
    elbo = likelihood.elbo(LinearVAE(truth, 1.8), view, {"samples": 50}, generator(0, "evaluation")).value
    # E log q/p for q = N(m, 1.8^2 S) and p = N(m, S): KL = D (1.8^2 - 1 - ln 1.8^2) / 2
    assert -elbo - exact == pytest.approx(1.8**2 - 1 - math.log(1.8**2), abs=0.1)


def test_bits_of_the_bound_are_its_nats(linear):
    truth, view = linear
    nats = likelihood.nll_iw(LinearVAE(truth), view, {"k": 20}, generator(0, "evaluation"))
    found = likelihood.bits_per_dim_iw(LinearVAE(truth), view, {"k": 20}, generator(0, "evaluation"))
    assert found.value == pytest.approx(nats.value / (5 * math.log(2)))


def test_the_bound_carries_the_jacobian(linear):
    truth, view = linear
    shifted = view_of(view.raw * 4 + 3, [{"standardise": "all"}], train=view.train.raw * 4 + 3)

    class Rescaled(LinearVAE):
        """The same model said of standardised values."""

        def _original(self, y):
            return (y.double() * self.scale + self.shift - 3) / 4

        def posterior(self, x):
            return super().posterior(self._original(x))

        def log_importance_weights(self, x, posterior, k, generator):
            return super().log_importance_weights(self._original(x), posterior, k, generator) + 5 * math.log(
                self.scale / 4
            )

    model = Rescaled(truth)
    train = view.train.raw.astype(float) * 4 + 3
    model.scale, model.shift = train.std(), train.mean()
    found = likelihood.nll_iw(model, shifted, {"k": 3}, generator(0, "evaluation")).value
    assert found == pytest.approx(-truth.log_prob(view.raw).mean() + 5 * math.log(4), rel=1e-5)


def test_the_share_is_one_for_the_truth_and_none_for_the_floor(linear):
    truth, view = linear
    settings = {"k": 200}

    class Floor:
        def log_prob(self, x):
            train = torch.as_tensor(view.train.raw).double()
            return torch.distributions.Normal(train.mean(0), train.std(0)).log_prob(x.double()).sum(1)

    class Truth:
        def log_prob(self, x):
            return torch.as_tensor(truth.log_prob(x.numpy()))

    for model, share in ((Truth(), 1.0), (Floor(), 0.0), (LinearVAE(truth), 1.0)):
        found = likelihood.likelihood_share(model, view, settings, generator(0, "evaluation"))
        assert found.value == pytest.approx(share, abs=1e-4)
    with pytest.raises(UserError, match="density is known"):
        likelihood.likelihood_share(Truth(), view_of(view.raw), settings, generator(0, "evaluation"))


def test_the_test_split_alone_is_scored(linear):
    view = linear[1]

    class Remembers(Normal):
        seen = 0

        def log_prob(self, x):
            self.seen += len(x)
            return super().log_prob(x)

    model = Remembers()
    found = likelihood.nll(model, view, {}, generator(0, "evaluation"))
    assert model.seen == found.n == len(view) == 230


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_likelihood_that_is_no_number_is_an_outcome_not_a_value(linear, bad):
    class Broken:
        def log_prob(self, x):
            return torch.where(torch.arange(len(x)) == 3, bad, 0.0)

    with pytest.raises(Diverged):
        likelihood.nll(Broken(), linear[1], {}, generator(0, "evaluation"))


def test_the_same_generator_gives_the_same_bits(linear):
    truth, view = linear
    first, again, other = (
        likelihood.nll_iw(LinearVAE(truth, 1.5), view, {"k": 9}, generator(s, "evaluation")).value for s in (0, 0, 1)
    )
    assert first == again != other
