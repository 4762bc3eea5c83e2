"""Training to an energy, without data: a spin lattice matched by an autoregressive or a marginalization model.

    p*(x) = exp(sum_ij J_ij s_i s_j + h sum_i s_i) / Z,     s = 2 x - 1 on a square lattice with periodic borders,

J the coupling times the adjacency matrix, so that each bond counts twice (Liu et al. 2024, section 6.2). A batch of n
rows asks for n draws; the rows are not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.papers.marginalization_models.any_order import AnyOrderARM, MarginalizationModel, permutations
from pydantic import NonNegativeFloat, PositiveInt
from torch import Generator, Tensor, nn

MOST_SPINS = 20
"""Lattices up to this size are summed over."""


class Lattice(nn.Module):
    """What both models share: the energy and its exact distribution."""

    couplings: Tensor

    def __init__(self, side: int, coupling: float, field: float) -> None:
        super().__init__()
        self.side = checks.whole("side", side, 3)
        self.spins = self.side**2
        self.field = checks.number("field", field, least=-100.0)
        grid = torch.arange(self.spins).reshape(self.side, self.side)
        adjacency = torch.zeros(self.spins, self.spins)
        for axis in (0, 1):
            neighbour = grid.roll(1, axis)
            adjacency[grid.flatten(), neighbour.flatten()] = 1.0
            adjacency[neighbour.flatten(), grid.flatten()] = 1.0
        self.register_buffer("couplings", checks.number("coupling", coupling, least=-100.0) * adjacency)

    def log_target(self, x: Tensor) -> Tensor:
        """log of the unnormalised p*(x), (N,)."""
        s = 2.0 * x - 1.0
        return ((s @ self.couplings) * s).sum(-1) + self.field * s.sum(-1)

    def target(self) -> tuple[Tensor, Tensor]:
        """All states (S, D) and their exact log-probabilities (S,).

        Raises:
            UserError: the lattice is too large to be summed over.
        """
        if self.spins > MOST_SPINS:
            raise UserError(f"a lattice of {self.spins} spins has 2**{self.spins} states", fix="side 3 or 4")
        index = torch.arange(2**self.spins, device=self.couplings.device)
        states = ((index[:, None] >> torch.arange(self.spins, device=index.device)) & 1).float()
        log_f = torch.cat([self.log_target(s) for s in states.split(1 << 14)])
        return states, log_f - log_f.logsumexp(0)


def normalised(reward: Tensor) -> Tensor:
    """Less its mean, in its standard deviations: the baseline of REINFORCE in the authors' code."""
    return (reward - reward.mean()) / (reward.std() + 1e-6)


@model(
    "lattice-arm",
    "Trainable KnownTarget",
    "autoregressive model of a spin lattice, trained to its energy without data",
    whole_batch=True,
    examples=(Example("binary-vector", {"side": 3, "hidden": (8,)}),),
)
class LatticeARM(Lattice):
    """Minimises KL(p || p*) by REINFORCE with the whole chain of conditionals in one fixed order: 2 D passes a step.

    Args:
        info: of the data, which are not looked at.
        side, coupling, field: of the lattice.
        hidden, activation: of the network.

    Raises:
        UserError: a parameter is out of its range.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        side: int = 4,
        coupling: float = 0.1,
        field: float = 0.2,
        hidden: Sequence[int] = (256, 256),
        activation: str = "relu",
    ) -> None:
        super().__init__(side, coupling, field)
        self.model: AnyOrderARM = AnyOrderARM(
            DataInfo((self.spins,), "binary", 1), hidden=hidden, activation=activation
        )
        self.model.orders.copy_(torch.arange(self.spins)[None])

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The surrogate whose gradient is eq. 9; `gap`, the mean of log p - log f, estimates KL - log Z."""
        x = self.model.sample(len(batch.x), generator)
        log_p = self.model.log_prob(x)
        gap = log_p.detach() - self.log_target(x)
        return {"loss": (normalised(gap) * log_p).mean(), "gap": gap.mean()}

    def log_model(self, x: Tensor) -> Tensor:
        """log p(x) by the conditionals, normalised, (N,)."""
        return self.model.log_prob(x)

    def log_marginal(self, x: Tensor, observed: Tensor) -> Tensor:
        """log p(x_observed), (N,): of subsets other than the first variables of its order only a guess."""
        return self.model.log_marginal(x, observed)


@model(
    "lattice-mam",
    "Trainable KnownTarget",
    "marginalization model of a spin lattice, trained to its energy without data",
    whole_batch=True,
    examples=(Example("binary-vector", {"side": 3, "hidden": (8,), "chains": 8}),),
)
class LatticeMaM(Lattice):
    """The same KL with log p from the marginal network, one pass, and consistency as a penalty (section 4.2).

    Args:
        info: of the data, which are not looked at.
        side, coupling, field: of the lattice.
        hidden, activation: of both networks.
        weight: of the penalty, times the number of spins.
        gibbs: variables that each persistent chain redraws a step, in a fresh order.
        chains: number of persistent chains; a step trains on all of them.

    Raises:
        UserError: a parameter is out of its range.
    """

    chains: Tensor

    def __init__(
        self,
        info: DataInfo,
        *,
        side: int = 4,
        coupling: float = 0.1,
        field: float = 0.2,
        hidden: Sequence[int] = (256, 256),
        activation: str = "relu",
        weight: NonNegativeFloat = 4.0,
        gibbs: PositiveInt = 4,
        chains: PositiveInt = 512,
    ) -> None:
        super().__init__(side, coupling, field)
        self.model = MarginalizationModel(DataInfo((self.spins,), "binary", 1), hidden=hidden, activation=activation)
        self.weight = checks.number("weight", weight)
        self.gibbs = checks.whole("gibbs", gibbs)
        if self.gibbs > self.spins:
            raise UserError(f"gibbs is {gibbs} for {self.spins} spins", fix="no more than there are")
        start = torch.bernoulli(torch.full((checks.whole("chains", chains), self.spins), 0.5))
        self.register_buffer("chains", start)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Eq. 9 on the chains after a block of Gibbs steps, plus `weight` D times the inconsistency."""
        place = permutations(len(self.chains), self.spins, generator, self.chains)
        first = self.spins - self.gibbs
        x = self.model.complete(self.chains, (place < first).to(self.chains.dtype), place, first, generator)
        if self.training:
            self.chains.copy_(x)
        log_p = self.model.log_marginal(x, torch.ones_like(x))
        gap = log_p.detach() - self.log_target(x)
        penalty = self.model.inconsistency(x, generator, learn_conditionals=True)
        loss = (normalised(gap) * log_p).mean() + self.weight * self.spins * penalty
        return {"loss": loss, "gap": gap.mean(), "inconsistency": penalty.detach()}

    def log_model(self, x: Tensor) -> Tensor:
        """log p(x) by the conditionals, normalised, (N,)."""
        return self.model.log_prob(x)

    def log_marginal(self, x: Tensor, observed: Tensor) -> Tensor:
        """log p(x_observed) by the marginal network, (N,)."""
        return self.model.log_marginal(x, observed)
