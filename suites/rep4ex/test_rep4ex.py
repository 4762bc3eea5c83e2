"""Effects against sampling, restrictions against sums over pairs, training where its end is plain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.types import DataInfo
from latentbench.papers.rep4ex import encoders
from latentbench.papers.rep4ex import extrapolation as ex
from latentbench.papers.rep4ex.encoders import Autoencoders
from latentbench.papers.rep4ex.worlds import NOISE, SLOPE, World, beyond
from scipy.spatial.distance import cdist, pdist
from torch.distributions import Normal, kl_divergence

INFO = DataInfo((1,), "real", 1)
WORLD = World(np.random.default_rng(1), 3, 1.7)


def rng(seed=0):
    return np.random.default_rng(seed)


def normals(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def wave(z):
    parts = zip(WORLD.weights, WORLD.frequencies.T, WORLD.phases, strict=True)
    return sum(w * np.sin(z @ f + b) for w, f, b in parts)


def test_rows_follow_the_equations_and_effects_are_means_of_outcomes():
    a, z, x, y = WORLD.rows(rng(3), 50_000)
    e = np.linalg.solve(WORLD.spread, (z - a @ WORLD.effect.T).T).T
    np.testing.assert_allclose(np.cov(np.hstack([a, e]).T), np.diag([1 / 3] * 3 + [1] * 3), atol=0.03)
    common, left, *_ = np.linalg.lstsq(e, y - wave(z), rcond=None)
    np.testing.assert_allclose(common, WORLD.common, atol=0.003)
    assert np.sqrt(left[0] / len(y)) == pytest.approx(NOISE, rel=0.02)
    np.testing.assert_allclose(WORLD.effect.T @ WORLD.effect, 1.7**2 * np.eye(3), atol=1e-9)
    lengths = [*np.linalg.norm(WORLD.frequencies, axis=0), np.linalg.norm(WORLD.common)]
    assert 0.5 < min(lengths) < lengths[-1] == pytest.approx(1.0)
    assert 1.0 < max(lengths) < 1.5
    for layer, shift in zip(WORLD.layers[:0:-1], WORLD.shifts[::-1], strict=True):
        x = x @ layer.T
        x = np.where(x > 0, x, x / SLOPE) - shift
    np.testing.assert_allclose(x @ WORLD.layers[0].T, z, atol=1e-9)
    for to in np.array([[1.4, -0.3, 0.2], [0.0, -1.5, 1.1]]):
        outcomes = wave(WORLD.effect @ to + e @ WORLD.spread.T)
        assert WORLD.effects(to[None])[0] == pytest.approx(outcomes.mean(), abs=4 * outcomes.std() / len(e) ** 0.5)


def test_moments_give_the_sum_over_pairs():
    a, phi = rng(5).standard_normal((37, 2)) * [1, 3] + 2.0, rng(6).standard_normal((37, 3))
    phi[:, 0] += a[:, 0] ** 2
    affine = np.column_stack([np.ones(37), a])
    r = phi - affine @ np.linalg.lstsq(affine, phi, rcond=None)[0]
    k = np.exp(-(((a[:, None] - a) ** 2).sum(2)) / (2 * np.median(pdist(a)) ** 2))
    q = encoders.moments(a, a)
    assert ((q.T @ phi) ** 2).sum() == pytest.approx(np.einsum("id,ij,jd", r, k, r), rel=1e-4)
    assert encoders.moments(a, a[:9]).shape == (37, 9)
    pairs = (q @ q.T * (phi @ phi.T))[~np.eye(37, dtype=bool)]
    found = encoders.restriction(torch.tensor(np.stack([phi, 2 * phi])), torch.tensor(np.stack([q, q])))
    np.testing.assert_allclose(found, [pairs.mean(), 4 * pairs.mean()])


def test_networks_codes_and_penalties():
    layers = encoders.network(2, [3, 40, 5, 2], torch.Generator().manual_seed(0))
    assert layers[2].std().item() == pytest.approx(0.2, rel=0.1)
    layers, x = [(one + 0.1 * i).detach() for i, one in enumerate(layers)], normals(2, 6, 3)
    for w in range(2):
        first = torch.nn.LeakyReLU(0.2)(x[w] @ layers[0][w] + layers[1][w])
        second = torch.nn.LeakyReLU(0.2)(first @ layers[2][w] + layers[3][w])
        torch.testing.assert_close(encoders.forward(layers, x)[w], second @ layers[4][w] + layers[5][w])
    h, q, one = normals(2, 30, 4, seed=1) * 2 + 1, normals(2, 30, 4, seed=2), object.__new__(Autoencoders)
    one.variational, one.d = False, 4
    codes, penalty = one._codes(h, q, None)
    torch.testing.assert_close(codes.mean(1), torch.zeros(2, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cov(codes[1].T), torch.eye(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(encoders.whiten(h[:, :3], h), codes[:, :3])
    torch.testing.assert_close(penalty, encoders.restriction(codes, q))
    one.variational, one.d = True, 2
    codes, penalty = one._codes(h, q, torch.Generator().manual_seed(3))
    posterior = Normal(h[..., :2], h[..., 2:].exp())
    torch.testing.assert_close(penalty, kl_divergence(posterior, Normal(0.0, 1.0)).sum(2).mean(1))
    torch.testing.assert_close(codes, posterior.mean + posterior.stddev * normals(2, 30, 2, seed=3))


@pytest.mark.parametrize("variational", [False, True])
def test_training_rebuilds_each_world_and_heeds_its_penalty(variational):
    """Two worlds of different scale, whose one latent is seen through a bent curve."""
    a = rng(14).uniform(-1, 1, (2, 1000, 1))
    z = 2 * a + 0.3 * rng(15).standard_normal(a.shape)
    x = np.concatenate([np.sinh(z), np.sinh(z) / 2], axis=2) * [[[1.0]], [[5.0]]] + 3.0
    fits = []
    for weight in (0.0, 100.0):
        trained = Autoencoders(x, a, rng(16), variational=variational, weight=weight, steps=150)
        codes = trained.encode(x)
        fits.append(np.mean([ex.affine_fit(*one) for one in zip(z, codes, strict=True)]))
        left = [ex.unexplained(*one) for one in zip(x, trained.decode(codes), strict=True)]
        assert min(left) > 0.9 if variational and weight else max(left) < 0.05
    if not variational:
        np.testing.assert_allclose([codes.std(1), 1 + codes.mean(1)], 1.0, atol=0.01)
        assert fits[1] > max(0.97, fits[0] + 0.01), "the restriction straightens codes"


def test_functions_are_those_of_a_kernel_on_whitened_inputs():
    x = rng(19).standard_normal((80, 2)) @ [[1, 4], [0, 1]] + 2.0
    functions = ex.Smooth(x, rng(21))
    found, turned = functions(x), ex.Smooth(x @ [[2, 1], [1, -1]], rng(21))(x @ [[2, 1], [1, -1]])
    np.testing.assert_allclose(np.cov(found[:, :2].T, bias=True), np.eye(2), atol=1e-9)
    r = np.sqrt(3) * cdist(found[:, :2], found[:, :2]) / ex.WIDTH
    np.testing.assert_allclose(found[:, 2:] @ found[:, 2:].T, (1 + r) * np.exp(-r), atol=1e-6)
    np.testing.assert_allclose(turned @ turned.T, found @ found.T, atol=1e-6)


def test_control_functions_find_effects_and_need_control():
    targets = beyond(rng(), 300, 2, 1.6)
    assert 1.0 < np.abs(targets).max(1).min() < np.abs(targets).max() <= 1.6
    assert (np.abs(targets).min(1) < 1.0).any(), "one action alone may leave the support"
    world, targets = World(rng(19), 1, 2.0), beyond(rng(21), 50, 1, 1.4)
    a, z, _, y = world.rows(rng(20), 20_000)

    def found(codes, y=y, control=True):
        return ex.extrapolated(codes, a, y, targets, rng(22), control=control)

    assert np.sqrt(np.mean((found(z) - world.effects(targets)) ** 2)) < 0.15
    assert np.sqrt(np.mean((found(z, control=False) - world.effects(targets)) ** 2)) > 0.3
    np.testing.assert_allclose(found(3.0 * z + 2.0), found(z), atol=1e-6)
    np.testing.assert_allclose(found(z, y + 4.0), found(z) + 4.0, atol=1e-6)


def test_problems_answers_and_metrics():
    study = ex.Rep4Ex(INFO, codes="learnt", worlds=3, rows=40, latents=1, steps=2, weight=2.0, strength=0.5)
    study.start(None, torch.Generator().manual_seed(5))
    study.advance(None, None)
    (truth, answer), given = next(study.answered()), study.problem(study._stream(0, "problem")).given
    shapes = {"actions": (40, 1), "latents": (40, 1), "x": (40, 10), "y": (40,), "targets": (64, 1), "tests": (20, 10)}
    assert {k: v.shape[1:] for k, v in given.items()} == shapes
    assert not np.isin(given["tests"], given["x"]).any()
    world = World(drawn := study._stream(0, "problem"), 1, 0.5)
    np.testing.assert_allclose(given["targets"][0], beyond(drawn, 64, 1, 1.5))
    np.testing.assert_allclose(truth["effects"][0], world.effects(given["targets"][0]))
    np.testing.assert_allclose(truth["x"][0], world.mix(truth["z"][0]))
    drawn = study._stream(0, "answer")
    trained = Autoencoders(given["x"], given["actions"], drawn, variational=False, weight=2.0, steps=2)
    codes, x = trained.encode(given["tests"]), given["tests"]
    np.testing.assert_allclose(answer["codes"], codes)
    np.testing.assert_allclose(answer["effects"], study.effects(trained.encode(given["x"]), given, drawn))
    for codes_, control in (("latents", True), ("actions", False)):
        other = ex.Rep4Ex(INFO, codes=codes_)
        assert other.control == control
        np.testing.assert_allclose(other.answer(given, rng())["effects"], other.effects(given[codes_], given, rng()))
    value = ex.extrapolation_error(study, None, {}, None)
    assert value.value == pytest.approx(np.sqrt(((truth["effects"] - answer["effects"]) ** 2).mean(1)).mean())
    r2 = [np.corrcoef(z[:, 0], c[:, 0])[0, 1] ** 2 for z, c in zip(truth["z"], codes, strict=True)]
    assert ex.latents_affine_r2(study, None, {}, None).value == pytest.approx(np.mean(r2))
    left = ((x - trained.decode(codes)) ** 2).sum((1, 2)) / ((x - x.mean(1, keepdims=True)) ** 2).sum((1, 2))
    assert ex.features_unexplained(study, None, {}, None).value == pytest.approx(left.mean())
    z = rng(27).standard_normal((500, 2)) * [1, 10]
    assert ex.affine_fit(z, z @ [[1, 2], [3, -1]] + 5.0) == pytest.approx(1.0)
    assert ex.affine_fit(z, z[:, :1]) == pytest.approx(0.5, abs=0.02), "each latent counts alike"
