"""Disentanglement from predicting factors: DCI, SAP and explicitness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from latentbench.core.errors import UserError
from latentbench.declare import of_arrays
from latentbench.metrics.arrays import Floats, Ints, matrix, same_rows
from latentbench.metrics.codes.inputs import Split, Values, check_codes, split

Regressor = Literal["boosted", "forest"]
TRAIN_SHARE = 2 / 3  # disentanglement_lib's published 10,000 training and 5,000 test points


@dataclass(frozen=True)
class DCI:
    """Disentanglement, completeness, informativeness, each 0 … 1 and higher better.

    Attributes:
        informativeness: mean accuracy on the test rows; `informativeness_train` on the training rows.
        importance: (D, K) importance of each code for each factor; columns sum to 1.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    informativeness_train: float
    importance: Floats


@of_arrays("codes factors codes_test? factors_test?", "0 … 1", "higher", "Eastwood & Williams 2018")
def dci(
    codes: Values,
    factors: Values,
    codes_test: Values | None = None,
    factors_test: Values | None = None,
    *,
    model: Regressor = "boosted",
    train_share: float = TRAIN_SHARE,
    factor_bins: int | None = None,
    seed: int = 0,
    jobs: int = 1,
) -> DCI:
    """Disentanglement, completeness and informativeness (Eastwood & Williams 2018), as disentanglement_lib scores them.

    A classifier a factor predicts it from all codes; its feature importances R give the disentanglement of a code as 1
    minus the entropy of its row (base K), the completeness of a factor as 1 minus that of its column (base D), averaged
    with weights in proportion to the importance. The classifier is part of the metric's identity:

    - `boosted`, disentanglement_lib's: scikit-learn's gradient-boosted trees with their defaults, which take minutes on
      10,000 rows. There the trees' seed is left open; here it is `seed`.
    - `forest`: a random forest, the non-linear model of the paper itself, hundreds of times faster. Its importances
      agree with the others in rank rather than in value; docs/metrics.md has the measured agreement.

    Args:
        codes, factors: (N, D) float, (N, K) int; the last third of the rows tests, unless test rows are given.
        jobs: processes, one factor each; the result does not depend on it.

    Raises:
        UserError: NaN, unequal rows, a factor with one value.
    """
    if model not in ("boosted", "forest"):
        raise UserError(f"unknown model {model!r}", where="model", fix="boosted or forest")
    data = split(codes, factors, codes_test, factors_test, train_share, factor_bins)
    sizes = data.factors.max(axis=0)
    # the longest first, so that no process is left alone with the largest factor at the end
    order = np.argsort(-sizes, kind="stable")
    fits = _parallel(_importance, [(data, int(k), model, seed) for k in order], jobs)
    importance = np.empty((data.codes.shape[1], data.factors.shape[1]))
    for k, (column, _, _) in zip(order, fits):
        importance[:, k] = column
    return DCI(
        disentanglement=disentanglement(importance),
        completeness=disentanglement(importance.T),
        informativeness=float(np.mean([test for _, _, test in fits])),
        informativeness_train=float(np.mean([train for _, train, _ in fits])),
        importance=importance,
    )


def disentanglement(importance: Values) -> float:
    """Weighted mean over rows of 1 - entropy of the row, base its length; completeness is that of the transpose.

    A matrix of zeros counts as uniform: 0. With one column there is nothing to confuse: 1.
    """
    r = matrix(importance, "importance")
    if (r < 0).any():
        raise UserError("holds negative values", where="importance", fix="give absolute values")
    if r.shape[1] == 1:
        return 1.0
    weights = r.sum(axis=1)
    if weights.sum() == 0:
        return 0.0
    p = r + 1e-11
    p /= p.sum(axis=1, keepdims=True)
    scores = 1 + (p * np.log(p)).sum(axis=1) / np.log(r.shape[1])
    return float(np.average(scores, weights=weights))


def _importance(data: Split, k: int, model: Regressor, seed: int) -> tuple[Floats, float, float]:
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

    if model == "boosted":
        fitted = GradientBoostingClassifier(random_state=seed)
    else:
        fitted = RandomForestClassifier(n_estimators=50, max_features=None, min_samples_leaf=5, random_state=seed)
    y, y_test = data.factors[:, k], data.factors_test[:, k]
    fitted.fit(data.codes, y)
    train = np.mean(fitted.predict(data.codes) == y)
    test = np.mean(fitted.predict(data.codes_test) == y_test)
    return np.abs(fitted.feature_importances_), float(train), float(test)


def _parallel(function: Callable[..., Any], tasks: list[tuple[Any, ...]], jobs: int, prefer: str = "processes") -> list:
    if jobs == 1 or len(tasks) == 1:
        return [function(*task) for task in tasks]
    from sklearn.utils.parallel import Parallel, delayed

    return list(Parallel(n_jobs=jobs, prefer=prefer, batch_size=1)(delayed(function)(*task) for task in tasks))


@of_arrays("codes factors codes_test? factors_test?", "0 … 1", "higher", "Kumar et al. 2018")
def sap(
    codes: Values,
    factors: Values,
    codes_test: Values | None = None,
    factors_test: Values | None = None,
    *,
    continuous: bool = False,
    train_share: float = TRAIN_SHARE,
    jobs: int = 1,
) -> float:
    """Separated attribute predictability (Kumar et al. 2018, section 3), 0 … 1, higher is better.

    Mean over factors of the gap between the two codes that predict it best on their own: test accuracy of a linear SVM
    (C = 0.01, balanced classes, as in disentanglement_lib), or squared correlation over all of `codes` and `factors`
    where these are `continuous`. With one code the runner-up counts as zero.

    Args:
        jobs: threads; the result does not depend on it.
    """
    if continuous:
        return _top_two(squared_correlations(codes, factors))
    data = split(codes, factors, codes_test, factors_test, train_share)
    d, n_factors = data.codes.shape[1], data.factors.shape[1]
    sizes = data.factors.max(axis=0)
    pairs = sorted(((j, k) for j in range(d) for k in range(n_factors)), key=lambda p: -sizes[p[1]])
    scores = np.empty((d, n_factors))
    for (j, k), score in zip(pairs, _parallel(_svm_accuracy, [(data, j, k) for j, k in pairs], jobs, "threads")):
        scores[j, k] = score
    return _top_two(scores)


def squared_correlations(codes: Values, factors: Values) -> Floats:
    """Squared Pearson correlation of every code with every real-valued factor, (D, K); 0 for a constant column."""
    z, v = check_codes(codes).astype(np.float64), matrix(factors, "factors")
    same_rows(codes=z, factors=v)
    z, v = z - z.mean(axis=0), v - v.mean(axis=0)
    variances = np.outer((z**2).mean(axis=0), (v**2).mean(axis=0))
    constant = (z**2).mean(axis=0) <= 1e-12
    safe = np.where(variances > 0, variances, 1.0)
    squared = np.where(variances > 0, (z.T @ v / len(z)) ** 2 / safe, 0.0)
    squared[constant] = 0.0
    return squared


def _top_two(scores: Floats) -> float:
    ordered = np.sort(np.vstack([np.zeros_like(scores[:1]), scores]), axis=0)
    return float(np.mean(ordered[-1] - ordered[-2]))


def _svm_accuracy(data: Split, j: int, k: int) -> float:
    from sklearn.svm import LinearSVC

    classifier = LinearSVC(C=0.01, class_weight="balanced")
    classifier.fit(data.codes[:, j : j + 1], data.factors[:, k])
    return float(np.mean(classifier.predict(data.codes_test[:, j : j + 1]) == data.factors_test[:, k]))


def explicitness(data: Split) -> tuple[float, float]:
    """Training and test explicitness: mean over factors of the one-against-rest AUROC of a logistic regression.

    Ridgeway & Mozer 2018, section 3. Codes are standardised with the training rows' moments; a constant code is left
    out (it can tell nothing). Values of a factor that do not occur among the rows scored, or are all of them, have no
    AUROC and are left out of its mean.
    """
    keep = data.codes.std(axis=0) > 0
    if not keep.any():
        return 0.5, 0.5
    mean, std = data.codes[:, keep].mean(axis=0), data.codes[:, keep].std(axis=0)
    train, test = (data.codes[:, keep] - mean) / std, (data.codes_test[:, keep] - mean) / std
    scores = [
        _auroc_of_classes(train, data.factors[:, k], test, data.factors_test[:, k])
        for k in range(data.factors.shape[1])
    ]
    return float(np.mean([a for a, _ in scores])), float(np.mean([b for _, b in scores]))


def _auroc_of_classes(x: Floats, y: Ints, x_test: Floats, y_test: Ints) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    classifier = LogisticRegression().fit(x, y)

    def mean_auroc(rows: Floats, labels: Ints) -> float:
        p = classifier.predict_proba(rows)
        scores = [
            roc_auc_score(labels == value, p[:, c])
            for c, value in enumerate(classifier.classes_)
            if 0 < np.count_nonzero(labels == value) < len(labels)
        ]
        if not scores:
            raise UserError("the test rows hold a single value of a factor", where="factors", fix="give more rows")
        return float(np.mean(scores))

    return mean_auroc(x, y), mean_auroc(x_test, y_test)
