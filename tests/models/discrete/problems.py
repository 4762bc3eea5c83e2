"""Small problems whose exact gradients are known by enumeration."""

from __future__ import annotations

from collections.abc import Callable

import torch
from latentbench.models.discrete.estimator import Hints, gradient_estimates
from latentbench.models.discrete.estimators import build_estimator
from latentbench.models.discrete.layout import Layout
from torch import Tensor

Cost = Callable[[Tensor], Tensor]


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def logits_of(layout: Layout, seed: int = 3, scale: float = 0.8) -> Tensor:
    """(1, L, C)."""
    return scale * torch.randn(1, layout.latents, layout.categories, generator=gen(seed))


def polynomial(layout: Layout, degree: int, seed: int = 4) -> Cost:
    """A cost of the given degree in the code, that couples all variables."""
    size = layout.latents * layout.categories
    a = torch.randn(size, generator=gen(seed))
    m = torch.randn(size, size, generator=gen(seed + 1))
    k = torch.randn(5, size, generator=gen(seed + 2))

    def cost(z: Tensor) -> Tensor:
        flat = z.flatten(-2)
        value = flat @ a
        if degree >= 2:
            value = value + (flat @ m * flat).sum(-1)
        if degree >= 3:
            value = value + (flat @ k.T).pow(3).sum(-1) / 5
        return value

    return cost


def exact(logits: Tensor, cost: Cost) -> Tensor:
    """The gradient of the expectation, (L * C,), by writing the sum out and differentiating it."""
    leaf = logits[0].clone().requires_grad_()
    total = torch.zeros(())
    for state in Layout(logits.shape[-1], logits.shape[-2]).states():
        total = total + (leaf.softmax(-1) * state).sum(-1).prod() * cost(state)
    (gradient,) = torch.autograd.grad(total, leaf)
    return gradient.flatten()


def estimates(
    choice: object, logits: Tensor, cost: Cost, draws: int, *, warm: int = 0, seed: int = 0, features: int = 3
) -> Tensor:
    """(draws, L * C) independent estimates, after `warm` training batches that settle running averages."""
    torch.manual_seed(seed)
    estimator = build_estimator(choice, features)
    seen = torch.randn(1, features, generator=gen(9))
    for i in range(warm):
        estimator(logits.repeat(64, 1, 1), cost, gen(100 + i), Hints(features=seen.repeat(64, 1)))
    estimator.eval()
    return gradient_estimates(estimator, logits, lambda _: cost, seen, draws, gen(seed + 1))[:, 0]
