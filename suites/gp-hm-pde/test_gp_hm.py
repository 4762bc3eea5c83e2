"""Kernels against their spectra, objective and means against dense normals, optima, solvers against known solutions."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.gp_hm_pde import problems
from latentbench.papers.gp_hm_pde.problems import Chebyshev, Waves, relative
from latentbench.papers.gp_hm_pde.solvers import GPHM, PINN
from scipy import stats
from torch.distributions import MultivariateNormal

INFO = DataInfo((1,), "real", 1)
double = torch.float64


def made(seed=0, **more):
    """A study, random parameters, and a problem's source and walls."""
    study = GPHM(INFO, **{"points": 6, "components": 3, "emphasis": 7.0, **more})
    study.grid = 0.07 * np.arange(6.0)  # wide enough for covariances that are easily inverted
    study.lags = torch.from_numpy(study.grid)
    given, draw = study.problem(np.random.default_rng(seed)).given, torch.Generator().manual_seed(seed)
    p = {k: v + 0.4 * torch.randn(v.shape, generator=draw, dtype=double) for k, v in study.initial().items()}
    return study, p, torch.from_numpy(given["source"](study.grid)), torch.from_numpy(given["walls"])


@pytest.mark.parametrize("spectrum", ["student", "gaussian"])
def test_kernel_is_the_transform_of_its_spectrum_and_its_curvature(spectrum):
    study, p, *_ = made(spectrum=spectrum)
    lags = torch.tensor([0.01, 0.3, 0.7], dtype=double, requires_grad=True)
    k, curved = study.kernel(p, lags)
    levels = (np.arange(400_000) + 0.5) / 400_000
    w, scale, mu = p["weights"].exp().numpy(), p["scales"].exp().numpy(), p["frequencies"].numpy()
    around = stats.norm.ppf(levels) * (2.0 / scale[:, None]) ** 0.5
    around = stats.t(5).ppf(levels) if spectrum == "student" else around
    omega = 2 * np.pi * mu[:, None] + scale[:, None] * around
    expected = [(w * np.cos(omega * d).mean(1)).sum() for d in lags.tolist()]
    np.testing.assert_allclose(k.detach(), expected, atol=2e-4)
    slope = torch.autograd.grad(k.sum(), lags, create_graph=True)[0]
    np.testing.assert_allclose(torch.autograd.grad(slope.sum(), lags)[0], curved.detach(), rtol=1e-9)


def dense(study, p):
    """Covariances of values, and of second derivatives with values, entry by entry."""
    lags = torch.from_numpy(np.abs(study.grid[:, None] - study.grid)).flatten()
    k, curved = (each.view(6, 6) for each in study.kernel(p, lags))
    return k + 1e-6 * torch.eye(6, dtype=double), curved


@pytest.mark.parametrize("wave", ["sine", "product"])
def test_objective_is_the_joint_density(wave):
    study, p, source, walls = made(wave=wave)
    values = []
    for shift in (0.0, 0.3):
        p = {k: v + shift * torch.arange(v.numel(), dtype=double) / v.numel() for k, v in p.items()}
        covariance, curved = dense(study, p)
        u, tau, eye = p["u"], p["tau"].exp(), torch.eye(6, dtype=double)
        mean = curved @ torch.linalg.solve(covariance, u) + (u**3 - u if wave == "product" else 0.0)
        near = MultivariateNormal(mean, eye / tau[1]).log_prob(source)
        wall = MultivariateNormal(u[[0, -1]], eye[:2, :2] / tau[0]).log_prob(walls)
        total = MultivariateNormal(0 * u, covariance).log_prob(u) + near + 7.0 * wall
        values.append(study.objective(p, source, walls) + total)
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-7, abs=1e-4)


@pytest.mark.parametrize("wave", ["sine", "product"])
def test_values_settle_where_the_objective_is_least(wave):
    study, p, source, walls = made(wave=wave)
    for _ in range(30):
        study.settle(p, source, walls)
    best, p["u"] = p["u"], p["u"].clone().requires_grad_()
    slope = torch.autograd.grad(study.objective(p, source, walls), p["u"])[0]
    p["u"] = (best + 1e-3).requires_grad_()
    beside = torch.autograd.grad(study.objective(p, source, walls), p["u"])[0]
    assert slope.norm() < (1e-5 if wave == "sine" else 1e-3) * beside.norm()


def test_means_are_those_of_the_dense_process():
    study, p, *_ = made()
    study.tests = np.array([0.05, 0.2])
    lags = torch.from_numpy(np.abs(study.tests[:, None] - study.grid)).flatten()
    expected = study.kernel(p, lags)[0].view(2, 6) @ torch.linalg.solve(dense(study, p)[0], p["u"])
    np.testing.assert_allclose(study.predict(p), expected, rtol=1e-5)


@pytest.mark.parametrize("newton", [True, False])
def test_training_is_adam_s_from_the_authors_start(newton):
    how = {"points": 8, "top": 7.0, "newton": newton, "rate": 0.05}
    studies = [GPHM(INFO, **how, iterations=n) for n in (0, 1)]
    problem = studies[0].problem(np.random.default_rng(1))
    before, after = (s.answer(problem.given, np.random.default_rng(2)) for s in studies)
    np.testing.assert_allclose(before["weights"], 1 / 30, rtol=1e-12)
    np.testing.assert_allclose(before["frequencies"], 7.0 * np.arange(30) / 29)
    s, p = studies[1], studies[1].initial()
    assert not any(p[k].any() for k in ("tau", "scales", "u"))
    source, walls = torch.from_numpy(problem.given["source"](s.grid)), torch.from_numpy(problem.given["walls"])
    s.settle(p, source, walls)
    assert p["u"].any() == newton
    for value in p.values():
        value.requires_grad_()
    grads = dict(zip(p, torch.autograd.grad(s.objective(p, source, walls), list(p.values())), strict=True))
    moved = p["weights"].detach() - 0.05 * grads["weights"].sign()
    np.testing.assert_allclose(after["weights"], moved.exp(), rtol=1e-4)
    q = s.initial()
    s.train(q, source, walls, 1)
    if not newton:
        np.testing.assert_allclose(q["u"], -0.05 * grads["u"].sign(), rtol=1e-3)


def test_the_start_of_the_highest_density_goes_on():
    how = {"components": 1, "top": 0.0, "points": 32, "trial": 5, "iterations": 10}
    study = GPHM(INFO, **how, scales=(1.0, 100.0, 3.0), variances=(0.01, 1.0))
    problem = study.problem(np.random.default_rng(0))
    source, walls = torch.from_numpy(problem.given["source"](study.grid)), torch.from_numpy(problem.given["walls"])
    pairs = [(scale, variance) for scale in study.scales for variance in study.variances]
    starts = [study.initial(*pair) for pair in pairs]
    np.testing.assert_allclose(study.kernel(starts[2], torch.zeros(1, dtype=double))[0], 0.01)
    losses = [float(study.train(p, source, walls, 5)) for p in starts]
    best = starts[int(np.argmin(losses))]
    assert pairs[int(np.argmin(losses))][0] == 100.0
    study.train(best, source, walls, 10)
    found, again = (study.answer(problem.given, np.random.default_rng(0)) for _ in range(2))
    assert found["prediction"].equal(again["prediction"])
    np.testing.assert_allclose(found["prediction"], study.predict(best), rtol=1e-6)


def test_a_wave_is_found():
    study = GPHM(INFO, points=32, iterations=200, drawn=False)
    problem = study.problem(np.random.default_rng(0))
    answer = {k: v.numpy() for k, v in study.answer(problem.given, np.random.default_rng(0)).items()}
    assert relative(problem.truth, answer) < 0.02
    assert abs(answer["frequencies"][answer["weights"].argmax()] - 100 / (2 * np.pi)) < 0.1


def test_sources_are_those_of_the_solutions():
    x, step = np.array([0.3, 0.7, 1.1]), 1e-4
    expected = {
        "sine": np.sin(100 * x),
        "mixed": np.sin(x) + 0.1 * np.sin(20 * x) + 0.05 * np.sin(100 * x),
        "product": np.sin(6 * x) * np.cos(100 * x),
        "low": np.sin(10 * x),
    }
    for wave, solution in expected.items():
        for waves in (Waves(wave), Waves(wave, np.random.default_rng(3))):
            u, curved = waves(x), (waves(x + step) + waves(x - step) - 2 * waves(x)) / step**2
            reaction = u * (u**2 - 1) if wave == "product" else 0.0
            np.testing.assert_allclose(waves.source(x), curved + reaction, rtol=1e-3, atol=1e-4 * abs(curved).max())
        np.testing.assert_allclose(Waves(wave)(x), solution, atol=1e-12)
        stretch = waves.omegas / Waves(wave).omegas
        np.testing.assert_allclose(stretch, stretch[0])
        assert 0 < abs(stretch[0] - 1) < 0.1
    study = Chebyshev(INFO, wave="mixed", points=400)
    assert study.grid[-1] == pytest.approx(2 * np.pi)
    problem = study.problem(np.random.default_rng(0))
    np.testing.assert_allclose(problem.given["walls"], problem.truth["solution"][[0, -1]])
    with pytest.raises(UserError):
        Chebyshev(INFO, points=4)


def test_collocation_converges():
    x = (1 - np.cos(np.pi * np.arange(7) / 6)) / 2
    np.testing.assert_allclose(problems.derivative(x) @ x**5, 5 * x**4, atol=1e-12)
    for wave, points, limit in (("product", 64, 1e-3), ("low", 32, 1e-10), ("mixed", 64, 1e-4)):
        study = Chebyshev(INFO, drawn=False, wave=wave, points=points)
        problem = study.problem(np.random.default_rng(0))
        assert relative(problem.truth, study.answer(problem.given, np.random.default_rng(0))) < limit


@pytest.mark.parametrize(("wave", "deviations"), [("product", ()), ("sine", (1.0, 5.0))])
def test_networks_descend_the_squared_residuals(wave, deviations):
    study = PINN(INFO, wave=wave, points=5, width=6, deviations=deviations, emphasis=3.0, rate=0.01, iterations=1)
    given, rng, seen = study.problem(np.random.default_rng(0)).given, np.random.default_rng(4), []
    bases, net = study.initial(rng)
    study.forward = lambda x, b, n: seen.append(n) or PINN.forward(study, x, b, n)
    study.answer(given, np.random.default_rng(4))
    x = torch.from_numpy(study.grid[-1] * rng.random(5)).requires_grad_()
    leaves = [w.requires_grad_() for layer in net for w in layer]
    u, curved = PINN.forward(study, x, bases, net)
    slope = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(slope.sum(), x, create_graph=True)[0]
    np.testing.assert_allclose(curved.detach(), second.detach(), rtol=1e-8, atol=1e-9)
    source = torch.from_numpy(given["source"](x.detach().numpy()))
    residual = second + (u**3 - u if wave == "product" else 0.0) - source
    outer = PINN.forward(study, torch.from_numpy(study.grid[[0, -1]]), bases, net)[0]
    loss = residual.square().mean() / source.square().mean()
    loss = loss + 3.0 * (outer - torch.from_numpy(given["walls"])).square().mean()
    grads = torch.autograd.grad(loss, leaves)
    for moved, old, grad in zip((w for layer in seen[0] for w in layer), leaves, grads, strict=True):
        big = grad.abs() > 1e-5
        np.testing.assert_allclose((moved - old).detach()[big], -0.01 * grad.sign()[big], rtol=1e-2)
    spread = PINN(INFO, width=4000, deviations=deviations).initial(rng)[0].view(-1, max(1, len(deviations))).std(0)
    np.testing.assert_allclose(spread / (2 * np.pi), deviations or [0.0], rtol=0.1)


def test_metrics_by_hand():
    truth = {"solution": np.array([3.0, 4.0]), "frequencies": np.array([1.0, 3.0])}
    answer = {"prediction": np.array([3.0, 4.5]), "weights": np.array([3.0, 1.0]), "frequencies": np.array([-1.1, 2.5])}
    far = {**answer, "prediction": np.array([300.0, 4.0])}
    study = SimpleNamespace(answered=lambda: iter([(truth, answer), (truth, far)]))

    def value(metric):
        return metric(study, None, {}, None).value

    assert value(problems.relative_l2) == pytest.approx((0.1 + 297 / 5) / 2)
    assert value(problems.log_relative_l2) == pytest.approx(-0.5)
    assert value(problems.components) == pytest.approx(np.exp(0.5623351446))
    assert value(problems.frequency_error) == pytest.approx(0.75 * 0.1 + 0.25 * 0.5)
