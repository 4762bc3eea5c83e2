"""How faithfully sequences of tokens are reconstructed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from latentbench.core.capabilities import Reconstructor
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.likelihood import ROWS
from latentbench.evaluation.view import View
from latentbench.metrics.arrays import mean_and_se
from torch import Generator

Settings = Mapping[str, Any]


@metric(
    "token_accuracy",
    "Reconstructor",
    "1",
    "higher",
    "share of tokens that the reconstruction has at the same place, up to the end mark",
    settings={"end": 0},
    lowest={"end": -1},
    within=(0.0, 1.0),
)
def token_accuracy(model: Reconstructor, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Share of a sequence's tokens that its reconstruction has at the same place, averaged over the sequences.

    Tokens are counted up to the first token `end`, that one included, all of them where it is missing; -1 counts the
    whole row. Details: `exact`, the share of sequences without a fault.
    """
    end, shares = int(settings["end"]), []
    for rows in view.blocks(ROWS):
        x = view.x[rows].flatten(1)
        right = model.reconstruct(view.x[rows]).flatten(1) == x
        ends = x == end
        counted = ends.long().cumsum(1) - ends.long() == 0
        shares.append((right & counted).sum(1) / counted.sum(1))
    every = torch.cat(shares).cpu().numpy()
    value, se = mean_and_se(every)
    return MetricValue(value, se, len(every), {"exact": float((every == 1.0).mean())})
