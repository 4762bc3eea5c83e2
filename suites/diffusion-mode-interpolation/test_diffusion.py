"""What is exact: the mixture's law and support, its denoiser, each step of the chain, the network, the loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.data.registry import load_entry
from latentbench.papers.diffusion_mode_interpolation.ddpm import ExactDDPM, SmallDDPM, TiedDenoiser
from latentbench.papers.diffusion_mode_interpolation.mixture import grid_gaussians, grid_mixture, posterior_mean
from latentbench.spec.loading import load_suite
from scipy.stats import norm
from torch.nn import functional

from tests.project import REPOSITORY

LINE = grid_mixture([[1, 2, 4, 5]], 0.05)
GRID = grid_mixture([[-4, -2, 0, 2, 4], [-4, -2, 0, 2, 4]], 0.3, 2.0)
ONE, TWO = DataInfo((1,), "real", 40), DataInfo((2,), "real", 40)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_modes_are_the_products_of_the_axes_in_units_of_the_scale():
    assert LINE.means.tolist() == [[1.0], [2.0], [4.0], [5.0]]
    assert GRID.means.shape == (25, 2)
    assert GRID.means[:3].tolist() == [[-2.0, -2.0], [-2.0, -1.0], [-2.0, 0.0]]
    assert GRID.std == 0.15


@pytest.mark.parametrize("law", [LINE, GRID], ids=["line", "grid"])
def test_density_is_the_mean_over_the_modes(law):
    x = law.means[[0, 1, -1]] + np.linspace(-2, 2, law.means.shape[1]) * law.std + 0.03
    expected = [np.mean([norm.pdf(row, mode, law.std).prod() for mode in law.means]) for row in x]
    np.testing.assert_allclose(law.log_prob(x), np.log(expected), rtol=1e-9)


@pytest.mark.parametrize(("axes", "noise"), [([[1, 2, 4, 5]], 0.05), ([[-4, 0], [3, 7, 9]], 0.2)])
def test_rows_take_modes_in_turn_with_the_laws_spread_and_entropy(axes, noise):
    law, n = grid_mixture(axes, noise, 1.5), 60_000
    x = grid_gaussians(n, np.random.default_rng(3), axes, noise, 1.5)["x"]
    assert x.dtype == np.float32
    centred = (x.astype(float) - law.means[np.arange(n) % len(law.means)]) / law.std
    assert np.abs(centred.mean(0)).max() < 4.5 / n**0.5
    assert np.abs(centred.std(0) - 1.0).max() < 4.5 / (2 * n) ** 0.5
    again, other = (grid_gaussians(99, np.random.default_rng(s), axes, noise, 1.5)["x"] for s in (3, 4))
    assert np.array_equal(again, grid_gaussians(99, np.random.default_rng(3), axes, noise, 1.5)["x"])
    assert not np.isin(other, again).any()
    spread = law.log_prob(x)
    assert -spread.mean() == pytest.approx(law.entropy, abs=4.5 * spread.std() / n**0.5)


@pytest.mark.parametrize("outside", [1e-6, 1e-3, 0.2])
def test_balls_leave_out_the_mass_that_is_asked_for(outside):
    assert 2 * norm.sf(LINE.radius(outside) / LINE.std) == pytest.approx(outside)
    assert math.exp(-0.5 * (GRID.radius(outside) / GRID.std) ** 2) == pytest.approx(outside)


def test_hallucinations_are_outside_all_balls():
    r = LINE.radius(1e-3)
    x = np.array([1.0, 1.0 - 1.01 * r, 2.0 + 0.99 * r, 2.0 + 1.01 * r, 3.0, 5.0])[:, None]
    assert LINE.hallucinated(x, 1e-3).tolist() == [False, True, False, True, True, False]
    corner = np.array([[2.0, 2.0]]) + GRID.radius(1e-3) * np.array([[0.72, 0.72], [0.69, 0.69], [0.0, -0.99]])
    assert GRID.hallucinated(corner, 1e-3).tolist() == [True, False, False]


def test_neighbours_are_nearest_pairs_alone():
    assert LINE.neighbours() == [(0, 1), (2, 3)]
    assert len(GRID.neighbours()) == 40
    assert all(np.linalg.norm(GRID.means[i] - GRID.means[j]) == pytest.approx(1.0) for i, j in GRID.neighbours())


def test_between_is_near_a_segment_between_neighbours():
    x = [[0.5, 0.0], [0.5, 0.09], [0.5, 0.11], [0.5, 0.5], [-2.05, 2.0], [-2.05, 2.09], [2.0, -1.4], [2.11, 1.0]]
    assert GRID.between(np.array(x), 0.1).tolist() == [True, True, False, False, True, False, True, False]
    assert LINE.between(np.array([[1.5], [3.0], [4.7], [5.2]]), 0.1).tolist() == [True, False, True, False]


def test_posterior_mean_is_that_of_quadrature_on_a_line():
    x0 = np.linspace(0, 6, 60_001)
    for a, at in ((0.9, 1.4), (0.3, 1.0), (0.999, 2.97)):
        weights = np.exp(LINE.log_prob(x0[:, None])) * norm.pdf(at, a**0.5 * x0, (1 - a) ** 0.5)
        expected = (weights * x0).sum() / weights.sum()
        x, means = torch.tensor([[at]], dtype=torch.float64), torch.from_numpy(LINE.means)
        found = posterior_mean(x, torch.tensor([[a]], dtype=torch.float64), means, LINE.std)
        assert found.item() == pytest.approx(expected, rel=1e-6)


def test_exact_noise_is_minus_the_score_times_the_noises_spread():
    model = ExactDDPM(TWO, axes=[[-1.0, 0.5], [0.0, 1.0, 2.0]], noise=0.2, timesteps=30)
    t = torch.tensor([0, 3, 11, 29])
    x = torch.randn(4, 2, generator=generator(1)).double().requires_grad_()
    a = model.alpha_bars[t][:, None]
    apart = x[:, None] - a.sqrt()[..., None] * model.means.double()
    log_p = torch.logsumexp(-0.5 * apart.square().sum(2) / (a * 0.04 + 1 - a), 1)
    (score,) = torch.autograd.grad(log_p.sum(), x)
    torch.testing.assert_close(model.noise(x.detach(), t).double(), -(1 - a).sqrt() * score, rtol=1e-4, atol=1e-5)


def test_the_chain_is_the_first_steps_of_the_full_one():
    betas = [0.001 + (0.2 - 0.001) * i / 999 for i in range(1000)]
    full, kept = SmallDDPM(ONE, width=4), SmallDDPM(ONE, width=4, kept=300)
    np.testing.assert_allclose(full.betas, betas, rtol=1e-9)
    np.testing.assert_allclose(kept.alpha_bars, [np.prod([1 - b for b in betas[: i + 1]]) for i in range(300)])
    assert len(full.betas) == 1000
    assert kept.alpha_bars[-1] == pytest.approx(8.1e-5, rel=0.02)


def test_a_noised_row_has_its_mean_and_spread_and_is_made_clean_again():
    model = SmallDDPM(TWO, timesteps=40, width=4)
    x, t = torch.randn(5, 2, generator=generator(1)), torch.tensor([0, 5, 20, 38, 39])
    eps = torch.randn(5, 2, generator=generator(2))
    model.noise = lambda x, t: eps
    y = model.noised(x, t, eps)
    for i, step in enumerate(t.tolist()):
        a = float(np.prod([1 - float(b) for b in model.betas[: step + 1]]))
        np.testing.assert_allclose(y[i], a**0.5 * x[i] + (1 - a) ** 0.5 * eps[i], rtol=1e-5)
    torch.testing.assert_close(model.clean(y, t), x, rtol=1e-4, atol=1e-4)


def test_samples_of_one_gaussian_have_the_law_that_its_chain_has():
    """With an exact denoiser each step is affine: its law step by step, each from Gaussian conditioning."""
    model = ExactDDPM(ONE, axes=[[1.5]], noise=0.8, timesteps=25)
    mean, variance = 0.0, 1.0
    for step in range(24, -1, -1):
        beta = float(model.betas[step])
        a = float(model.alpha_bars[step])
        before = a / (1 - beta)
        # x_0 given x_t, then x_{t-1} given both, by precisions
        gain = a**0.5 * 0.64 / (a * 0.64 + 1 - a)
        if step == 0:
            slope, offset, spread = gain, 1.5 - gain * a**0.5 * 1.5, 0.0
        else:
            prior, likelihood = 1 / (1 - before), (1 - beta) / beta
            w_clean = prior * before**0.5 / (prior + likelihood)
            w_now = likelihood / (1 - beta) ** 0.5 / (prior + likelihood)
            slope, offset, spread = w_clean * gain + w_now, w_clean * (1.5 - gain * a**0.5 * 1.5), beta
        mean, variance = slope * mean + offset, slope**2 * variance + spread
    n = 40_000
    x = model.sample(n, generator(4)).double()
    assert x.mean().item() == pytest.approx(mean, abs=4.5 * (variance / n) ** 0.5)
    assert x.var().item() == pytest.approx(variance, rel=4.5 * (2 / n) ** 0.5)


def test_the_exact_denoiser_samples_each_mode_alike_and_none_between():
    model = ExactDDPM(ONE, axes=[[1, 2, 4, 5]], kept=300)
    x = model.sample(4000, generator(5)).double().numpy()
    assert not LINE.hallucinated(x, 1e-6).any()
    shares = np.bincount(np.abs(x - LINE.means.T).argmin(1), minlength=4) / len(x)
    assert np.abs(shares - 0.25).max() < 0.05


def test_a_trace_ends_with_the_sample_and_begins_where_it_is_asked_to():
    model = ExactDDPM(ONE, axes=[[1, 2]], timesteps=30)
    x, long = model.trace(7, 5, generator(6))
    y, short = model.trace(7, 2, generator(6))
    assert long.shape == (5, 7, 1)
    torch.testing.assert_close(long[-1], x)
    torch.testing.assert_close(long[-2:], short)
    torch.testing.assert_close(x, y)
    torch.testing.assert_close(model.sample(7, generator(6)), x)
    assert not torch.equal(model.sample(7, generator(7)), x)


@pytest.mark.parametrize("width", [8, 9])
def test_the_network_is_one_layer_applied_in_turn(width):
    torch.manual_seed(2)
    net = TiedDenoiser(2, 50, width, 3).double()
    for p in net.parameters():
        p.data += 0.1 * torch.randn_like(p)
    x, t = torch.randn(6, 2, dtype=torch.float64), torch.tensor([0, 1, 7, 20, 49, 49])
    half = width // 2
    angle = [[step * 10_000 ** (-i / (half - 1)) for i in range(half)] for step in t.tolist()]
    embedding = np.hstack([np.sin(angle), np.cos(angle), np.zeros((6, width % 2))])

    def normed(h, layer):
        spread = ((h - h.mean(1, keepdim=True)) ** 2).mean(1, keepdim=True)
        return (h - h.mean(1, keepdim=True)) / (spread + 1e-5).sqrt() * layer.weight + layer.bias

    def bent(h):
        return torch.where(h > 0, h, 0.02 * h)

    shift = functional.linear(torch.from_numpy(embedding), net.time.weight, net.time.bias)
    shift = functional.linear(bent(shift), net.shift.weight, net.shift.bias)
    h = x @ net.first.weight.T
    for _ in range(3):
        y = bent(normed(h, net.norm1)) @ net.inner.weight.T + shift
        h = h + bent(normed(y, net.norm2)) @ net.outer.weight.T
    expected = normed(h, net.norm3) @ net.last.weight.T + net.last.bias
    torch.testing.assert_close(net(x, t), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(net(x, t[2:3]), net(x, t[2].repeat(6)))


def test_weights_start_uniform_as_wide_as_glorots_and_biases_at_zero():
    torch.manual_seed(0)
    net = TiedDenoiser(1, 10, 128, 1)
    for layer in (net.time, net.shift, net.inner, net.outer):
        assert layer.weight.abs().max().item() == pytest.approx((6 / 256) ** 0.5, rel=0.01)
    for layer in (net.first, net.last):
        assert layer.weight.abs().max().item() == pytest.approx((6 / 129) ** 0.5, rel=0.05)
    assert not any(layer.bias.any() for layer in (net.time, net.shift, net.last))


def test_the_loss_is_the_squared_error_in_the_noise_at_uniform_steps():
    model = SmallDDPM(TWO, timesteps=60, kept=20, width=8)
    seen = []
    noise = model.noise
    model.noise = lambda x, t: seen.append((x, t)) or noise(x, t)
    x = torch.zeros(30_000, 2)
    loss = model.loss(Batch(x, 40), generator(8))["loss"]
    ((y, t),) = seen
    counts = torch.bincount(t, minlength=20)
    assert len(counts) == 20
    assert (counts - 1500).abs().max() < 4.5 * 1500**0.5
    eps = y / (1 - model.alpha_bars[t]).sqrt()[:, None]
    assert eps.std().item() == pytest.approx(1.0, abs=0.015)
    assert loss.item() == pytest.approx((eps - noise(y, t)).square().mean().item(), rel=1e-4)
    again, other = (model.loss(Batch(x[:50], 40), generator(s))["loss"].item() for s in (8, 9))
    assert again == model.loss(Batch(x[:50], 40), generator(8))["loss"].item()
    assert again != other


def test_training_on_few_rows_sees_the_first_ones_alone_and_all_of_them():
    model = SmallDDPM(ONE, timesteps=9, width=4, rows=3)
    model.prepare(torch.arange(10.0)[:, None], generator())
    seen = []
    noised = model.noised
    model.noised = lambda x, t, eps: seen.append(x) or noised(x, t, eps)
    model.loss(Batch(torch.full((200, 1), 77.0), 40), generator(3))
    assert seen[0].shape == (200, 1)
    assert sorted(set(seen[0][:, 0].tolist())) == [0.0, 1.0, 2.0]


def test_the_exact_denoisers_laws_are_those_of_the_data():
    suite = load_suite(REPOSITORY / "suites/diffusion-mode-interpolation/suite.yaml").suite
    base = suite.methods["exact"].params
    given = {"line-1-2-3": base}
    for override in suite.overrides:
        if override.methods == ["exact"]:
            given |= {dataset: {**base, **override.params} for dataset in override.datasets}
    assert sorted(given) == sorted(suite.methods["exact"].datasets)
    for dataset, params in given.items():
        assert {"noise": 0.05, **params} == load_entry(dataset).params
    scaled = load_entry("grid-5x5").params
    x = grid_gaussians(25_000, np.random.default_rng(0), **scaled)["x"]
    assert x.std() == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("wrong", [{"axes": []}, {"axes": [[]]}, {"noise": 0.0}, {"scale": -1.0}])
def test_laws_that_are_none_are_refused(wrong):
    with pytest.raises(UserError, match="axes"):
        grid_mixture(**{"axes": [[1.0]], "noise": 0.1, **wrong})


def test_a_law_of_other_coordinates_is_refused():
    with pytest.raises(UserError, match="2 axes for 1 coordinates"):
        ExactDDPM(ONE, axes=[[1.0], [2.0]])
