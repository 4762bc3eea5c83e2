"""Any-order autoregressive models and marginalization models of binary vectors.

An any-order model (Uria et al. 2014; Hoogeboom et al. 2022) has one network for the conditional p(x_d | x_s) of every
variable given every subset. A marginalization model (Liu et al. 2024, arXiv 2310.12920) adds one for log p(x_s) itself,
so that a marginal takes one pass in place of one a variable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Le
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, densities, nets
from pydantic import PositiveInt
from torch import Generator, Tensor, nn
from torch.nn.functional import logsigmoid


class SubsetNet(nn.Module):
    """An MLP of a vector of which only the variables in a mask are seen: (N, D) and (N, D) to (N, D)."""

    def __init__(self, dims: int, hidden: Sequence[int], activation: str) -> None:
        super().__init__()
        self.body = nn.Sequential(nets.mlp(2 * dims, hidden, activation), nn.Linear([2 * dims, *hidden][-1], dims))

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        out: Tensor = self.body(torch.cat([(2.0 * x - 1.0) * seen, seen], -1))
        return out


def permutations(n: int, dims: int, generator: Generator, like: Tensor) -> Tensor:
    """n uniform permutations, (n, dims): the place of each variable in its order."""
    return torch.rand((n, dims), generator=generator, device=like.device).argsort(-1).argsort(-1)


@model(
    "any-order-arm",
    "Trainable ExactLikelihood Sampler Marginals",
    "conditionals of every variable given every subset, for binary vectors",
    examples=(Example("binary-vector", {"hidden": (8,), "orders": 3}),),
)
class AnyOrderARM(nn.Module):
    """Conditionals of every variable given every subset.

    Args:
        info: binary vectors.
        hidden: widths of the network's layers.
        activation: tanh, relu, elu, silu or softplus.
        orders: likelihoods and marginals are those of a mixture over so many fixed orders, drawn once: one is the
            paper's AO-ARM-S, several its AO-ARM-E. Each is a normalised distribution.

    Raises:
        UserError: a parameter is out of its range, or the data are not binary vectors.
    """

    orders: Tensor

    def __init__(
        self,
        info: DataInfo,
        *,
        hidden: Sequence[PositiveInt] = (512, 512),
        activation: str = "relu",
        orders: PositiveInt = 1,
    ) -> None:
        super().__init__()
        checks.support("any-order model", info, "binary")
        self.dims = checks.vector_length("any-order model", info)
        checks.one_of("activation", activation, nets.ACTIVATIONS)
        self.conditionals = SubsetNet(self.dims, checks.wholes("hidden", hidden), activation)
        places = torch.stack([torch.randperm(self.dims) for _ in range(checks.whole("orders", orders))])
        self.register_buffer("orders", places)

    def log_conditionals(self, x: Tensor, seen: Tensor) -> Tensor:
        """log p(x_d | x_seen) for every d, (N, D) nats."""
        return logsigmoid((2.0 * x - 1.0) * self.conditionals(x, seen))

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        return {"loss": self.any_order_bound(batch.x, generator)}

    def any_order_bound(self, x: Tensor, generator: Generator) -> Tensor:
        """E over orders and steps of -log p: D / (D - t) times the sum over the variables that are not among the
        first t, t uniform (Hoogeboom et al. 2022, eq. 4). Nats, the mean over the batch."""
        n, dims = x.shape
        step = torch.randint(dims, (n, 1), generator=generator, device=x.device)
        seen = (permutations(n, dims, generator, x) < step).to(x.dtype)
        rest = ((1.0 - seen) * self.log_conditionals(x, seen)).sum(-1)
        return -(rest * (dims / (dims - step.squeeze(-1)))).mean()

    def chain(self, x: Tensor, observed: Tensor, place: Tensor) -> Tensor:
        """log p(x_observed) by the product rule in one order, (N,): as many passes as variables are observed at most.

        Args:
            x, observed: (N, D), `observed` of zeros and ones.
            place: (D,) the place of each variable in the order.
        """
        total = x.new_zeros(len(x))
        for step in range(self.dims):
            here = observed * (place == step)
            if here.any():
                seen = observed * (place < step)
                total = total + (here * self.log_conditionals(x, seen)).sum(-1)
        return total

    def log_chains(self, x: Tensor, observed: Tensor, places: Tensor) -> Tensor:
        """The mixture over orders, (N,)."""
        return densities.log_mean_exp(torch.stack([self.chain(x, observed, place) for place in places]))

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log-probability under the mixture over the fixed orders, (N,) nats."""
        return self.log_chains(x, torch.ones_like(x), self.orders)

    def log_marginal(self, x: Tensor, observed: Tensor) -> Tensor:
        """log p(x_observed), (N,) nats: exact marginals of no one distribution, since orders disagree."""
        return self.log_chains(x, observed, self.orders)

    def log_marginal_ensemble(self, x: Tensor, observed: Tensor, orders: int, generator: Generator) -> Tensor:
        """The same from fresh orders, which the paper takes for the best estimate there is."""
        places = permutations(orders, self.dims, generator, x)
        return self.log_chains(x, observed, places)

    def sample(self, n: int, generator: Generator) -> Tensor:
        """(n, D) draws, each in one of the fixed orders."""
        chosen = torch.randint(len(self.orders), (n,), generator=generator, device=self.orders.device)
        x = torch.zeros((n, self.dims), device=self.orders.device)
        return self.complete(x, torch.zeros_like(x), self.orders[chosen], 0, generator)

    @torch.no_grad()
    def complete(self, x: Tensor, seen: Tensor, place: Tensor, first: int, generator: Generator) -> Tensor:
        """Draws the variables from place `first` on, one at a time, given those that are seen; place (N, D)."""
        for step in range(first, self.dims):
            here = place == step
            drawn = torch.bernoulli(torch.sigmoid(self.conditionals(x, seen)), generator=generator)
            x = torch.where(here, drawn, x)
            seen = torch.where(here, torch.ones_like(seen), seen)
        return x


@model(
    "marginalization-model",
    "Trainable ExactLikelihood Sampler Marginals",
    "any-order conditionals and, distilled from them, marginals in one pass",
    examples=(Example("binary-vector", {"hidden": (8,), "orders": 3}),),
)
class MarginalizationModel(AnyOrderARM):
    """Conditionals and, distilled from them, marginals in one pass.

    Args:
        info, hidden, activation, orders: as for `AnyOrderARM`; both networks have the same layers.
        first_stage: share of training that fits the conditionals; the rest fits the marginals to them (claim 1).

    log p(x_s) is a sum over the variables of s of numbers that depend on all of x_s, so p of nothing is one by
    construction. Likelihoods are the conditionals', as in the paper.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        hidden: Sequence[int] = (512, 512),
        activation: str = "relu",
        orders: int = 1,
        first_stage: Annotated[float, Ge(0), Le(1)] = 0.5,
    ) -> None:
        super().__init__(info, hidden=hidden, activation=activation, orders=orders)
        self.marginals = SubsetNet(self.dims, hidden, activation)
        self.first_stage = checks.number("first_stage", first_stage, most=1.0)

    def log_marginal(self, x: Tensor, observed: Tensor) -> Tensor:
        """log p(x_observed) by the marginal network, (N,) nats."""
        return (observed * self.marginals(x, observed)).sum(-1)

    def inconsistency(self, x: Tensor, generator: Generator, *, learn_conditionals: bool) -> Tensor:
        """(log p(x_<) + log p(x_d | x_<) - log p(x_<=))^2 for one random order and step a row (eq. 7), the mean."""
        n, dims = x.shape
        step = torch.randint(dims, (n, 1), generator=generator, device=x.device)
        place = permutations(n, dims, generator, x)
        before, here = (place < step).to(x.dtype), (place == step).to(x.dtype)
        with torch.set_grad_enabled(learn_conditionals and torch.is_grad_enabled()):
            conditional = (here * self.log_conditionals(x, before)).sum(-1)
        gap = self.log_marginal(x, before) + conditional - self.log_marginal(x, before + here)
        return gap.square().mean()

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Stage 1: the any-order bound. Stage 2: the inconsistency over all D steps (D times the mean), as the
        authors' code weighs it, since gradients are clipped; the conditionals held."""
        if batch.progress < self.first_stage:
            return {"loss": self.any_order_bound(batch.x, generator)}
        return {"loss": self.dims * self.inconsistency(batch.x, generator, learn_conditionals=False)}
