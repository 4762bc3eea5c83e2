"""Energy scores and nested draws against plain sums; the potential, its path and level sets against known values."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.dpa_score import landscape
from latentbench.papers.dpa_score.dpa import DPA, Network, energy_score
from latentbench.papers.dpa_score.landscape import MuellerBrown, arc, balance, potential

LAW, PATH, INFO = MuellerBrown(0.15, 2.494), landscape.minimum_energy_path(), DataInfo((2,), "real", 9)
ROUND = SimpleNamespace(  # N(0, diag(1, 0.6)) / 16, which lies within the box
    log_prob=lambda x: -8 * (x**2 / [1, 0.6]).sum(1), score=lambda x: -16 * x / [1, 0.6]
)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def coder(f):
    return SimpleNamespace(encode=lambda x: torch.stack(f(*x.T), 1))


def view(law, x=None, train=None, shift=0.0):
    return SimpleNamespace(oracle=law, x=x, train=SimpleNamespace(x=train), log_abs_det=torch.full((1,), shift))


@pytest.mark.parametrize("beta", [0.7, 1.0, 2.0])
def test_energy_score_is_the_plain_sum_and_is_least_at_the_law(beta):
    x, y, other = torch.randn(3, 200_000, 2, generator=gen(3))

    def apart(a, b):
        return np.mean([np.linalg.norm(u - v) ** beta for u, v in zip(a[:50].numpy(), b[:50].numpy(), strict=True)])

    want = 0.5 * apart(x, y) + 0.5 * apart(x, other) - 0.5 * apart(y, other)
    assert float(energy_score(x[:50], torch.stack([y, other])[:, :50], beta)) == pytest.approx(want, rel=1e-4)
    draws = torch.stack([y, other])
    best = energy_score(x, draws, beta)
    assert best < energy_score(x, draws + 0.5, beta) - 0.03
    assert beta == 2.0 or min(energy_score(x, s * draws, beta) for s in (0.5, 1.5)) > best + 0.003


def test_a_network_is_two_residual_blocks_with_noise_beside_every_layer():
    net, h, source = Network(2, 5, 3, 4), torch.randn(2, 7, 2, generator=gen(1)), gen(2)
    want = h
    for i in range(2):
        inner = torch.relu(net.first[i](torch.cat([want, torch.randn(2, 7, 4, generator=source)], -1)))
        want = net.second[i](torch.cat([inner, torch.randn(2, 7, 4, generator=source)], -1)) + net.skip[i](want)
        want = want if i else torch.relu(want)
    torch.testing.assert_close(net(h, gen(2)), want)


def test_draws_keep_the_first_latents_and_make_noise_of_the_others():
    model, seen, z = DPA(INFO, latent_dim=3, noise=0, hidden=8), [], torch.arange(30_000.0).reshape(-1, 3)
    model.decoder.register_forward_hook(lambda _, given, out: seen.append(given[0].detach()))
    for k in range(4):
        model.draws(z, k, gen(k))
        assert torch.equal(seen[k][..., :k], z[:, :k].expand(2, -1, -1))
        if k < 3:
            noise = seen[k][..., k:].reshape(2, -1)
            assert float(noise.std()) == pytest.approx(1, abs=0.03)
            assert abs(float(torch.corrcoef(noise)[0, 1])) < 0.03
    with pytest.raises(UserError):
        DPA(INFO, latent_dim=2, levels=[3])


def test_the_loss_sums_over_levels_and_is_an_autoencoders_without_noise():
    x = torch.randn(9, 2, generator=gen(4))
    model, source = DPA(INFO, latent_dim=2, noise=3, hidden=8, beta=1.0), gen(5)
    terms = model.loss(Batch(x, 9), gen(5))
    want = [energy_score(x, model.draws(model.encode(x), k, source), 1.0) for k in (2, 1, 0)]
    torch.testing.assert_close(terms["loss"], sum(want))
    terms["loss"].backward()
    assert (model.encoder.second[1].weight.grad.abs().sum(1) > 0).all()
    plain = DPA(INFO, latent_dim=2, levels=[2], noise=0, hidden=8)
    error = (x - plain.decoder(plain.encode(x))).square().sum(1).mean()
    torch.testing.assert_close(plain.loss(Batch(x, 9), gen())["loss"], error)


def test_potential_law_and_path():
    x, steps = np.array([[-0.8, 0.6], [0.3, 0.2], [-1.0, 1.9]]), 1e-6 * np.eye(2)
    slopes = np.stack([(potential(x + e, 0.15)[0] - potential(x - e, 0.15)[0]) / 2e-6 for e in steps], 1)
    np.testing.assert_allclose(potential(x, 0.15)[1], slopes, rtol=1e-6, atol=1e-6)
    slopes = np.stack([(LAW.log_prob(x + e) - LAW.log_prob(x - e)) / 2e-6 for e in steps], 1)
    np.testing.assert_allclose(LAW.score(x), slopes, rtol=1e-6, atol=1e-6)
    stationary = np.array([[-0.558, 1.442], [-0.822, 0.624], [-0.050, 0.467], [0.212, 0.293], [0.623, 0.028]])
    heights = 0.15 * np.array([-146.70, -40.66, -80.77, -72.25, -108.17])  # of the literature
    np.testing.assert_allclose(potential(stationary, 0.15)[0], heights, atol=0.01)
    apart, length = np.linalg.norm(PATH - stationary[:, None], axis=2), arc(PATH)
    assert apart.min(1).max() < 0.012
    assert (np.diff(apart.argmin(1)) > 0).all()
    np.testing.assert_allclose(np.diff(length), length[-1] / 119, rtol=0.01)
    across = np.gradient(PATH, axis=0) @ [[0, 1], [-1, 0]] * 119 / length[-1]
    assert np.abs((potential(PATH, 0.15)[1] * across).sum(1)).max() < 0.4  # of up to 26 along it
    points = landscape.grid(landscape.BOX, 350)
    mass = np.exp(LAW.log_prob(points)) * 1e-4
    assert mass.sum() == pytest.approx(1, abs=1e-6)
    assert LAW.entropy == pytest.approx(-(mass * LAW.log_prob(points)).sum(), abs=1e-6)
    assert LAW.log_prob(np.array([[1.6, 0.0]])) == -np.inf
    drawn = landscape.mueller_brown(20_000, np.random.default_rng(1), 0.15, 2.494)["x"]
    for test in (lambda p: p[:, 1] < 0.25, lambda p: p[:, 1] > 1.4, lambda p: p[:, 0] < -0.6):
        assert test(drawn).mean() == pytest.approx(mass[test(points)].sum(), abs=0.01)


def test_the_path_of_a_latent_and_its_distances():
    angle = np.linspace(-0.9, 0.9, 200)
    path = np.stack([np.sin(angle), 1 - np.cos(angle)], 1)
    turned = coder(lambda x, y: (y, 1 - 3 * torch.atan2(x, 1 - y)))
    assert landscape.along_path(turned, path)[:2] == (1, pytest.approx(1))
    found = landscape.followed(turned, path[:1], *landscape.along_path(turned, path)[::2])
    assert landscape.path_distances(found, path)["hausdorff"] < 0.015
    line = landscape.followed(coder(lambda x, y: (2 * x + 0 * y,)), path[:1], 0, np.array([-1.5, 1.5]))
    np.testing.assert_allclose(line[[0, 62, -1]], [path[0], [0, path[0, 1]], [0.75, path[0, 1]]], atol=0.04)
    a, b = np.array([[0.0, 0], [3, 0], [0, 2]]), np.array([[0.0, 1], [3, 4]])
    d = np.linalg.norm(a[:, None] - b, axis=2)
    want = {"out": d.min(0).mean(), "back": d.min(1).mean(), "hausdorff": max(d.min(0).max(), d.min(1).max())}
    want["chamfer"] = (want["out"] + want["back"]) / 2
    assert landscape.path_distances(a, b) == pytest.approx(want)
    found = landscape.mfep_distance(coder(lambda x, y: (x * y, y)), view(LAW), {"of": "latent"}, None)
    assert found.value == 1.0
    for data in (view(ROUND), view(LAW, shift=1.0)):
        with pytest.raises(UserError):
            landscape.mfep_distance(coder(lambda x, y: (x,)), data, {"of": "chamfer"}, None)


def test_level_sets_are_those_of_quadrature_along_the_curve():
    x, v = landscape.grid(landscape.BOX, 500), np.linspace(-1, 1, 4001)
    z = x[:, 0] + 1.6 * x[:, 1] ** 2
    centre, variance, along = landscape.level_sets(z, x, np.exp(ROUND.log_prob(x)))
    for at in ([0.0, 0.0], [-0.25, 0.0], [-0.1, 0.12], [0.2, -0.1]):
        i = np.abs(x - at).sum(1).argmin()
        curve = np.stack([z[i] - 1.6 * v**2, v], 1)  # its length is |gradient| dv, which cancels the 1 / |gradient|
        w = np.exp(ROUND.log_prob(curve))
        c = w @ curve / w.sum()
        np.testing.assert_allclose(centre[i], c, atol=0.01)
        assert variance[i] == pytest.approx(w @ ((curve - c) ** 2).sum(1) / w.sum(), rel=0.03)
        assert along[i] @ (1, 0) > 0.99


def test_balance_tells_level_sets_that_bulge_uphill_from_those_that_bulge_downhill():
    for bend, least in ((-2.4, 0.5), (4.8, 0.3)):
        values = balance(coder(lambda x, y: (x * (1 + bend * y**2), y)), ROUND)  # noqa: B023
        assert -np.sign(bend) * values["signed"] > least
        assert values["absolute"] > 0.999
        assert values["across"] > 0.01
    assert balance(coder(lambda x, y: (3 * x + 0 * y,)), ROUND)["across"] < 0.01
    slanted = balance(coder(lambda x, y: (x + y,)), ROUND)["across"]  # y - c is along (1, -1), and c along (1, 0.6)
    assert slanted == pytest.approx(0.4**2 / (2 * 1.36), abs=0.01)
    found = landscape.level_balance(coder(lambda x, y: (x + y * y, x)), view(LAW), {}, None)
    assert found.value == found.details["signed"]


def test_gains_of_latents_on_the_s_curve():
    train, test = (torch.from_numpy(landscape.s_curve(n, np.random.default_rng(n))["x"]) for n in (6000, 2000))
    assert ((train[:, 0] ** 2 + (train[:, 2].abs() - 1) ** 2 - 1).abs() < 1e-4).all()
    torch.testing.assert_close(test.aminmax(dim=0).max, torch.tensor([1.0, 2, 2]), atol=0.01, rtol=0)

    def gain(f, k=2):
        return landscape.latent_gain(coder(f), view(None, test, train), {"latents": k}, None)

    extra, raw = gain(lambda x, y, z: (z, y, z * y)), gain(lambda x, y, z: (x, y, z))
    assert extra.value == pytest.approx(0, abs=0.01)
    assert extra.details["last"] > 0.99
    assert raw.value == pytest.approx(1 - raw.details["before"], abs=0.01)
    assert max(raw.details["before"], raw.details["last"]) < 0.7
    assert gain(lambda x, y, z: (z, y, x), 1).value == pytest.approx(0.13, abs=0.03)
    some = view(None, test, train[train[:, 2] > 0])  # neighbours are of training rows: here one half of the surface's
    assert landscape.latent_gain(coder(lambda x, y, z: (x, y, z)), some, {"latents": 2}, None).details["after"] < 0.9
    with pytest.raises(UserError):
        gain(lambda x, y, z: (x, y), 2)
