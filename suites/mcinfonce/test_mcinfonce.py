"""vMF laws against closed forms, pairs against enumeration, losses against plain sums, phases step by step."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from latentbench.core.types import DataInfo
from latentbench.papers.mcinfonce import contrast as c
from latentbench.papers.mcinfonce import world as w
from scipy.special import ive, ndtr
from scipy.stats import ortho_group, spearmanr, vonmises_fisher

INFO = DataInfo((1,), "real", 1)


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def unit(*shape, seed=0):
    return torch.nn.functional.normalize(torch.randn(shape, generator=draws(seed)), dim=-1)


def log_density(mu, kappa, z):
    """As against the uniform one."""
    return vonmises_fisher(mu, kappa).logpdf(z) - vonmises_fisher(mu, 1e-9).logpdf(z)


def test_normaliser_and_quantiles_in_closed_form():
    for kappa in (0.5, 3.0, 20.0, 90.0):
        found = float(w.log_normaliser(torch.tensor(kappa), 10)) + kappa
        assert found == pytest.approx(log_density(np.eye(10)[0], kappa, np.eye(10)[0]), abs=1e-3)
    for row in (40, 80, 110):
        kappa, u = np.exp(np.linspace(*w.KAPPAS, 161))[row], ndtr(np.linspace(-2, 2, 5))
        cosine = np.cos(w.polar_angles(3)[row, 32:65:8].numpy())
        np.testing.assert_allclose(cosine, 1 + np.log1p(u * np.expm1(-2 * kappa)) / kappa, atol=1e-3)


def test_draws_have_the_moments_and_slopes_of_a_vmf():
    means, kappa = unit(3, 6).requires_grad_(), torch.tensor([1.3, 20.0, 110.0], requires_grad=True)
    z, along = w.sample_vmf(means, kappa, draws(1), 100_000), unit(6, seed=2)
    (of_mu,) = torch.autograd.grad((z @ along).mean(0).sum(), means, retain_graph=True)
    (of_kappa,) = torch.autograd.grad((z @ along).square().mean(0).sum(), kappa)
    z, mu, k = z.detach(), means.detach(), kappa.detach().numpy()
    a, above = (ive(3, of) / ive(2, of) for of in (k, 1.001 * k))
    np.testing.assert_allclose(z.mean(0), a[:, None] * mu.numpy(), atol=6e-3)
    np.testing.assert_allclose((z * mu).sum(2).square().mean(0), 1 - 5 * a / k, atol=5e-3)
    side = z[:, 0] - (z[:, 0] @ mu[0])[:, None] * mu[0]
    np.testing.assert_allclose(torch.linalg.eigvalsh(side.T @ side / len(side))[1:], a[0] / k[0], rtol=0.03)
    rise = (above / (1.001 * k) - a / k) / (0.001 * k)  # of r = a / k, where E (z'v)^2 = r + (1 - 6 r) (mu'v)^2
    np.testing.assert_allclose(of_kappa, rise * (1 - 6 * (mu @ along).square().numpy()), rtol=0.1)
    around = along - (mu @ along)[:, None] * mu
    np.testing.assert_allclose((of_mu * around).sum(1), a * around.square().sum(1).numpy(), atol=0.02)


class Atoms(w.World):
    """Three inputs with one latent each."""

    Z, CHANCES = unit(3, 10, seed=4), torch.tensor([0.2, 0.3, 0.5])

    def latents(self, n, generator):
        i = torch.multinomial(self.CHANCES, n, replacement=True, generator=generator)
        return i[:, None].float().expand(n, 10), self.Z[i]


def test_pairs_follow_their_chances():
    world, found, negative, met = Atoms(10, 8.0, draws()), *np.zeros((3, 3, 3))
    assert world.constant == pytest.approx(8.0 - log_density(np.eye(10)[0], 8.0, np.eye(10)[0]), abs=1e-3)
    chance = 1 / (1 + np.exp(world.constant - 8.0 * (world.Z @ world.Z.T).double().numpy()))
    generator = draws(13)
    for _ in range(150):
        x, positive, candidates, apart = world.pairs(100, 20, generator)
        i, j, k = (one[:, 0].long().numpy() for one in (x, positive, candidates))
        np.add.at(found, (i, j), 1)
        np.add.at(negative, (i[:, None], k), apart.numpy())
        np.add.at(met, (i[:, None], k), 1)
    expected = world.CHANCES.numpy() * chance
    rate = world.CHANCES.numpy() @ expected.sum(1)
    assert world.offset == pytest.approx(np.log((1 - rate) / rate) - world.constant, abs=0.05)
    np.testing.assert_allclose(found / found.sum(1)[:, None], expected / expected.sum(1)[:, None], atol=0.03)
    np.testing.assert_allclose(negative / met, 1 - chance, atol=0.03)
    crisp = Atoms(10, 200.0, draws())  # pairs of one atom alone, for which few candidates must be drawn again
    assert all(torch.equal(*crisp.pairs(6, 2, generator)[:2]) for _ in range(100))


def test_worlds_are_spread_and_smooth_and_networks_as_they_say():
    world, x = w.World(10, 20.0, draws(3)), torch.rand(300, 10, generator=draws(6))
    mu = c.predicted(world.posterior, x)["mu"]
    cosines = (mu @ mu.T)[np.triu_indices(300, 1)]
    assert spearmanr(torch.pdist(x), cosines)[0] < -0.5
    assert cosines.min() < 0.5
    encoder = w.Posterior([5], [7], x, draws(7))
    found, value, h = c.predicted(encoder, x), encoder.means(x).detach(), encoder.kappas(x).detach()[:, 0]
    assert (found["kappa"].min(), found["kappa"].max()) == pytest.approx(w.SPAN, rel=1e-4)
    np.testing.assert_allclose(np.log(found["kappa"]), encoder.a * (1 + h.exp()).log() + encoder.b, atol=1e-4)
    np.testing.assert_allclose(found["norm"][:, None] * found["mu"], value, atol=1e-5)
    reach = [float(weights.detach().abs().max()) for weights in w.network([100, 50, 4], draws()).parameters()]
    np.testing.assert_allclose(reach, [0.1, 0.1, 50**-0.5, 50**-0.5], rtol=0.2)


@pytest.mark.parametrize("group", [1, 2])
def test_losses_are_their_sums(group):
    mu, kappa, n, t, b = unit(14, 10, seed=8), torch.linspace(2, 9, 14), range(4), 3.0, -0.7
    apart = torch.rand(4, 6, generator=draws(9)) < 0.7
    apart[0, 2:4] = False
    z = np.vstack([w.sample_vmf(mu, kappa, draws(10), c.SAMPLES).double(), mu.double()[None]])
    gram, uniform, mask = np.exp(t * z @ z.swapaxes(1, 2)), unit(300_000, 10, seed=11), apart.numpy()
    density = torch.exp(uniform @ (kappa[:, None] * mu).T + w.log_normaliser(kappa, 10)).double()

    def contrast(gram):
        sets = [(i, [j for j in range(g, g + group) if mask[i, j - 8]]) for i in n for g in range(8, 14, group)]
        pairs = [(gram[:, i, 4 + i], gram[:, i, chosen].mean(1)) for i, chosen in sets if chosen]
        return -np.mean([np.log(np.mean(p / (p + q))) for p, q in pairs])

    odds = gram[:-1, :4] * np.exp(b)
    yes, no = (odds / (1 + odds))[:, n, range(4, 8)], (1 / (1 + odds))[:, :, 8:]
    expected = {
        "infonce": contrast(gram[-1:]),
        "mcinfonce": contrast(gram[:-1]),
        "hib": -np.log(yes).mean() - np.log(no)[:, mask].mean(),
        "hib-mean": -np.log(yes.mean(0)).mean() - np.log(no.mean(0))[mask].mean(),
        "likelihood": -np.mean([log_density(z[-1, i], float(kappa[i]), z[-1, 4 + i]) for i in n]),
        "elk": contrast((density.T @ density / len(uniform)).numpy()[None] ** t),
    }
    for loss, value in expected.items():
        found = c.loss_of(loss, mu, kappa, apart, {"temperature": t, "offset": b, "group": group}, draws(10))
        assert float(found) == pytest.approx(value, rel=0.05 if loss == "elk" else 2e-3), loss


@pytest.mark.parametrize(("loss", "phased"), [("mcinfonce", True), ("likelihood", True), ("hib", False)])
def test_phases_move_what_they_should(loss, phased, monkeypatch):
    seen, x = [], torch.rand(30, 10, generator=draws(12))

    def watched(loss, mu, kappa, apart, settings, generator):
        seen.append(
            (
                loss,
                settings["group"],
                (settings["offset"], settings["temperature"]),
                mu.detach().clone(),
                kappa.detach().log(),
            )
        )
        return mu[:, 0].sum() - kappa.log().sum()

    monkeypatch.setattr(c, "loss_of", watched)
    monkeypatch.setattr(c, "RATE", 1e-5)
    design = {"group": 32, "temperature": 3.0, **({} if phased else {"offset": 0.4})}
    study = c.PosteriorEncoder(INFO, loss=loss, phased=phased, steps=8 if phased else 4, **design)
    given = {"pairs": lambda n, m, g: (x[:10], x[10:20], x[20:], None), "offset": -9.5, "x": x}
    answer = study.answer(given, np.random.default_rng(1))
    first = "infonce" if loss == "likelihood" else loss
    scores = (design.get("offset", -9.5), 3.0)
    assert [s[:3] for s in seen] == [(first, 1, scores)] * 4 + [(loss, 32, scores)] * (4 if phased else 0)
    seen.append((*seen[-1][:3], torch.tensor(answer["mu"]), torch.tensor(answer["kappa"]).log()))
    for column, still, since in ((3, 4, 0), (4, 3, 4)) if phased else ((3, None, 0), (4, None, 0)):
        part = seen[since : since + 5]
        moves = [float((after[column] - before[column]).norm()) for before, after in pairwise(part)]
        np.testing.assert_allclose(np.array(moves) / moves[0], [1.0, 0.75, 0.5, 0.25], atol=0.08)
        assert still is None or float((part[-1][still] - part[0][still]).abs().max()) < 1e-6
    norm = c.PosteriorEncoder(INFO, steps=0, certainty="norm").answer(given, np.random.default_rng(1))["kappa"]
    assert norm.max() < 5.0


def test_metrics_by_hand(monkeypatch):
    study = c.PosteriorEncoder(INFO)
    problem = study.problem(np.random.default_rng(2))
    mu, kappa = problem.truth["mu"], problem.truth["kappa"]
    found = problem.given["pairs"].__self__.posterior.kappa(problem.given["x"])
    np.testing.assert_allclose(kappa, found.detach(), rtol=1e-5)
    bent = {"mu": np.vstack([-mu[:1], mu[1:]]) @ ortho_group.rvs(10, random_state=1), "kappa": 4096 / kappa}
    monkeypatch.setattr(study, "answered", lambda: [(problem.truth, bent)])
    values = [f(study, None, {}, None).value for f in (c.kappa_rank_correlation, c.kappa_r2, c.location_error)]
    error = (np.log(4096 / kappa**2) ** 2).mean() / np.log(kappa).var()
    far = 2 * np.abs(mu[1:] @ mu[0]).sum() / (len(mu) * (len(mu) - 1) / 2)
    np.testing.assert_allclose(values, [-1.0, 1 - error, far], rtol=1e-6)
