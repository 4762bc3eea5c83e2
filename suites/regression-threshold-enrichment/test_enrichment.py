"""Thresholds by counting, columns by forests grown again, choices by a search spelt out, naive Bayes by enumeration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.regression_threshold_enrichment import enrichment, regressors
from latentbench.papers.regression_threshold_enrichment.enrichment import EnrichedRegression, normalised, thresholds
from latentbench.papers.regression_threshold_enrichment.regressors import naive_bayes, seed, tuned
from scipy import stats
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import Ridge

INFO = DataInfo((3,), "real", 90, columns={"y": (1,)})


def rng(number=0):
    return np.random.default_rng(number)


def test_thresholds_have_equal_shares_and_are_no_target():
    y = rng().permutation(np.exp(rng(1).standard_normal(101)))
    found, ordered = thresholds(y, 7), np.sort(y)
    below = (y <= found[:, None]).sum(1)
    assert np.abs(below - np.arange(1, 8) * 101 / 8).max() < 2
    np.testing.assert_allclose(found, (ordered[below - 1] + ordered[below]) / 2)
    # by hand: the value at place 1 of 4, then the lower of the nearest halves; at place 3 the upper
    assert thresholds(np.array([3.0, 1.0, 2.0, 4.0]), 3).tolist() == [1.5, 3.5]
    assert thresholds(np.array([0.0, 0, 0, 0, 1, 5]), 3).tolist() == [0.5, 3.0]
    assert thresholds(np.arange(8.0), 2).tolist() == [1.5, 6.5]
    assert thresholds(np.arange(4.0), 9).tolist() == [0.5, 2.5]


def test_targets_are_box_cox_on_one_to_two():
    reference, y = np.exp(rng(2).standard_normal(60)), np.array([0.5, 3.0, -400.0])
    low, high = reference.min(), reference.max()
    fit, best = stats.boxcox(1 + (reference - low) / (high - low))
    expected = (stats.boxcox(1 + (y[:2] - low) / (high - low), best) - fit.mean()) / fit.std()
    np.testing.assert_allclose(normalised(y, reference)[:2], expected, rtol=1e-4)
    assert np.isfinite(normalised(y, reference)).all()


def study(n=90, **params):
    g = torch.Generator().manual_seed(1)
    x = torch.rand(n, 3, generator=g, dtype=torch.float64) * 4
    x[:, 2] = 7.1
    y = x[:, :1] + torch.arange(n)[:, None] * 1e-6
    found = EnrichedRegression(INFO, **{"rows": 40, "trees": 5, "thresholds": 4, **params})
    found.start(Batch(x, n, columns={"y": y}), g)
    return found, x.numpy(), y[:, 0].numpy()


@pytest.mark.parametrize("n", [90, 50])
def test_problems_part_the_rows_and_scale_by_those_of_training(n):
    made, x, y = study(n)
    problem = made.problem(rng(4))
    train, new = np.split(rng(4).permutation(n)[:80], [40])
    assert len(problem.truth["y"]) == min(40, n - 40)
    np.testing.assert_allclose(problem.given["y"], normalised(y[train], y[train]))
    np.testing.assert_allclose(problem.truth["y"], normalised(y[new], y[train]))
    for name, rows in ("x", train), ("new", new):
        scaled = (x[rows, :2] - x[train, :2].mean(0)) / x[train, :2].std(0)
        np.testing.assert_allclose(problem.given[name], np.column_stack([scaled, np.zeros(len(rows))]), atol=1e-9)
    with pytest.raises(UserError, match="too few"):
        study(43)
    made.start(Batch(torch.tensor(x), n), torch.Generator())
    assert made._x.shape == (n, 2)
    np.testing.assert_array_equal(made._y, x[:, 2])


def test_columns_are_those_of_forests_grown_again():
    given = study()[0].problem(rng(5)).given
    x, y, new = given["x"], given["y"], given["new"]
    for columns in ("probabilities", "out-of-bag"):
        known, foretold = study(columns=columns)[0].beside(given, rng(6))
        again = rng(6)
        assert known.shape == foretold.shape == (40, 4)
        for i, t in enumerate(thresholds(y, 4)):
            forest = RandomForestClassifier(5, oob_score=True, random_state=seed(again)).fit(x, y <= t)
            votes = forest.oob_decision_function_ if columns == "out-of-bag" else forest.predict_proba(x)
            expected = np.where(votes.sum(1) == 0, (y <= t).mean(), votes[:, 1])
            np.testing.assert_allclose(known[:, i], expected)
            np.testing.assert_allclose(foretold[:, i], forest.predict_proba(new)[:, 1])
        assert (np.diff(foretold.mean(0)) > 0).all()
    known, foretold = study(columns="prediction")[0].beside(given, rng(6))
    forest = RandomForestRegressor(5, random_state=seed(rng(6))).fit(x, y)
    np.testing.assert_allclose(known[:, 0], forest.predict(x))
    np.testing.assert_allclose(foretold[:, 0], forest.predict(new))


@pytest.mark.parametrize(("columns", "width"), [("none", 3), ("probabilities", 7), ("prediction", 4)])
def test_regressors_get_inputs_and_columns_and_are_judged_by_name(columns, width, monkeypatch):
    seen = []
    mine = {"mine": lambda *args: seen.append(args) or args[2][:, 0], "other": lambda *args: args[2][:, 1]}
    monkeypatch.setattr(enrichment, "REGRESSORS", mine)
    made = study(columns=columns)[0]
    made.advance(None, torch.Generator())
    (x, y, new, _), (truth, answer) = seen[0], next(iter(made.answered()))
    assert x.shape == new.shape == (40, width)
    known = EnrichedRegression(INFO, rows=40)
    known.load_state_dict(made.state_dict())
    given = known.problem(known._stream(0, "problem")).given
    for name, found in ("x", x[:, :3]), ("new", new[:, :3]), ("y", y):
        np.testing.assert_array_equal(found, given[name])
    value = enrichment.enriched_rmse(made, None, {"regressor": "mine"}, None).value
    assert value == pytest.approx(np.sqrt(np.mean((answer["mine"] - truth["y"]) ** 2)))


def test_settings_are_chosen_in_the_first_part_and_the_second_is_learned():
    x, new = rng(1).standard_normal((67, 12)), rng(2).standard_normal((5, 12))
    y = x.sum(1) + 3 * rng(3).standard_normal(67) * (np.arange(67) < 20)
    errors = {}
    for a in np.geomspace(0.1, 1e3, 81):
        one, other = (Ridge(a).fit(x[p], y[p]) for p in (slice(10), slice(10, 20)))
        errors[a] = np.sum((one.predict(x[10:20]) - y[10:20]) ** 2) + np.sum((other.predict(x[:10]) - y[:10]) ** 2)
    best = min(errors, key=errors.get)
    assert 0.1 < best < 1e3
    found = tuned(Ridge(), {"alpha": list(errors)}, x, y, new)
    np.testing.assert_allclose(found, Ridge(best).fit(x[20:], y[20:]).predict(new))


def test_linear_regression_learns_all_rows_and_trees_what_they_are_told(monkeypatch):
    x, y, new = rng(1).standard_normal((30, 2)), rng(2).standard_normal(30), rng(3).standard_normal((4, 2))
    weights = np.linalg.lstsq(np.column_stack([np.ones(30), x]), y, rcond=None)[0]
    np.testing.assert_allclose(regressors.linear(x, y, new, rng()), weights[0] + new @ weights[1:])
    assert [regressors.shares(d) for d in (1, 2, 8, 13)] == [[1], [1, 2], [2, 4, 6, 8], [2, 3, 5, 9, 13]]
    calls, wide = [], np.zeros((30, 13))
    monkeypatch.setattr(regressors, "tuned", lambda *args: calls.append(args))
    for name in ("tree", "forest", "boosting"):
        regressors.REGRESSORS[name](wide, y, new, rng())
        assert [a is b for a, b in zip(calls[-1][2:], (wide, y, new), strict=True)] == [True] * 3
    assert calls[0][1] == {"max_depth": [4, 8, 16, 32], "max_features": [2, 3, 5, 9, 13]}
    assert [type(c[0]).__name__[:4] for c in calls] == ["Deci", "Rand", "Hist"]
    assert (calls[1][0].n_estimators, calls[2][0].max_iter, calls[2][0].early_stopping) == (100, 100, False)


def test_naive_bayes_by_counting():
    x, new = rng(3).standard_normal((140, 2)), rng(4).standard_normal((30, 2))
    x[:, 1] = np.round(x[:, 1])
    y = np.maximum(x[:, 0] + 0.1 * rng(5).standard_normal(140), -0.5)
    g = (y[:, None] > np.quantile(y, np.arange(1, 16) / 16)).sum(1)
    levels, found = np.unique(g), naive_bayes(x, y, new, rng())
    assert len(levels) < 16
    for row, value in zip(new, found, strict=True):
        weights = np.array([(g == k).sum() for k in levels], float)
        for j in range(2):
            cuts = np.quantile(x[:, j], np.arange(1, 8) / 8)
            same = (x[:, j, None] > cuts).sum(1) == (row[j] > cuts).sum()
            weights *= [((same & (g == k)).sum() + 1) / ((g == k).sum() + 8) for k in levels]
        assert value == pytest.approx(weights @ [y[g == k].mean() for k in levels] / weights.sum())
