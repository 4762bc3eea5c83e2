"""Expectation maximisation, full-batch or by minibatches, as a loss for plain gradient descent.

The E step of a circuit is a derivative: the expected count of a table's entry t is t * d log p / dt (Darwiche 2003;
Peharz et al. 2020, "Einsum networks", section 3.5). The M step normalises the counts. `em_loss` returns the negative
log-likelihood with the gradient (t - t_em), so a step of `sgd` with learning rate s is t <- (1 - s) t + s t_em:
stepwise EM, and EM itself where s = 1 and the batch is the whole training set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from latentbench.models.circuits.trees import TINY

Tables = Mapping[str, Tensor]


def em_loss(log_prob: Callable[[Tables], Tensor], tables: Tables, pseudocount: float) -> Tensor:
    """The mean negative log-likelihood, with the gradient of an EM step.

    Args:
        log_prob: from tables to (N,) nats, differentiable.
        tables: free parameters, probabilities up to rounding (see `normalised`).
        pseudocount: added to the expected counts of each row of a table, spread evenly over its entries.
    """

    def total(free: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        nats = log_prob(free)
        return nats.sum(), nats.mean()

    given = {name: table.detach() for name, table in normalised(tables).items()}
    slopes, mean = torch.func.grad(total, has_aux=True)(given)
    pull = torch.zeros((), device=mean.device)
    for name, table in tables.items():
        counts = (given[name] * slopes[name]).clamp_min(0.0) + pseudocount / table.shape[-1]
        pull = pull + 0.5 * (table - counts / counts.sum(-1, keepdim=True)).square().sum()
    return pull - pull.detach() - mean.detach()


def normalised(tables: Tables | nn.ParameterDict) -> dict[str, Tensor]:
    """The tables as probabilities along their last axis: what stepwise EM keeps up to rounding, whatever moved them."""
    positive = {name: table.clamp_min(TINY) for name, table in tables.items()}
    return {name: table / table.sum(-1, keepdim=True) for name, table in positive.items()}
