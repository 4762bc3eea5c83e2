"""Losses against plain recomputations, regions and radii by hand, rules with networks whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.st_dqr import networks as nets
from latentbench.papers.st_dqr import study
from latentbench.papers.st_dqr.study import CalibratedRegion
from scipy.stats import chi2
from torch.distributions import MultivariateNormal, Normal, kl_divergence

INFO = DataInfo((1,), "real", 1)
rng = np.random.default_rng


def drawn(seed):
    return torch.Generator().manual_seed(seed)


def square(low, high, step):
    return np.stack(np.meshgrid(*[np.arange(low, high, step)] * 2), -1).reshape(-1, 2)


def test_losses_spelt_out():
    x, y, noise = (torch.randn(7, n, generator=drawn(n)) for n in (2, 3, 3))
    vae = nets.Autoencoder(2, 3, drawn(1))
    mean, log_var = vae.encoder(torch.hstack([x, y])).split(3, 1)
    law = Normal(mean, log_var.exp().sqrt())
    error = ((vae.decoder(torch.hstack([x, mean + law.scale * noise])) - y) ** 2).mean()
    torch.testing.assert_close(vae.loss(x, y, drawn(3)), error + 0.01 * kl_divergence(law, Normal(0.0, 1.0)).sum() / 7)
    for sides in (torch.tensor([[0.6, 0.0, -0.8], [0.0, 1.0, 0.0]]), None):
        found, total = nets.Quantiles(2, 3, 0.2, drawn(5), sides), 0.0
        u = nets.directions(8, 3, drawn(6)) if sides is None else sides
        for i, v in ((i, v) for i in range(7) for v in u):
            e = float(v @ y[i] - found.body(torch.cat([x[i], v])).detach()[0])
            total += (0.2 * e if e > 0 else -0.8 * e) / (7 * len(u))
        assert float(found.loss(x, y, drawn(6)).detach()) == pytest.approx(total, rel=1e-5)
    density = nets.MixtureDensity(2, 3, drawn(7))
    weights, means, scales, lower = density.body(x).reshape(7, 10, 16).split([1, 3, 3, 9], 2)
    factor = (scales.exp().diag_embed() + lower.reshape(7, 10, 3, 3).tril(-1)).double()  # nearly singular ones, too
    law = MultivariateNormal(means.double(), factor @ factor.mT)
    parts = law.log_prob(y[:, None].double()) + weights[..., 0].log_softmax(1)
    torch.testing.assert_close(density.loss(x, y, drawn(0)), -parts.logsumexp(1).mean().float(), rtol=1e-3, atol=1e-3)
    u = nets.directions(20_000, 3, drawn(0))
    moments = torch.stack([u.mean(0), (u**2).mean(0), (u**4).mean(0)], 1)
    torch.testing.assert_close(moments, torch.tensor([[0, 1 / 3, 1 / 5]] * 3), atol=0.02, rtol=0)


def test_training_keeps_what_held_rows_like_best(monkeypatch):
    class Level(torch.nn.Linear):
        def loss(self, x, y, generator):
            seen.extend([float(torch.rand(1, generator=generator))] if len(x) < 5 else [])
            return (y - self.bias).square().mean()

    monkeypatch.setattr(nets, "RATE", 0.05)
    seen, level, rows = [], Level(1, 1), [torch.zeros(300, 1), torch.full((300, 1), 2.0)]
    torch.nn.init.constant_(level.bias, -1.0)
    assert abs(nets.fit(level, rows, [torch.zeros(4, 1)] * 2, drawn(0), 300).bias.item()) < 0.1
    assert nets.PATIENCE < len(seen) < nets.PATIENCE + 40
    assert len(set(seen)) == 1


def test_curved_responses():
    x, beta = np.tile([3.1, 2.9], (60_000, 1)), np.array([0.3, 0.7])
    slope, lift = 0.3 * 3.1 + 0.7 * 2.9, np.sin(3.0)
    y, flat = (study.curved(x, beta, rng(0), lifted=lifted) for lifted in (True, False))
    np.testing.assert_allclose(y - flat, np.tile([0, lift], (60_000, 1)), atol=1e-12)
    z = np.linspace(-np.pi, np.pi, 20_001) / slope
    apart = study.nearest(np.column_stack([z, (1 - np.cos(z * slope)) / 2]), flat)
    assert 0.099 < apart.max() < 0.1001
    assert np.quantile(apart, 0.5) == pytest.approx(0.032, abs=0.01)
    np.testing.assert_allclose(np.quantile(flat[:, 0] * slope / np.pi, [0.25, 0.5, 0.75]), [-0.5, 0, 0.5], atol=0.02)


def test_scores():
    y, points = square(-3, 3, 0.7), rng(0).standard_normal((9, 2))
    dense = study.highest_density(lambda x, a: -0.5 * ((a - x) ** 2).sum(1) + 7, square(-5, 5, 0.05))
    np.testing.assert_allclose(dense(np.zeros(1), y), chi2.cdf((y**2).sum(1), 2), atol=0.01)
    np.testing.assert_allclose(study.nearest(points, y), [min(np.hypot(*(a - points).T)) for a in y])
    np.testing.assert_array_equal(study.nearest(points[:0], y), np.full(len(y), np.inf))


def test_problems():
    given = CalibratedRegion(INFO, inputs=3, rows=40).problem(rng(0)).given
    assert [len(given["y" + part]) for part in ("", "_held", "_calibration", "_new")] == [40, 10, 10, 5]
    x = np.vstack([rows for name, rows in given.items() if name[0] == "x"])
    assert len(np.unique(x, axis=0)) == 65
    assert 0.8 < x.min() < 1 < 3 < x.max() < 3.2
    values = torch.from_numpy(rng(7).standard_normal((400, 10)) * np.arange(1, 11) + np.arange(10))
    data = Batch(values[:, :9], 400, columns={"y": values[:, 9:]})
    one, other = (CalibratedRegion(INFO, design="table", rows=200) for _ in range(2))
    one.start(data, drawn(0))
    other.load_state_dict(one.state_dict())
    given, raw = other.problem(rng(0)).given, values.numpy()[rng(0).permutation(400)]
    raw = (raw - raw[:200].mean(0)) / raw[:200].std(0)
    np.testing.assert_allclose(given["y_new"], raw[300:325][:, [6, 9]])
    np.testing.assert_allclose(given["x_calibration"], raw[250:300][:, [0, 1, 2, 3, 4, 5, 7, 8]])
    with pytest.raises(UserError, match="as many rows"):
        CalibratedRegion(INFO, design="table", rows=300).start(data, drawn(0))


def test_rules(monkeypatch):
    seen = []
    monkeypatch.setattr(study, "fit", lambda net, rows, held, *_: seen.append((net, rows, list(held))) or net)
    monkeypatch.setattr(study, "nearest", lambda points, _: points)
    monkeypatch.setattr(nets.Quantiles, "forward", lambda self, x, u: (x.sum(1) - 2.0)[:, None].expand(-1, len(u)))
    monkeypatch.setattr(nets.Autoencoder, "encode", lambda self, x, y, g: (torch.hstack([y, y[:, :1]]) * 2, None))
    monkeypatch.setattr(nets.Autoencoder, "decode", lambda self, x, z: z[:, :2] / 2 + x[:, :1])
    given = CalibratedRegion(INFO, rows=800).problem(rng(0)).given
    given |= {"y": rng(2).uniform(-3, 3, (800, 2)), "y_held": given["y_held"] + 1}
    y, at = rng(3).uniform(-2, 2, (50, 2)), np.array([0.5])
    settings = (("constant", 0.2), ("naive", 0.2), ("npdqr", 0.07), ("st-dqr", 0.03))
    scores = [CalibratedRegion(INFO, rule=rule, tau=tau).score(given, y, drawn(0)) for rule, tau in settings]
    (constant, naive, npdqr, ours), (low, high) = scores, np.quantile(given["y"], [0.025, 0.975], axis=0)
    np.testing.assert_allclose(constant(at, y), np.maximum(low - y, y - high).max(1), atol=1e-5)
    np.testing.assert_allclose(naive(at, y), np.abs(y).max(1) - 1.5, atol=1e-6)
    np.testing.assert_array_equal(seen[0][0].sides, [[1, 0], [0, 1], [-1, 0], [0, -1]])
    found, apart = np.linalg.norm(npdqr(at, y), axis=1), ours(at, y) - 0.5
    assert abs(len(found) - (np.linalg.norm(study.lattice(given["y"], 4096), axis=1) < 1.5).sum()) < 12
    assert found.max() < 1.51
    assert np.linalg.norm(apart, axis=1).max() == pytest.approx(0.75, abs=0.03)
    assert np.abs(apart.mean(0)).max() < 0.05
    assert [net.tau for net, *_ in seen if isinstance(net, nets.Quantiles)] == [0.025, 0.07, 0.03]
    for rows, of in zip(seen[3][1:], ("", "_held"), strict=True):
        np.testing.assert_allclose(rows[0], given["x" + of], rtol=1e-5)
        np.testing.assert_allclose(rows[1], 2 * given["y" + of][:, [0, 1, 0]], rtol=1e-5)


def test_answers_and_metrics(monkeypatch):
    grids, one = [], CalibratedRegion(INFO)
    distance = lambda x, y: np.abs(y[:, 0] - x[0])  # noqa: E731
    monkeypatch.setattr(CalibratedRegion, "score", lambda self, given, grid, _: grids.append(grid) or distance)
    one.start(None, drawn(5))
    one.advance(None, None)
    (_, answer), *_ = one.answered()
    given = one.problem(one._stream(0, "problem")).given
    low, high = np.add(np.quantile(given["y"], [0.01, 0.99], axis=0), [[-0.2], [0.2]])
    ticks = low + (high - low) * np.arange(55)[:, None] / 55
    np.testing.assert_allclose(grids[0], [(a, b) for a in ticks[:, 0] for b in ticks[:, 1]])
    old, new = (np.abs(given["y" + of][:, 0] - given["x" + of][:, 0]) for of in ("_calibration", "_new"))
    radius = np.sort(old)[540]
    np.testing.assert_array_equal(answer["covered"], new <= radius)
    np.testing.assert_array_equal(answer["area"], (np.abs(ticks[:, 0] - given["x_new"]) <= radius).sum(1) * 55)
    values = [m(one, None, {}, None).value for m in (study.region_coverage, study.region_log_area)]
    assert values == [answer["covered"].mean(), np.log(1 + answer["area"].mean())]
