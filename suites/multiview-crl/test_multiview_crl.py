"""Worlds undone step by step, losses as plain sums, canonical variates and probes against other routes to them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from latentbench.core.types import DataInfo
from latentbench.papers.multiview_crl import blocks as b
from latentbench.papers.multiview_crl import views as w
from scipy.linalg import block_diag, eigh
from scipy.stats import special_ortho_group
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import r2_score

INFO = DataInfo((1,), "real", 1)
SHARED = {"01": "0124", "02": "0123", "03": "0134", "12": "0125", "13": "0145", "23": "0135"}
SHARED |= {"012": "012", "013": "014", "023": "013", "123": "015", "0123": "01"}


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def world(seed=0, dependent=True):
    return w.World(np.random.default_rng(seed), dependent)


def test_sets_share_what_their_views_have():
    assert {"".join(map(str, v)): "".join(map(str, w.shared(v))) for v in w.SETS} == SHARED
    assert sorted(b.names()) == sorted(f"{views}-{k}" for views in SHARED for k in views)
    assert all(name == f"{''.join(map(str, v))}-{k}" for name, (v, k) in b.names().items())


def test_mixings_are_undone_and_well_conditioned():
    made = world()
    z = made.latents(300, draws())
    for x, seen, layers in zip(made.observe(z), w.VIEWS, made.mixings.transpose(0, 1)):
        undone = x.numpy().T
        for i, weights in enumerate(reversed(layers.numpy())):
            undone = np.where(undone < 0, undone / 0.2, undone) if i else undone
            undone = np.linalg.solve(weights, undone)
        np.testing.assert_allclose(undone.T, z[:, list(seen)], atol=1e-9)
    matrices = made.mixings.flatten(0, 1).numpy()
    np.testing.assert_allclose((matrices**2).sum(1), 1.0)
    assert len({m.tobytes() for m in matrices}) == 12
    other = np.random.default_rng(1).uniform(-1, 1, (10_000, 5, 5))
    other /= np.sqrt((other**2).sum(1, keepdims=True))
    assert np.linalg.cond(matrices).max() < np.quantile(np.linalg.cond(other), 0.002)


def test_latents_have_the_covariance_of_their_law(monkeypatch):
    monkeypatch.setattr(w, "POOL", 30)
    one, many = world(), np.array([world(i).covariance for i in range(400)])
    np.testing.assert_allclose(np.cov(one.latents(200_000, draws()).T), one.covariance, atol=0.15)
    np.testing.assert_allclose(many.mean(0), 6 * np.eye(6), atol=0.6)  # Wishart(6, I); deviations 3.5 on the diagonal
    np.testing.assert_allclose(many.std(0), np.sqrt(6 * (1 + np.eye(6))), rtol=0.15)
    assert (world(dependent=False).covariance == np.eye(6)).all()


@pytest.mark.parametrize("sets", ["all", "pairs", "two"])
def test_contrast_is_its_plain_sum(sets):
    h, others = (torch.randn(4, n, 6, generator=draws(n), dtype=torch.float64) / 2 for n in (5, 7))
    h.requires_grad_()
    total, used = 0.0, np.zeros((4, 6))
    for name, latents in SHARED.items():
        views, c = [int(k) for k in name], [int(i) for i in latents]
        if len(views) > {"all": 4, "pairs": 2, "two": 2}[sets] or (sets == "two" and name != "01"):
            continue
        used[np.ix_(views, c)] = 1
        for i in range(5):
            near = sum(((h[k, i, c] - h[j, i, c]) ** 2).sum() for k, j in pairwise(views))
            far = [sum(((h[k, i, c] - others[k, j, c]) ** 2).sum() for k in views) for j in range(7)]
            total = total + (near + torch.log(sum(torch.exp(-one) for one in [near, *far]))) / 5
    found = b.contrast(h.float(), others.float(), b.TRAINED[sets])
    assert float(found.detach()) == pytest.approx(float(total.detach()), rel=1e-4)
    slopes = [torch.autograd.grad(one, h)[0] for one in (found, total)]
    np.testing.assert_allclose(*slopes, atol=1e-4)
    np.testing.assert_array_equal((slopes[0].abs().sum(1) > 0).numpy(), used > 0)


def test_encoders_step_by_step():
    weights = b.network([5, 9, 6], draws(3))
    x = torch.randn(4, 50, 5, generator=draws(4), dtype=torch.float64)
    for k, (rows, found) in enumerate(zip(x.numpy(), b.encode(weights, x))):
        first, one, second, two = (part[k].detach().numpy() for part in weights)
        hidden = rows @ first + one
        np.testing.assert_allclose(np.maximum(hidden, 0.01 * hidden) @ second + two, found.detach(), atol=1e-5)
    wide = b.network([64, 400, 6], draws(5))
    np.testing.assert_allclose([float(p.detach().abs().max()) for p in wide], [0.125, 0.125, 0.05, 0.05], rtol=0.05)
    np.testing.assert_allclose([float(p.detach().mean()) for p in wide], 0.0, atol=0.02)


def test_training_sees_new_rows_and_answers_by_view_and_latent(monkeypatch):
    seen, true_contrast = [], b.contrast

    def sample(n, generator):
        seen.append(torch.randn(4, n, 5, generator=generator))
        return seen[-1]

    def watched(h, others, sets):
        assert len(h[0]) == len(others[0]) == 8
        assert sets == w.SETS[:6]
        assert not torch.equal(h, others)
        return true_contrast(h, others, sets)

    monkeypatch.setattr(b, "contrast", watched)
    monkeypatch.setattr(b, "HIDDEN", (11, 12))
    x = torch.randn(4, 20, 5, generator=draws(6))
    study = b.MultiviewEncoders(INFO, sets="pairs", steps=4, batch=8)
    found = study.answer({"sample": sample, "x": x}, np.random.default_rng(7))
    assert len(seen) == 4
    assert not torch.equal(seen[0], seen[1])
    generator = draws(int(np.random.default_rng(7).integers(2**62)))
    weights = b.network([5, 11, 12, 6], generator)
    adam = torch.optim.Adam(weights)
    for rate in (2e-3, 1.5e-3, 1e-3, 5e-4):
        adam.param_groups[0]["lr"] = rate
        rows = torch.randn(4, 16, 5, generator=generator)
        adam.zero_grad()
        true_contrast(b.encode(weights, rows[:, :8]), b.encode(weights, rows[:, 8:]), w.SETS[:6]).backward()
        adam.step()
    codes = b.encode(weights, x).detach()
    for name, c in SHARED.items():
        for k in name:
            np.testing.assert_allclose(found[f"{name}-{k}"], codes[int(k)][:, [int(i) for i in c]], atol=1e-5)


def test_canonical_variates_solve_the_generalised_eigenproblem(monkeypatch):
    monkeypatch.setattr(b, "RIDGE", 0.1)
    rng = np.random.default_rng(8)
    x = rng.standard_normal((3, 400, 4)) * [1.0, 2.0, 3.0, 4.0] + rng.standard_normal((400, 4))
    x -= x.mean(1, keepdims=True)
    flat = np.hstack(list(x))
    own = [part.T @ part / 400 for part in x]
    # joint covariance against block-diagonal one with its ridge; blocks on the diagonal have none on the left
    inner = block_diag(*[c + 0.1 * np.trace(c) / 4 * np.eye(4) for c in own])
    expected = eigh(flat.T @ flat / 400, inner)[1][:, ::-1][:, :2]
    found = np.concatenate(b.canonical(x, 2))
    np.testing.assert_allclose(np.abs(expected.T @ inner @ found), np.eye(2), atol=1e-8)


def test_linear_mixings_are_identified_by_canonical_correlation(monkeypatch):
    monkeypatch.setattr(w, "SLOPE", 1.0)
    monkeypatch.setattr(b, "SAMPLE", 3000)
    monkeypatch.setattr(b, "FITTED", 150)
    b.judged.cache_clear()
    study = b.GeneralisedCCA(INFO, dependent=True, units=0)
    problem = study.problem(np.random.default_rng(9))
    answer = study.answer(problem.given, np.random.default_rng(10))
    b.judged.cache_clear()
    for name, c in SHARED.items():
        for k in name:
            design = np.column_stack([np.ones(b.ROWS), problem.truth["latents"][:, [int(i) for i in c]]])
            left = answer[f"{name}-{k}"] - design @ np.linalg.lstsq(design, answer[f"{name}-{k}"], rcond=None)[0]
            assert answer[f"{name}-{k}"].shape == (b.ROWS, len(c))
            assert (left.var(0) < 0.01 * answer[f"{name}-{k}"].var(0)).all()
    lifted = b.GeneralisedCCA(INFO, units=7).answer(problem.given, np.random.default_rng(10))
    assert not np.allclose(lifted["01-0"], answer["01-0"])


def test_probe_is_kernel_ridge_with_the_best_left_out_error(monkeypatch):
    monkeypatch.setattr(b, "FITTED", 40)
    rng = np.random.default_rng(11)
    x = rng.standard_normal((100, 2)) * [1.0, 30.0] + 5.0
    y = np.column_stack([np.sin(3 * x[:, 0]) + 4.0, x[:, 1] + rng.standard_normal(100), rng.standard_normal(100) * 9])
    scaled = (x - x[:40].mean(0)) / x[:40].std(0)
    expected = []
    for target in y.T:
        centre, trials = target[:40].mean(), []
        for gamma in b.GAMMAS:
            for alpha in b.ALPHAS:
                ridge = KernelRidge(kernel="rbf", gamma=gamma, alpha=alpha)
                out = [np.arange(40) != i for i in range(40)]
                left = [
                    ridge.fit(scaled[:40][o], target[:40][o] - centre).predict(scaled[i][None])[0]
                    for i, o in enumerate(out)
                ]
                error = np.square(left - (target[:40] - centre)).mean()
                guess = ridge.fit(scaled[:40], target[:40] - centre).predict(scaled[40:]) + centre
                trials.append((error, r2_score(target[40:], guess)))
        expected.append(min(trials)[1])
    np.testing.assert_allclose(b.probe(x, y), expected, rtol=1e-5)


def test_scores_on_extremes():
    made, of = world(2), [0, 1, 4]
    z = made.latents(b.ROWS, draws(12)).numpy()
    others = [2, 3, 5]
    inner, cross = made.covariance[np.ix_(of, of)], made.covariance[np.ix_(of, others)]
    theory = (cross * np.linalg.solve(inner, cross)).sum(0) / made.covariance[others, others]
    bent = z[:, of] @ special_ortho_group.rvs(3, random_state=0)
    perfect = b.scores(z, np.sinh(bent / bent.std(0)) * [1.0, 1e3, -1.0], of)
    assert perfect["style"] == pytest.approx(theory.mean(), abs=0.06)
    assert (perfect["excess"], perfect["identified"]) == (pytest.approx(0.0, abs=0.03), pytest.approx(1.0, abs=0.03))
    raw = b.scores(z, z[:, :5], of)
    assert raw["content"] > 0.99
    back = [1.0, 1.0, *theory[:2], 1.0]
    assert raw["identified"] == pytest.approx(np.mean(back), abs=0.04)
    fifth = made.covariance[5, :5] @ np.linalg.solve(made.covariance[:5, :5], made.covariance[:5, 5])
    gains = [*(1 - theory[:2]), fifth / made.covariance[5, 5] - theory[2]]
    assert raw["excess"] == pytest.approx(np.mean(gains), abs=0.04)
    partial = b.scores(z, z[:, [0, 1]], of)
    told = made.covariance[4, :2] @ np.linalg.solve(made.covariance[:2, :2], made.covariance[:2, 4])
    assert partial["identified"] == partial["content"]
    assert partial["content"] == pytest.approx((2 + told / made.covariance[4, 4]) / 3, abs=0.04)


def test_metrics_are_means_over_the_blocks_that_are_named(monkeypatch):
    study = b.TrueBlocks(INFO, dependent=True)
    problem = study.problem(np.random.default_rng(13))
    answer = dict(study.answer(problem.given, np.random.default_rng(0)))
    z = problem.truth["latents"]
    for name, c in SHARED.items():
        for k in name:
            np.testing.assert_array_equal(answer[f"{name}-{k}"], z[:, [int(i) for i in c]])
    answer["0123-1"] = z[:, [3, 4]]
    monkeypatch.setattr(study, "answered", lambda: [(problem.truth, answer)])
    expected = [b.scores(z, answer[f"0123-{k}"], [0, 1]) for k in (0, 1)]
    parts = {"content": b.content_r2, "style": b.style_r2, "excess": b.style_r2_excess}
    for part, measure in {**parts, "identified": b.block_identification}.items():
        found = measure(study, None, {"blocks": "0123-[01]"}, None).value
        assert found == pytest.approx(np.mean([one[part] for one in expected]), abs=1e-9)
    assert b.content_r2(study, None, {"blocks": "01-?"}, None).value > 0.99
