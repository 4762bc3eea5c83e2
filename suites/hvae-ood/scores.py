"""How well the outlier scores of one hierarchical model tell its data from another dataset. Which score, and how many
layers it skips, are settings of the metric (see `SkipHVAE.outlier_score`), so all scores are those of one training.

A model with an exact likelihood has that score alone (``likelihood``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation import outliers
from latentbench.evaluation.view import View
from latentbench.papers.hvae_ood.skip_hvae import SkipHVAE
from torch import Generator, Tensor

Settings = Mapping[str, Any]
OTHER = {"other": "", "content": "", "split": "test", "reduce": 1}
SCORE = {"score": "llr", "skip": 1, "samples": 1, "samples_above": 1, "below": "mode"}
LOWEST = {"reduce": 1, "skip": 0, "samples": 1, "samples_above": 1}
NEEDS = "OutlierScorer|ExactLikelihood"


@metric("score_auroc", NEEDS, "1", "higher", settings={**OTHER, **SCORE}, lowest=LOWEST, within=(0.0, 1.0))
def score_auroc(model: Any, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Area under the ROC curve of one of a model's outlier scores against another dataset"""
    return outliers.auroc(_scorer(model, settings), view, settings, generator)


@metric("score_ap", NEEDS, "1", "higher", settings={**OTHER, **SCORE}, lowest=LOWEST, within=(0.0, 1.0))
def score_ap(model: Any, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Average precision of one of a model's outlier scores, the other dataset's rows being positives"""
    return outliers.average_precision(_scorer(model, settings), view, settings, generator)


@metric("score_fpr80", NEEDS, "1", "lower", settings={**OTHER, **SCORE}, lowest=LOWEST, within=(0.0, 1.0))
def score_fpr80(model: Any, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """False positives of one of a model's outlier scores where 80 per cent of the other dataset are found"""
    return outliers.fpr80(_scorer(model, settings), view, settings, generator)


@metric(
    "score_gain",
    "OutlierScorer",
    "1",
    "higher",
    settings={**OTHER, **SCORE, "over": "likelihood"},
    lowest=LOWEST,
    within=(-1.0, 1.0),
)
def score_gain(model: Any, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Area under the ROC curve of one of a model's outlier scores less that of another, `over`, on the same rows"""
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    found, over = (
        score_auroc(model, view, {**settings, "score": s}, torch.Generator(generator.device).manual_seed(seed))
        for s in (settings["score"], settings["over"])
    )
    details = {"score": found.value, "over": over.value, "rows": found.details["rows"]}
    return MetricValue(found.value - over.value, None, found.n, details)


def _scorer(model: Any, settings: Settings) -> Any:
    """What has the score that the settings name as its `outlier_score`."""
    if isinstance(model, SkipHVAE):
        return SimpleNamespace(outlier_score=partial(model.outlier_score, **{k: settings[k] for k in SCORE}))
    if settings["score"] != "likelihood" or not hasattr(model, "log_prob"):
        raise UserError(
            f"{type(model).__name__} has no score {settings['score']!r}",
            where="metrics",
            fix="score: likelihood, of a model with an exact likelihood; all scores are skip-hvae's",
        )

    def surprise(x: Tensor, generator: Generator) -> Tensor:
        found: Tensor = -model.log_prob(x)
        return found

    return SimpleNamespace(outlier_score=surprise)
