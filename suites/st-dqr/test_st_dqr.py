"""Losses against plain recomputations, laws against draws, regions and radii by hand, and rules with known networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.st_dqr import networks as nets
from latentbench.papers.st_dqr import regions, study
from latentbench.papers.st_dqr.study import CalibratedRegion, Curved
from scipy.stats import chi2
from torch.distributions import MultivariateNormal, Normal, kl_divergence

INFO = DataInfo((1,), "real", 1)


def rng(seed=0):
    return np.random.default_rng(seed)


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def test_losses_spelt_out():
    x, y = torch.randn(7, 2, generator=draws(1)), torch.randn(7, 3, generator=draws(2))
    vae, noise = nets.Autoencoder(2, 3, draws(3)), torch.randn(7, 3, generator=draws(4))
    mean, log_var = vae.encoder(torch.hstack([x, y])).split(3, 1)
    law = Normal(mean, log_var.exp().sqrt())
    z = mean + law.scale * noise
    error = ((vae.decoder(torch.hstack([x, z])) - y) ** 2).mean()
    divergence = kl_divergence(law, Normal(0.0, 1.0)).sum() / 7
    torch.testing.assert_close(vae.loss(x, y, draws(4)), error + 0.01 * divergence)
    sides = torch.tensor([[0.6, 0.0, -0.8], [0.0, 1.0, 0.0]])
    for given in (sides, None):
        found, total = nets.Quantiles(2, 3, 0.2, draws(5), given), 0.0
        u = sides if given is not None else nets.directions(8, 3, draws(6))
        for i in range(7):
            for v in u:
                e = float(v @ y[i] - found.body(torch.cat([x[i], v]))[0])
                total += (0.2 * e if e > 0 else -0.8 * e) / (7 * len(u))
        assert float(found.loss(x, y, draws(6))) == pytest.approx(total, rel=1e-5)
    density, plain = nets.MixtureDensity(2, 3, draws(7)), []
    for h in density.body(x).reshape(7, 10, 16):
        factors = torch.stack([torch.diag(a.exp()) + b.reshape(3, 3).tril(-1) for a, b in zip(h[:, 4:7], h[:, 7:])])
        parts = MultivariateNormal(h[:, 1:4], factors @ factors.mT).log_prob(y[len(plain)])
        plain.append(torch.logsumexp(parts + h[:, 0], 0) - torch.logsumexp(h[:, 0], 0))
    torch.testing.assert_close(density.loss(x, y, draws()), -torch.stack(plain).mean(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(density.law(x[:1]).log_prob(y)[0], plain[0], rtol=1e-3, atol=1e-3)


def test_directions_are_uniform():
    u = nets.directions(20_000, 3, draws())
    torch.testing.assert_close(u.norm(dim=1), torch.ones(20_000))
    torch.testing.assert_close(u.T @ u / 20_000, torch.eye(3) / 3, atol=0.01, rtol=0)
    assert u.mean(0).abs().max() < 0.02


def test_training_keeps_what_held_rows_like_best(monkeypatch):
    class Level(torch.nn.Linear):
        seen: list[torch.Tensor] = []

        def loss(self, x, y, generator):
            if len(x) < 5:
                self.seen.append(torch.rand(1, generator=generator))
            return (y - self.bias).square().mean()

    monkeypatch.setattr(nets, "RATE", 0.05)
    level, rows, held = Level(1, 1), [torch.zeros(300, 1), torch.full((300, 1), 2.0)], [torch.zeros(4, 1)] * 2
    torch.nn.init.constant_(level.bias, -1.0)
    assert abs(float(nets.fit(level, rows, held, draws(), 200).bias)) < 0.1
    assert 20 < len(level.seen) < 60 and len(set(map(float, level.seen))) == 1


def test_the_simulated_law():
    law, x = Curved(np.array([0.3, 0.7]), 3, lifted=True), np.tile([3.1, 2.9], (60_000, 1))
    y, s = law.draw(x, rng()), 0.3 * 3.1 + 0.7 * 2.9
    z = np.arcsin(y[:, 2])
    apart = y[:, :2] - np.column_stack([z, (1 - np.cos(z * s)) / 2 + np.sin(3.0)])
    r = np.linalg.norm(apart, axis=1)
    for values, most in ((np.abs(z), np.pi / s), (r, 0.1)):
        np.testing.assert_allclose(np.quantile(values, [0.25, 0.5, 1]), [most / 4, most / 2, most], rtol=0.03)
    np.testing.assert_allclose(np.cov(apart.T), np.eye(2) * 0.01 / 6, atol=3e-5)
    flat = Curved(law.beta, 2, lifted=False).draw(x, rng())
    np.testing.assert_allclose(y[:, :2] - flat, [[0, np.sin(3.0)]] * len(x), atol=1e-12)


def test_the_law_s_density():
    law, x = Curved(np.array([1.0]), 2, lifted=True), np.array([2.0])
    axes = np.arange(-1.8, 1.8, 0.01), np.arange(0.6, 2.2, 0.01)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    mass, y = np.exp(law.log_density(x, grid)) * 1e-4, law.draw(np.tile(x, (40_000, 1)), rng(1))
    assert mass.sum() == pytest.approx(1, abs=0.02)
    for low in (0.9, 1.2, 1.6):
        assert mass[grid[:, 1] > low].sum() == pytest.approx((y[:, 1] > low).mean(), abs=0.02)
    assert mass @ law.log_density(x, grid) == pytest.approx(law.log_density(x, y[:3000]).mean(), abs=0.06)


def test_radii_and_grids():
    scores = rng().permutation(np.arange(1.0, 40.0))
    assert [regions.conformal(s) for s in (scores, np.arange(9.0), np.arange(8.0))] == [36, 8, np.inf]
    y = rng(1).standard_normal((5000, 3)) * [1, 2, 3]
    grid = regions.lattice(y, 60)
    low, high = np.quantile(y, 0.01, 0) - 0.2, np.quantile(y, 0.99, 0) + 0.2
    np.testing.assert_allclose(np.unique(grid[:, 1]), low[1] + (high - low)[1] * np.arange(4) / 4)
    np.testing.assert_allclose((grid.min(0), grid.max(0)), (low, high - (high - low) / 4))
    assert grid.shape == (64, 3)


def test_balls_grow_and_shrink():
    grid = np.stack(np.meshgrid(*[np.arange(-20, 21) / 10.0] * 2), -1).reshape(-1, 2)
    inside = grid[np.abs(grid).max(1) < 0.95] + [1e-4, 0]
    y = np.vstack([np.zeros((9, 2)), [[1.5, 0.2]]])
    x = np.zeros((10, 1))
    grown = regions.Balls(lambda _: inside, x, y, grid)
    assert grown.grows
    np.testing.assert_allclose(grown(x[0], np.array([[1.5, 0.2], [2, 2], [0.33, 0.1]])), [0.6, 1.1 * 2**0.5, 0.03], atol=2e-4)
    shrunk = regions.Balls(lambda _: inside, x, 0 * y, grid)  # it reaches 0.1, so that 1.0 may be in or out
    near = [np.linalg.norm(grid - b, axis=1)[np.min(np.linalg.norm(grid[:, None] - inside, axis=2), 1) > 0.1].min() for b in y]
    assert not shrunk.grows
    np.testing.assert_allclose(shrunk(x[0], y), -np.array(near))
    nothing = regions.Balls(lambda _: inside[:0], x, y, grid)
    assert np.isposinf(nothing(x[0], y)).all()
    line = np.cumsum([0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 5])[:, None]
    assert regions.Balls.reach(line) == 1 and regions.Balls.reach(np.array([[0.0], [3], [4], [9]])) == pytest.approx(4.4)


def test_scores_and_what_they_hold():
    u = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    box = regions.halfspaces(lambda x: np.array([-1, x[0], -2, -3.0]), u)  # [-1, 2] x [x, 3]
    y = np.array([[0.5, 1.0], [2.5, 1], [0, 3.2], [-3, 0.0], [0.9, -0.7]])
    np.testing.assert_allclose(box(np.array([0.0]), y), [-1.0, 0.5, 0.2, 2, 0.7])
    grid = np.stack(np.meshgrid(*[np.arange(-5, 5, 0.05)] * 2), -1).reshape(-1, 2)
    dense = regions.highest_density(lambda x, a: -0.5 * ((a - x) ** 2).sum(1) + 7, grid)
    np.testing.assert_allclose(dense(np.zeros(1), y), chi2.cdf((y**2).sum(1), 2), atol=0.01)
    rows = np.arange(1.0, 20)[:, None]  # radius 18 of 1, ..., 19; new rows are moved by x
    held = regions.judged(lambda x, a: np.abs(a[:, 0] - x[0]), (0 * rows, rows), (rows[:3], rows[:3] + 18), rows * 2)
    np.testing.assert_array_equal(held[0], [True] * 3)
    np.testing.assert_array_equal(held[1], [9, 10, 10])
    held = regions.judged(lambda x, a: np.abs(a[:, 0] - x[0]), (0 * rows, rows), (rows[:2], rows[:2] + [[18.1], [17.9]]), rows)
    np.testing.assert_array_equal(held[0], [False, True])


def table(n=400):
    values = torch.from_numpy(rng(7).standard_normal((n, 10)) * np.arange(1, 11) + np.arange(10))
    return values, Batch({"x": values[:, :9], "y": values[:, 9:]})


def test_problems():
    given = CalibratedRegion(INFO, inputs=3, dimensions=3, rows=40).problem(rng()).given
    assert [given["y" + part].shape for part in ("", "_held", "_calibration", "_new")] == [(40, 3), (10, 3), (10, 3), (5, 3)]
    assert given["law"].beta.sum() == pytest.approx(1) and not given["law"].lifted
    x = np.vstack([given["x" + part] for part in ("", "_held", "_calibration", "_new")])
    assert len(np.unique(x, axis=0)) == 65 and 0.8 < x.min() < 1 < 3 < x.max() < 3.2
    np.testing.assert_allclose(given["y"][:, 0], np.arcsin(given["y"][:, 2]), atol=0.1 + 2.4)
    values, data = table()
    one = CalibratedRegion(INFO, design="table", rows=200)
    one.start(data, draws())
    given = one.problem(rng()).given
    order, raw = rng().permutation(400), values.numpy()
    scaled = (raw[order] - raw[order[:200]].mean(0)) / raw[order[:200]].std(0)
    np.testing.assert_allclose(given["y_new"], scaled[300:325][:, [6, 9]])
    np.testing.assert_allclose(given["x_calibration"], scaled[250:300][:, [0, 1, 2, 3, 4, 5, 7, 8]])
    other = CalibratedRegion(INFO, design="table", rows=200)
    other.load_state_dict(one.state_dict())
    np.testing.assert_array_equal(other.problem(rng()).given["x"], given["x"])
    with pytest.raises(UserError, match="as many rows"):
        CalibratedRegion(INFO, design="table", rows=300).start(data, draws())


def trained(monkeypatch, **kinds):
    """Networks with known answers in place of trained ones; what they were to be trained on."""
    seen = []
    monkeypatch.setattr(study, "fit", lambda net, rows, held, *_: seen.append((net, rows, held)) or net)
    monkeypatch.setattr(nets.Quantiles, "forward", lambda self, x, u: (x.sum(1) - 2.0)[:, None].expand(-1, len(u)))
    monkeypatch.setattr(nets.Autoencoder, "encode", lambda self, x, y, g: (torch.hstack([y, y[:, :1]]) * 2, None))
    monkeypatch.setattr(nets.Autoencoder, "decode", lambda self, x, z: z[:, :2] / 2 + x[:, :1])
    return seen


def test_directional_regions(monkeypatch):
    seen, y = trained(monkeypatch), torch.rand(500, 2, generator=draws(9)) * 6 - 3
    x, held = torch.rand(500, 1, generator=draws(8)), [torch.zeros(3, 1), torch.ones(3, 2)]
    found = CalibratedRegion(INFO, rule="npdqr", tau=0.07).points(x, y, held, draws())(np.array([0.5])).numpy()
    grid = regions.lattice(y.numpy(), 4096).astype(np.float32)
    assert len(found) == (np.linalg.norm(grid, axis=1) < 1.5).sum() + pytest.approx(0, abs=12)
    assert np.linalg.norm(found, axis=1).max() < 1.51
    assert seen[0][0].tau == 0.07 and seen[0][2] is held and seen[0][1][1] is y
    found = CalibratedRegion(INFO, rule="st-dqr", tau=0.03).points(x, y, held, draws())(np.array([0.5])).numpy()
    assert np.linalg.norm(found - 0.5, axis=1).max() == pytest.approx(0.75, abs=0.03)
    assert np.abs(found.mean(0) - 0.5).max() < 0.15
    assert seen[2][0].tau == 0.03
    torch.testing.assert_close(seen[2][1][1], 2 * y[:, [0, 1, 0]])
    torch.testing.assert_close(seen[2][2][1], torch.full((3, 3), 2.0))
    found = CalibratedRegion(INFO, rule="decoded").points(x, y, held, draws())(np.array([0.5])).numpy()
    np.testing.assert_allclose(np.cov(found.T), np.eye(2) / 4, atol=0.05)


def test_rules(monkeypatch):
    seen, made = trained(monkeypatch), CalibratedRegion(INFO, rule="constant", rows=800)
    given = made.problem(rng()).given
    low, high = np.quantile(given["y"], [0.025, 0.975], axis=0)
    y = rng(3).uniform(-2, 2, (50, 2))
    plain = np.maximum(low - y, y - high).max(1)
    np.testing.assert_allclose(made.score(given, y, draws())(np.ones(1), y), plain, atol=1e-5)
    score = CalibratedRegion(INFO, rule="naive").score(given, y, draws())
    np.testing.assert_allclose(score(np.array([0.7]), y), np.abs(y).max(1) - 1.3, atol=1e-6)
    assert seen[0][0].tau == 0.025 and seen[0][0].sides.tolist() == [[1, 0], [0, 1], [-1, 0], [0, -1]]
    with pytest.raises(UserError, match="density"):
        CalibratedRegion(INFO, rule="oracle").score({**given, "law": None}, y, draws())
    oracle = CalibratedRegion(INFO, rule="oracle", rows=1600)
    oracle.start(None, draws(5))
    oracle.advance(None, None)
    values = [m(oracle, None, {}, None).value for m in (study.region_coverage, study.region_log_area)]
    (_, answer), *_ = oracle.answered()
    assert values == [answer["covered"].mean(), np.log(1 + answer["area"].mean())]
    assert values[0] == pytest.approx(0.9, abs=0.06)
