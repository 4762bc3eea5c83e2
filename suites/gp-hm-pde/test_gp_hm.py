"""Kernels against their spectra, objective and means against dense normals, optima, solvers against known solutions."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.gp_hm_pde import problems
from latentbench.papers.gp_hm_pde.problems import Collocation, Waves, mesh, relative
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
    given, at = study.problem(np.random.default_rng(seed)).given, mesh(study.grid, study.dims)
    draw = torch.Generator().manual_seed(seed)
    p = {k: v + 0.4 * torch.randn(v.shape, generator=draw, dtype=double) for k, v in study.initial().items()}
    p["weights"] = p["weights"] if study.logarithms else p["weights"].abs()
    return study, p, torch.from_numpy(given["source"](at)), torch.from_numpy(given["boundary"](at)[study.edge()])


@pytest.mark.parametrize("spectrum", ["student", "gaussian"])
def test_kernel_is_the_transform_of_its_spectrum_and_its_curvature(spectrum):
    study, p, *_ = made(spectrum=spectrum, wave="plane")
    lags = torch.tensor([0.01, 0.3, 0.7], dtype=double, requires_grad=True)
    k, curved = study.kernel(p, lags)
    levels = (np.arange(400_000) + 0.5) / 400_000
    for j in range(2):
        w, scale, mu = p["weights"][j].exp().numpy(), p["scales"][j].exp().numpy(), p["frequencies"][j].numpy()
        around = stats.norm.ppf(levels) * (2.0 / scale[:, None]) ** 0.5
        around = stats.t(5).ppf(levels) if spectrum == "student" else around
        omega = 2 * np.pi * mu[:, None] + scale[:, None] * around
        expected = [(w * np.cos(omega * d).mean(1)).sum() for d in lags.tolist()]
        np.testing.assert_allclose(k[j].detach(), expected, atol=2e-4)
        slope = torch.autograd.grad(k[j].sum(), lags, create_graph=True)[0]
        second = torch.autograd.grad(slope.sum(), lags, retain_graph=True)[0]
        np.testing.assert_allclose(second, curved[j].detach(), rtol=1e-9)


def dense(study, p, reacts):
    """Covariance of all values and of Laplacians with values, (n^d, n^d), one entry after the other."""
    at = torch.from_numpy(mesh(study.grid, study.dims))
    pairs = (at[:, None] - at).abs()
    parts = [study.kernel(p, pairs[:, :, j].flatten()) for j in range(study.dims)]
    k = [part[0][j].view(len(at), -1) + 1e-6 * (pairs[:, :, j] < 1e-9) for j, part in enumerate(parts)]
    bent = [part[1][j].view(len(at), -1) for j, part in enumerate(parts)]
    return k[0] if study.dims == 1 else k[0] * k[1], bent, k


@pytest.mark.parametrize(("wave", "logarithms"), [("sine", True), ("product", True), ("plane", False)])
def test_objective_is_the_joint_density(wave, logarithms):
    study, p, source, walls = made(wave=wave, logarithms=logarithms)
    study.reacts = wave != "sine"
    values = []
    for shift in (0.0, 0.3):
        p = {k: v + shift * torch.arange(v.numel(), dtype=double).view(v.shape) / v.numel() for k, v in p.items()}
        covariance, bent, k = dense(study, p, study.reacts)
        u = p["u"]
        cross = bent[0] if study.dims == 1 else bent[0] * k[1] + k[0] * bent[1]
        mean = cross @ torch.linalg.solve(covariance, u) + study.reacts * (u**3 - u)
        tau, n = p["tau"].exp(), len(u)
        near = MultivariateNormal(mean, torch.eye(n, dtype=double) / tau[1]).log_prob(source)
        edge = u[study.edge()]
        wall = MultivariateNormal(edge, torch.eye(len(edge), dtype=double) / tau[0]).log_prob(walls)
        total = MultivariateNormal(0 * u, covariance).log_prob(u) + near + 7.0 * wall
        values.append(study.objective(p, source, walls) + total)
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-7, abs=1e-4)


@pytest.mark.parametrize("wave", ["sine", "product", "plane"])
def test_values_settle_where_the_objective_is_least(wave):
    study, p, source, walls = made(wave=wave)
    for _ in range(30):
        study.settle(p, source, walls)
    best, p["u"] = p["u"], p["u"].clone().requires_grad_()
    slope = torch.autograd.grad(study.objective(p, source, walls), p["u"])[0]
    p["u"] = best + 1e-3
    p["u"].requires_grad_()
    beside = torch.autograd.grad(study.objective(p, source, walls), p["u"])[0]
    assert slope.norm() < (1e-5 if wave != "product" else 1e-3) * beside.norm()
    before = p["u"]
    study.newton = False
    study.settle(p, source, walls)
    assert p["u"] is before


def test_means_are_those_of_the_dense_process():
    study, p, *_ = made(wave="plane")
    study.tests = np.array([0.05, 0.2])
    covariance = dense(study, p, False)[0]
    at, tests = torch.from_numpy(mesh(study.grid, 2)), torch.from_numpy(mesh(study.tests, 2))
    apart = (tests[:, None] - at).abs()
    cross = study.kernel(p, apart[:, :, 0].flatten())[0][0] * study.kernel(p, apart[:, :, 1].flatten())[0][1]
    expected = cross.view(4, -1) @ torch.linalg.solve(covariance, p["u"])
    np.testing.assert_allclose(study.predict(p).flatten(), expected, rtol=1e-5)
    assert study.predict(p)[0, 1] != pytest.approx(study.predict(p)[1, 0].item())


@pytest.mark.parametrize("newton", [True, False])
@pytest.mark.parametrize("logarithms", [True, False])
def test_training_is_adam_s_from_the_authors_start(newton, logarithms):
    how = {"points": 8, "top": 7.0, "newton": newton, "logarithms": logarithms, "rate": 0.05}
    studies = [GPHM(INFO, **how, iterations=n) for n in (0, 1)]
    problem = studies[0].problem(np.random.default_rng(1))
    before, after = (s.answer(problem.given, np.random.default_rng(2)) for s in studies)
    np.testing.assert_allclose(before["weights"], 1 / 30, rtol=1e-12)
    np.testing.assert_allclose(before["frequencies"][0], 7.0 * np.arange(30) / 29)
    s, p, at = studies[1], studies[1].initial(), mesh(studies[1].grid, 1)
    assert not any(p[k].any() for k in ("tau", "scales", "u"))
    source = torch.from_numpy(problem.given["source"](at))
    walls = torch.from_numpy(problem.given["boundary"](at)[s.edge()])
    s.settle(p, source, walls)
    p["weights"].requires_grad_()
    sign = torch.autograd.grad(s.objective(p, source, walls), p["weights"])[0].sign()
    moved = p["weights"].detach() - 0.05 * sign
    np.testing.assert_allclose(after["weights"], moved.exp() if logarithms else moved.clamp(min=1e-12), rtol=1e-4)
    assert after["weights"].min() > 0


def test_a_wave_is_found():
    study = GPHM(INFO, points=32, iterations=200, drawn=False)
    problem = study.problem(np.random.default_rng(0))
    answer = {k: v.numpy() for k, v in study.answer(problem.given, np.random.default_rng(0)).items()}
    assert relative(problem.truth, answer) < 0.02
    assert abs(answer["frequencies"][0, answer["weights"][0].argmax()] - 100 / (2 * np.pi)) < 0.1


def test_sources_are_those_of_the_solutions():
    x, y = np.array([0.3, 1.1]), np.array([0.7, 0.2])
    expected = {
        "sine": np.sin(100 * x),
        "mixed": np.sin(x) + 0.1 * np.sin(20 * x) + 0.05 * np.sin(100 * x),
        "product": np.sin(6 * x) * np.cos(100 * x),
        "plane": np.sin(100 * x) * np.sin(100 * y),
    }
    for wave in problems.WAVES:
        at, step = np.stack([x, y], 1) if wave == "plane" else x[:, None], 1e-4
        for waves in (Waves(wave), Waves(wave, np.random.default_rng(3))):
            u, sides = waves(at), step * np.eye(at.shape[1])
            laplacian = sum(waves(at + e) + waves(at - e) - 2 * u for e in sides) / step**2
            reaction = u * (u**2 - 1) if wave == "product" else 0.0
            near = {"rtol": 1e-3, "atol": 1e-4 * abs(laplacian).max()}
            np.testing.assert_allclose(waves.source(at), laplacian + reaction, **near)
        if wave in expected:
            np.testing.assert_allclose(Waves(wave)(at), expected[wave], atol=1e-12)
            assert np.all(abs(Waves(wave, np.random.default_rng(3)).omegas / Waves(wave).omegas - 1) < 0.1)
    study = Collocation(INFO, wave="plane", points=5)
    given, at = study.problem(np.random.default_rng(0)).given, mesh(study.grid, 2)
    assert (~np.isnan(given["boundary"](at)) == study.edge()).all()
    assert study.edge().sum() == 16
    with pytest.raises(UserError):
        Collocation(INFO, points=4)


def solved(**more):
    study = Collocation(INFO, drawn=False, **more)
    problem = study.problem(np.random.default_rng(0))
    return relative(problem.truth, study.answer(problem.given, np.random.default_rng(0)))


def test_collocation_converges(monkeypatch):
    x = (1 - np.cos(np.pi * np.arange(7) / 6)) / 2
    np.testing.assert_allclose(problems.derivative(x) @ x**5, 5 * x**4, atol=1e-12)
    assert solved(wave="product", points=64) < 1e-3
    assert solved(wave="low", points=32) < 1e-10
    assert solved(wave="plane", points=24) < 0.02
    monkeypatch.setattr(problems, "SPACING", problems.SPACING / 8)
    fine = solved(wave="product", points=401, scheme="differences")
    monkeypatch.setattr(problems, "SPACING", problems.SPACING / 2)
    assert fine / solved(wave="product", points=801, scheme="differences") == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize(("wave", "deviations"), [("product", ()), ("plane", ()), ("plane", (1.0, 5.0))])
def test_networks_descend_the_squared_residuals(wave, deviations):
    study = PINN(INFO, wave=wave, points=5, width=6, deviations=deviations, emphasis=3.0, rate=0.01, iterations=1)
    given = study.problem(np.random.default_rng(0)).given
    starts = [study.initial(rng := np.random.default_rng(4))]
    bases, net = starts[0]
    study.forward = lambda x, b, n: seen.append(n) or PINN.forward(study, x, b, n)
    seen = []
    study.answer(given, np.random.default_rng(4))
    x = torch.from_numpy(study.grid[-1] * rng.random((5**study.dims, study.dims))).requires_grad_()
    edge = torch.from_numpy(mesh(study.grid, study.dims)[study.edge()])
    leaves = [w.requires_grad_() for layer in net for w in layer]
    u, laplacian = PINN.forward(study, x, bases, net)
    slope = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
    second = [torch.autograd.grad(slope[:, j].sum(), x, create_graph=True)[0][:, j] for j in range(study.dims)]
    np.testing.assert_allclose(laplacian.detach(), sum(second).detach(), rtol=1e-8, atol=1e-9)
    source = torch.from_numpy(given["source"](x.detach().numpy()))
    residual = sum(second) + (u**3 - u if wave == "product" else 0.0) - source
    walls = torch.from_numpy(given["boundary"](edge.numpy()))
    loss = residual.square().mean() / source.square().mean()
    loss = loss + 3.0 * (PINN.forward(study, edge, bases, net)[0] - walls).square().mean()
    grads = torch.autograd.grad(loss, leaves)
    for moved, old, grad in zip((w for layer in seen[0] for w in layer), leaves, grads, strict=True):
        big = grad.abs() > 1e-5
        np.testing.assert_allclose((moved - old).detach()[big], -0.01 * grad.sign()[big], rtol=1e-2)
    spread = bases.std().item() / (2 * np.pi)
    assert (spread == 0) == (not deviations)


def test_metrics_by_hand():
    truth = {"solution": np.array([3.0, 4.0]), "frequencies": np.array([[1.0, 5.0], [3.0, 5.0]])}
    answer = {"prediction": np.array([3.0, 4.5]), "weights": np.array([[3.0, 1.0], [2.0, 2.0]])}
    answer["frequencies"] = np.array([[-1.1, 2.5], [5.0, 4.0]])
    far = {**answer, "prediction": np.array([300.0, 4.0])}
    study = SimpleNamespace(answered=lambda: iter([(truth, answer), (truth, far)]))

    def value(metric):
        return metric(study, None, {}, None).value

    assert value(problems.relative_l2) == pytest.approx((0.1 + 297 / 5) / 2)
    assert value(problems.log_relative_l2) == pytest.approx(-0.5)
    assert value(problems.components) == pytest.approx((np.exp(0.5623351446) + 2) / 2)
    assert value(problems.frequency_error) == pytest.approx(((0.75 * 0.1 + 0.25 * 0.5) + 0.5) / 2)
