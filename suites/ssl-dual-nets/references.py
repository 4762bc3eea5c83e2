"""What a network is held against: principal components of the leaves, and the best that anybody could know."""

from __future__ import annotations

import torch
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.papers.ssl_dual_nets.trees import make_tree
from pydantic import NonNegativeInt, PositiveInt
from torch import Generator, Tensor, nn


@model(
    "leaf-components",
    "Fittable Encoder",
    "principal components of one view",
    examples=(Example("pairs", {"components": 2}),),
)
class LeafComponents(nn.Module):
    """Leading principal components of the first view: a linear code that knows neither tree nor second view.

    Args:
        info: of views (views, leaves).
        components: how many.
    """

    mean: Tensor
    directions: Tensor

    def __init__(self, info: DataInfo, *, components: PositiveInt = 10) -> None:
        super().__init__()
        self.components = min(components, info.shape[-1])
        self.register_buffer("mean", torch.zeros(info.shape[-1]))
        self.register_buffer("directions", torch.zeros(info.shape[-1], self.components))

    def fit(self, x: Tensor, generator: Generator) -> None:
        """Eigenvectors of the covariance of the first view of x (N, views, leaves)."""
        rows = x[:, 0].double()
        self.mean.copy_(rows.mean(0))
        self.directions.copy_(torch.linalg.eigh(torch.cov(rows.T)).eigenvectors.flip(1)[:, : self.components])

    def encode(self, x: Tensor) -> Tensor:
        """(N, components)."""
        return (x[:, 0] - self.mean) @ self.directions

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        """As `encode`: there is no noise."""
        return self.encode(x)


@model(
    "root-posterior",
    "Fittable Encoder",
    "the exact posterior of a known latent tree's root",
    examples=(Example("pairs", {"depth": 1, "children": 3}),),
)
class RootPosterior:
    """P(root = 1 | leaves of the first view) under the tree that made the data: no function of them correlates more.

    Args:
        info: of views (views, leaves).
        depth, children, lowest, structure_seed: the tree's, as its dataset says.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        depth: PositiveInt = 5,
        children: PositiveInt = 2,
        lowest: float = 0.7,
        structure_seed: NonNegativeInt = 0,
    ) -> None:
        self.tree = make_tree(depth, children, lowest, structure_seed)

    def fit(self, x: Tensor, generator: Generator) -> None:
        """There is nothing to learn."""

    def encode(self, x: Tensor) -> Tensor:
        """(N, 1)."""
        odds = torch.from_numpy(self.tree.log_odds((x[:, 0] > 0.5).cpu().numpy()))
        return torch.sigmoid(odds).float()[:, None].to(x.device)

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        """As `encode`: there is no noise."""
        return self.encode(x)
