"""Surfaces against closed forms, bundles edge by edge, processes against dense Gaussian laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.rvgp import processes
from latentbench.papers.rvgp.bundle import Bundle
from latentbench.papers.rvgp.processes import TangentFields
from latentbench.papers.rvgp.surfaces import Smooth, diffused, farthest, surface, unit
from scipy.linalg import block_diag, expm
from scipy.stats import multivariate_normal

INFO = DataInfo((1,), "real", 1)
KERNELS = ["connection", "graph", "coordinates", "eigenmaps"]


def rng(seed=0):
    return np.random.default_rng(seed)


def cloud(kind, n):
    x = surface(kind, rng(), 8 * n)[0]
    return x[farthest(x, n)]


@pytest.mark.parametrize(("kind", "minor", "ratio"), [("sphere", 1.0, 1 / 3), ("torus", 0.4, 0.2)])
def test_surfaces_are_uniform_by_area_and_have_their_normals(kind, minor, ratio):
    """By the divergence theorem the mean of n is zero, and that of x'n three times the ratio of volume to area."""
    x, normals = surface(kind, rng(), 40_000)
    np.testing.assert_allclose(x - minor * normals, unit(x * [1, 1, 0]) * (kind == "torus"), atol=1e-12)
    np.testing.assert_allclose(normals.mean(0), 0, atol=0.015)
    assert farthest(np.array([0.0, 1, 4, 10, 6])[:, None] * [1.0, 0, 0], 5).tolist() == [0, 3, 2, 4, 1]
    assert (x * normals).sum(1).mean() == pytest.approx(3 * ratio, abs=0.005)


def test_spectra_of_the_sphere():
    """Of vector fields l(l+1) - 1, each 2 (2l+1) times; of functions l(l+1), 2l+1 times; in the graph's unit."""
    bundle = Bundle(cloud("sphere", 400), 20)
    fields, functions = bundle.connection[0], bundle.graph[0]
    step = functions[1:4].mean() / 2
    np.testing.assert_allclose(fields[:6], step, rtol=0.06)
    np.testing.assert_allclose(fields[6:16], 5 * step, rtol=0.12)
    np.testing.assert_allclose(functions[4:9], 6 * step, rtol=0.12)
    assert functions[0] == pytest.approx(0, abs=1e-9)
    assert fields[16] > 9 * step


def test_laplacians_edge_by_edge():
    x = cloud("torus", 50)
    bundle, v = Bundle(x, 5, neighbours=7), rng(3).standard_normal((50, 2))
    distances = np.linalg.norm(x[:, None] - x, axis=2)
    near = np.argsort(np.argsort(distances, axis=1), axis=1)
    energy, scalar, frames = 0.0, np.zeros((50, 50)), bundle.frames
    for i in range(50):
        members = x[near[i] <= 10]
        left, size, _ = np.linalg.svd((members - members.mean(0)).T)
        assert size[1] > size[2]
        np.testing.assert_allclose(frames[i] @ frames[i].T, left[:, :2] @ left[:, :2].T, atol=1e-9)
        for j in range(50):
            if i != j and min(near[i, j], near[j, i]) <= 7:
                u, _, w = np.linalg.svd(frames[i].T @ frames[j])
                energy += 0.5 * ((v[i] - u @ w @ v[j]) ** 2).sum()
                scalar[i, j], scalar[i, i] = -1, scalar[i, i] + 1
    matrix = bundle.connection_laplacian.toarray()
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    assert v.ravel() @ matrix @ v.ravel() == pytest.approx(energy)
    np.testing.assert_allclose(bundle.laplacian.toarray(), scalar)
    values, modes = bundle.connection
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix)[:5], atol=1e-9)
    np.testing.assert_allclose(matrix @ modes, modes * values, atol=1e-8)


def test_diffusion_is_the_matrix_exponential():
    bundle = Bundle(cloud("torus", 40), 38, neighbours=6)
    start = unit(bundle.local(rng(5).uniform(-0.5, 0.5, (40, 3))))
    end = bundle.ambient((expm(-10.0 * bundle.connection_laplacian.toarray()) @ start.ravel()).reshape(40, 2))
    np.testing.assert_allclose(diffused(bundle, rng(5), time=10.0), unit(end), atol=1e-6)


def test_the_smooth_field_turns_once_around_its_zero():
    x, normals = surface("sphere", rng(4), 1)
    field = Smooth(rng(6), x[0])
    basis = np.linalg.svd(normals)[2][1:]
    angles = np.linspace(0, 2 * np.pi, 200)
    ring = unit(x + 1e-3 * np.stack([np.cos(angles), np.sin(angles)], 1) @ basis)
    found = field(ring, ring)
    np.testing.assert_allclose((found * ring).sum(1), 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    turns = np.unwrap(np.arctan2(*(found @ basis.T).T))
    assert abs(turns[-1] - turns[0]) == pytest.approx(2 * np.pi, abs=1e-3)
    waves = np.concatenate([Smooth(rng(s), x[0]).waves for s in range(100)], axis=1)
    assert waves.std() == pytest.approx(0.5, abs=0.01)  # an RBF kernel of length 2


@pytest.mark.parametrize("kernel", KERNELS)
def test_fits_are_dense_gaussian_processes(kernel, monkeypatch):
    spectral = kernel in ("connection", "graph")
    p, fits = ([2.3, 1.7, 0.4, 0.05] if spectral else [0.8, 0.4, 0.05]), []
    monkeypatch.setattr(processes, "search", lambda *asked: fits.append(asked) or processes.tensor(p))
    study = TangentFields(INFO, points=60, pairs=20, task="smooth", kernel=kernel)
    given = study.problem(rng(9)).given
    x, seen, y = given["x"], given["seen"], given["vectors"]
    bundle, found = Bundle(x, 20), study.answer(given, None)["vectors"]
    if spectral:
        values, modes = bundle.connection if kernel == "connection" else bundle.graph
        density, scale = (values.clip(0) + 2 * 2.3 / 1.7**2) ** -2.3, (3 / np.median(values)) ** 0.5
        if kernel == "connection":
            modes, y, seen = block_diag(*bundle.frames) @ modes, y.reshape(-1, 1), np.repeat(seen, 3)
        covariance = 0.4 * len(modes) * (modes * density / density.mean()) @ modes.T
    else:
        inputs = bundle.graph[1] * 60**0.5 if kernel == "eigenmaps" else x
        squared = ((inputs[:, None] - inputs) ** 2).sum(2)
        covariance, scale = 0.4 * np.exp(-0.5 * squared / 0.8**2), np.median(squared[np.triu_indices(60, 1)] ** 0.5)
    inner = covariance[np.ix_(seen, seen)] + 0.05 * np.eye(seen.sum())
    law = multivariate_normal(np.zeros(len(inner)), inner)
    cost = -sum(law.logpdf(c) + 0.5 * len(inner) * np.log(2 * np.pi) for c in y.T) / len(y)
    mean = covariance[:, seen] @ np.linalg.solve(inner, y)
    np.testing.assert_allclose(found, mean.reshape(60, 3), atol=1e-6)
    assert float(fits[0][0](processes.tensor(p))) == pytest.approx(cost, abs=1e-6)
    assert fits[0][1] == pytest.approx(scale * np.array([0.25, 0.5, 1, 2, 4]), rel=0.1)
    assert fits[0][2:] == pytest.approx([(y**2).mean(), *([1.5] if spectral else [])])


def test_the_search_goes_down_from_the_best_of_its_grid():
    calls = []

    def cost(p):
        calls.append(p.detach().numpy().copy())
        return ((p.log() - torch.tensor([2.0, 0.5, 3.0, 0.02]).double().log()) ** 2).sum()

    found = processes.search(cost, np.array([0.1, 0.4, 9.0]), 2.0, 1.5)
    np.testing.assert_allclose(found, [2, 0.5, 3, 0.02], rtol=1e-3)
    assert sorted({(c[0], c[2], c[3]) for c in calls[:9]}) == [(1.5, 2.0, 2e-3), (1.5, 2.0, 2e-2), (1.5, 2.0, 0.2)]
    np.testing.assert_allclose(calls[9], [1.5, 0.4, 2.0, 0.02])


@pytest.mark.parametrize(("task", "count"), [("smooth", 36), ("masked", 7)])
def test_problems_hide_what_they_say(task, count):
    problem = TangentFields(INFO, points=71, pairs=10, task=task, surface="torus").problem(rng(12))
    given, truth = problem.given, problem.truth
    hidden, x = np.flatnonzero(truth["hidden"]), truth["x"]
    np.testing.assert_array_equal(given["vectors"], truth["vectors"][given["seen"]])
    np.testing.assert_array_equal(given["seen"], ~truth["hidden"])
    np.testing.assert_allclose((truth["vectors"] * truth["normals"]).sum(1), 0, atol=1e-12)
    assert len(hidden) == count
    if task == "masked":  # the hidden are some centre's nearest, and the centre one of the zero's
        nearest = [set(np.argsort(np.linalg.norm(x - c, axis=1))[:7]) for c in x]
        centres = [i for i, members in enumerate(nearest) if members == set(hidden)]
        assert set(centres) & set(np.argsort(np.linalg.norm(x - truth["zero"], axis=1))[:12])


def test_metrics_by_hand(monkeypatch):
    study, rows, steps = TangentFields(INFO, points=50, pairs=5, task="masked", problems=2), [], np.arange(50)[:, None]
    monkeypatch.setattr(study, "answer", lambda given, rng: {"vectors": (2.0 + steps) * np.eye(3)[0]})
    study.start(None, torch.Generator().manual_seed(1))
    while not study.done():
        study.advance(None, None)
    for t, _ in study.answered():
        hidden = np.flatnonzero(t["hidden"])
        step = [np.sort(np.linalg.norm(t["x"] - point, axis=1))[1] for point in t["x"]]
        away = np.linalg.norm(t["x"][hidden[0]] - t["zero"])
        first = [(2.0 + i) * t["vectors"][i, 0] for i in hidden], [abs(t["normals"][i, 0]) for i in hidden]
        rows.append([np.mean(first[0]), np.mean(first[1]), away / np.mean(step)])
    measured = [m(study, None, {}, None).value for m in (
        processes.field_alignment, processes.field_protrusion, processes.singularity_error)]  # fmt: skip
    np.testing.assert_allclose(measured, np.mean(rows, axis=0))
    with pytest.raises(UserError, match="eigenpairs"):
        TangentFields(INFO, pairs=500)
