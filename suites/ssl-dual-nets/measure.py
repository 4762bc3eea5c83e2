"""How well units of a network that mirrors a tree follow the variables at their nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from latentbench.core.capabilities import Encoder
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View
from torch import Generator, Tensor

BLOCK = 2048


@metric(
    "node_correlation",
    "Encoder",
    "1",
    "higher",
    "absolute correlation of each latent variable with the best unit at its node, averaged over a level",
    settings={"level": 1},
    lowest={"level": 1},
    data=("factors",),
    within=(0.0, 1.0),
)
def node_correlation(model: Encoder, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """Mean over nodes of a level of the largest |Pearson correlation| with a unit there; level 1 is above the leaves.

    As the authors' `simCLR_hltm.py` logs it, on rows that were not trained on.

    Raises:
        UserError: the model mirrors no tree, the data tell no latents, or the tree has no such level.
    """
    if not hasattr(model, "units"):
        raise UserError("this model has no units at the nodes of a tree", fix="leave it out with `methods:`")
    if "latents" not in view.columns:
        raise UserError("these data have no column `latents`", fix="take the dataset latent-tree-07, -08 or -09")
    blocks = [model.units(view.x[rows][:, 0]) for rows in view.blocks(BLOCK)]
    levels, level = len(blocks[0]), int(settings["level"])
    if level > levels:
        raise UserError(f"level is {level}, and the tree has {levels} above its leaves", fix="a level that there is")
    units = torch.cat([block[level - 1].cpu() for block in blocks])
    above = sum(block.shape[1] for block in blocks[0][level:])
    latents = torch.from_numpy(view.columns["latents"][:].copy())[:, above : above + units.shape[1]]
    return MetricValue(float(best_correlations(units, latents).mean()), None, len(units))


def best_correlations(units: Tensor, latents: Tensor) -> Tensor:
    """(K,): the largest |correlation| of latents (N, K) with one of units (N, K, H); 0 where those are constant."""
    u, v = units.detach().double(), latents.double()[..., None]
    u, v = u - u.mean(0), v - v.mean(0)
    scale = u.square().sum(0).sqrt() * v.square().sum(0).sqrt()
    products = (u * v).sum(0)
    return torch.where(scale > 0, products / scale, torch.zeros_like(products)).abs().amax(1)
