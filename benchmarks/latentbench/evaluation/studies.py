"""What a study found, against what was there: means over its problems, with the standard error that they leave."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Generator

from latentbench.core.capabilities import Study
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View
from latentbench.metrics import representation, structure
from latentbench.metrics.arrays import mean_and_se
from latentbench.metrics.codes import matching

Settings = Mapping[str, Any]
Arrays = Mapping[str, Any]


def over_problems(study: Study, measure: Callable[[Arrays, Arrays], float]) -> MetricValue:
    """Mean of a measurement over a study's problems.

    Args:
        study: with all its problems answered.
        measure: ``measure(truth, answer)``, both by name, is a finite number.
    """
    return _mean([float(measure(truth, answer)) for truth, answer in study.answered()])


def _mean(values: list[float]) -> MetricValue:
    mean, se = mean_and_se(np.asarray(values))
    return MetricValue(mean, se if len(values) > 1 else None, len(values))


@metric("graph_shd", "StructureLearner", "edges", "lower", within=(0.0, None))
def graph_shd(model: Study, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Mean structural Hamming distance of the graphs that were found (`latentbench.metrics.structure.shd`)."""
    return over_problems(model, lambda truth, answer: structure.shd(answer["graph"], truth["graph"]))


@metric("graph_f1", "StructureLearner", "1", "higher", settings={"directed": True}, within=(0.0, 1.0))
def graph_f1(model: Study, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Mean F1 of the edges that were found; of the skeletons where `directed` is false."""
    directed = bool(settings["directed"])
    return over_problems(
        model, lambda truth, answer: structure.edge_f1(answer["graph"], truth["graph"], directed=directed).f1
    )


@metric("graph_auroc", "EdgeScorer", "1", "higher", within=(0.0, 1.0))
def graph_auroc(model: Study, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Mean area under the ROC curve of edge scores; chance is 0.5."""
    return over_problems(model, lambda truth, answer: structure.edge_auroc(answer["scores"], truth["graph"]).value)


@metric("clusters_accuracy", "Clusterer", "1", "higher", within=(0.0, 1.0))
def clusters_accuracy(model: Study, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Mean share of items whose cluster is matched to their class, by the best one-to-one matching."""
    return over_problems(
        model, lambda truth, answer: representation.clustering_accuracy(answer["labels"], truth["labels"]).value
    )


@metric("clusters_ari", "Clusterer", "1", "higher", within=(-1.0, 1.0))
def clusters_ari(model: Study, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Mean adjusted Rand index of the clusters that were found; chance is 0."""
    return over_problems(model, lambda truth, answer: representation.ari(answer["labels"], truth["labels"]))


@metric("latents_mcc", "LatentEstimator", "1", "higher", within=(0.0, 1.0))
def latents_mcc(model: Study, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Mean correlation of estimated and true latents, matched one to one, signs left free."""
    return over_problems(model, lambda truth, answer: matching.mcc(answer["latents"], truth["latents"]))


@metric("latents_affine_mcc", "LatentEstimator", "1", "higher", within=(0.0, 1.0))
def latents_affine_mcc(model: Study, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Mean canonical correlation of estimated and true latents: what is left free is an affine map."""
    return over_problems(model, lambda truth, answer: matching.mcc_affine(answer["latents"], truth["latents"]))


@metric("answer_ms", "Study", "ms", "lower", settings={"problems": 5}, lowest={"problems": 1}, within=(0.0, None))
def answer_ms(model: Any, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Median time of an answer to the first `problems` problems: for comparison on one machine alone."""
    taken = []
    for i in range(min(int(settings["problems"]), model.problems)):
        answer = model.again(i)
        since = time.perf_counter()
        answer()
        taken.append(1e3 * (time.perf_counter() - since))
    return MetricValue(float(np.median(taken)), None, len(taken), {"least": min(taken)})
