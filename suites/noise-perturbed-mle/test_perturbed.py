"""Training against the kit's VAE step by step, laws and distances against closed forms, measures laid out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import ot
import pytest
import torch
from latentbench.core.types import Batch, DataInfo
from latentbench.models.vae import VAE
from latentbench.papers.noise_perturbed_mle import laws, perturbed
from latentbench.papers.noise_perturbed_mle.laws import MANIFOLDS, spread, wasserstein
from latentbench.papers.noise_perturbed_mle.perturbed import PerturbedDecoder, ReferenceLaw, layers, network
from scipy.special import j1

INFO = DataInfo((1,), "real", 1)
SMALL = {"dims": 4, "rows": (8, 32)}


rng, draws = np.random.default_rng, torch.Generator().manual_seed


@pytest.mark.parametrize("fixed", [False, True])
def test_training_is_that_of_the_kits_vae_on_perturbed_rows(fixed):
    study = PerturbedDecoder(INFO, levels=(0.1, 0.3), fixed=fixed, steps=5, **SMALL)
    x, z = torch.randn(64, 4, generator=draws(2)), torch.randn(9, 2, generator=draws(4))
    decoder, log_sigma = study.trained(x, draws(3))
    for lane, (n, level) in enumerate([(8, 0.1), (8, 0.3), (32, 0.1), (32, 0.3)]):
        again = draws(3)
        own = [p[0] for sizes in ((4, 32, 32, 4), (2, 32, 32, 4)) for p in layers(1, sizes, again)]
        head = {"gaussian": {"scale": level if fixed else "shared"}}
        how = {"activation": "relu", "k": 5, "objective": "iwae", "likelihood": head}
        vae = VAE(DataInfo((4,), "real", 32), latent_dim=2, hidden=(32, 32), **how)
        linear = [m for m in vae.modules() if isinstance(m, torch.nn.Linear)]
        for layer, weight, bias in zip(linear, own[::2], own[1::2], strict=True):
            layer.weight.data, layer.bias.data = weight.detach().T.contiguous(), bias[0].detach()
        vae.likelihood.log_std.data.fill_(np.log(level if fixed else 0.3))
        optimiser = torch.optim.Adam(vae.parameters())
        for step in range(5):
            optimiser.param_groups[0]["lr"] = 0.005 * (1 + np.cos(np.pi * step / 5))
            rows = (torch.rand(50, generator=again, dtype=torch.float64) * n).long()
            y = x[rows] + (0.0 if fixed else level) * torch.randn(50, 4, generator=again)
            optimiser.zero_grad()
            vae.loss(Batch(y, 32), again)["loss"].backward()
            optimiser.step()
        assert log_sigma[lane].item() == pytest.approx(vae.likelihood.log_std.item(), abs=1e-5)
        torch.testing.assert_close(network(z.repeat(4, 1, 1), decoder)[lane], vae.decode(z), atol=1e-4, rtol=1e-4)


def test_lanes_begin_alike_within_glorots_range():
    weight, bias = layers(3, (40, 60), draws(0))
    assert not bias.any()
    assert [weight[0].min().item(), weight[2].max().item()] == pytest.approx([-(0.06**0.5), 0.06**0.5], rel=0.02)


def test_levels_may_have_several_starts():
    weight = layers(6, (40, 60), draws(0), starts=3)[0]
    assert torch.equal(weight[:3], weight[3:])
    assert not torch.equal(weight[0], weight[1])
    study = PerturbedDecoder(INFO, levels=(0.1, 0.3), starts=2, steps=1, **SMALL)
    assert study.cells == [(n, level) for n in (8, 32) for level in (0.1, 0.1, 0.3, 0.3)]
    points = study.answer(study.problem(rng(1)).given, rng(2))["points"]
    assert points.shape == (2, 4, 32, 4)
    assert np.abs(points[0, 0] - points[0, 1]).max() > 0.1


def test_sigma_finds_the_noise():
    study = PerturbedDecoder(INFO, levels=(0.15, 0.3), steps=600, dims=3, rows=(8, 256))
    _, log_sigma = study.trained(torch.tensor(study.problem(rng(0)).given["x"], dtype=torch.float32), draws(0))
    np.testing.assert_allclose(log_sigma[2:].exp(), [0.15, 0.3], rtol=0.15)


def test_held_out_rows_choose_the_level(monkeypatch):
    study = PerturbedDecoder(INFO, levels=(0.1, 0.2, 0.4), **SMALL)
    x, seen = study.problem(rng(3)).given["x"], []
    slices = (x[:8], x[32:40], x[32:], x[:32], x[32:], x[8:40])
    points = np.stack([each.repeat(32 // len(each), 0) for each in slices])
    monkeypatch.setattr(study, "trained", lambda x, _: seen.append(x) or ([], None))
    monkeypatch.setattr(perturbed, "network", lambda z, _: seen.append(z) or torch.tensor(points))
    found = study.answer({"x": x}, rng(6))
    assert np.abs(seen[0].numpy() - x).max() < 1e-6
    np.testing.assert_allclose([*seen[1].mean(1).T, *seen[1].std(1).T], [[0] * 6] * 2 + [[1] * 6] * 2, atol=0.1)
    np.testing.assert_array_equal(found["points"], points.reshape(2, 3, 32, 4))
    assert found["chosen"].tolist() == [1, 1]


def test_laws_have_the_moments_of_their_densities():
    u, b = spread(4096, 2, rng(0)), -j1(0.6)
    x, y = (MANIFOLDS[m][0](u) for m in ("circle", "torus"))
    out = np.hypot(y[:, 0], y[:, 1])
    np.testing.assert_allclose([np.linalg.norm(x, axis=1), (out - 1) ** 2 + y[:, 2] ** 2 + 0.84], 1)
    np.testing.assert_allclose([*x.mean(0), out.mean(), *y.mean(0)], [b, 0, 1, b, 0, 0], atol=5e-3)
    x = MANIFOLDS["spiral"][0](np.array([[0.0], [0.4], [1.0]]))
    np.testing.assert_allclose(x, [[0.2, 0], [-0.6, 0], [0, 1.2]], atol=1e-12)


@pytest.mark.parametrize(("manifold", "flat"), [("circle", 2), ("spiral", 2), ("torus", 3)])
def test_a_problem_is_one_law_turned(manifold, flat):
    study = ReferenceLaw(INFO, manifold=manifold, dims=7, rows=(8, 64))
    first, second = study.problem(rng(1)), study.problem(rng(2))
    x, other, points = first.given["x"], first.given["other"], first.truth["points"]
    assert [each.shape for each in (x, other, points)] == [(128, 7), (64, 7), (64, 7)]
    assert np.linalg.matrix_rank(np.concatenate([x, other, points]), tol=1e-8) == flat
    assert np.linalg.matrix_rank(np.concatenate([x, second.given["x"]]), tol=1e-8) > flat
    assert np.abs(other - points).max() > 1e-3
    ends = np.quantile(np.linalg.norm(MANIFOLDS[manifold][0](spread(4096, 2, rng(0))), axis=1), [0, 1])
    np.testing.assert_allclose(np.quantile(np.linalg.norm(points, axis=1), [0, 1]), ends, atol=0.05)


@pytest.mark.parametrize(("n", "m"), [(6, 6), (12, 4), (12, 3)])
def test_distance_is_that_of_a_linear_programme(n, m):
    x, y = rng(1).standard_normal((n, 3)), rng(2).standard_normal((m, 3)) + 0.4
    assert wasserstein(x, y) == pytest.approx(ot.emd2([], [], ot.dist(x, y, metric="euclidean")))


def test_reference_laws():
    study = {law: ReferenceLaw(INFO, law=law, dims=4, rows=(8, 32, 256)) for law in ("rows", "normal", "truth")}
    problem = study["rows"].problem(rng(1))
    points = {law: s.answer(problem.given, rng(2))["points"][:, 0] for law, s in study.items()}
    for row, n in enumerate((8, 32, 256)):
        x = problem.given["x"][:n]
        assert sorted(points["rows"][row].tolist()) == sorted(x.tolist() * (256 // n))
        np.testing.assert_allclose(points["normal"][row].mean(0), x.mean(0), atol=0.03)
        np.testing.assert_allclose(np.cov(points["normal"][row].T), np.cov(x.T), atol=0.05)
    floor, rows, normal = (wasserstein(points[law][2], problem.truth["points"]) for law in ("truth", "rows", "normal"))
    assert 0 < floor < 0.02 < 0.04 < rows < 0.15 < 0.3 < normal < 0.6


def test_measures_of_distances_that_are_laid_out_by_hand():
    """Two problems, n of 8 and 32, three levels: every point is off by the distance in the table."""
    table = np.array([[[0.4, 0.3, 0.9], [0.1, 0.2, 0.6]], [[0.8, 0.7, 0.5], [0.2, 0.1, 0.3]]])
    x, off = rng(0).standard_normal((16, 3)), table[..., None, None] * np.array([0, 0.6, 0.8])
    answers = [({"points": x}, {"points": x + off[i], "chosen": np.array([[2, 0], [1, 1]][i])}) for i in range(2)]
    model = SimpleNamespace(problems=2, rows=(8, 32), levels=(0.1, 0.2, 0.4), answered=lambda: iter(answers))
    first, last = (laws.law_wasserstein(model, None, {"rows": r}, None) for r in (0, -1))
    assert (first.value, first.se, last.value) == pytest.approx((0.8, 0.1, 0.1))
    assert [last.details[f"level_{i}"] for i in range(3)] == pytest.approx([0.15, 0.15, 0.45])
    exponent, cost = (measure(model, None, {}, None) for measure in (laws.law_exponent, laws.noise_cost_exponent))
    assert exponent.value == pytest.approx(np.log([0.1 / 0.9, 0.1 / 0.7]).mean() / np.log(4))
    tilts = np.log([[0.9 / 0.4, 0.6 / 0.1], [0.5 / 0.8, 0.3 / 0.2]]) / np.log(4)  # of equal steps the ends decide
    assert cost.value == pytest.approx((tilts[:, 1] - tilts[:, 0]).mean() / np.log(4))
    assert cost.details == pytest.approx({"8": np.log([0.2, 0.4]).mean(), "32": np.log([0.1, 0.2]).mean()})
