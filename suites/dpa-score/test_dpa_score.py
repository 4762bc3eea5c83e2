"""Energy scores and nested draws against plain sums; the potential and paths against known values."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.dpa_score import landscape
from latentbench.papers.dpa_score.dpa import DPA, Network, decoder_mean_error, energy_score
from latentbench.papers.dpa_score.landscape import potential

PATH, INFO = landscape.minimum_energy_path(), DataInfo((2,), "real", 9)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def coder(f):
    return SimpleNamespace(encode=lambda x: torch.stack(f(*x.T), 1))


def view(x, train=None, generate="mueller-brown", shift=0.0):
    entry, shift = SimpleNamespace(generate=generate), torch.full((1,), shift)
    return SimpleNamespace(entry=entry, x=x, train=SimpleNamespace(x=train), log_abs_det=shift)


@pytest.mark.parametrize("beta", [0.7, 1.0, 2.0])
def test_energy_score_is_the_plain_sum_and_is_least_at_the_law(beta):
    x, y, other = torch.randn(3, 200_000, 2, generator=gen(3))

    def apart(a, b):
        return (a - b)[:50].norm(dim=1).double().pow(beta).mean()

    draws, want = torch.stack([y, other]), 0.5 * (apart(x, y) + apart(x, other) - apart(y, other))
    assert float(energy_score(x[:50], draws[:, :50], beta)) == pytest.approx(float(want), rel=1e-4)
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
        noise = seen[k][..., k:].reshape(2, -1)
        assert k == 3 or float(noise.std()) == pytest.approx(1, abs=0.03)
        assert k == 3 or abs(float(torch.corrcoef(noise)[0, 1])) < 0.03
    with pytest.raises(UserError):
        DPA(INFO, latent_dim=2, levels=[3])


def test_the_loss_sums_over_levels_and_is_an_autoencoders_without_noise():
    x, source = torch.randn(9, 2, generator=gen(4)), gen(5)
    model = DPA(INFO, latent_dim=2, noise=3, hidden=8, beta=1.0)
    loss = model.loss(Batch(x, 9), gen(5))["loss"]
    torch.testing.assert_close(
        loss, sum(energy_score(x, model.draws(model.encode(x), k, source), 1.0) for k in (2, 1, 0))
    )
    loss.backward()
    assert (model.encoder.second[1].weight.grad.abs().sum(1) > 0).all()
    plain = DPA(INFO, latent_dim=2, levels=[2], noise=0, hidden=8)
    error = (x - plain.decoder(plain.encode(x))).square().sum(1).mean()
    torch.testing.assert_close(plain.loss(Batch(x, 9), gen())["loss"], error)
    assert decoder_mean_error(plain, view(x), {}, gen()).value == pytest.approx(error.item() / 2, rel=1e-4)
    x = torch.zeros(20_000, 2)  # the decoder's mean counts, the spread of its draws does not
    model.draws = lambda z, k, source: k * torch.tensor([0.15, 0.05]) + torch.randn(2, len(z), 2, generator=source)
    assert decoder_mean_error(model, view(x), {}, gen()).value == pytest.approx(0.05, abs=0.003)
    with pytest.raises(UserError):
        decoder_mean_error(coder(lambda x, y: (x,)), view(x), {}, gen())


def test_potential_law_and_path():
    x, steps = np.array([[-0.8, 0.6], [0.3, 0.2], [-1.0, 1.9]]), 1e-6 * np.eye(2)
    slopes = np.stack([(potential(x + e, 0.15)[0] - potential(x - e, 0.15)[0]) / 2e-6 for e in steps], 1)
    np.testing.assert_allclose(potential(x, 0.15)[1], slopes, rtol=1e-6, atol=1e-6)
    stationary = np.array([[-0.558, 1.442], [-0.822, 0.624], [-0.050, 0.467], [0.212, 0.293], [0.623, 0.028]])
    heights = 0.15 * np.array([-146.70, -40.66, -80.77, -72.25, -108.17])  # of the literature
    np.testing.assert_allclose(potential(stationary, 0.15)[0], heights, atol=0.01)
    apart, length = np.linalg.norm(PATH - stationary[:, None], axis=2), landscape.arc(PATH)
    assert apart.min(1).max() < 0.012
    assert (np.diff(apart.argmin(1)) > 0).all()
    np.testing.assert_allclose(np.diff(length), length[-1] / 119, rtol=0.01)
    across = np.gradient(PATH, axis=0) @ [[0, 1], [-1, 0]] * 119 / length[-1]
    assert np.abs((potential(PATH, 0.15)[1] * across).sum(1)).max() < 0.4  # of up to 26 along it
    points = np.stack(np.meshgrid(*(np.linspace(*ends, 401) for ends in landscape.BOX)), -1).reshape(-1, 2)
    mass = np.exp(-potential(points, 0.15)[0] / 2.494)
    drawn = landscape.mueller_brown(20_000, np.random.default_rng(1), 0.15, 2.494)["x"]
    for test in (lambda p: p[:, 1] < 0.25, lambda p: p[:, 1] > 1.4, lambda p: p[:, 0] < -0.6):
        assert test(drawn).mean() == pytest.approx(mass[test(points)].sum() / mass.sum(), abs=0.015)


def test_the_path_of_a_latent_and_its_distance():
    angle = np.linspace(-0.9, 0.9, 200)
    path = np.stack([np.sin(angle), 1 - np.cos(angle)], 1)
    turned = coder(lambda x, y: (y, 1 - 3 * torch.atan2(x, 1 - y)))
    best, r2, ends = landscape.along_path(turned, path)
    assert (best, r2, *ends) == pytest.approx((1, 1, 3.7, -1.7), abs=1e-4)
    assert landscape.chamfer(landscape.followed(turned, path[:1], best, ends), path) < 0.01
    line = landscape.followed(coder(lambda x, y: (2 * x + 0 * y,)), path[:1], 0, np.array([-1.5, 1.5]))
    np.testing.assert_allclose(line[[0, 62, -1]], [path[0], [0, path[0, 1]], [0.75, path[0, 1]]], atol=0.04)
    a, b = np.array([[0.0, 0], [3, 0], [0, 2]]), np.array([[0.0, 1], [3, 4]])
    d = np.linalg.norm(a[:, None] - b, axis=2)
    assert landscape.chamfer(a, b) == pytest.approx((d.min(0).mean() + d.min(1).mean()) / 2)
    by = coder(lambda x, y: (x * y, y))
    best, r2, ends = landscape.along_path(by, PATH)
    found = landscape.mfep_distance(by, view(None), {}, None)
    assert found.value == landscape.chamfer(landscape.followed(by, PATH[:1], best, ends), PATH)
    assert found.details == {"latent": 1.0, "r2": r2}
    for data in (view(None, generate="s-curve"), view(None, shift=1.0)):
        with pytest.raises(UserError):
            landscape.mfep_distance(by, data, {}, None)


def test_gain_of_the_last_latent_on_the_s_curve():
    train, test = (torch.from_numpy(landscape.s_curve(n, np.random.default_rng(n))["x"]) for n in (6000, 2000))
    assert ((train[:, 0] ** 2 + (train[:, 2].abs() - 1) ** 2 - 1).abs() < 1e-4).all()
    torch.testing.assert_close(test.aminmax(dim=0).max, torch.tensor([1.0, 2, 2]), atol=0.01, rtol=0)

    def gain(f, train=train):
        return landscape.last_latent_gain(coder(f), view(test, train), {}, None)

    extra, scaled = (gain(lambda x, y, z, s=s: (z, s * y, z * y)) for s in (1, 1024))
    assert extra.value == pytest.approx(0, abs=0.01)
    assert scaled.details == pytest.approx(extra.details, abs=1e-3)
    raw = gain(lambda x, y, z: (x, y, z))
    assert raw.value == pytest.approx(1 - raw.details["before"], abs=0.01)
    assert raw.details["before"] < 0.7
    half = gain(lambda x, y, z: (x, y, z), train[train[:, 2] > 0])  # neighbours are of training rows
    assert half.details["after"] < 0.9
    with pytest.raises(UserError):
        gain(lambda x, y, z: (x,))
