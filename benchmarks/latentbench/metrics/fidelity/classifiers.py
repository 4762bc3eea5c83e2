"""Sample quality by classifiers: the inception score and the classifier two-sample test."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np

from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import of_arrays
from latentbench.metrics.arrays import matrix
from latentbench.metrics.fidelity.inputs import Values, check_features


@of_arrays("logits", "1 … classes", "higher", "Salimans et al. 2016")
def inception_score(
    logits: Values, *, splits: int = 10, rng: np.random.Generator | np.random.RandomState | None = None
) -> MetricValue:
    """exp of the mean KL between a sample's class distribution and the mean one (Salimans et al. 2016), 1 … C.

    Higher is better. Mean over `splits` parts of the shuffled samples; with a
    `numpy.random.RandomState(2020)` the parts are torch-fidelity's.
    The classifier is part of the metric's name; papers use Inception's on ImageNet.

    Args:
        logits: (N, C), of any scale: a softmax follows.

    Returns:
        Mean; standard error over the parts; details `std`, the spread over parts that papers print.
    """
    z = matrix(logits, "logits")
    if not 1 <= splits <= len(z):
        raise UserError(f"is {splits}, with {len(z)} rows", where="splits")
    z = z[(rng if rng is not None else np.random.default_rng(0)).permutation(len(z))]
    z = z - z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    bounds = [i * len(z) // splits for i in range(splits + 1)]
    scores = np.array([_score(log_p[a:b]) for a, b in itertools.pairwise(bounds)])
    se = float(scores.std(ddof=1) / np.sqrt(splits)) if splits > 1 else None
    return MetricValue(float(scores.mean()), se, len(z), {"std": float(scores.std())})


def _score(log_p: np.ndarray) -> float:
    p = np.exp(log_p)
    marginal = p.mean(axis=0)
    log_marginal = np.log(marginal, where=marginal > 0, out=np.zeros_like(marginal))
    return float(np.exp((p * (log_p - log_marginal)).sum(axis=1).mean()))


@of_arrays("real fake", "0.5 … 1", "lower", "Lopez-Paz & Oquab 2017", version=2)
def c2st(
    real: Values, fake: Values, *, classifier: Literal["mlp", "forest", "linear"] = "mlp", folds: int = 5, seed: int = 1
) -> MetricValue:
    """Classifier two-sample test: cross-validated accuracy of telling real from generated, 0.5 is best, 1 worst.

    Lopez-Paz & Oquab 2017. `mlp` is sbibm's setting (Lueckmann et al. 2021): two layers of 10 D units, five folds, all
    columns standardised by the real sample's moments; `forest` and `linear` are random forest and logistic
    regression, each with an identity of its own. Of the larger sample as many rows as the smaller has are drawn, so
    that guessing scores a half; a column that is constant in `real` is only centred.

    A classifier that is wrong more often than guessing tells the samples apart all the same, by the opposite of its
    answers: so it does where generated rows are near-copies of real ones, whose neighbours are then of the other kind.
    The value is that of the better of the two.

    Returns:
        Accuracy, with its binomial standard error; details: `accuracy` of the answers as they are, and `warnings` where
        it lies below a half by more than four standard errors.
    """
    from sklearn.base import ClassifierMixin
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    x, y = check_features(real, fake, min_rows=2)
    x, y = x.astype(np.float64), y.astype(np.float64)
    n = min(len(x), len(y))
    if not 2 <= folds <= n:
        raise UserError(f"is {folds}, with {n} rows of each kind", where="folds")
    draw = np.random.default_rng(seed)
    x, y = (part if len(part) == n else part[np.sort(draw.choice(len(part), n, replace=False))] for part in (x, y))
    mean, std = x.mean(axis=0), x.std(axis=0, ddof=1)
    std = np.where(std > 0, std, 1.0)
    width = 10 * x.shape[1]
    models: dict[str, ClassifierMixin] = {
        "mlp": MLPClassifier((width, width), max_iter=1000, random_state=seed),
        "forest": RandomForestClassifier(200, random_state=seed),
        "linear": LogisticRegression(max_iter=1000),
    }
    if classifier not in models:
        raise UserError(f"unknown classifier {classifier!r}", where="classifier", fix="mlp, forest or linear")
    data = (np.concatenate([x, y]) - mean) / std
    target = np.repeat([0, 1], n)
    scores = cross_val_score(models[classifier], data, target, cv=KFold(folds, shuffle=True, random_state=seed))
    accuracy = float(scores.mean())
    value = max(accuracy, 1 - accuracy)
    below = accuracy < 0.5 - 4 * 0.5 / np.sqrt(2 * n)
    warnings = ("the classifier is wrong more often than guessing: near-copies of real rows?",) if below else ()
    details = {"accuracy": accuracy, "warnings": warnings}
    return MetricValue(value, float(np.sqrt(value * (1 - value) / (2 * n))), 2 * n, details)
