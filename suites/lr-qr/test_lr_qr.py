"""Minimisers against other solvers and perturbations, rivals against loops over rows, splits spelt out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.lr_qr import coverage as c
from latentbench.papers.lr_qr import regularised as r
from scipy.optimize import approx_fprime
from sklearn.linear_model import LogisticRegression, QuantileRegressor, Ridge
from sklearn.model_selection import cross_val_score

INFO = DataInfo((7,), "real", 81, columns={"y": (1,)})
rng = np.random.default_rng


def sample(n=71, m=23, d=4):
    basis, target = (np.column_stack([np.ones(k), rng(k).standard_normal((k, d - 1))]) for k in (n, m))
    target[:, 1] += 0.7
    return r.Sample(basis, np.abs(rng(0).standard_normal(n)) * np.exp(0.5 * basis[:, 1]), target)


def loss(gamma, beta, s, lam, alpha):
    h, unlabelled = s.basis @ gamma, s.target @ gamma
    total = sum((1 - alpha) * (y - f) if y > f else alpha * (f - y) for f, y in zip(h, s.scores, strict=True)) / len(h)
    return total + lam * ((beta * h) ** 2).mean() - 2 * lam * beta * unlabelled.mean()


def test_slope_is_the_gradient():
    s, point = sample(), np.array([1.1, 0.3, -0.2, 0.4, 0.7])
    for lam, alpha in ((0.4, 0.3), (0.05, 0.1)):
        numeric = approx_fprime(point, lambda z: loss(z[:4], z[4], s, lam, alpha), 1e-7)  # noqa: B023
        np.testing.assert_allclose(r.slope(point[:4], 0.7, s, lam, alpha), numeric, atol=1e-5)


def test_programs_are_least():
    s, lean = sample(), np.array([0.3, -0.2, 0.1, 0.05])
    for weight, alpha in ((0.5, 0.3), (2.0, 0.1)):
        found = r.quantile_program(s.basis, s.scores, weight, lean, alpha)
        near = [found, *(found + 10.0 ** -(k % 4) * rng(k).standard_normal(4) for k in range(60))]
        values = [loss(g, 0, s, 0, alpha) + weight * g @ g / 2 - lean @ g for g in near]
        assert values[0] < min(values[1:]) + 1e-7
        t, grid = s.basis[:, 1] + 0.8, np.linspace(-1, 3, 4001)
        best = min(grid, key=lambda b: loss(np.array([0.8, 1, 0, 0]) * b, 0, s, 0, alpha))
        assert r.best_scale(t, s.scores, alpha) == pytest.approx(best, abs=2e-3)
    other = QuantileRegressor(quantile=0.77, alpha=0, fit_intercept=False).fit(s.basis, s.scores)
    np.testing.assert_allclose(r.fit(s, 0.0, 0.23)[0], other.coef_, atol=1e-4)


def test_fit_is_stationary_and_least():
    s = sample()
    for lam, alpha in ((0.01, 0.1), (0.3, 0.25)):
        gamma, beta = r.fit(s, lam, alpha)
        slope, best = r.slope(gamma, beta, s, lam, alpha), loss(gamma, beta, s, lam, alpha)
        assert np.abs(slope[:-1]).max() < 5 * np.abs(s.basis).max() / 71  # rows on the plane have either sign
        assert abs(slope[-1]) < 2e-3 * lam
        for k in range(60):
            change = 10.0 ** -(k % 3) * rng(k).standard_normal(5)
            assert best < loss(gamma + change[:4], beta * np.exp(change[4]), s, lam, alpha) + 1e-5
    ratio = np.linalg.solve(s.basis.T @ s.basis / 71, s.target.mean(0))  # the nearest affine ratio
    np.testing.assert_allclose(np.multiply(*r.fit(s, 1e4, 0.1)), ratio, rtol=1e-3, atol=1e-3)


def test_strengths_and_choice():
    np.testing.assert_allclose(r.strengths(500, 250, np.array([0.2, 2.0])), np.array([0.2, 2.0]) * 3.0 ** (-1 / 3))
    assert r.strengths(400, 50, c.EVEN)[-1] == pytest.approx(9.0 ** (-1 / 3))
    s, lams = sample(), np.geomspace(0.5, 0.004, 5)
    for seed in range(4):
        draws, lengths = rng(seed), np.zeros(5)
        own, other = draws.permutation(71) % 3, draws.permutation(23) % 3
        for i, k in np.ndindex(5, 3):
            kept = r.Sample(s.basis[own != k], s.scores[own != k], s.target[other != k])
            left = r.Sample(s.basis[own == k], s.scores[own == k], s.target[other == k])
            lengths[i] += np.linalg.norm(r.slope(*r.fit(kept, lams[i], 0.1), left, lams[i], 0.1))
        assert r.choose(s, lams, 0.1, rng(seed)) == lams[lengths.argmin()]


def given():
    x, target, new = (rng(n).standard_normal((n, 3)) + (n == 33) * 0.5 for n in (61, 33, 5))
    return {"x": x, "scores": rng(4).exponential(size=61) * np.exp(x[:, 0]), "target": target, "new": new}


BOTH, LABELS = np.concatenate([given()["x"], given()["target"]]), [0] * 61 + [1] * 33


@pytest.mark.parametrize("penalty", [0.02, 5.0])
def test_weighted_quantiles_row_by_row(penalty):
    g, rule, expected = given(), LogisticRegression(C=penalty).fit(BOTH, LABELS), []
    own, new = (p[:, 1] / p[:, 0] for p in (rule.predict_proba(g[k]) for k in ("x", "new")))
    for extra in new:
        heavy = [q for q in np.sort(g["scores"]) if own[g["scores"] <= q].sum() >= 0.9 * (own.sum() + extra)]
        expected.append(heavy[0] if heavy else np.inf)
    assert c.weighted(g, np.array([penalty])).tolist() == expected
    assert c.thresholds("oracle", {**g, "ratio": own, "new_ratio": new}, None).tolist() == expected


def test_penalty_has_the_least_log_loss_in_rows_left_out():
    rules = {p: LogisticRegression(C=p) for p in np.logspace(-3, 3, 13)}
    best = max(rules, key=lambda p: cross_val_score(rules[p], BOTH, LABELS, cv=3, scoring="neg_log_loss").mean())
    assert 1e-3 < best < 1e3
    assert c.thresholds("weighted", given(), None).tolist() == c.weighted(given(), np.array([best])).tolist()


def test_split_conformal_is_an_order_statistic():
    g = given()
    assert (c.thresholds("split", g, None) == np.sort(g["scores"])[int(np.ceil(62 * 0.9)) - 1]).all()
    assert np.isinf(c.thresholds("split", {"scores": np.ones(8), "new": np.ones((3, 1))}, None)).all()


@pytest.mark.parametrize(
    ("rule", "factors"),
    [("lr-qr", np.logspace(-6, 0, 13)), ("lr-qr-even", np.arange(1, 11) / 10), ("quantile-regression", np.zeros(1))],
)
def test_rule_of_the_paper_is_its_fit(rule, factors):
    g = given()
    one, two, new = (np.column_stack([np.ones(len(g[k])), g[k]]) for k in ("x", "target", "new"))
    s = r.Sample(one, g["scores"], two)
    lam = r.choose(s, r.strengths(61, 33, factors), 0.1, rng(3))
    np.testing.assert_allclose(c.thresholds(rule, g, rng(3)), new @ r.fit(s, lam, 0.1)[0])


def study(**params):
    g = torch.Generator().manual_seed(1)
    x = torch.randint(0, 9, (81, 7), generator=g).double() / 8
    y = x[:, :1] + torch.rand(81, 1, generator=g, dtype=torch.float64)
    found = c.ShiftedConformal(INFO, **params)
    found.start(Batch(x, 81, columns={"y": y}), g)
    return found, x.numpy(), y[:, 0].numpy()


@pytest.mark.parametrize(("shift", "column"), [("black", 2), ("white", 3), ("asian", 4), ("hispanic", 5)])
def test_rows_part_at_the_median(shift, column):
    made, x, y = study(shift=shift)
    problem, order = made.problem(rng(4)), rng(4).permutation(81)
    train, rest = order[:41], order[41:]
    error = "neg_mean_squared_error"
    penalties = (0.01, 0.1, 1, 10, 100)
    losses = {a: cross_val_score(Ridge(a), x[train], y[train], cv=5, scoring=error).mean() for a in penalties}
    scores = np.abs(y - Ridge(max(losses, key=losses.get)).fit(x[train], y[train]).predict(x))
    low = x[rest, column] <= np.median(x[rest, column])
    half = -(-len(rest[~low]) // 2)
    np.testing.assert_array_equal(problem.given["x"], x[rest[low]])
    np.testing.assert_array_equal(problem.given["target"], x[rest[~low][:half]])
    np.testing.assert_array_equal(problem.given["new"], x[rest[~low][half:]])
    np.testing.assert_allclose(problem.given["scores"], scores[rest[low]])
    np.testing.assert_allclose(problem.truth["scores"], scores[rest[~low][half:]])


def test_made_rows_have_the_ratio():
    for rows, d in ((4000, 2), (6000, 3)):
        p = study(rows=rows, dimensions=d)[0].problem(rng(7))
        x, target, new = (p.given[k] for k in ("x", "target", "new"))
        assert [a.shape for a in (x, target, new)] == [(rows, d), (rows // 2, d), (1000, d)]
        for a, mean in ((x, 0), (target, 1), (new, 1)):
            assert a.mean(0) == pytest.approx([mean] + [0] * (d - 1), abs=0.1)
        assert [p.given["ratio"].mean(), p.given["ratio"] @ x[:, 0] / rows] == pytest.approx([1, 1], abs=0.15)
        np.testing.assert_allclose(p.given["new_ratio"], np.exp(new[:, 0] - 0.5))
        for a, scores in ((x, p.given["scores"]), (new, p.truth["scores"])):
            normal = scores / np.exp(0.3 * a[:, 0])
            assert [(normal**2).mean(), np.corrcoef(normal, a[:, 0])[0, 1]] == pytest.approx([1, 0], abs=0.15)


def test_rules_answer_and_metrics_count():
    coverage, gap = {}, {}
    for rule in (*c.RULES, "split", "weighted", "oracle"):
        made = study(rule=rule, rows=900, dimensions=2, problems=2)[0]
        made.advance(None, None)
        made.advance(None, None)
        coverage[rule], gap[rule] = (m(made, None, {}, None).value for m in (c.target_coverage, c.target_coverage_gap))
        shares = [np.mean(truth["scores"] <= answer["threshold"]) for truth, answer in made.answered()]
        assert coverage[rule] == pytest.approx(np.mean(shares))
        assert gap[rule] == pytest.approx(np.mean([abs(s - 0.9) for s in shares]))
    assert coverage["split"] < 0.84
    assert all(gap[k] < 0.05 for k in ("lr-qr", "weighted", "oracle"))
    made._answers[0]["threshold"][:] = torch.tensor([-1.0, float("inf")]).repeat(500)
    made._answers[1]["threshold"][:], made._answers[0]["cap"] = 3.0, torch.tensor(7.0)
    assert c.target_width(made, None, {}, None).value == (7 + 6) / 2


def test_what_cannot_be():
    with pytest.raises(UserError, match="ratio"):
        c.thresholds("oracle", given(), None)
    with pytest.raises(UserError, match="column"):
        c.ShiftedConformal(INFO, shift="asian").start(Batch(torch.rand(9, 7), 9), torch.Generator())
