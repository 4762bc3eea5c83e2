from __future__ import annotations

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.metrics import disentanglement as ds
from latentbench.metrics.codes.prediction import disentanglement, squared_correlations
from scipy.stats import entropy
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC


def test_disentanglement_of_an_importance_matrix_in_closed_form():
    assert disentanglement(np.eye(3)) == pytest.approx(1.0)
    assert disentanglement(np.ones((4, 3))) == pytest.approx(0.0)
    assert disentanglement(np.zeros((4, 3))) == 0.0
    # one code split evenly over two of four factors: 1 - log 2 / log 4
    assert disentanglement([[0.5, 0.5, 0, 0]]) == pytest.approx(0.5, abs=1e-8)
    r = np.random.default_rng(0).random((5, 3))
    per_code = 1 - entropy(r.T + 1e-11, base=3)
    assert disentanglement(r) == pytest.approx((per_code * r.sum(1) / r.sum()).sum(), abs=1e-12)
    with pytest.raises(UserError, match="negative"):
        disentanglement([[-1.0, 1.0]])


@pytest.mark.parametrize("model", ["boosted", "forest"])
def test_dci_controls(grid, noise, model):
    small, rows = grid[:300] // 2, noise[:300]
    perfect = ds.dci(small, small, model=model)
    assert (perfect.disentanglement, perfect.completeness) == pytest.approx((1, 1), abs=0.02)
    assert perfect.informativeness == 1.0
    blind = ds.dci(rows, small, model=model)
    assert blind.informativeness < 0.6
    assert blind.disentanglement < 0.2


def test_dci_is_scikit_learn_s_boosted_trees_whatever_the_jobs(grid, noise):
    z, v = grid[:150] + 0.5 * noise[:150], grid[:150, :2] // 2
    ours = ds.dci(z, v)
    model = GradientBoostingClassifier(random_state=0).fit(z[:100], v[:100, 1])
    np.testing.assert_array_equal(ours.importance[:, 1], model.feature_importances_)
    np.testing.assert_array_equal(ds.dci(z, v, jobs=2).importance, ours.importance)


def test_given_test_rows_are_the_last_third(grid, noise):
    z = grid[:300] + 0.5 * noise[:300]
    apart = ds.dci(z[:200], grid[:200], z[200:], grid[200:300], model="forest")
    assert apart.informativeness == ds.dci(z, grid[:300], model="forest").informativeness


def test_sap_is_the_gap_of_linear_svms(grid, noise):
    z = grid + 0.5 * noise
    n = 800
    scores = np.array(
        [
            [
                np.mean(
                    LinearSVC(C=0.01, class_weight="balanced").fit(z[:n, [j]], grid[:n, k]).predict(z[n:, [j]])
                    == grid[n:, k]
                )
                for k in range(3)
            ]
            for j in range(3)
        ]
    )
    top = np.sort(scores, axis=0)
    assert ds.sap(z, grid) == pytest.approx(np.mean(top[-1] - top[-2]), abs=1e-12)
    assert ds.sap(z, grid, jobs=2) == ds.sap(z, grid)


def test_sap_controls(grid, noise):
    assert ds.sap(np.c_[grid, grid], grid) == pytest.approx(0)
    assert ds.sap(noise, grid) < 0.05
    binary = np.arange(300)[:, None] % 2
    assert ds.sap(np.c_[binary, np.zeros(300)], binary) == pytest.approx(0.5, abs=0.05)


def test_continuous_sap_is_squared_correlation(grid, noise):
    z = np.c_[grid[:, 0] + noise[:, 0], noise[:, 1], np.ones(len(grid))]
    squared = squared_correlations(z, grid)
    np.testing.assert_allclose(squared[:2], np.corrcoef(z[:, :2].T, grid.T)[:2, 2:] ** 2, atol=1e-12)
    assert (squared[2] == 0).all()
    top = np.sort(squared, axis=0)
    assert ds.sap(z, grid, continuous=True) == pytest.approx(np.mean(top[-1] - top[-2]))


def test_explicitness_is_the_auroc_of_a_logistic_regression(grid, noise):
    z = grid + noise
    ours = ds.modularity_explicitness(z, grid)
    mean, std = z[:800].mean(0), z[:800].std(0)
    scores = []
    for k in range(3):
        model = LogisticRegression().fit((z[:800] - mean) / std, grid[:800, k])
        one_hot = np.eye(grid[:, k].max() + 1)[grid[800:, k]]
        scores.append(roc_auc_score(one_hot, model.predict_proba((z[800:] - mean) / std)))
    assert ours.explicitness == pytest.approx(np.mean(scores), abs=1e-12)
    assert ours.modularity == ds.modularity(z[:800], grid[:800])


def test_explicitness_controls(grid, noise):
    # a factor as one real code is not linearly explicit in its middle values, one-hot codes are
    one_hot = np.concatenate([np.eye(6)[grid[:, k]] for k in range(3)], axis=1)
    assert ds.modularity_explicitness(one_hot, grid).explicitness == pytest.approx(1.0, abs=1e-3)
    assert ds.modularity_explicitness(noise, grid).explicitness == pytest.approx(0.5, abs=0.05)
    assert ds.modularity_explicitness(np.zeros((len(grid), 2)), grid).explicitness == 0.5


def test_bad_input(grid):
    with pytest.raises(UserError, match="model"):
        ds.dci(grid, grid, model="svm")
    with pytest.raises(UserError, match="both"):
        ds.dci(grid, grid, grid)
    with pytest.raises(UserError, match="none for testing"):
        ds.sap(grid[:2], np.arange(2)[:, None])
    with pytest.raises(UserError, match="single value"):
        ds.sap(grid[:10], np.repeat([0, 1], [8, 2])[:, None])  # one value in the training rows
    with pytest.raises(UserError, match="train_share"):
        ds.sap(grid, grid, train_share=1.0)
    with pytest.raises(UserError, match="NaN"):
        ds.sap(np.full(grid.shape, np.inf), grid, continuous=True)
