"""Points by their moments, distances by closed forms, losses by loops, scatter of a known law."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.evaluation import samples
from latentbench.papers.unscented_autoencoder import measure
from latentbench.papers.unscented_autoencoder.unscented import UnscentedSampler, distance, unit_points

from tests.evaluation.views import pixels, view_of

X = torch.rand(9, 2, 3, generator=torch.Generator().manual_seed(0))
VIEW = view_of(pixels(700, (2, 3)), ["to_unit"], levels=256)
D = 4


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(**params: object) -> UnscentedSampler:
    torch.manual_seed(1)
    info = DataInfo((2, 3), "unit", 40)
    made = UnscentedSampler(info, autoencoder={"latent_dim": D, "hidden": (5,), "k": 6, **params}, components=2)
    for parameter in made.parameters():
        parameter.data *= 1.5
    return made


def test_sigma_points_are_mirror_images_on_an_axis_of_each_row():
    e = unit_points("sigma", 6, 4000, D, gen())
    assert torch.equal(e[3:], -e[:3])
    assert ((e != 0).sum(-1) == 1).all()
    torch.testing.assert_close(e.norm(dim=-1), torch.full((6, 4000), math.sqrt(D + 1e-3)))
    axes = e[:3].argmax(-1)
    np.testing.assert_allclose(axes.flatten().bincount() / axes.numel(), 1 / D, atol=0.02)
    for a, b in ((axes[0], axes[1]), (axes[0, 1:], axes[0, :-1])):  # with replacement, and a row by itself
        assert (a != b).float().mean() == pytest.approx(1 - 1 / D, abs=0.03)


def test_one_point_is_any_of_all_sigma_points():
    kinds, counts = unit_points("sigma", 1, 60_000, D, gen(2))[0].unique(dim=0, return_counts=True)
    assert (len(kinds), kinds.norm(dim=1).max().item()) == (2 * D + 1, pytest.approx(math.sqrt(D + 1e-3)))
    np.testing.assert_allclose(counts / 60_000, 1 / (2 * D + 1), atol=0.01)


@pytest.mark.parametrize("kind", ["sigma", "draws", "antithetic"])
def test_moments_are_the_posteriors(kind: str):
    e = unit_points(kind, 2, 40_000, D, gen(1)).double()
    np.testing.assert_allclose(e.mean((0, 1)), 0, atol=0.02)
    np.testing.assert_allclose(e[0].T @ e[0] / e.shape[1], torch.eye(D), atol=0.04)
    assert (e[0] * e[1]).sum(-1).mean().item() == pytest.approx(0 if kind == "draws" else -D, abs=0.06)


def test_distances_are_closed_forms():
    mean, log_std = torch.randn(7, 3, generator=gen(3)), 0.5 * torch.randn(7, 3, generator=gen(4))
    p, q = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(mean, log_std.exp())
    torch.testing.assert_close(distance("kl", mean, log_std), torch.distributions.kl_divergence(q, p).sum(1))
    norms = [m.norm() + torch.linalg.matrix_norm(s.exp().diag() - torch.eye(3)) for m, s in zip(mean, log_std)]
    torch.testing.assert_close(distance("norms", mean, log_std), torch.stack(norms))


@pytest.mark.parametrize("kind", ["kl", "norms"])
@pytest.mark.parametrize(("points", "average"), [("sigma", True), ("draws", False)])
def test_loss_and_gradient_by_a_loop(kind: str, points: str, average: bool):
    model = build(points=points, average=average, regulariser=kind, weight=0.7).autoencoder
    loss = model.loss(Batch(X, 40), gen(5))["loss"]
    mean, log_std = model.posterior.head(model.posterior.body(X)).chunk(2, 1)
    e, total = unit_points(points, 6, 9, D, gen(5)), 0.0
    for i in range(9):
        images = [model.decoder(mean[i : i + 1] + log_std[i].exp() * e[j, i])[0] for j in range(6)]
        images = [sum(images) / 6] if average else images
        error = sum(((X[i].flatten() - image) ** 2).mean() for image in images) / len(images)
        total = total + (error + 0.7 * distance(kind, mean[i : i + 1], log_std[i : i + 1])[0]) / 9
    torch.testing.assert_close(loss, total)
    ours, theirs = (torch.autograd.grad(v, list(model.parameters()), retain_graph=True) for v in (loss, total))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    expected = torch.cat([g.flatten() for g in ours]).double()
    torch.testing.assert_close(measure.estimate(model, X, points, "gradient", gen(5)), expected)
    assert measure.estimate(model, X, points, "loss", gen(5)).item() == pytest.approx(loss.item())


def linear(average: bool = False) -> UnscentedSampler:
    """A decoder whose first four coordinates are the code times (1, 2, 3, 4), which x's encode; deviations of 1."""
    model, scale = build(average=average), torch.arange(1.0, D + 1)
    model.autoencoder.decoder = torch.nn.Module()
    model.autoencoder.decoder.forward = lambda z: torch.nn.functional.pad(z * scale, (0, 2))
    model.autoencoder.gaussian = lambda x: (x.flatten(1)[:, :D] / scale, torch.zeros(len(x), D))
    return model


def test_a_linear_decoder_shows_the_unscented_transform_nothing():
    """Mirror images cancel, so that the averaged loss is a plain autoencoder's; of draws the k-th part is left."""
    x, spread = torch.rand(3000, 2, 3, generator=gen(6)), sum(i**2 for i in range(1, D + 1)) / 6
    residual = x.flatten(1)[:, D:].square().sum(1) / 6
    found = linear(True).autoencoder.squared_error(x, "sigma", gen(7))[0]
    torch.testing.assert_close(found, residual, rtol=1e-4, atol=1e-5)
    for points, average, extra in [("draws", True, spread / 6), ("draws", False, spread), ("sigma", False, spread)]:
        found = linear(average).autoencoder.squared_error(x, points, gen(8))[0] - residual
        assert found.mean().item() == pytest.approx(extra, rel=0.04)


@pytest.mark.parametrize(("rival", "factor"), [("draws", 1.0), ("antithetic", 2.0)])
def test_scatter_of_a_known_law(rival: str, factor: float):
    """The mean over k points of sum_i a_i e_i^2, a_i = i^2 / 6, has the variance 2 sum a^2 / k by draws, twice that in
    antithetic pairs, and 2 D^2 var(a) / k by sigma points; three rows have a third."""
    settings = {"of": "loss", "rival": rival, "rows": 3, "draws": 1500}
    found = measure.sigma_scatter(linear(), VIEW, settings, gen(9))
    a = np.arange(1.0, D + 1) ** 2 / 6
    ours, theirs = 2 * D**2 * a.var() / 18, factor * 2 * (a**2).sum() / 18
    assert (found.details["sigma"], found.details[rival]) == pytest.approx((ours, theirs), rel=0.15)
    assert found.value == pytest.approx(math.log(found.details["sigma"] / found.details[rival]))


@pytest.mark.parametrize(("setting", "value"), [("of", "los"), ("rival", "antithetik")])
def test_scatter_of_something_else_is_refused(setting: str, value: str):
    settings = {"of": "loss", "rival": "draws", "rows": 5, "draws": 3, setting: value}
    with pytest.raises(UserError, match=value):
        measure.sigma_scatter(linear(), VIEW, settings, gen())


def test_scatter_of_gradients_is_summed_over_weights():
    model, g = build().requires_grad_(False), gen(12)  # as a stage that is over leaves it
    settings = {"of": "gradient", "rival": "draws", "rows": 5, "draws": 150}
    found, part = measure.sigma_scatter(model, VIEW, settings, gen(11)), model.autoencoder.requires_grad_(True)
    for points in ("sigma", "draws"):
        rows = [measure.estimate(part, VIEW.x[:5], points, "gradient", g).numpy() for _ in range(150)]
        assert found.details[points] == pytest.approx(np.var(rows, 0, ddof=1).sum(), rel=0.25)


def test_reconstructions_stand_in_the_place_of_samples(monkeypatch):
    monkeypatch.setattr(measure, "samples", SimpleNamespace(fid_lenet=samples.fid_pixels))
    stored = VIEW.raw.reshape(700, -1) / 255
    black = (stored.mean(0) ** 2).sum() + stored.var(0, ddof=1).sum()
    for back, expected in ((lambda x: x, 0), (lambda x: 0 * x, black)):
        found = measure.reconstruction_fid(SimpleNamespace(reconstruct=back), VIEW, {}, gen())
        assert (found.n, found.value) == (700, pytest.approx(expected, rel=1e-3, abs=1e-6))


def test_share_of_known_posteriors():
    mean, var = (torch.tensor(t).repeat(350, 1) for t in ([[2.0, 5.0], [-2.0, 5.0]], [[0.5, 3.0], [1.5, 3.0]]))
    model = SimpleNamespace(encode_gaussian=lambda x: (mean, var.log()))
    assert measure.posterior_share(model, VIEW, {}, gen()).value == pytest.approx(4 / 8)


def test_samples_are_decoded_draws_of_the_mixture():
    model = build()
    model.stages()["density"].fit(torch.randn(200, D) * 0.1 + 4.0, gen())
    with torch.no_grad():
        z = model.density.sample(500, gen(1))
        torch.testing.assert_close(model.sample(500, gen(1)), model.decode(z))
        assert (z > 3).all()
        spread = model.encode_sample(X.repeat(5000, 1, 1), gen(2)).unflatten(0, (5000, 9)).var(0)
        torch.testing.assert_close(spread, model.encode_gaussian(X)[1].exp(), rtol=0.1, atol=1e-3)
        torch.testing.assert_close(model.reconstruct(X), model.autoencoder.decode(model.autoencoder.posterior(X)[0]))
