"""Differentiable discovery of latent hierarchies (Prashant et al., arXiv 2411.19556), as the authors' code has it.

An encoder gives the noises e of all latents; a root is f(e), a lower latent f(masked roots, e) and a measured variable
f(masked lower latents). A mask is drawn anew in each step as sigmoid(2 logit(p) + L) with L logistic (a Gumbel softmax
of two classes), where p is the parameter of an edge. The loss is

    MSE + 0.001 KL(e) + 10 relu(I)^2 + 10^(4 t - 3) R^2 + 1e-6 |p|_1 / batches,

t from 0 to 1 over training. I is the lower bound on the mutual information of all e by a network that is trained along
(MINE, Donsker and Varadhan). R = sum_i relu(1.9 - sum_j |p_ij prod_{k != i} (1 - p_kj)|) asks for two pure children
of each latent. Every fifth epoch p is drawn towards one half; for the last tenth it is rounded and stays.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models.study import Arrays
from pydantic import PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn

from .hierarchies import HierarchyStudy

PURE, FLOOR = 1.9, -1.0  # pure children that are asked for; smallest log variance of a noise
EXAMPLES = (Example("real-vector", {"rows": 40, "epochs": 10, "warmup": 1, "starts": 2}),)
Drawn = tuple[Tensor, Tensor, Tensor, Tensor]  # noises, shuffled ones, their means and log variances


class Affine(nn.Module):
    """One affine map for each of `members`, (members, B, inputs) to (members, B, outputs), as torch initialises it."""

    def __init__(self, members: int, inputs: int, outputs: int, generator: Generator) -> None:
        super().__init__()
        drawn = (2 * torch.rand(members, rows, outputs, generator=generator) - 1 for rows in (inputs, 1))
        self.weight, self.bias = (nn.Parameter(inputs**-0.5 * u) for u in drawn)

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


def networks(members: int, widths: list[int], generator: Generator) -> nn.Sequential:
    """A network of ReLU units for each of `members`."""
    maps = [Affine(members, a, b, generator) for a, b in pairwise(widths)]
    return nn.Sequential(*[part for m in maps for part in (m, nn.ReLU())][:-1])


def drawn_mask(p: Tensor, generator: Generator) -> Tensor:
    """A relaxed draw in (0, 1) of edges with parameters `p`, at temperature 1."""
    u = torch.rand(p.shape, generator=generator).clamp(1e-7, 1 - 1e-7)
    return torch.sigmoid(2 * torch.logit(p.clamp(1e-6, 1 - 1e-6)) + torch.logit(u))


def lacking(p: Tensor) -> Tensor:
    """(..., k): what each row of p (..., k, q) lacks of `PURE` pure children."""
    k = p.shape[-2]
    others = (1 - p)[..., None, :, :].masked_fill(torch.eye(k, dtype=torch.bool)[:, :, None], 1.0)
    return torch.relu(PURE - (p * others.prod(-2)).abs().sum(-1))


class Learners(nn.Module):
    """As many learners as `starts`, side by side and apart from each other, of `n` variables below n // 2 latents."""

    def __init__(self, starts: int, n: int, generator: Generator) -> None:
        super().__init__()
        self.k, self.l = n // 4, n // 2
        self.encoder = networks(starts, [n, 64, 32, 2 * (self.k + self.l)], generator)
        self.roots = networks(starts * self.k, [1, 32, 1], generator)
        self.latents = networks(starts * self.l, [self.k + 1, 32, 1], generator)
        self.measured = networks(starts * n, [self.l, 32, 1], generator)
        self.critic = networks(starts, [self.k + self.l, 100, 1], generator)
        self.upper = nn.Parameter(torch.full((starts, self.k, self.l), 0.5))
        self.lower = nn.Parameter(torch.full((starts, self.l, n), 0.5))

    def noises(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log variances (starts, B, k + l) of the noises of rows (starts, B, n)."""
        mean, log_variance = self.encoder(x).chunk(2, -1)
        return mean, log_variance.clamp(min=FLOOR)

    def decode(self, e: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
        """(starts, B, n) measured variables, from noises (starts, B, k + l) and masks."""
        own = e.mT[..., None]  # (starts, k + l, B, 1)
        roots = self.roots(own[:, : self.k].flatten(0, 1)).unflatten(0, (-1, self.k))[..., 0]  # (starts, k, B)
        parents = roots.mT[:, None] * upper.mT[:, :, None]  # (starts, l, B, k)
        parents = torch.cat([parents, own[:, self.k :]], -1)
        latents = self.latents(parents.flatten(0, 1)).unflatten(0, (-1, self.l))[..., 0]
        parents = latents.mT[:, None] * lower.mT[:, :, None]
        return self.measured(parents.flatten(0, 1)).unflatten(0, (len(e), -1))[..., 0].mT

    def information(self, e: Tensor, shuffled: Tensor) -> Tensor:
        """(starts,) the bound on the mutual information of noises e (starts, B, k + l), each `shuffled` by itself."""
        joint, product = torch.tanh(self.critic(torch.cat([e, shuffled], 1))[..., 0]).chunk(2, 1)
        return joint.mean(1) - torch.log(product.exp().mean(1) + 1e-6)

    def lack(self, each: bool = False) -> Tensor:
        """(starts,) R; with `each`, what a latent lacks counts once for each of its edges: one without is free."""
        return sum(((lacking(p) * (p.sum(-1) if each else 1.0)).sum(-1) for p in self.edges()), torch.zeros(()))

    def edges(self) -> tuple[nn.Parameter, nn.Parameter]:
        return self.upper, self.lower


@model("differentiable-hierarchy", "Iterative Study", examples=EXAMPLES)
class DifferentiableHierarchy(HierarchyStudy):
    """For each data set the graph of the lowest loss of `starts` trainings; all train side by side.

    Args:
        info: not used.
        starts: trainings of a data set, from other initial values.
        epochs, warmup: of a training, and before it of the network that bounds mutual information.
        batch_size, lr: rows of a step, and the rate of both Adams.
        **design: of `HierarchyStudy`.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        starts: PositiveInt = 4,
        epochs: PositiveInt = 400,
        warmup: PositiveInt = 100,
        batch_size: PositiveInt = 32,
        lr: PositiveFloat = 1e-3,
        **design: Any,
    ) -> None:
        super().__init__(info, **design)
        self.starts, self.epochs, self.warmup, self.batch_size, self.lr = starts, epochs, warmup, batch_size, lr

    def answer(self, given: Arrays, rng: np.random.Generator) -> dict[str, np.ndarray]:
        generator = Generator().manual_seed(int(rng.integers(2**62)))
        x = torch.from_numpy(given["x"]).float().repeat_interleave(self.starts, 0)
        learners = Learners(len(x), x.shape[2], generator)
        losses = self.train(learners, x, generator).unflatten(0, (-1, self.starts))
        best = losses.argmin(1) + self.starts * torch.arange(len(losses))
        upper, lower = ((p[best] > 0.5).int().numpy() for p in learners.edges())
        return {"upper": upper, "lower": lower}

    def batches(self, x: Tensor, generator: Generator) -> list[Tensor]:
        """Rows (starts, B, n) of (starts, rows, n), in another order for each start."""
        order = torch.rand(x.shape[:2], generator=generator).argsort(1)
        return [x.take_along_dim(rows[..., None], 1) for rows in order.split(self.batch_size, 1)]

    def train(self, learners: Learners, x: Tensor, generator: Generator) -> Tensor:
        """(starts,) losses to choose by: mean over the last five epochs of MSE + 1e-6 |p|_1 + 1e6 R."""
        critic = torch.optim.Adam(learners.critic.parameters(), self.lr, fused=True)
        others = [p for name, p in learners.named_parameters() if not name.startswith("critic")]
        main, freeze, ends = torch.optim.Adam(others, self.lr, fused=True), int(0.9 * self.epochs), []
        for _ in range(self.warmup):
            for batch in self.batches(x, generator):
                self.critic_steps(learners, critic, batch, 1, generator)
        for epoch in range(self.epochs):
            errors, batches = torch.zeros(len(x)), self.batches(x, generator)
            for batch in batches:
                drawn = self.critic_steps(learners, critic, batch, 3, generator)
                masks = [drawn_mask(p, generator) for p in learners.edges()]
                error, loss = terms(learners, batch, epoch / self.epochs, len(batches), drawn, masks)
                main.zero_grad()
                loss.sum().backward()
                main.step()
                errors += error.detach() / len(batches)
            with torch.no_grad():
                for p in learners.edges():
                    p.clamp_(0, 1)
                    if epoch >= freeze:
                        p.copy_(p > 0.5).requires_grad_(False)
                    elif epoch % 5 == 0:
                        p.mul_(0.9).add_(0.05)
                ends.append(errors + 1e-6 * size(learners) + 1e6 * learners.lack(each=epoch > freeze))
            if epoch >= freeze:  # as the authors', without what Adam knows of earlier epochs
                main = torch.optim.Adam([p for p in others if p.requires_grad], self.lr, fused=True)
        return torch.stack(ends[-5:]).mean(0)

    def critic_steps(
        self, learners: Learners, critic: torch.optim.Adam, batch: Tensor, steps: int, generator: Generator
    ) -> Drawn:
        """Steps of the critic, each on a draw of its own; and one more draw."""
        mean, log_variance = learners.noises(batch)
        e = mean + torch.exp(log_variance / 2) * torch.randn(steps + 1, *mean.shape, generator=generator)
        shuffled = e.gather(2, torch.rand(e.shape, generator=generator).argsort(2))
        for i in range(steps):
            critic.zero_grad()
            (-learners.information(e[i].detach(), shuffled[i].detach())).sum().backward()
            critic.step()
        return e[-1], shuffled[-1], mean, log_variance


def size(learners: Learners) -> Tensor:
    """(starts,) sum of the sizes of the parameters of edges."""
    return sum((p.abs().sum((1, 2)) for p in learners.edges()), torch.zeros(()))


def terms(
    learners: Learners, batch: Tensor, t: float, batches: int, drawn: Drawn, masks: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """(starts,) mean squared errors and losses of rows (starts, B, n); KL is of all rows together."""
    e, shuffled, mean, log_variance = drawn
    error = ((learners.decode(e, *masks) - batch) ** 2).mean((1, 2))
    kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum((1, 2))
    dependence, lack = torch.relu(learners.information(e, shuffled)), learners.lack()
    structure = 10 ** (4 * t - 3) * lack**2
    return error, error + 1e-3 * kl + 10 * dependence**2 + structure + 1e-6 / batches * size(learners)
