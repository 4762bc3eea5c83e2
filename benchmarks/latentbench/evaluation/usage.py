"""Whether a decoder uses the code it is given, whatever the encoder writes into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator

from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.likelihood import ROWS
from latentbench.evaluation.view import View
from latentbench.metrics.arrays import mean_and_se

Settings = Mapping[str, Any]


@metric(
    "code_use",
    "Encoder CodeLikelihood",
    "nats",
    "higher",
    "by how much a row's own code explains it better than another row's; 0 where the decoder ignores codes",
)
def code_use(model: Any, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Mean of log p(x | z) - log p(x | z'), nats a sample: z is a posterior draw for x, z' that of the row before it.

    A rate says what an encoder writes into codes, and may be high beside a decoder that reads none of them; this is 0
    there. (With exact posteriors its expectation is the mutual information of x and z plus the divergence the other
    way about.) The standard error takes rows as independent, though neighbours share a code.

    Raises:
        UserError: there is one row alone.
    """
    if len(view) < 2:
        raise UserError("code_use compares rows with one another", fix="two rows or more")
    blocks = list(view.blocks(ROWS))
    own = torch.cat([model.encode_sample(view.x[rows], generator) for rows in blocks])
    other = own.roll(1, 0)
    gains = [model.log_likelihood(view.x[r], own[r]) - model.log_likelihood(view.x[r], other[r]) for r in blocks]
    value, se = mean_and_se(torch.cat(gains).cpu().numpy())
    return MetricValue(value, se, len(view))
