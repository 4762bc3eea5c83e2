"""A rival that learns nothing: cosines of word counts averaged over neighbours (Wu et al. 2019, SGC, 1902.07153)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models.graph_layers import normalised_adjacency
from pydantic import PositiveInt
from torch import Generator, Tensor, nn
from torch.nn import functional as F  # noqa: N812


@model("smoothed-features", "Iterative LinkPredictor", examples=(Example("graph", {"hops": 3}),))
class SmoothedFeatures(nn.Module):
    """Scores a pair by the cosine of rows of A~^hops X, A~ the training graph's normalised adjacency with loops."""

    def __init__(self, info: DataInfo, *, hops: PositiveInt = 2) -> None:
        super().__init__()
        self.hops = hops

    def start(self, data: Batch, generator: Generator) -> None:
        """There is nothing to fit."""

    def advance(self, data: Batch, generator: Generator) -> Mapping[str, Tensor | float]:
        return {}

    def done(self) -> bool:
        return True

    def link_scores(self, batch: Batch, pairs: Tensor) -> Tensor:
        """Cosines in [-1, 1]; 0 where a node has no features within reach."""
        adjacency = normalised_adjacency(batch.parts["edges"], len(batch.x))
        rows = batch.x.flatten(1)
        for _ in range(self.hops):
            rows = torch.sparse.mm(adjacency, rows)
        rows = F.normalize(rows, dim=1)
        return (rows[pairs[:, 0]] * rows[pairs[:, 1]]).sum(1)
