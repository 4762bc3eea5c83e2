"""The perceptron with one hidden layer of Table 1, after LeCun et al. 1998 (Chen et al. 2018, section 3)."""

from __future__ import annotations

from math import prod
from typing import Annotated

import torch
from annotated_types import Ge
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from pydantic import PositiveInt
from torch import Generator, Tensor, nn


@model(
    "one-layer-perceptron",
    "Trainable Classifier",
    "classifier with one hidden layer",
    examples=(Example("labelled", {"classes": 3, "hidden": 5}),),
)
class OneLayerPerceptron(nn.Module):
    """Linear, tanh, linear.

    Args:
        info: rows of any shape; labels in column ``y``.
        classes: number of labels.
        hidden: width of the one layer.

    Raises:
        UserError: the rows are discrete, or have no column y.
    """

    def __init__(self, info: DataInfo, *, classes: Annotated[int, Ge(2)] = 10, hidden: PositiveInt = 300) -> None:
        checks.support("OneLayerPerceptron", info, "unit", "real", "binary")
        super().__init__()
        self.classes = checks.whole("classes", classes, 2)
        width = checks.whole("hidden", hidden)
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(prod(info.shape), width), nn.Tanh(), nn.Linear(width, self.classes)
        )

    def classify(self, x: Tensor) -> Tensor:
        """Logits, (N, *shape) -> (N, classes)."""
        logits: Tensor = self.body(x)
        return logits

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Mean cross-entropy in nats; `error` is the share of the batch that is classified wrongly."""
        y = batch.columns.get("y")
        if y is None:
            raise UserError(
                "the perceptron learns from labels, and the data have no column y", fix="choose labelled data"
            )
        logits = self.classify(batch.x)
        error = (logits.detach().argmax(-1) != y).float().mean()
        return {"loss": torch.nn.functional.cross_entropy(logits, y.long()), "error": error}
