"""Five regressors that choose their own settings (section 3 and appendix A-6).

Each takes inputs (N, D), targets (N,), new inputs (M, D) and a generator. Linear regression and naive Bayes learn from
all rows; for the others, the first 30 % serve to choose settings and the rest to learn from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

TUNING, FOLDS = 0.3, 2
Regressor = Callable[[np.ndarray, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def seed(rng: np.random.Generator) -> int:
    """For a library that takes a number."""
    return int(rng.integers(2**31))


def linear(x: np.ndarray, y: np.ndarray, new: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Least squares."""
    from sklearn.linear_model import LinearRegression

    out: np.ndarray = LinearRegression().fit(x, y).predict(new)
    return out


def shares(columns: int) -> list[int]:
    """Numbers of columns that a split may look at: from 2 to all in three steps, and the root of all."""
    steps = [int(a) for a in np.linspace(min(2, columns), columns, 4)]
    return sorted({*steps, int(columns**0.5)})


def tuned(estimator: Any, grid: dict[str, list[Any]], x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The settings with the least squared error in cross-validation within the first part, learned from the second."""
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV

    part = int(TUNING * len(y))
    search = GridSearchCV(estimator, grid, scoring="neg_mean_squared_error", cv=FOLDS, refit=False)
    best = clone(estimator).set_params(**search.fit(x[:part], y[:part]).best_params_)
    out: np.ndarray = best.fit(x[part:], y[part:]).predict(new)
    return out


def tree(x: np.ndarray, y: np.ndarray, new: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A regression tree."""
    from sklearn.tree import DecisionTreeRegressor

    grid = {"max_depth": [4, 8, 16, 32], "max_features": shares(x.shape[1])}
    return tuned(DecisionTreeRegressor(random_state=seed(rng)), grid, x, y, new)


def forest(x: np.ndarray, y: np.ndarray, new: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random forest of 100 trees, fully grown, that look at one or two thirds of the columns."""
    from sklearn.ensemble import RandomForestRegressor

    return tuned(RandomForestRegressor(100, random_state=seed(rng)), {"max_features": [1 / 3, 2 / 3]}, x, y, new)


def boosting(x: np.ndarray, y: np.ndarray, new: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """100 boosted trees on histograms, their leaves as by XGBoost's defaults."""
    from sklearn.ensemble import HistGradientBoostingRegressor as Boosted

    trees = Boosted(max_leaf_nodes=None, min_samples_leaf=1, l2_regularization=1.0, early_stopping=False,
                    random_state=seed(rng))  # fmt: skip
    return tuned(trees, {"max_depth": [4, 8], "learning_rate": [0.1]}, x, y, new)


def naive_bayes(x: np.ndarray, y: np.ndarray, new: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mean target under naive Bayes on bins of equal frequency, 16 of the target and 8 of each input."""
    from sklearn.naive_bayes import CategoricalNB

    edges = np.quantile(x, np.arange(1, 8) / 8, axis=0)
    place, places = ((edges[:, None] < rows).sum(0) for rows in (new, x))
    bins = np.searchsorted(np.quantile(y, np.arange(1, 16) / 16), y)
    _, g, count = np.unique(bins, return_inverse=True, return_counts=True)
    out: np.ndarray = CategoricalNB(min_categories=8).fit(places, g).predict_proba(place) @ (np.bincount(g, y) / count)
    return out


REGRESSORS: dict[str, Regressor] = {
    "linear": linear, "tree": tree, "forest": forest, "boosting": boosting, "naive-bayes": naive_bayes,
}  # fmt: skip
