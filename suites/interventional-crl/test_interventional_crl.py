"""Worlds against moments and paths, training against torch's own, linear steps where the truth is plain."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.interventional_crl import steps, worlds
from latentbench.papers.interventional_crl.representations import Representations, codes_latents_r2, explained
from latentbench.papers.interventional_crl.worlds import World

INFO, LAWS = DataInfo((1,), "real", 1), ["uniform", "blocks", "mixture", "sparse", "dense"]


def rng(seed=0):
    return np.random.default_rng(seed)


def draws(seed=3):
    return torch.Generator().manual_seed(seed)


def correlations(a, b):
    return np.abs(np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :])


@pytest.mark.parametrize(("d", "degree"), [(3, 1), (4, 2), (2, 3)])
def test_features_are_all_products_in_proportion(d, degree):
    world = World(rng(2), "uniform", d, degree, 300)
    z = world.latents(rng(3), 10_000)
    indices = [term for k in range(degree + 1) for term in product(range(d), repeat=k)]
    terms, c = np.stack([z[:, list(term)].prod(1) for term in indices], axis=1), world.coefficients
    np.testing.assert_allclose(world.show(z[:7]), terms[:7] @ c)
    assert c[: d + 1].std() == pytest.approx(1.0, rel=0.1), "linear ones are standard normal"
    if degree > 1:
        reach = np.abs(terms[:, d + 1 :] @ c[d + 1 :]).max() / np.abs(terms[:, : d + 1] @ c[: d + 1]).max()
        assert reach == pytest.approx(2.0, rel=0.15)
    torch.testing.assert_close(torch.cat(worlds.powers(torch.tensor(z), degree), 1), torch.tensor(terms[:, 1:]))


@pytest.mark.parametrize(
    ("law", "mean", "absolute", "covariance"),
    [
        ("uniform", 0.0, 2.5, 25 / 3 * np.eye(4)),
        ("blocks", 0.0, [2.5, 1.5] * 2, np.kron(np.eye(2), [[25 / 3, 3], [3, 3]])),  # 0.8 2.5 1.5 off the diagonal
        ("mixture", 0.5, 1.295, 2.5 * np.eye(4) + 0.25),
    ],
)
def test_laws_without_structure(law, mean, absolute, covariance):
    z = World(rng(), law, 4, 1, 2).latents(rng(4), 100_000)
    np.testing.assert_allclose(z.mean(0), np.broadcast_to(mean, 4), atol=0.04)
    np.testing.assert_allclose(np.abs(z).mean(0), np.broadcast_to(absolute, 4), atol=0.03)
    np.testing.assert_allclose(np.cov(z.T), covariance, atol=0.1)
    assert law == "mixture" or np.abs(z).max(0) == pytest.approx(2 * np.broadcast_to(absolute, 4), rel=1e-3)


@pytest.mark.parametrize(("law", "density"), [("sparse", 0.5), ("dense", 1.0)])
def test_structural_models(law, density):
    made = [World(rng(seed), law, 5, 1, 2) for seed in range(200)]
    weights, noise = np.stack([w.weights for w in made]), np.stack([w.noise for w in made])
    sizes, caused = weights[weights != 0], weights.any(2)
    assert len(sizes) / 1000 == pytest.approx(density, rel=0.12)
    assert 0.25 <= np.abs(sizes).min() < 0.27 < 0.98 < np.abs(sizes).max() <= 1.0
    assert (sizes > 0).mean() == pytest.approx(0.5, abs=0.1)
    assert 0.39 < noise[caused].max() <= 0.4
    assert noise[caused].mean() == pytest.approx(0.2, abs=0.02)
    assert (noise[~caused] == 1).all()
    for world in made[:3]:
        e = world.latents(rng(7), 20_000) @ (np.eye(5) - world.weights.T)
        np.testing.assert_allclose(np.abs(e.mean(0)), np.where(world.weights.any(1), 0.8, 0.0), atol=0.03)
        np.testing.assert_allclose(np.cov(e.T), np.diag(world.noise**2), atol=0.03)


@pytest.mark.parametrize("law", LAWS)
def test_interventions_hold_their_target_and_move_what_it_causes(law):
    world = World(rng(8), law, 6, 2, 3)
    before, paths = world.latents(rng(9), 50), np.linalg.inv(np.eye(6) - world.weights)
    for t in range(6):
        after = world.latents(rng(9), 50, np.full(50, t))
        np.testing.assert_array_equal(after[:, t], 2.0)
        np.testing.assert_allclose(after - before, np.outer(2.0 - before[:, t], paths[:, t]), atol=1e-9)
        np.testing.assert_array_equal(world.latents(rng(9), 50, np.arange(50) % 6)[t], after[t])


def test_the_autoencoder_is_an_mlp_and_a_polynomial():
    one, x = steps.Autoencoder(7, 3, 2, draws()), rng(10).standard_normal((40, 7))
    w1, b1, w2, b2, w3, b3, w4, b4 = (p.detach().double().numpy() for p in one.parameters())
    h = x @ w1.T + b1
    h = np.maximum(h, 0.5 * h) @ w2.T + b2
    z = np.maximum(h, 0.5 * h) @ w3.T + b3
    rebuilt = np.hstack([z, (z[:, :, None] * z[:, None]).reshape(40, 9)]) @ w4.T + b4
    assert one(torch.tensor(x, dtype=torch.float32)).item() == pytest.approx(((rebuilt - x) ** 2).mean(), rel=1e-4)
    assert [w.shape for w in (w1, w2, w3, w4)] == [(100, 7), (100, 100), (3, 100), (7, 12)]
    for w, b in (w1, b1), (w2, b2), (w3, b3), (w4, b4):
        most = w.shape[1] ** -0.5
        assert 0.9 * most < max(w.max(), -w.min(), np.abs(b).max()) <= most
        assert w.std() == pytest.approx(most / 3**0.5, rel=0.15)


@pytest.mark.parametrize(("rate", "count", "batch", "degree"), [(0.01, 4, 20, 2), (0.003, 6, 7, 1)])
def test_training_is_adam_s_at_a_falling_rate(rate, count, batch, degree):
    x, draw = torch.tensor(rng(12).standard_normal((50, 4)), dtype=torch.float32), draws()
    plain = steps.Autoencoder(4, 2, degree, draw)
    adam = torch.optim.Adam(plain.parameters(), lr=rate, weight_decay=5e-4)
    falling = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.0, count)
    for _ in range(count):
        adam.zero_grad()
        plain(x[torch.randint(50, (batch,), generator=draw)]).backward()
        adam.step()
        falling.step()
    found = steps.trained(x, draws(), d=2, degree=degree, rate=rate, steps=count, batch=batch)
    torch.testing.assert_close(found.state_dict(), plain.state_dict())


def affine_codes(law, n, d):
    """Latents (n, d), affine codes of them, and codes (n, d) of latents under do on targets (n,)."""
    world, a, shift = World(rng(21), law, d, 1, 2), rng(22).standard_normal((d, d)), rng(23).standard_normal(d)
    z, targets = world.latents(rng(24), n), rng(25).integers(d, size=n)
    return z, z @ a + shift, world.latents(rng(26), n, targets) @ a + shift, targets


@pytest.mark.parametrize("law", LAWS)
def test_constancy_finds_what_is_held(law):
    z, codes, held, targets = affine_codes(law, 900, 4)
    found = steps.constancy(held, targets)
    for t in range(4):
        np.testing.assert_allclose(held[targets == t] @ found[:, t], 10.0)
    np.testing.assert_allclose(np.diag(correlations(codes @ found, z)), 1.0)


def test_decompositions_are_learnt_of_the_first_rows():
    z, codes, *_ = affine_codes("uniform", 1500, 3)
    old, new = codes[:1000], codes[1000:]
    assert correlations(steps.decomposed(old, new, "ica", 1), z[1000:]).max(0).min() > 0.99
    axes = np.linalg.eigh(np.cov(old.T))[1]
    found = steps.decomposed(old, new, "components", 1)
    np.testing.assert_allclose(np.abs(found), np.abs((new - old.mean(0)) @ axes[:, ::-1]), atol=1e-8)


@pytest.mark.parametrize(("rows", "points"), [(16, 250), (230, 40)])
def test_gap_is_the_robust_hausdorff_distance_to_the_box(rows, points):
    codes, uniform = rng(1).standard_normal((2, rows, 2)) * [1, 7] + 4.0, rng(2).random((2, points, 2))
    found = steps.support_gap(torch.tensor(codes), torch.tensor(uniform))
    for pair, shares, value in zip(codes, uniform, found, strict=True):
        scaled = (pair - pair.min(0)) / np.ptp(pair, axis=0)
        low, high = (np.sort(scaled, axis=0)[at] for at in (rows // 100, -1 - rows // 100))
        nearest = [np.linalg.norm(low + (high - low) * u - scaled, axis=1).min() for u in shares]
        assert value.item() == pytest.approx(np.sort(nearest)[::-1][points // 100], abs=1e-6)


def test_the_step_on_supports_finds_latents_in_a_box():
    z, codes, *_ = affine_codes("uniform", 1500, 2)
    found = steps.supported(codes[:1000], codes[1000:], draws(2), rate=2e-2, steps=200, batch=500, points=50)
    assert correlations(found, z[1000:]).max(0).min() > 0.98 > 0.8 > correlations(codes, z).max(0).mean()
    assert explained(z[1000:], found) == pytest.approx(1.0, abs=1e-5), "affine"


LEARNT = [("none", False), ("support", False), ("components", True), ("ica", True), ("constancy", True)]


@pytest.mark.parametrize(("step", "interventions"), LEARNT)
def test_what_is_learnt_of_which_rows(step, interventions):
    sizes, adam = {"latents": 4, "degree": 3, "features": 9, "rows": 80, "batch": 7}, {"steps": 3, "rate": 0.01}
    own = {"law": "dense", "step": step, "interventions": interventions, "support_batch": 30, "points": 20}
    study = Representations(INFO, **own, **sizes, **adam)
    study.start(None, draws(5))
    study.advance(None, None)
    ((truth, answer),) = study.answered()

    stream, seeds = study._stream(0, "problem"), study._stream(0, "answer")
    world, draw = World(stream, "dense", 4, 3, 9), draws(int(seeds.integers(2**62)))
    x, tests = world.latents(stream, 80), world.latents(stream, 160)
    targets = stream.integers(4, size=80)
    held = world.latents(stream, 80, targets)
    np.testing.assert_array_equal(truth["latents"], tests)
    x, held, tests = (torch.tensor(world.show(z), dtype=torch.float32) for z in (x, held, tests))
    learnt = torch.cat([x, held]) if interventions else x
    encode = steps.trained(learnt, draw, d=4, degree=3, batch=7, **adam).encode
    x, held, tests = (encode(rows).detach().double().numpy() for rows in (x, held, tests))
    np.testing.assert_allclose(answer["codes"], tests)
    want = tests
    if step == "support":
        want = steps.supported(x, tests, draw, batch=30, points=20, **adam)
    elif step == "constancy":
        want = tests @ steps.constancy(held, targets)
    elif step != "none":
        want = steps.decomposed(x, tests, step, int(seeds.integers(2**31)))
    np.testing.assert_allclose(answer["latents"], want)
    assert codes_latents_r2(study, None, {}, None).value == pytest.approx(explained(truth["latents"], tests))


def test_r2_is_of_odd_rows_by_even_ones():
    z = rng(23).standard_normal((4000, 2)) * [1, 10]
    assert explained(z, z @ [[1, 2], [3, -1]] + 5.0) == pytest.approx(1.0)
    assert explained(z, z[:, :1]) == pytest.approx(0.5, abs=0.02), "each latent counts alike"
    assert explained(z[:8], rng(24).standard_normal((8, 3))) < 0, "scored on other rows"


@pytest.mark.parametrize(("design", "word"), [({"law": "blocks", "latents": 5}, "5"), ({"step": "constancy"}, "const")])
def test_designs_that_cannot_be(design, word):
    with pytest.raises(UserError, match=word):
        Representations(INFO, **design)
