"""The denoiser against Bayes' rule with dense covariances, training against an SVD, K-subspaces against enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.diffusion_subspace_clustering import molrg
from scipy.stats import multivariate_normal

INFO = DataInfo((1,), "real", 1)
SMALL = {"clusters": 2, "dims": (1, 3), "ambients": (6, 7), "counts": (1, 2, 3, 5, 9), "problems": 2}


def rng(seed=0):
    return np.random.default_rng(seed)


def bases(*shape, seed=0):
    return np.linalg.qr(rng(seed).standard_normal(shape))[0]


def t(array):
    return torch.from_numpy(np.asarray(array))


def answered(study):
    draws = torch.Generator().manual_seed(5)
    study.start(None, draws)
    while not study.done():
        study.advance(None, draws)
    return study


class Oracle(molrg.SubspaceStudy):
    """Knows the subspaces from `after` samples on, in reversed order; before that it is right in one of two."""

    def __init__(self, info, *, after, **design):
        super().__init__(info, **design)
        self.after = after

    def bases(self, x, d, rng):
        spans = np.stack([np.linalg.svd(each)[2][:d].T for each in x[::-1]])
        other = rng.standard_normal(spans[1].shape)
        if d > 1:
            other[:, 0] = x[0, 0]  # right for the first sample
        wrong = np.stack([spans[0], np.linalg.qr(other)[0]])
        right = [c >= self.after(d, x.shape[-1]) for c in self.counts]
        return np.stack([[wrong, spans if r else wrong] for r in right])


def test_problems_are_orthogonal_subspaces_with_standard_normal_coordinates():
    study = molrg.KSubspaces(INFO, **{**SMALL, "counts": (1, 4000)})
    problem = study.problem(rng(1))
    assert set(problem.given) == {"d1-n6", "d1-n7", "d3-n6", "d3-n7"}
    for name, (d, n) in study.cells.items():
        x, joint = problem.given[name], np.concatenate(problem.truth[name], axis=1)
        np.testing.assert_allclose(joint.T @ joint, np.eye(2 * d), atol=1e-12)
        assert x.shape == (2, 4000, n)
        for each, basis in zip(x, problem.truth[name], strict=True):
            np.testing.assert_allclose(each @ basis @ basis.T, each, atol=1e-12)
            np.testing.assert_allclose(np.cov((each @ basis).T), np.eye(d) if d > 1 else 1.0, atol=0.1)


def test_posterior_denoiser_is_bayes():
    """E[x0 | x] of the mixture by dense covariances, each row at its own noise level."""
    u, sigma, noisy = bases(3, 5, 2), np.array([0.2, 0.7, 1.5, 3.0]), rng(2).standard_normal((4, 5))
    found = molrg.denoise(t(u)[None], t(noisy), t(noisy), t(sigma), "posterior")[0]
    for row, s, x in zip(found.numpy(), sigma, noisy, strict=True):
        covariances = [b @ b.T + s**2 * np.eye(5) for b in u]
        likelihoods = np.array([multivariate_normal(np.zeros(5), c).pdf(x) for c in covariances])
        means = [b @ b.T @ np.linalg.solve(c, x) for b, c in zip(u, covariances, strict=True)]
        np.testing.assert_allclose(row, likelihoods @ means / likelihoods.sum(), atol=1e-9)


def test_hard_denoiser_projects_on_the_clean_sample_s_subspace():
    u, clean, noisy = bases(2, 4, 1), rng(3).standard_normal((6, 4)), rng(4).standard_normal((6, 4))
    nearest = np.square(clean @ u).sum(-1).argmax(0)
    assert not np.array_equal(nearest, np.square(noisy @ u).sum(-1).argmax(0))
    found = molrg.denoise(t(u)[None], t(clean), t(noisy), torch.full((6,), 2.0), "hard")[0]
    for row, k, x in zip(found.numpy(), nearest, noisy, strict=True):
        np.testing.assert_allclose(row, u[k] @ u[k].T @ x / 5.0, atol=1e-6)


def test_expected_loss_is_that_of_principal_components():
    """|x|^2 - (2 c - c^2) |U'x|^2 + c^2 sigma^2 d with c = 1 / (1 + sigma^2), weighted (proof of theorem 1)."""
    u, x, s, draws = bases(1, 5, 2), rng(5).standard_normal(5), 0.8, 100_000
    c, weight, clean = 1 / (1 + s**2), (s**2 + 0.25) / (0.5 * s) ** 2, t(x).expand(draws, 5)
    noise = torch.randn(draws, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    loss = molrg.denoising_loss(t(u)[None], clean, noise, torch.full((draws,), s), "hard")
    expected = weight * (x @ x - (2 * c - c**2) * np.square(x @ u[0]).sum() + c**2 * s**2 * 2)
    assert loss.mean().item() == pytest.approx(expected, abs=4 * loss.std().item() / draws**0.5)


def test_noise_levels_are_log_normal():
    logs = molrg.noise_levels((100_000,), torch.Generator().manual_seed(2)).log()
    assert logs.mean().item() == pytest.approx(-1.2, abs=0.02)
    assert logs.std().item() == pytest.approx(1.2, abs=0.02)


@pytest.mark.parametrize("weights", ["hard", "posterior"])
def test_training_reaches_the_principal_components_of_the_first_samples(weights):
    scales = np.repeat([[3.0, 2.5, 0.5, 0.4, 0.3, 0.2], [0.2, 0.3, 0.4, 0.5, 7.0, 8.0]], 12, axis=0)
    x = (rng(6).standard_normal((24, 6)) * scales)[None]
    study = molrg.Denoiser(INFO, ambients=(6,), dims=(2,), counts=(12, 24), weights=weights, restarts=1, steps=300)
    for c, found in zip((12, 24), study.bases(x, 2, rng(8)), strict=True):
        leading = np.linalg.svd(x[0, :c])[2][:2].T
        assert molrg.worst_error(leading[None], found[0]) < 0.2


@pytest.mark.parametrize("model", [molrg.KSubspaces, molrg.Denoiser])
def test_best_of_restarts_is_the_best_partition(model):
    """Two lines in three dimensions by all assignments of ten samples; the other eight are not used."""
    x = rng(9).standard_normal((2, 9, 1)) * [[[1, 0, 0]], [[0, 1, 1]]] + 0.2 * rng(10).standard_normal((2, 9, 3))
    fast = {"steps": 400} if model is molrg.Denoiser else {}
    study = model(INFO, clusters=2, dims=(1,), ambients=(3,), counts=(1, 5), restarts=12, **fast)
    found, used = study.answer({"d1-n3": x}, rng(11))["d1-n3"], x[:, :5].reshape(-1, 3)
    split = [np.array(labels) == k for labels in product((0, 1), repeat=10) if 0 < sum(labels) < 10 for k in (0, 1)]
    energy = [np.linalg.svd(used[mask], compute_uv=False)[0] ** 2 for mask in split]
    best = 1 - max(a + b for a, b in zip(energy[::2], energy[1::2], strict=True)) / np.square(used).sum()
    assert molrg.outside(x[:, :5], found[1]) == pytest.approx(best, rel=1e-9 if model is molrg.KSubspaces else 0.05)
    np.testing.assert_allclose(found[1].swapaxes(1, 2) @ found[1], np.ones((2, 1, 1)), atol=1e-6)


def test_k_subspaces_stop_where_another_round_changes_nothing():
    study, x, u = molrg.KSubspaces(INFO, clusters=3, dims=(2,)), rng(12).standard_normal((60, 6)), bases(3, 6, 2)
    found = study.alternate(x, u, rng(13))
    labels = np.square(x @ found).sum(-1).argmax(0)
    best = np.stack([np.linalg.svd(x[labels == k])[2][:2].T for k in range(3)])
    assert molrg.worst_error(found, best) < 1e-6
    assert molrg.outside(x, found) < molrg.outside(x, u) - 0.2


def test_errors_are_of_the_worst_cluster_at_the_best_matching():
    u, turned = np.eye(6)[:, :4].reshape(6, 2, 2).swapaxes(0, 1), np.eye(6)[:, :4].copy()
    turned[:, 3] = [0, 0, 0, np.cos(0.3), np.sin(0.3), 0]
    found = turned.reshape(6, 2, 2).swapaxes(0, 1)
    for order in ([0, 1], [1, 0]):
        assert molrg.worst_error(u, found[order]) == pytest.approx(np.sqrt(2) * np.sin(0.3))


def test_metrics_of_known_transitions():
    """Right from 2 d samples on where n = 6, from d on where n = 7: between counts, at the next count."""
    study = answered(Oracle(INFO, after=lambda d, n: 2 * d if n == 6 else d, **SMALL))
    measured = molrg.samples_per_dimension(study, None, {}, None)
    assert measured.details == {"d1-n6": 2.0, "d1-n7": 1.0, "d3-n6": 3.0, "d3-n7": 1.0}
    assert (measured.value, measured.n) == (1.75, 2)
    design = np.log([[1, 6, np.e], [1, 7, np.e], [3, 6, np.e], [3, 7, np.e]])
    powers = np.linalg.solve(design.T @ design, design.T @ np.log([2, 1, 9, 3]))
    for i, of in enumerate(("intrinsic", "ambient")):
        assert molrg.transition_exponent(study, None, {"of": of}, None).value == pytest.approx(powers[i])
    assert molrg.energy_outside(study, None, {}, None).value < 0.4
    never = answered(Oracle(INFO, after=lambda d, n: 99, **SMALL))
    assert set(molrg.samples_per_dimension(never, None, {}, None).details.values()) == {13.0, 13.0 / 3}


def test_energy_is_of_more_samples_than_dimensions():
    never = answered(Oracle(INFO, after=lambda d, n: 99, **SMALL))
    left = [
        molrg.outside(truth[f"x-{name}"][:, :c], bases)
        for truth, answer in never.answered()
        for name in never.cells
        for c, bases in zip(never.counts, answer[name], strict=True)
        if c > int(name[1 : name.index("-")])
    ]
    assert molrg.energy_outside(never, None, {}, None).value == pytest.approx(np.mean(left))


def test_principal_components_need_d_samples():
    study = answered(molrg.KSubspaces(INFO, dims=(2, 4), ambients=(9, 20), problems=3))
    assert molrg.samples_per_dimension(study, None, {}, None).value == 1.0
    assert molrg.energy_outside(study, None, {}, None).value == pytest.approx(0.0, abs=1e-12)


def test_designs_that_cannot_be():
    for design, word in ({"dims": (30,)}, "fit"), ({"counts": (2, 1)}, "counts"):
        with pytest.raises(UserError, match=word):
            molrg.KSubspaces(INFO, **design)
    with pytest.raises(UserError, match="several"):
        molrg.transition_exponent(answered(molrg.KSubspaces(INFO, dims=(2,))), None, {"of": "ambient"}, None)
