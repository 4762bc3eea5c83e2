"""Conversions, the bound's weights and scores against plain recomputation; exact predictions against the entropy."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.data.generated.oracles import PlanarMixture
from latentbench.papers.understanding_diffusion_unified.measure import noised_score, score_error
from latentbench.papers.understanding_diffusion_unified.parameterisations import TARGETS, TargetedDiffusion, velocity

PLANE = DataInfo((2,), "real", 40)
LAW = PlanarMixture(
    np.array([0.6, 0.3, 0.1]),
    np.array([[2.0, 0.5], [-1.5, 1.0], [0.0, -2.0]]),
    np.array([[[0.5, 0.2], [0.2, 0.3]], [[0.2, 0.0], [0.0, 0.9]], [[0.4, -0.1], [-0.1, 0.2]]]),
)
SMALL = {"gamma": [-7.0, 6.0], "network": {"mlp": {"width": 8}}}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    which = rng.choice(3, n, p=LAW.weights)
    roots = np.linalg.cholesky(LAW.covariances)
    return torch.tensor(LAW.means[which] + np.einsum("nij,nj->ni", roots[which], rng.standard_normal((n, 2)))).float()


def parts(model, z, s):
    """alpha, sigma (N, 1) and the exact score (N, 2) of z at times s of the linear schedule."""
    gamma = (model.low + (model.high - model.low) * s.double())[:, None]
    alpha, sigma = (1 / (1 + gamma.exp())).sqrt(), (1 / (1 + (-gamma).exp())).sqrt()
    score = noised_score(LAW, z.double().numpy(), alpha[:, 0].numpy(), sigma[:, 0].numpy())
    return alpha, sigma, torch.tensor(score)


class Exact(torch.nn.Module):
    """Gives what a trained network tends to: the mean of the target given z."""

    def __init__(self, model, factor=1.0):
        super().__init__()
        self.model, self.factor = [model], factor

    def forward(self, z, s, context=None):
        alpha, sigma, score = parts(self.model[0], z, s)
        score = self.factor * score
        means = {"data": (z.double() + sigma**2 * score) / alpha, "noise": -sigma * score, "score": score}
        return means[self.model[0].target][:, None].to(z.dtype)


def exact(target, factor=1.0, **more):
    model = TargetedDiffusion(PLANE, target=target, **SMALL, **more)
    model.network = Exact(model, factor)
    return model


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_gives_the_velocity_of_the_same_sample_and_noise(target):
    x, eps = (torch.randn(5, 3, 2, generator=generator(i), dtype=torch.float64) for i in (1, 2))
    angle = torch.tensor([0.02, 0.4, 0.8, 1.2, 1.55], dtype=torch.float64)[:, None, None]
    alpha, sigma = angle.cos(), angle.sin()
    given = {"data": x, "noise": eps, "score": -eps / sigma}[target]
    found = velocity(target, given, alpha * x + sigma * eps, alpha, sigma)
    torch.testing.assert_close(found, alpha * eps - sigma * x)


def test_the_score_of_a_noised_mixture_is_the_slope_of_its_log_density():
    z = torch.randn(6, 2, generator=generator(3), dtype=torch.float64).mul(2).requires_grad_()
    alpha, sigma = np.array([1.0, 0.9, 0.7, 0.4, 0.1, 0.02]), np.array([0.01, 0.3, 0.7, 0.9, 0.99, 1.0])
    for i in range(len(z)):
        covariances = torch.tensor(alpha[i] ** 2 * LAW.covariances + sigma[i] ** 2 * np.eye(2))
        each = torch.distributions.MultivariateNormal(torch.tensor(alpha[i] * LAW.means), covariances)
        log_p = (torch.tensor(LAW.weights).log() + each.log_prob(z[i])).logsumexp(0)
        (slope,) = torch.autograd.grad(log_p, z)
        found = noised_score(LAW, z.detach().numpy(), alpha, sigma)[i]
        np.testing.assert_allclose(found, slope[i].numpy(), rtol=1e-9)


def test_with_exact_predictions_all_bounds_are_the_same_and_the_entropy():
    """Noise of variance exp(-7) in the data, and exp(-6) of them left in the last latent, cost under 0.01 nats."""
    x = rows(20_000)
    bounds = {t: torch.stack([*exact(t).bound_terms(x, generator(5)).values()]).sum(0) for t in TARGETS}
    for bound in bounds.values():
        torch.testing.assert_close(bound, bounds["noise"], rtol=1e-3, atol=1e-3)
    excess = bounds["noise"].double() - torch.tensor(-LAW.log_prob(x.double().numpy()))
    standard_error = excess.std().item() / len(x) ** 0.5
    assert -3 * standard_error < excess.mean().item() < 0.01 + 3 * standard_error


@pytest.mark.parametrize("target", TARGETS)
def test_the_bound_weighs_the_square_errors_as_derived(target):
    """Half of gamma' times the signal-to-noise ratio, 1 and sigma^2: the limits of eq. 108, 130 and 148."""
    model = TargetedDiffusion(PLANE, target=target, **SMALL)
    x, n = rows(7, seed=1), 7
    g = generator(9)
    t = torch.remainder(torch.rand((), generator=g) + torch.arange(n) / n, 1.0)
    eps = torch.randn(x.shape, generator=g)
    gamma = (-7.0 + 13.0 * t)[:, None]
    alpha, sigma = torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()
    truth = {"data": x, "noise": eps, "score": -eps / sigma}[target]
    error = (truth - model.network(alpha * x + sigma * eps, t, None)[:, 0]).square()
    weight = 6.5 * {"data": torch.exp(-gamma), "noise": torch.ones_like(gamma), "score": sigma**2}[target]
    found = model.bound_terms(x, generator(9))["diffusion"]
    torch.testing.assert_close(found, (weight * error).sum(1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("factor", "share"), [(1.0, 0.0), (0.0, 1.0), (0.7, 0.09), (3.0, 4.0)])
def test_the_error_of_scores_is_a_share_of_their_square(target, factor, share):
    x = rows(400)
    view = SimpleNamespace(x=x, oracle=LAW, log_abs_det=torch.zeros(400))
    found = score_error(exact(target, factor), view, {}, generator(1))
    assert found.value == pytest.approx(share, rel=1e-3, abs=1e-4)
    assert found.n == 400


def test_the_error_of_scores_has_the_standard_error_of_a_ratio():
    """Against its spread over draws, of a prediction that errs as much everywhere."""
    model = TargetedDiffusion(PLANE, target="noise", **SMALL)
    model.network = torch.nn.Module()
    model.network.forward = lambda z, s, context=None: torch.full((len(z), 1, 2), 0.4)
    view = SimpleNamespace(x=rows(300, seed=4), oracle=LAW, log_abs_det=torch.zeros(300))
    found = [score_error(model, view, {}, generator(i)) for i in range(60)]
    assert np.mean([f.se for f in found]) == pytest.approx(np.std([f.value for f in found]), rel=0.3)


def test_scores_are_known_of_planar_mixtures_as_they_are_stored():
    view = SimpleNamespace(x=rows(4), oracle=None, log_abs_det=torch.zeros(4))
    with pytest.raises(UserError, match="planar mixtures"):
        score_error(exact("score"), view, {}, generator())
    view.oracle, view.log_abs_det = LAW, torch.ones(4)
    with pytest.raises(UserError, match="planar mixtures"):
        score_error(exact("score"), view, {}, generator())
    with pytest.raises(UserError, match="predicts no score"):
        score_error(SimpleNamespace(), view, {}, generator())
