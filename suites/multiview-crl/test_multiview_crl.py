"""Mixings undone, losses as plain sums, training replayed, variates and regressions by other routes."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from latentbench.core.types import DataInfo
from latentbench.papers.multiview_crl import blocks as b
from latentbench.papers.multiview_crl import views as w
from scipy.stats import special_ortho_group
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import r2_score

INFO = DataInfo((1,), "real", 1)
SHARED = "01:0124 02:0123 03:0134 12:0125 13:0145 23:0135 012:012 013:014 023:013 123:015 0123:01"
SHARED = {views: [int(i) for i in latents] for views, latents in (pair.split(":") for pair in SHARED.split())}
NAMED = {"0123-[01]": {"0123-0", "0123-1"}, "01-?": {"01-0", "01-1"}}
NAMED["*"] = {f"{name}-{k}" for name in SHARED for k in name}
NAMED["???*-?"] = {name for name in NAMED["*"] if len(name) > 4}


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def test_mixings_are_undone_and_well_conditioned():
    made, other = w.World(np.random.default_rng(0), True), np.random.default_rng(1).uniform(-1, 1, (10_000, 5, 5))
    z = made.latents(300, draws())
    for x, seen, layers in zip(made.observe(z), w.VIEWS, made.mixings.transpose(0, 1)):
        undone = x.numpy().T
        for i, weights in enumerate(reversed(layers.numpy())):
            undone = np.linalg.solve(weights, np.where(undone < 0, undone / 0.2, undone) if i else undone)
        np.testing.assert_allclose(undone.T, z[:, list(seen)], atol=1e-9)
    matrices, others = made.mixings.flatten(0, 1).numpy(), other / np.sqrt((other**2).sum(1, keepdims=True))
    np.testing.assert_allclose((matrices**2).sum(1), 1.0)
    assert len({m.tobytes() for m in matrices}) == 12
    assert np.linalg.cond(matrices).max() < np.quantile(np.linalg.cond(others), 0.002)


def test_latents_have_the_covariance_of_their_law(monkeypatch):
    monkeypatch.setattr(w, "POOL", 30)
    made = [w.World(np.random.default_rng(i), True) for i in range(400)]
    np.testing.assert_allclose(np.cov(made[0].latents(200_000, draws()).T), made[0].covariance, atol=0.15)
    np.testing.assert_allclose(np.mean([one.covariance for one in made], axis=0), 6 * np.eye(6), atol=0.6)
    assert (w.World(np.random.default_rng(0), False).covariance == np.eye(6)).all()


@pytest.mark.parametrize("sets", ["all", "pairs", "two"])
def test_contrast_is_its_plain_sum(sets):
    h, others = (torch.randn(4, n, 6, generator=draws(n), dtype=torch.float64) / 2 for n in (5, 7))
    total, names = 0.0, {"all": list(SHARED), "pairs": list(SHARED)[:6], "two": ["01"]}[sets]
    for name, i in product(names, range(5)):
        views, c = [int(k) for k in name], SHARED[name]
        near = sum(((h[k, i, c] - h[j, i, c]) ** 2).sum() for k, j in pairwise(views))
        far = [sum(((h[k, i, c] - others[k, j, c]) ** 2).sum() for k in views) for j in range(7)]
        total += (near + torch.log(sum(torch.exp(-one) for one in [near, *far]))) / 5
    found = b.contrast(h, others, *(one.double() for one in b.masks(b.TRAINED[sets])))
    assert float(found) == pytest.approx(float(total), rel=1e-9)


def test_training_replayed(monkeypatch):
    def forward(weights, x):
        for i, (matrix, shift) in enumerate(zip(weights[::2], weights[1::2])):
            x = torch.stack([rows @ m + s for rows, m, s in zip(torch.maximum(x, 0.01 * x) if i else x, matrix, shift)])
        return x

    monkeypatch.setattr(b, "HIDDEN", (11, 12))
    x = torch.randn(4, 20, 5, generator=draws(6), dtype=torch.float64)
    given = {"sample": lambda n, generator: torch.randn(4, n, 5, generator=generator), "x": x}
    found = b.SharedBlocks(INFO, sets="pairs", steps=4, batch=8).answer(given, np.random.default_rng(7))
    generator = draws(int(np.random.default_rng(7).integers(2**62)))
    weights = b.network([5, 11, 12, 6], generator)
    adam = torch.optim.Adam(weights)
    for rate in (5e-3, 3.75e-3, 2.5e-3, 1.25e-3):
        adam.param_groups[0]["lr"] = rate
        h = forward(weights, torch.randn(4, 16, 5, generator=generator))
        adam.zero_grad()
        b.contrast(h[:, :8], h[:, 8:], *b.masks(w.SETS[:6])).backward()
        adam.step()
    codes = forward(weights, x.float()).detach()
    for name, k in ((views, k) for views in SHARED for k in views):
        np.testing.assert_allclose(found[f"{name}-{k}"], codes[int(k)][:, SHARED[name]], atol=1e-5)
    wide = [p.detach() for p in b.network([64, 400, 6], draws(5))]
    np.testing.assert_allclose([float(p.max()) for p in wide], [0.125, 0.125, 0.05, 0.05], rtol=0.2)
    np.testing.assert_allclose([float(p.min()) for p in wide], [-0.125, -0.125, -0.05, -0.05], rtol=0.2)


def test_variates_are_singular_vectors_of_whitened_views(monkeypatch):
    monkeypatch.setattr(b, "RIDGE", 0.1)
    rng, whiten = np.random.default_rng(8), []
    x = rng.standard_normal((3, 400, 4)) * [1.0, 2.0, 3.0, 4.0] + rng.standard_normal((400, 4))
    x -= x.mean(1, keepdims=True)
    for part in x:
        values, vectors = np.linalg.eigh(part.T @ part / 400)
        whiten.append(vectors / np.sqrt(values + 0.1 * values.mean()))
    axes = np.linalg.svd(np.hstack([part @ white for part, white in zip(x, whiten)]), full_matrices=False)[2]
    found, expected = b.canonical(x, 2)[:, :, ::-1], np.stack(whiten) @ axes[:2].T.reshape(3, 4, 2)
    np.testing.assert_allclose(found, expected * np.sign((found * expected).sum((0, 1))), atol=1e-8)


@pytest.mark.parametrize("units", [0, 8])
def test_canonical_correlation_identifies_linear_mixings(units, monkeypatch):
    monkeypatch.setattr(w, "SLOPE", 1.0)
    study = b.SharedBlocks(INFO, learner="cca", dependent=True, rows=300, units=units)
    problem = study.problem(np.random.default_rng(9))
    answer = study.answer(problem.given, np.random.default_rng(10))
    assert abs(np.tril(np.corrcoef(problem.truth["latents"].T), -1)).max() > 0.3  # they depend
    for name, c in SHARED.items():
        design = np.column_stack([np.ones(300), problem.truth["latents"][:, c]])
        for codes in (answer[f"{name}-{k}"] for k in name):
            left = codes - design @ np.linalg.lstsq(design, codes, rcond=None)[0]
            assert (left.var(0) < 0.04 * codes.var(0)).tolist() == [True] * len(c)
    sample, x = problem.given["sample"](400, draws()).numpy(), problem.given["x"].numpy()
    few, more = (b.variates(sample, x[:, :n], units, np.random.default_rng(0))["01-0"][:9] for n in (9, 300))
    np.testing.assert_allclose(few, more, atol=1e-9)  # of a row, whatever else is judged
    both = np.column_stack([np.ones(300), problem.given["x"][3], answer["0123-3"]])
    assert np.linalg.matrix_rank(both) == 6 + 2 * bool(units)  # linear in the view but for the units


def test_probe_is_kernel_ridge_with_the_least_left_out_error():
    rng, expected = np.random.default_rng(11), []
    x = rng.standard_normal((60, 2)) * [1.0, 30.0] + 5.0
    y = np.column_stack([np.sin(3 * x[:, 0]) + 4.0, x[:, 1] + rng.standard_normal(60), 9 * rng.standard_normal(60)])
    scaled = (x - x[:20].mean(0)) / x[:20].std(0)
    for target in (y - y[:20].mean(0)).T:
        trials = []
        for gamma, alpha in product(b.GAMMAS, b.ALPHAS):
            ridge, out = KernelRidge(kernel="rbf", gamma=gamma, alpha=alpha), 1 - np.eye(20)
            left = [ridge.fit(scaled[:20], target[:20], o).predict(s[None])[0] for s, o in zip(scaled, out + 1e-12)]
            guess = ridge.fit(scaled[:20], target[:20]).predict(scaled[20:])
            trials.append((np.square(left - target[:20]).mean(), r2_score(target[20:], guess)))
        expected.append(min(trials)[1])
    np.testing.assert_allclose(b.probe(x, y), expected, rtol=1e-5)


def test_scores_on_extremes():
    made, of, others = w.World(np.random.default_rng(2), True), [0, 1, 4], [2, 3, 5]
    z, cov = made.latents(900, draws(12)).numpy(), made.covariance

    def theory(i, given):
        return cov[i, given] @ np.linalg.solve(cov[np.ix_(given, given)], cov[given, i]) / cov[i, i]

    told, near = [theory(i, of) for i in others], {"abs": 0.05}
    bent = z[:, of] @ special_ortho_group.rvs(3, random_state=0)
    perfect = b.scores(z, np.sinh(bent / bent.std(0)) * [1.0, 1e3, -1.0], of)
    assert perfect == pytest.approx({"content": 1.0, "style": np.mean(told), "bijection": 1.0}, **near)
    style, back = (2 + theory(5, [0, 1, 2, 3, 4])) / 3, (3 + told[0] + told[1]) / 5
    assert b.scores(z, z[:, :5], of) == pytest.approx({"content": 1.0, "style": style, "bijection": back}, **near)
    assert b.scores(z, z[:, :2], of)["bijection"] == pytest.approx((2 + theory(4, [0, 1])) / 3, **near)


def test_metrics_are_means_over_the_blocks_that_are_named(monkeypatch):
    study = b.SharedBlocks(INFO, learner="truth", dependent=True, rows=150)
    problem = study.problem(np.random.default_rng(13))
    z, answer = problem.truth["latents"], dict(study.answer(problem.given, np.random.default_rng(0)))
    assert all((answer[name] == z[:, SHARED[name[:-2]]]).all() for name in NAMED["*"])
    answer["0123-1"] = z[:, [3, 4]]
    monkeypatch.setattr(study, "answered", lambda: [(problem.truth, answer)])
    every = {name: b.scores(z, answer[name], SHARED[name[:-2]]) for name in NAMED["*"]}
    for blocks, of in [*product(NAMED, ("content", "bijection")), ("*", "style")]:
        measure = b.block_style_r2 if of == "style" else b.block_r2
        expected = np.mean([every[name][of] for name in NAMED[blocks]])
        assert measure(study, None, {"of": of, "blocks": blocks}, None).value == pytest.approx(expected, abs=1e-9)
