"""Link prediction on one graph: held-out edges against pairs that no edge joins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Generator

from latentbench.core.capabilities import LinkPredictor
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View
from latentbench.metrics.prediction import auroc, average_precision

Settings = Mapping[str, Any]


@metric("link_auroc", "LinkPredictor", "1", "higher", data=("links",), within=(0.0, 1.0))
def link_auroc(model: LinkPredictor, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Area under the ROC curve of held-out edges against as many pairs without an edge; chance is 0.5."""
    parts = view.parts
    return auroc(model.link_scores(view.batch(), parts["links"]).cpu(), parts["linked"].cpu())


@metric("link_average_precision", "LinkPredictor", "1", "higher", data=("links",), within=(0.0, 1.0))
def link_average_precision(model: LinkPredictor, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Average precision of held-out edges among as many pairs without an edge; chance is 0.5."""
    parts = view.parts
    scores = model.link_scores(view.batch(), parts["links"]).cpu()
    return MetricValue(average_precision(scores, parts["linked"].cpu()), n=len(scores))
