"""Worlds against moments and paths, training against torch's own, linear steps where truth is plain, what sees what."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.interventional_crl import representations, steps, worlds
from latentbench.papers.interventional_crl.representations import Representations, explained
from latentbench.papers.interventional_crl.worlds import World

INFO, LAWS = DataInfo((1,), "real", 1), ["uniform", "blocks", "mixture", "sparse", "dense"]


def rng(seed=0):
    return np.random.default_rng(seed)


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


def test_laws_without_structure():
    z = World(rng(), "uniform", 3, 1, 4).latents(rng(4), 40_000)
    assert -5 <= z.min() < -4.99 < 4.99 < z.max() <= 5
    np.testing.assert_allclose(np.cov(z.T), np.eye(3) * 100 / 12, atol=0.15)
    z = World(rng(), "blocks", 4, 1, 4).latents(rng(5), 40_000)
    np.testing.assert_allclose(np.abs(z).max(0), [5, 3, 5, 3], atol=0.01)
    np.testing.assert_allclose(np.abs(z).mean(0), [2.5, 1.5, 2.5, 1.5], atol=0.03)
    agree = (np.sign(z).T @ np.sign(z)) / len(z)
    np.testing.assert_allclose(agree, np.kron(np.eye(2), [[1, 0.8], [0.8, 1]]), atol=0.02)
    z = World(rng(), "mixture", 3, 1, 4).latents(rng(6), 100_000)
    np.testing.assert_allclose(z.mean(0), 0.5, atol=0.03)
    np.testing.assert_allclose(np.cov(z.T), np.eye(3) * 2.5 + 0.25, atol=0.06)


@pytest.mark.parametrize(("law", "density"), [("sparse", 0.5), ("dense", 1.0)])
def test_structural_models(law, density):
    made = [World(rng(seed), law, 5, 1, 2) for seed in range(200)]
    edges, caused = np.stack([w.weights for w in made]), np.stack([w.weights.any(1) for w in made])
    assert (edges != 0).sum() / 1000 == pytest.approx(density, rel=0.12)
    sizes, noise = edges[edges != 0], np.stack([w.noise for w in made])
    assert 0.25 <= np.abs(sizes).min() < 0.27 < 0.98 < np.abs(sizes).max() <= 1.0
    assert (sizes > 0).mean() == pytest.approx(0.5, abs=0.1)
    assert noise[caused].mean() == pytest.approx(0.2, abs=0.02)
    assert 0.39 < noise[caused].max() <= 0.4
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
    one, x = steps.Autoencoder(7, 3, 2, torch.Generator().manual_seed(0)), rng(10).standard_normal((40, 7))
    a = [p.detach().double().numpy() for p in one.parameters()]
    h = x
    for w, b in zip(a[:4:2], a[1:4:2], strict=True):
        h = h @ w.T + b
        h = np.where(h > 0, h, 0.5 * h)
    z = h @ a[4].T + a[5]
    rebuilt = np.hstack([z, (z[:, :, None] * z[:, None]).reshape(40, 9)]) @ a[6].T + a[7]
    assert one(torch.tensor(x, dtype=torch.float32)).item() == pytest.approx(((rebuilt - x) ** 2).mean(), rel=1e-4)
    assert [w.shape for w in a[::2]] == [(100, 7), (100, 100), (3, 100), (7, 12)]
    for w, b in zip(a[::2], a[1::2], strict=True):
        most = w.shape[1] ** -0.5
        assert 0.9 * most < w.max() <= most
        assert -most <= min(w.min(), b.min()) < w.min() + 0.5 * most < 0


@pytest.mark.parametrize(("cooled", "epochs", "rate"), [(True, 4, 0.01), (False, 6, 0.003)])
def test_training_is_torch_s_until_patience_ends(monkeypatch, cooled, epochs, rate):
    x, settings = (
        torch.tensor(rng(12).standard_normal((50, 4)), dtype=torch.float32),
        {"d": 2, "degree": 2, "batch": 20},
    )
    draws = torch.Generator().manual_seed(3)
    other = steps.Autoencoder(4, 2, 2, draws)
    adam, t = torch.optim.Adam(other.parameters(), lr=rate, weight_decay=5e-4), 0
    for _ in range(epochs):
        order = torch.randperm(50, generator=draws)
        for part in order[:20], order[20:40], order[40:]:
            adam.param_groups[0]["lr"], t = rate * (1 - t / (3 * epochs) if cooled else 1), t + 1
            adam.zero_grad()
            other(x[part]).backward()
            adam.step()
    one = steps.trained(x, x, 3, rate=rate, epochs=epochs, cooled=cooled, **settings)
    torch.testing.assert_close(one.state_dict(), other.state_dict())

    seen, errors, forward = [], [5.0, 4.0, 4.00005, 6.0, 3.9] + [3.90015] * 12, steps.Autoencoder.forward

    def faked(self, rows):
        if torch.is_grad_enabled():
            return forward(self, rows)
        seen.append(self.encode[0].weight.detach().clone())
        return torch.tensor(errors[len(seen) - 1])

    monkeypatch.setattr(steps.Autoencoder, "forward", faked)
    for most, best in (17, 4), (3, 2):
        seen.clear()
        one = steps.trained(x, x, 3, rate=rate, epochs=most, cooled=cooled, **settings)
        assert len(seen) == min(most, 5 + 10)
        torch.testing.assert_close(one.encode[0].weight, seen[best])


def affine_codes(law, n, d):
    world, a, shift = World(rng(21), law, d, 1, 2), rng(22).standard_normal((d, d)), rng(23).standard_normal(d)
    z, targets = world.latents(rng(24), n), rng(25).integers(d, size=n)
    return z, z @ a + shift, world.latents(rng(26), n, targets) @ a + shift, targets


@pytest.mark.parametrize("law", LAWS)
def test_constancy_finds_what_is_held_and_the_rest_are_components(law):
    z, codes, held, targets = affine_codes(law, 900, 4)
    found = steps.constancy(held, targets)
    for t in range(4):
        np.testing.assert_allclose(held[targets == t] @ found[:, t], 10.0)
    np.testing.assert_allclose(np.diag(correlations(codes @ found, z)), 1.0)
    np.testing.assert_allclose(steps.completed(found, codes, codes[5:8]), codes[5:8] @ found)
    some = np.isin(targets, [1, 3])
    found = steps.constancy(held[some], targets[some])
    np.testing.assert_allclose(np.diag(correlations(codes @ found, z[:, [1, 3]])), 1.0)
    filled, known = steps.completed(found, codes, codes), np.column_stack([np.ones(900), codes @ found])
    np.testing.assert_allclose(filled[:, :2], codes @ found)
    np.testing.assert_allclose(correlations(filled, filled)[2:], np.eye(4)[2:], atol=1e-6)
    rest = codes - known @ np.linalg.lstsq(known, codes, rcond=None)[0]
    assert (filled[:, 2:] ** 2).sum() == pytest.approx((rest**2).sum())
    assert filled[:, 2].std() > filled[:, 3].std()
    assert explained(z, filled) == pytest.approx(1.0)
    np.testing.assert_allclose(steps.completed(found, codes, codes[5:8]), filled[5:8])


@pytest.mark.parametrize(("rows", "points"), [(16, 250), (230, 40)])
def test_gap_is_the_robust_hausdorff_distance_to_the_box(rows, points):
    codes, uniform = rng(1).standard_normal((2, rows, 2)) * [1, 7] + 4.0, rng(2).random((2, points, 2))
    found = steps.support_gap(torch.tensor(codes), torch.tensor(uniform))
    for pair, draws, value in zip(codes, uniform, found, strict=True):
        scaled = np.sort((pair - pair.min(0)) / np.ptp(pair, axis=0), axis=0)
        low, high = scaled[int(0.01 * rows)], scaled[-1 - int(0.01 * rows)]
        scaled = (pair - pair.min(0)) / np.ptp(pair, axis=0)
        nearest = [np.linalg.norm(low + (high - low) * u - scaled, axis=1).min() for u in draws]
        assert value.item() == pytest.approx(np.sort(nearest)[::-1][int(0.01 * points)], abs=1e-6)


def test_supports_and_components_find_latents_where_they_can():
    z, codes, *_ = affine_codes("uniform", 2000, 3)
    assert correlations(steps.independent(codes[:1500], codes[1500:], rng()), z[1500:]).max(0).min() > 0.99
    z, codes, *_ = affine_codes("uniform", 1500, 2)
    settings = {"rate": 2e-2, "epochs": 20, "batch": 100, "points": 50}
    found = steps.supported(codes[:1000], codes[1000:], rng(22), **settings)
    assert correlations(found, z[1000:]).max(0).mean() > 0.9 > 0.8 > correlations(codes, z).max(0).mean()
    assert explained(z[1000:], found) == pytest.approx(1.0, abs=1e-5)


def test_problems_and_what_is_learnt_of_which_rows(monkeypatch):
    seen = []

    def recorded(x, validation, seed, *, rate, **training):
        def error(rows):
            assert len(rows) == 20
            return torch.tensor(abs(rate - 0.2))

        error.encode = lambda rows: rows[:, :4] * rate
        seen.append((x, validation, seed, training))
        return error

    monkeypatch.setattr(representations, "trained", recorded)
    shared = {"latents": 4, "features": 9, "rows": 80, "epochs": 2, "law": "dense", "degree": 3, "batch": 7}
    shared |= {"rates": (0.1, 0.2, 0.4), "rate": 0.01, "rounds": 2, "support_batch": 30, "points": 20, "cooled": True}
    for how, step in product(("none", "half", "all"), ("constancy", "ica", "none", "support")):
        if (how, step) == ("none", "constancy"):
            continue
        study = Representations(INFO, interventions=how, step=step, **shared)
        study.start(None, torch.Generator().manual_seed(5))
        stream, count = study._stream(0, "problem"), {"none": 0, "half": 2, "all": 4}[how]
        world = World(stream, "dense", 4, 3, 9)
        drawn = [world.latents(stream, n) for n in (80, 20, 160)]
        x, validation, tests = (world.show(z) for z in drawn)
        targets = stream.integers(max(count, 1), size=100)
        held = world.show(world.latents(stream, 100, targets))
        seen.clear()
        study.advance(None, None)
        ((truth, answer),) = study.answered()
        np.testing.assert_array_equal(truth["latents"], drawn[2])
        draws, n = study._stream(0, "answer"), 80 * bool(count)
        seed = draws.integers(2**62)
        assert len(seen) == 3
        for rows, others, number, training in seen:
            np.testing.assert_allclose(rows, np.vstack([x, held[:n]]), rtol=1e-5)
            np.testing.assert_allclose(others, np.vstack([validation, held[80 : 80 + n // 4]]), rtol=1e-5)
            assert (number, training) == (seed, {"d": 4, "degree": 3, "epochs": 2, "batch": 7, "cooled": True})
        of, under, new = ((0.2 * torch.tensor(c[:, :4]).float()).double().numpy() for c in (x, held[:80], tests))
        np.testing.assert_array_equal(answer["codes"], new)
        if step == "constancy":
            new = steps.completed(steps.constancy(under, targets[:80]), of, new)
        elif step == "ica":
            new = steps.independent(of, new, draws)
        elif step == "support":
            new = steps.supported(of, new, draws, rate=0.01, epochs=2, batch=30, points=20)
        np.testing.assert_allclose(answer["latents"], new, rtol=1e-6)
    value = representations.codes_latents_r2(study, None, {}, None).value
    assert value == pytest.approx(explained(truth["latents"], answer["codes"]))


def test_r2_is_of_odd_rows_by_even_ones():
    z = rng(23).standard_normal((4000, 2)) * [1, 10]
    assert explained(z, z @ [[1, 2], [3, -1]] + 5.0) == pytest.approx(1.0)
    assert explained(z, z[:, :1]) == pytest.approx(0.5, abs=0.02), "each latent counts alike"
    assert explained(z[:8], rng(24).standard_normal((8, 3))) < 0, "scored on other rows"


@pytest.mark.parametrize(("design", "word"), [({"law": "blocks", "latents": 5}, "5"), ({"step": "constancy"}, "const")])
def test_designs_that_cannot_be(design, word):
    with pytest.raises(UserError, match=word):
        Representations(INFO, **design)
