"""The perceptron with one hidden layer of Table 1, after LeCun et al. 1998 (Chen et al. 2018, section 3)."""

from __future__ import annotations

from math import prod
from typing import Annotated

from annotated_types import Ge
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.papers.neural_ode.odenet import classification_loss
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
        UserError: the rows are discrete.
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
        return classification_loss(self.classify(batch.x), batch)
