"""What gradient estimators for categorical variables have in common.

The task is the gradient of E_{z ~ q(z)} [f(z)] with respect to the logits of q, a product of L categorical variables,
where f is a cost whose own parameters are to get their gradient too. Every estimator returns a surrogate of f: its
value is f at the estimator's sample, and what `backward` makes of it is the estimate. So an estimator's surrogate may
itself be (part of) the cost of another, which is how several stochastic layers are trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

Cost = Callable[[Tensor], Tensor]
"""f: codes (..., N, L, C), one-hot or relaxed, to nats (..., N); differentiable in both code and parameters."""


@dataclass(frozen=True)
class Hints:
    """What an estimator may know besides logits and cost.

    Attributes:
        step, progress: where training stands (see `Batch`), for schedules.
        features: (N, F), what a learned baseline may see.
        mean_cost: a cost without randomness of its own, where `cost` draws further layers (MuProp).
    """

    step: int = 0
    progress: float = 0.0
    features: Tensor | None = None
    mean_cost: Cost | None = None


class Estimator(nn.Module):
    """Called with logits (N, L, C), a cost and a generator; returns the surrogate, (N,) nats."""

    def forward(self, logits: Tensor, cost: Cost, generator: Generator, hints: Hints) -> Tensor:
        raise NotImplementedError

    def sharpened(self, logits: Tensor, progress: float | None = None) -> Tensor:
        """The logits of what is sampled, from those that a network predicts; an estimator may anneal them.

        Args:
            logits: (..., L, C).
            progress: share of training done, in training; None leaves the annealing where training left it.
        """
        return logits

    def balanced(self, logits: Tensor) -> Tensor:
        """The logits, with their gradient scaled as the next estimate will be: for exact terms of the same objective,
        which would else outweigh an estimate that is normalised."""
        return logits


class Pathwise(Estimator):
    """Estimators that differentiate the cost through its argument: all that differs is the code they hand to it."""

    def code(self, logits: Tensor, generator: Generator, hints: Hints) -> Tensor:
        """(N, L, C), one-hot or relaxed, with a gradient (true or not) to the logits."""
        raise NotImplementedError

    def forward(self, logits: Tensor, cost: Cost, generator: Generator, hints: Hints) -> Tensor:
        return cost(self.code(logits, generator, hints))


def carry(value: Tensor, *gradients: Tensor) -> Tensor:
    """`value` as it is, plus the gradients (not the values) of the others."""
    for g in gradients:
        value = value + (g - g.detach())
    return value


#: Numbers of a code that are drawn together where an estimator's gradients are sampled.
NUMBERS = 1 << 17


def gradient_estimates(
    estimator: Estimator,
    logits: Tensor,
    cost: Callable[[int], Cost],
    features: Tensor,
    draws: int,
    generator: Generator,
) -> Tensor:
    """Independent estimates of the gradient of each row's expected cost in its logits, (draws, N, L * C).

    Schedules stand where training starts.

    Args:
        logits: (N, L, C).
        cost: for a number k, the cost of k * N codes, the N rows repeated k times.
        features: (N, F), as in `Hints`.
    """
    n, done = len(logits), []
    most = max(1, NUMBERS // logits.numel())
    for start in range(0, draws, most):
        k = min(most, draws - start)
        with torch.enable_grad():
            leaf = logits.detach().repeat(k, 1, 1).requires_grad_()
            total = estimator(leaf, cost(k), generator, Hints(features=features.repeat(k, 1))).sum()
            (gradient,) = torch.autograd.grad(total, leaf)
        done.append(gradient.reshape(k, n, -1))
    return torch.cat(done)
