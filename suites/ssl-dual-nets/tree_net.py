"""ReLU networks that mirror a latent tree, trained by contrast of two views (Tian et al. 2020, section 6).

Each node of the tree above the leaves has `hidden` units, which see the units of the node's children alone. With f the
units at the root, scaled to length one, and distances between f of two views of a datum (+) and of two data (-),

    r+ = mean |f(x) - f(x+)|^2,   r- = mean |f(x) - f(x-)|^2      over rows and units,

    nce:     -e^(-r+ / tau) / (e^(-r+ / tau) + e^(-r- / tau))     L_nce with H = 1, as their code has it
    simple:  r+ - r-                                              L_simp

Their code takes r+ and r- over the minibatch before the exponentials, and no logarithm; so it is here. x- is another
row of the minibatch, where they draw a datum anew: the same law row by row. As r+ and r- are means over units of codes
of length one, they are at most 4 / hidden, so that a tau weighs less the more units there are.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from pydantic import PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn

_PAIRS = {"children": 3, "hidden": 4}


class TreeNet(nn.Module):
    """The network, with torch's initial weights for linear layers.

    Args:
        info: of two views of the leaves, (2, leaves), leaves a power of `children`.
        children: of each node.
        hidden: units of each node.

    Raises:
        UserError: the data are not two views of so many leaves.
    """

    def __init__(self, info: DataInfo, *, children: PositiveInt = 2, hidden: PositiveInt = 10) -> None:
        super().__init__()
        counts = [info.shape[-1]]
        while children > 1 and counts[-1] % children == 0:
            counts.append(counts[-1] // children)
        if len(info.shape) != 2 or info.shape[0] != 2 or counts[-1] != 1 or len(counts) < 2:
            wrong = f"rows of shape {tuple(info.shape)} are not two views of a tree's leaves, {children} below a node"
            raise UserError(wrong, fix=f"(2, {children}^depth), such as the dataset latent-tree-07")
        widths = [1, *[hidden] * (len(counts) - 1)]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for nodes, (below, here) in zip(counts[1:], pairwise(widths), strict=True):
            fan_in = children * below
            self.weights.append(torch.empty(nodes, here, fan_in).uniform_(-(fan_in**-0.5), fan_in**-0.5))
            self.biases.append(torch.empty(nodes, here).uniform_(-(fan_in**-0.5), fan_in**-0.5))

    def units(self, leaves: Tensor) -> list[Tensor]:
        """Units before their ReLU for one view (N, leaves): (N, nodes, hidden) of each level, the lowest first."""
        levels, below = [], leaves[..., None]
        for weight, bias in zip(self.weights, self.biases, strict=True):
            seen = torch.relu(below).reshape(len(leaves), len(weight), -1)
            below = torch.einsum("nki,koi->nko", seen, weight) + bias
            levels.append(below)
        return levels

    def encode(self, x: Tensor) -> Tensor:
        """The root's units for the first view of x (N, 2, leaves), (N, hidden)."""
        return self.units(x[:, 0])[-1][:, 0]

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        """As `encode`: there is no noise."""
        return self.encode(x)


@model(
    "tree-contrast",
    "Trainable Encoder",
    "ReLU network that mirrors a latent tree, trained by contrast of two views",
    whole_batch=True,
    examples=(
        Example("pairs", {**_PAIRS, "temperature": 0.3}),
        Example("pairs", {**_PAIRS, "objective": "simple"}),
    ),
)
class TreeContrast(TreeNet):
    """A `TreeNet` under one of the losses above.

    Args:
        info, children, hidden: as for `TreeNet`.
        objective: ``nce`` or ``simple``.
        temperature: tau of ``nce``.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        children: PositiveInt = 2,
        hidden: PositiveInt = 10,
        objective: Literal["nce", "simple"] = "nce",
        temperature: PositiveFloat = 0.1,
    ) -> None:
        super().__init__(info, children=children, hidden=hidden)
        self.objective, self.temperature = objective, temperature

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The loss; `near` is r+, `far` is r-. The last batch of one row has no other datum, and r- = 0."""
        n = len(batch.x)
        f = self.units(batch.x.transpose(0, 1).flatten(0, 1))[-1][:, 0]
        f = f / (f.norm(dim=1, keepdim=True) + 1e-4)
        first, second = f[:n], f[n:]
        near = (first - second).square().mean()
        far = (first - first.roll(1, 0)).square().mean()
        loss = near - far if self.objective == "simple" else -torch.sigmoid((far - near) / self.temperature)
        return {"loss": loss, "near": near.detach(), "far": far.detach()}


@model(
    "untrained-tree",
    "Fittable Encoder",
    "the same network before its first step",
    examples=(Example("pairs", _PAIRS),),
)
class UntrainedTree(TreeNet):
    """A `TreeNet` as it is made: at the same seed, `TreeContrast` begins with these weights."""

    seen: Tensor

    def __init__(self, info: DataInfo, *, children: PositiveInt = 2, hidden: PositiveInt = 10) -> None:
        super().__init__(info, children=children, hidden=hidden)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def fit(self, x: Tensor, generator: Generator) -> None:
        """Count the rows, and learn nothing from them."""
        self.seen.fill_(len(x))
