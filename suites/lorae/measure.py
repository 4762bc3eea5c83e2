"""How many directions codes use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from latentbench.core.capabilities import Encoder
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View
from torch import Generator, Tensor

BLOCK = 512


@metric("effective_rank", "Encoder", "directions", "lower", within=(1.0, None), collapse_helps=True)
def effective_rank(model: Encoder, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """Effective rank of the split's codes: exp of the entropy of their covariance's normalised singular values."""
    codes = torch.cat([model.encode(view.x[rows]).flatten(1) for rows in view.blocks(BLOCK)])
    return MetricValue(rank_of(codes), n=len(codes))


def rank_of(codes: Tensor) -> float:
    """exp(-sum p log p), p the singular values of the covariance of codes (N, D) over their sum (Roy & Vetterli 2007).

    From 1, all codes on a line, to D, the same spread in all directions; 0 where codes do not vary.
    """
    centred = (codes - codes.mean(0)).double()
    values = torch.linalg.svdvals(centred).square()
    if not values.sum() > 0:
        return 0.0
    p = values / values.sum()
    return float(torch.exp(-torch.special.xlogy(p, p).sum()))
