"""How much of the labels a trained model's codes hold: probes, and clusters found without labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Generator

from latentbench.core.capabilities import Encoder
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import metric as declared_metric
from latentbench.evaluation.space import some_rows
from latentbench.evaluation.view import View
from latentbench.metrics import representation as metric

Settings = Mapping[str, Any]
BLOCK = 512


@declared_metric(
    "linear_probe",
    "Encoder",
    "1",
    "higher",
    "test accuracy of a logistic regression of the labels on codes",
    settings={"rows": 10_000, "c": 1.0},
    lowest={"rows": 2, "c": 1e-09},
    data=("labels",),
    within=(0.0, 1.0),
)
def linear_probe(model: Encoder, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Test accuracy of a logistic regression on posterior means, trained on `rows` training rows at most."""
    return _probe(model, view, settings, generator, lambda *a: metric.linear_probe(*a, c=float(settings["c"])))


@declared_metric(
    "knn_probe",
    "Encoder",
    "1",
    "higher",
    "test accuracy of the majority among the nearest training codes",
    settings={"rows": 10_000, "k": 5},
    lowest={"rows": 2, "k": 1},
    data=("labels",),
    within=(0.0, 1.0),
)
def knn_probe(model: Encoder, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Test accuracy of the majority among the `k` nearest of at most `rows` training codes (posterior means)."""
    return _probe(model, view, settings, generator, lambda *a: metric.knn_probe(*a, k=int(settings["k"])))


@declared_metric(
    "kmeans_accuracy",
    "Encoder",
    "1",
    "higher",
    "share of rows whose k-means cluster of codes is matched to their label",
    settings={"rows": 10_000, "restarts": 10},
    lowest={"rows": 2, "restarts": 1},
    data=("labels",),
    within=(0.0, 1.0),
)
def kmeans_accuracy(model: Encoder, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Share of rows whose k-means cluster is matched to their class, as many clusters as classes."""
    clusters, labels = _clusters(model, view, settings, generator)
    found = metric.clustering_accuracy(clusters, labels)
    return MetricValue(found.value, found.se, found.n, {"chance": _chance(labels)})


@declared_metric(
    "kmeans_nmi",
    "Encoder",
    "1",
    "higher",
    "normalised mutual information of k-means clusters of codes and labels",
    settings={"rows": 10_000, "restarts": 10},
    lowest={"rows": 2, "restarts": 1},
    data=("labels",),
    within=(0.0, 1.0),
)
def kmeans_nmi(model: Encoder, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Normalised mutual information of k-means clusters and classes, as many clusters as classes."""
    clusters, labels = _clusters(model, view, settings, generator)
    return MetricValue(
        metric.nmi(clusters, labels), None, len(labels), {"shuffled": metric.nmi(clusters, labels[::-1])}
    )


def _probe(
    model: Encoder, view: View, settings: Settings, generator: Generator, probe: Callable[..., MetricValue]
) -> MetricValue:
    codes, labels = _labelled(model, view.train, int(settings["rows"]), generator)
    codes_test, labels_test = _labelled(model, view, len(view), generator)
    found = probe(codes, labels, codes_test, labels_test)
    details = {**found.details, "chance": _chance(labels_test), "n_train": len(labels)}
    return MetricValue(found.value, found.se, found.n, details)


def _clusters(model: Encoder, view: View, settings: Settings, generator: Generator) -> tuple[np.ndarray, np.ndarray]:
    codes, labels = _labelled(model, view, int(settings["rows"]), generator)
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    found = metric.kmeans(codes, len(np.unique(labels)), seed=seed, restarts=int(settings["restarts"]))
    return found, labels


def _labelled(model: Encoder, view: View, n: int, generator: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means and labels of at most n rows."""
    if "y" not in view.columns:
        raise UserError("this metric needs labels", fix="use a dataset with a column `y`")
    rows = some_rows(view, n, generator)
    codes = torch.cat([model.encode(view.x[part.to(view.device)]).cpu() for part in rows.split(BLOCK)]).numpy()
    return codes, np.asarray(view.columns["y"])[rows.numpy()]


def _chance(labels: np.ndarray) -> float:
    """Share of the most frequent class."""
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))
