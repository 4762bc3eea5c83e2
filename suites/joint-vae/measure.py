"""A categorical code as a classifier that nobody taught, what it knows, and the FactorVAE score of codes with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from latentbench.core.capabilities import Encoder
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.disentanglement import factors
from latentbench.evaluation.posterior import BLOCK, codes
from latentbench.evaluation.view import View
from latentbench.metrics.codes.intervention import majority_vote_accuracy
from latentbench.metrics.codes.sources import ArraySource
from latentbench.metrics.representation import clustering_accuracy
from latentbench.models.mixtures import seed_from
from numpy.typing import NDArray
from torch import Generator

Settings = Mapping[str, Any]
#: Batches that are drawn at once.
CHUNK = 250


def categories(model: Any) -> int:
    """How many columns at the end of a model's codes are probabilities of one categorical code; 0 without one."""
    return int(getattr(model, "categories", 0))


@metric(
    "unsupervised_class_accuracy",
    "Encoder",
    "1",
    "higher",
    "share of rows whose category, or k-means cluster of codes where there is none, is matched to their class",
    settings={"restarts": 10},
    lowest={"restarts": 1},
    within=(0.0, 1.0),
)
def unsupervised_class_accuracy(model: Encoder, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Of the likeliest category, or of as many k-means clusters of posterior means as there are classes, found on
    training rows; categories and classes are matched one to one on the rows that are judged (Hungarian algorithm).

    The class is column `y`, or the first factor. Detail `used` is the number of categories that occur, `chance` the
    share of the most frequent class.
    """
    labels = np.asarray(view.columns["y"][:] if "y" in view.columns else factors(view)[:, 0])
    n_classes, rows = len(np.unique(labels)), codes(model, view).numpy()
    if k := categories(model):
        found = rows[:, -k:].argmax(1)
    else:
        from sklearn.cluster import KMeans

        means = KMeans(n_classes, n_init=int(settings["restarts"]), random_state=seed_from(generator) % 2**32)
        found = means.fit(codes(model, view.train).numpy()).predict(rows)
    right = clustering_accuracy(found, labels)
    details = {"used": len(np.unique(found)), "chance": float(np.bincount(labels).max() / len(labels))}
    return MetricValue(right.value, right.se, right.n, details)


@metric(
    "category_information",
    "Encoder Classifier",
    "nats",
    "higher",
    "mutual information of a row and the categorical code of it",
    within=(0.0, None),
)
def category_information(model: Any, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Entropy of the mean of q(c|x) over the split less the mean of its entropies, at most log K."""
    logits = torch.cat([model.classify(view.x[rows]) for rows in view.blocks(BLOCK)]).double()
    p = logits.softmax(-1)
    each = torch.special.entr(p.mean(0)).sum() - torch.special.entr(p).sum(-1)
    return MetricValue(float(each.mean().clamp_min(0)), None, len(p))


def spread(z: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Variances over axis -2 of (..., N, D) codes whose last `k` are one categorical code, one-hot: (..., D - k), and
    with `k` one more, twice Gini's variance sum_ij [c_i != c_j] / (2 N (N - 1)) of the categories."""
    variances = z.var(axis=-2, ddof=1)
    if not k:
        return variances
    return np.concatenate([variances[..., :-k], variances[..., -k:].sum(-1, keepdims=True)], -1)


def mixed_factor_vae_score(
    z: NDArray[np.float64],
    values: NDArray[np.int64],
    k: int,
    rng: np.random.Generator,
    batch: int,
    votes: int,
    threshold: float = 0.05,
) -> tuple[float, list[float]]:
    """FactorVAE score of (N, D) codes, the last `k` one categorical code, and of each factor (N, F) of them, in [0, 1].

    As `factor_vae_score` of the kit (Kim & Mnih 2018, section 4, with Gini's variance for categories), on `votes`
    batches of `batch` rows to learn from and half as many new ones; 0 where no code varies.
    """
    source, whole = ArraySource(z, values), spread(z, k)
    active = np.sqrt(whole) >= threshold
    if not active.any():
        return 0.0, [0.0] * source.n_factors

    def table(n: int) -> NDArray[np.int64]:
        out = np.zeros((source.n_factors, int(active.sum())), dtype=np.int64)
        for size in [min(CHUNK, n - i) for i in range(0, n, CHUNK)]:
            held = rng.integers(source.n_factors, size=size)
            ratio = spread(source.fixed(held, batch, rng), k)[..., active] / whole[active]
            np.add.at(out, (held, ratio.argmin(-1)), 1)
        return out

    train, test = table(votes), table(votes // 2)
    right = [test[f, train.argmax(0) == f].sum() / max(test[f].sum(), 1) for f in range(source.n_factors)]
    return majority_vote_accuracy(train, test), [float(r) for r in right]


@metric(
    "factor_vae_score_mixed",
    "Encoder",
    "1",
    "higher",
    "FactorVAE score of posterior means and, by Gini's variance, of the likeliest category",
    settings={"batch": 64, "votes": 10_000},
    lowest={"batch": 2, "votes": 2},
    data=("factors",),
    within=(0.0, 1.0),
)
def factor_vae_score_mixed(model: Encoder, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Accuracy of telling which factor a batch shares by the code that varies least; detail `first` is that of the
    batches that share the first factor, which of sprites is the shape."""
    z, k = codes(model, view).numpy().astype(np.float64), categories(model)
    if k:
        z[:, -k:] = np.eye(k)[z[:, -k:].argmax(1)]
    rng = np.random.default_rng(seed_from(generator))
    values = np.asarray(factors(view))
    score, each = mixed_factor_vae_score(z, values, k, rng, int(settings["batch"]), int(settings["votes"]))
    return MetricValue(score, None, len(z), {"first": each[0]})
