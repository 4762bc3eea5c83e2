"""How well a model's outlier score tells its evaluation split from another dataset.

The contract of a second dataset: its name, its split and the content hash of the data stand in the metric's settings,
so they are part of the metric's identity, and the run stops where other data than those turn up. Its rows pass through
the run's own fitted preprocessing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from latentbench.core.capabilities import OutlierScorer
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.data.dataset import open_dataset
from latentbench.declare import metric
from latentbench.evaluation.view import BLOCK, View
from latentbench.metrics import prediction

Settings = Mapping[str, Any]
#: What `content` says of a dataset whose content hash nobody knows before it has been obtained.
UNKNOWN = "unknown"


@metric(
    "outlier_auroc",
    "OutlierScorer",
    "1",
    "higher",
    "area under the ROC curve of the model's outlier score against another dataset",
    settings={"other": "", "content": "", "split": "test", "reduce": 1},
    lowest={"reduce": 1},
    within=(0.0, 1.0),
)
def auroc(model: OutlierScorer, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Area under the ROC curve, outliers being the positives; details have the other two metrics and mean scores."""
    scores, positive, details = _scores(model, view, settings, generator)
    value = prediction.auroc(scores, positive)
    more = {
        "average_precision": prediction.average_precision(scores, positive),
        "fpr80": prediction.fpr_at_tpr(scores, positive, tpr=0.8),
    }
    return MetricValue(value.value, value.se, value.n, {**value.details, **details, **more})


@metric(
    "outlier_ap",
    "OutlierScorer",
    "1",
    "higher",
    "average precision of the model's outlier score, the other dataset's rows being positives",
    settings={"other": "", "content": "", "split": "test", "reduce": 1},
    lowest={"reduce": 1},
    within=(0.0, 1.0),
)
def average_precision(model: OutlierScorer, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Average precision, outliers being the positives."""
    scores, positive, details = _scores(model, view, settings, generator)
    return MetricValue(prediction.average_precision(scores, positive), None, len(scores), details)


@metric(
    "outlier_fpr80",
    "OutlierScorer",
    "1",
    "lower",
    "false positives of the outlier score where 80 per cent of the other dataset are found",
    settings={"other": "", "content": "", "split": "test", "reduce": 1},
    lowest={"reduce": 1},
    within=(0.0, 1.0),
)
def fpr80(model: OutlierScorer, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Share of the evaluation split that passes for outliers where four in five outliers are found."""
    scores, positive, details = _scores(model, view, settings, generator)
    return MetricValue(prediction.fpr_at_tpr(scores, positive, tpr=0.8), None, len(scores), details)


def _scores(
    model: OutlierScorer, view: View, settings: Settings, generator: Generator
) -> tuple[Tensor, np.ndarray, dict[str, Any]]:
    """Scores of both sets, which of them are outliers, and details."""
    x, details = other_rows(view, settings, generator)
    inside = torch.cat([model.outlier_score(view.x[rows], generator) for rows in view.blocks()])
    outside = torch.cat([model.outlier_score(rows, generator) for rows in x.split(BLOCK)])
    positive = np.concatenate([np.zeros(len(inside), dtype=np.int64), np.ones(len(outside), dtype=np.int64)])
    means = {"score_inside": float(inside.mean()), "score_outside": float(outside.mean())}
    return torch.cat([inside, outside]).cpu(), positive, {**details, **means}


def other_rows(view: View, settings: Settings, generator: Generator) -> tuple[Tensor, dict[str, Any]]:
    """The other dataset's rows under the view's preprocessing, (M, *shape) float32, M at most the view's size.

    Settings: `other`, a dataset of the registry; `content`, the first 12 digits or more of its content hash; `split`;
    `reduce`, a whole number by which images are reduced to area means first.

    Raises:
        UserError: no dataset is named, it is another than `content` says, or its rows are of another form.
    """
    name, content = settings["other"], str(settings["content"])
    if not name:
        raise UserError(
            "this metric needs a second dataset", where="metrics", fix="settings: {other: NAME, content: …}"
        )
    dataset = open_dataset(name)
    found = dataset.content_hash
    unpinned = content == UNKNOWN and dataset.entry.content_hash is None and dataset.entry.kind == "real"
    if not unpinned and (len(content) < 12 or not found.startswith(content)):
        raise UserError(
            f"dataset {name!r} has content {found[:12]}, the metric's settings say {content or 'nothing'}",
            where="metrics",
            fix=f"content: {found[:12]}",
        )
    raw = np.asarray(dataset.split(settings["split"])["x"][: len(view)])
    raw = _reduced(raw, int(settings["reduce"]))
    if raw.shape[1:] != view.raw.shape[1:] or raw.dtype != view.raw.dtype:
        raise UserError(
            f"rows of {name!r} are {raw.dtype} {raw.shape[1:]}, not {view.raw.dtype} {view.raw.shape[1:]}",
            where="metrics",
            fix="choose a dataset of the same form, or `reduce` it",
        )
    x = torch.cat([view.pipeline.forward(raw[i : i + BLOCK], _cpu(generator))[0] for i in range(0, len(raw), BLOCK)])
    return x.to(view.device), {"other": name, "content": found, "rows": len(raw)}


def _reduced(raw: np.ndarray, by: int) -> np.ndarray:
    """Area means of by x by pixels, rounded to the stored type."""
    if by == 1:
        return raw
    n, h, w = raw.shape[:3]
    if h % by or w % by:
        raise UserError(f"images of {h}x{w} cannot be reduced by {by}", where="metrics", fix="a divisor of both")
    means = raw.reshape(n, h // by, by, w // by, by, *raw.shape[3:]).mean((2, 4))
    return np.round(means).astype(raw.dtype)


def _cpu(generator: Generator) -> Generator:
    """A CPU generator that follows from one on any device: stored rows are preprocessed on the CPU."""
    seed = torch.randint(2**62, (1,), generator=generator, device=generator.device).item()
    return torch.Generator().manual_seed(int(seed))
