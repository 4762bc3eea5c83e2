"""Losses against plain recomputations, regions and radii by hand, rules with networks whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.st_dqr import networks as nets
from latentbench.papers.st_dqr import regions, study
from latentbench.papers.st_dqr.study import CalibratedRegion
from scipy.stats import chi2
from torch.distributions import MultivariateNormal, Normal, kl_divergence

INFO = DataInfo((1,), "real", 1)


def rng(seed=0):
    return np.random.default_rng(seed)


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def square(low, high, step):
    return np.stack(np.meshgrid(*[np.arange(low, high, step)] * 2), -1).reshape(-1, 2)


def test_losses_spelt_out():
    x, y = torch.randn(7, 2, generator=draws(1)), torch.randn(7, 3, generator=draws(2))
    vae, noise = nets.Autoencoder(2, 3, draws(3)), torch.randn(7, 3, generator=draws(4))
    mean, log_var = vae.encoder(torch.hstack([x, y])).split(3, 1)
    law = Normal(mean, log_var.exp().sqrt())
    error = ((vae.decoder(torch.hstack([x, mean + law.scale * noise])) - y) ** 2).mean()
    torch.testing.assert_close(vae.loss(x, y, draws(4)), error + 0.01 * kl_divergence(law, Normal(0.0, 1.0)).sum() / 7)
    for sides in (torch.tensor([[0.6, 0.0, -0.8], [0.0, 1.0, 0.0]]), None):
        found, total = nets.Quantiles(2, 3, 0.2, draws(5), sides), 0.0
        u = nets.directions(8, 3, draws(6)) if sides is None else sides
        for i, v in ((i, v) for i in range(7) for v in u):
            e = float(v @ y[i] - found.body(torch.cat([x[i], v])).detach()[0])
            total += (0.2 * e if e > 0 else -0.8 * e) / (7 * len(u))
        assert float(found.loss(x, y, draws(6)).detach()) == pytest.approx(total, rel=1e-5)
    density, plain = nets.MixtureDensity(2, 3, draws(7)), []
    for i, h in enumerate(density.body(x).reshape(7, 10, 16)):
        factor = torch.stack([torch.diag(row[4:7].exp()) + row[7:].reshape(3, 3).tril(-1) for row in h])
        parts = MultivariateNormal(h[:, 1:4], factor @ factor.mT).log_prob(y[i])
        plain.append(torch.logsumexp(parts + h[:, 0], 0) - torch.logsumexp(h[:, 0], 0))
    torch.testing.assert_close(density.loss(x, y, draws()), -torch.stack(plain).mean(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(density.law(x[:1]).log_prob(y)[0], plain[0], rtol=1e-3, atol=1e-3)
    u = nets.directions(20_000, 3, draws())
    torch.testing.assert_close((u.norm(dim=1), u.mean(0)), (torch.ones(20_000), torch.zeros(3)), atol=0.02, rtol=0)
    torch.testing.assert_close(u.T @ u / 20_000, torch.eye(3) / 3, atol=0.01, rtol=0)
    assert (u**4).sum(1).mean().item() == pytest.approx(3 / (3 + 2), abs=0.005)


def test_training_keeps_what_held_rows_like_best(monkeypatch):
    class Level(torch.nn.Linear):
        seen: list[float] = []

        def loss(self, x, y, generator):
            self.seen += [float(torch.rand(1, generator=generator))] if len(x) < 5 else []
            return (y - self.bias).square().mean()

    monkeypatch.setattr(nets, "RATE", 0.05)
    level, rows, held = Level(1, 1), [torch.zeros(300, 1), torch.full((300, 1), 2.0)], [torch.zeros(4, 1)] * 2
    torch.nn.init.constant_(level.bias, -1.0)
    assert abs(nets.fit(level, rows, held, draws(), 300).bias.item()) < 0.1
    assert nets.PATIENCE < len(level.seen) < nets.PATIENCE + 40
    assert len(set(level.seen)) == 1


def test_curved_responses():
    x, beta = np.tile([3.1, 2.9], (60_000, 1)), np.array([0.3, 0.7])
    y, slope = study.curved(x, beta, 3, rng(), lifted=True), 0.3 * 3.1 + 0.7 * 2.9
    z = np.arcsin(y[:, 2])
    apart = y[:, :2] - np.column_stack([z, (1 - np.cos(z * slope)) / 2 + np.sin(3.0)])
    for values, most in ((np.abs(z), np.pi / slope), (np.linalg.norm(apart, axis=1), 0.1)):
        np.testing.assert_allclose(np.quantile(values, [0.25, 0.5, 1]), [most / 4, most / 2, most], rtol=0.03)
    np.testing.assert_allclose(np.cov(apart.T), np.eye(2) * 0.01 / 6, atol=3e-5)
    flat = study.curved(x, beta, 2, rng(), lifted=False)
    np.testing.assert_allclose(y[:, :2] - flat, np.tile([0, np.sin(3.0)], (60_000, 1)), atol=1e-12)


def test_radii_and_grids():
    scores = rng().permutation(np.arange(1.0, 40.0))
    assert [regions.conformal(s) for s in (scores, np.arange(9.0), np.arange(8.0))] == [36, 8, np.inf]
    y = rng(1).standard_normal((5000, 3)) * [1, 2, 3]
    grid, (low, high) = regions.lattice(y, 60), np.quantile(y, [0.01, 0.99], axis=0)
    low, high = low - 0.2, high + 0.2
    np.testing.assert_allclose(np.unique(grid[:, 1]), low[1] + (high - low)[1] * np.arange(4) / 4)
    np.testing.assert_allclose((grid.min(0), grid.max(0)), (low, high - (high - low) / 4))
    assert len(np.unique(grid, axis=0)) == 64


def test_balls_grow_and_shrink():
    grid, x = square(-2, 2.05, 0.1), np.zeros((10, 1))
    inside, y = np.add(square(-0.9, 0.95, 0.1), [1e-4, 0]), np.array([[0.0, 0]] * 9 + [[1.5, 0.2]])
    grown, new = regions.Balls(lambda _: inside, x, y, grid), np.array([[1.5, 0.2], [2, 2], [0.33, 0.1]])
    assert grown.grows
    np.testing.assert_allclose(grown(x[0], new), [0.6, 1.1 * 2**0.5, 0.03], atol=2e-4)
    shrunk = regions.Balls(lambda _: inside[1:] - [1e-4, 0], x, np.zeros((10, 2)), grid * 1.05)
    outside = [g for g in grid * 1.05 if min(np.hypot(*(g - inside[1:] + [1e-4, 0]).T)) > 0.1 + 1e-9]
    assert not shrunk.grows
    np.testing.assert_allclose(shrunk(x[0], new), [-min(np.hypot(*(a - outside).T)) for a in new])
    assert np.isposinf(regions.Balls(lambda _: inside[:0], x, y, grid)(x[0], y)).all()
    assert regions.Balls.reach(np.array([[0.0], [3], [4], [9]])) == pytest.approx(4.4)


def test_scores_and_what_they_hold():
    u, y = (
        np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]]),
        np.array([[0.5, 1], [2.5, 1], [0, 3.2], [-3, 0], [0.9, -0.7]]),
    )
    box = regions.halfspaces(lambda x: np.array([-1, x[0], -2, -3.0]), u)  # [-1, 2] x [x, 3]
    np.testing.assert_allclose(box(np.zeros(1), y), [-1.0, 0.5, 0.2, 2, 0.7])
    dense = regions.highest_density(lambda x, a: -0.5 * ((a - x) ** 2).sum(1) + 7, square(-5, 5, 0.05))
    np.testing.assert_allclose(dense(np.zeros(1), y), chi2.cdf((y**2).sum(1), 2), atol=0.01)
    rows = np.arange(1.0, 20)[:, None]  # the radius is 18 of 1, ..., 19
    new = np.array([[0.0], [1], [2], [2]]), np.array([[18.0], [19], [20.1], [-15.9]])
    held = regions.judged(lambda x, a: np.abs(a[:, 0] - x[0]), (0 * rows, rows), new, rows * 2)
    np.testing.assert_array_equal(held, [[True, True, False, True], [9, 9, 10, 10]])


def test_problems():
    given = CalibratedRegion(INFO, inputs=3, dimensions=3, rows=40).problem(rng()).given
    shapes = [given["y" + part].shape for part in ("", "_held", "_calibration", "_new")]
    assert shapes == [(40, 3), (10, 3), (10, 3), (5, 3)]
    assert len(np.unique(np.vstack([given[k] for k in given if k[0] == "x"]), axis=0)) == 65
    assert 0.8 < given["x"].min() < 1 < 3 < given["x"].max() < 3.2
    values = torch.from_numpy(rng(7).standard_normal((400, 10)) * np.arange(1, 11) + np.arange(10))
    data, (one, other) = (
        Batch(values[:, :9], 400, columns={"y": values[:, 9:]}),
        (CalibratedRegion(INFO, design="table", rows=200) for _ in range(2)),
    )
    one.start(data, draws())
    given, raw = one.problem(rng()).given, values.numpy()[rng().permutation(400)]
    raw = (raw - raw[:200].mean(0)) / raw[:200].std(0)
    np.testing.assert_allclose(given["y_new"], raw[300:325][:, [6, 9]])
    np.testing.assert_allclose(given["x_calibration"], raw[250:300][:, [0, 1, 2, 3, 4, 5, 7, 8]])
    other.load_state_dict(one.state_dict())
    np.testing.assert_array_equal(other.problem(rng()).given["x"], given["x"])
    with pytest.raises(UserError, match="as many rows"):
        CalibratedRegion(INFO, design="table", rows=300).start(data, draws())


def test_rules(monkeypatch):
    seen, reached = [], []
    monkeypatch.setattr(study, "fit", lambda net, rows, held, *_: seen.append((net, rows, held)) or net)
    monkeypatch.setattr(study, "Balls", lambda points, *rest: reached.append(rest) or points)
    monkeypatch.setattr(nets.Quantiles, "forward", lambda self, x, u: (x.sum(1) - 2.0)[:, None].expand(-1, len(u)))
    monkeypatch.setattr(nets.Autoencoder, "encode", lambda self, x, y, g: (torch.hstack([y, y[:, :1]]) * 2, None))
    monkeypatch.setattr(nets.Autoencoder, "decode", lambda self, x, z: z[:, :2] / 2 + x[:, :1])
    given = CalibratedRegion(INFO, rows=800).problem(rng()).given
    given |= {"y": rng(2).uniform(-3, 3, (800, 2)), "y_held": given["y_held"] + 1}
    y, at = rng(3).uniform(-2, 2, (50, 2)), np.array([0.5])

    def score(rule, tau=0.07):
        return CalibratedRegion(INFO, rule=rule, tau=tau).score(given, y, draws())

    low, high = np.quantile(given["y"], [0.025, 0.975], axis=0)
    np.testing.assert_allclose(score("constant")(at, y), np.maximum(low - y, y - high).max(1), atol=1e-5)
    np.testing.assert_allclose(score("naive")(at, y), np.abs(y).max(1) - 1.5, atol=1e-6)
    np.testing.assert_array_equal(seen[0][0].sides, [[1, 0], [0, 1], [-1, 0], [0, -1]])
    grid, found = regions.lattice(given["y"], 4096), score("npdqr")(at)
    assert abs(len(found) - (np.linalg.norm(grid, axis=1) < 1.5).sum()) < 12
    assert np.linalg.norm(found, axis=1).max() < 1.51
    apart = score("st-dqr", 0.03)(at) - 0.5
    assert np.linalg.norm(apart, axis=1).max() == pytest.approx(0.75, abs=0.03)
    assert np.abs(apart.mean(0)).max() < 0.05
    assert [net.tau for net, *_ in seen if isinstance(net, nets.Quantiles)] == [0.025, 0.07, 0.03]
    np.testing.assert_allclose(seen[3][1][1], 2 * given["y"][:, [0, 1, 0]], rtol=1e-5)
    np.testing.assert_allclose(seen[3][2][1], 2 * given["y_held"][:, [0, 1, 0]], rtol=1e-5)
    assert all(
        a is b
        for rest in reached
        for a, b in zip(rest, (given["x_calibration"], given["y_calibration"], y), strict=True)
    )


def test_answers_and_metrics(monkeypatch):
    one, seen = CalibratedRegion(INFO, rule="constant", rows=1600), []
    monkeypatch.setattr(study, "judged", lambda *given: seen.append(given) or regions.judged(*given))
    one.start(None, draws(5))
    one.advance(None, None)
    (_, answer), *_ = one.answered()
    values = [m(one, None, {}, None).value for m in (study.region_coverage, study.region_log_area)]
    assert values == [answer["covered"].mean(), np.log(1 + answer["area"].mean())]
    assert values[0] == pytest.approx(0.9, abs=0.06)
    assert [len(part) for part in (answer["area"], *seen[0][1], *seen[0][2])] == [200, 400, 400, 200, 200]
