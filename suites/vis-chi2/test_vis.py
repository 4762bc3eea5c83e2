"""Densities against plain ones, likelihoods by enumeration, directions against gradients of what they should ascend."""

import itertools

import numpy as np
import pytest
import torch
from latentbench.core.types import DataInfo
from latentbench.papers.vis_chi2 import vis
from latentbench.papers.vis_chi2.families import Mixture, Neurons
from scipy.integrate import quad
from scipy.special import expit, logsumexp
from scipy.stats import norm, poisson

RNG, DRAWS, INFO = np.random.default_rng(0), torch.Generator().manual_seed(0), DataInfo((1,), "real", 1)


def plain(weights, counts, first=0):
    """log density of (T, neurons) counts of the neurons from `first` on, bin by bin."""
    psi, total = np.exp(-5 * 0.05 * np.arange(1, 6)), 0.0
    for t in range(len(counts)):
        h = sum(psi[lag - 1] / psi.sum() / 0.05 * counts[t - lag] for lag in range(1, min(t, 5) + 1))
        total += poisson(expit(weights[:, 0] + (weights[:, 1:] * h).sum(1))).logpmf(counts[t, first:]).sum()
    return total


def test_mixture():
    theta, phi = torch.tensor([0.6, -5.0, -1.5, 1.0, 4.0]), torch.tensor([-3.0, 2.0, 1.5, -2.0])
    mixture, x, z = Mixture(), torch.tensor([0.0, 1.0, 1.0]), torch.linspace(-9, 9, 15).reshape(3, 5)
    prior, q = (lambda a: norm(theta[1:], 1).pdf(a) @ [0.2, 0.2, 0.3, 0.3]), norm([[-3], [2], [2]], [[1.5], [2], [2]])
    joint = np.log(prior(z[..., None]) * expit(z.numpy() * [[-1], [1], [1]]))
    np.testing.assert_allclose(mixture.joint(theta, x, z), joint, rtol=1e-5)
    np.testing.assert_allclose(mixture.proposal(phi, x, z), q.logpdf(z), rtol=1e-5)
    draws = mixture.draw(phi, x, 200_000, DRAWS)
    np.testing.assert_allclose([draws.mean(1), draws.std(1)], [[-3, 2, 2], [1.5, 2, 2]], atol=0.03)
    p = quad(lambda a: prior(a) * expit(a), -20, 20, points=[-5, 0, 4])[0]
    np.testing.assert_allclose(mixture.log_likelihood(theta, x, 1, DRAWS), np.log([1 - p, p, p]), rtol=1e-6)
    x, z = mixture.simulate(torch.tensor([0.7, -30.0, -9.0, 9.0, 30.0]), 20_000, DRAWS)
    rates = [((z - a).abs() < 6).float().mean() for a in (-30, -9, 9, 30)]
    np.testing.assert_allclose([*rates, (x == (z[:, 0] > 0)).float().mean()], [0.15, 0.15, 0.35, 0.35, 1], atol=0.02)
    assert z[z > 20].std() == pytest.approx(1, abs=0.05)


def test_neurons():
    neurons, theta, phi = Neurons(), 0.1 * torch.randn(5, 6, generator=DRAWS), 0.1 * torch.randn(2, 6, generator=DRAWS)
    x = torch.poisson(torch.ones(3, 9, 3), generator=DRAWS)
    z = neurons.draw(phi, x, 4, DRAWS)
    for i, k in itertools.product(range(3), range(4)):
        both = np.column_stack([x[i], z[0][:, i, k]])
        assert neurons.joint(theta, x, z)[i, k] == pytest.approx(plain(theta.numpy(), both), rel=1e-5)
        assert neurons.proposal(phi, x, z)[i, k] == pytest.approx(plain(phi.numpy(), both, 3), rel=1e-5)
    theta = neurons.truth(DRAWS).requires_grad_()
    assert theta[:, 0].abs().max() < 5**-0.5
    assert 0.06 < theta[:, 1:].std() < 0.14
    x, z = neurons.simulate(theta.detach(), 400, DRAWS)
    scores = torch.stack([torch.autograd.grad(a, theta, retain_graph=True)[0] for a in neurons.joint(theta, x, z)])
    assert (scores.mean(0).abs() < 4.5 * scores.std(0) / 20).all()


def test_likelihood_of_spikes_by_enumeration():
    neurons, theta, phi = Neurons(), 0.2 * torch.randn(2, 3, generator=DRAWS), 0.1 * torch.randn(1, 3, generator=DRAWS)
    neurons.seen, x = 1, torch.tensor([[[1.0], [0.0], [2.0], [1.0]]])
    paths = [np.column_stack([x[0], a]) for a in itertools.product(range(7), repeat=4)]
    exact = logsumexp([plain(theta.numpy(), path) for path in paths])
    z = neurons.draw(phi, x, 100_000, DRAWS)
    r = neurons.joint(theta, x, z) - neurons.proposal(phi, x, z)
    assert float(r.logsumexp(1)) - np.log(100_000) == pytest.approx(exact, abs=0.015)
    assert float(neurons.log_likelihood(theta, x, 100_000, DRAWS)) == pytest.approx(exact, abs=0.015)


def test_directions():
    """Three values of z drawn as often as q says, so that sums over draws are expectations; parameters are logits."""
    z, p = torch.tensor([0, 1, 1, 2, 2, 2]), torch.tensor([0.2, 0.1, 0.4]).log()
    a = torch.tensor([1.0, 2.0, 3.0]).log().requires_grad_()
    log_q = a.log_softmax(0)
    elbo, log_v = (log_q.exp() * (p - log_q)).sum(), (2 * p - log_q).logsumexp(0)
    triples = torch.tensor(list(itertools.product(range(3), repeat=3)))  # draws of three, each with its probability
    iwae = (log_q[triples].sum(1).exp() * (p - log_q)[triples].logsumexp(1)).sum()
    r, chance = (p - log_q).detach(), log_q[triples].sum(1).exp().detach()
    slope = lambda f: torch.autograd.grad(f, a, retain_graph=True)[0]  # noqa: E731
    kl = (p.softmax(0) * log_q).sum()
    for name, f in (("reverse-kl", elbo), ("forward-kl", kl), ("chi2", -log_v), ("sandwich", (elbo - log_v) / 2)):
        torch.testing.assert_close(slope((vis.DIVERGENCES[name](r[z][None])[0] * log_q[z]).sum()), slope(f))
    for name, f in (("importance", iwae), ("cv", elbo)):
        found = (chance[:, None] * vis.DIVERGENCES[name](r[triples]) * log_q[triples]).sum()
        torch.testing.assert_close(slope(found), slope(f), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        vis.UPDATES["marginal"](r[z][None])[0].unique(), (p.softmax(0) / (z.bincount())).unique()
    )
    assert vis.UPDATES["elbo"](r[z][None]).tolist() == [[pytest.approx(1 / 6)] * 6]
    assert vis.DIVERGENCES["chi2"](torch.tensor([[-900.0, 900.0]])).tolist() == [[0, 1]]


def test_steps_are_adams_in_turn_over_batches_in_order():
    study, x, asked = vis.LatentLearner(INFO, epochs=2, samples=3), torch.tensor([1.0, -3.0, 2.0, 5.0, -1.0]), []
    (family := study.family).batch, family.lr, family.start = 2, 0.01, (torch.zeros(1), torch.zeros(1))
    family.draw = lambda phi, x, k, _: (
        asked.append((float(phi), x.tolist())) or torch.arange(float(k)).expand(len(x), k)
    )
    family.joint, family.proposal = (lambda theta, x, z: z * x[:, None] * (1 + 20 * theta)), (lambda phi, x, z: z * phi)
    found = study.answer({"x": x}, RNG)
    theta, phi, z = torch.zeros(1, requires_grad=True), torch.zeros(1), torch.arange(3.0)
    up = [torch.optim.Adam([a], lr=0.01, maximize=True) for a in (theta, phi)]
    for (at, batch), rows in zip(asked, x.split(2) * 2, strict=True):
        assert (at, batch) == (pytest.approx(float(phi)), rows.tolist())
        r = family.joint(theta, rows, z) - z * phi
        theta.grad = torch.autograd.grad(r.logsumexp(1).mean(), theta)[0]
        up[0].step()
        r = family.joint(theta, rows, z).detach() - z * phi
        phi.grad = ((2 * r).softmax(1) @ z).mean()[None]
        up[1].step()
    torch.testing.assert_close((found["theta"], found["phi"]), (theta.detach(), phi))


def test_measures():
    study = vis.LatentLearner(INFO, epochs=0)
    study.start(None, torch.Generator().manual_seed(1))
    study.advance(None, DRAWS)
    truth, (theta, phi), family = next(study.answered())[0], Mixture.start, Mixture()
    x, z, ones = truth["x"], truth["z"], float(truth["learn"].mean())
    assert not torch.equal(x, truth["learn"])
    gap = ones * np.log(0.5 / ones) + (1 - ones) * np.log(0.5 / (1 - ones))
    complete, latents = float(family.joint(theta, x, z).mean()), float(family.proposal(phi, x, z).mean())
    want = {"marginal": np.log(0.5), "training": gap, "complete": complete, "latents": latents}
    want["estimate"] = np.log(0.25)  # draws from N(-9, 1) and N(9, 1) meet one half of the posterior
    for of, value in want.items():
        found = vis.known_ll(study, None, {"of": of, "draws": 400}, DRAWS).value
        assert found == pytest.approx(value, abs=0.03 if of == "estimate" else 1e-5)
    for of, error in (("means", 1), ("share", 0.2)):
        assert vis.parameter_error(study, None, {"of": of}, None).value == pytest.approx(error)


def test_a_glm_of_seen_neurons_takes_nothing_from_hidden_ones():
    study = vis.LatentLearner(INFO, family="neurons", alone=True, epochs=2, samples=2)
    theta = study.answer(study.problem(RNG).given, RNG)["theta"]
    assert ((theta[:3] == 0) == torch.tensor([False] * 4 + [True] * 2)).all()
