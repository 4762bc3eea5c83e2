"""Ways to train a network of which one layer is stochastic (Zhao, Mair, Schön, Sjölund, arXiv 2310.19608).

Stochastic weights phi have a Gaussian prior; psi, all the others, is one vector. A model has starts `phi` (d,) and
`psi` (p,), the prior's standard deviations `scale` (d,), and ``log_density(phi, psi, x, y)``, log p(y_n | phi_s; psi,
x_n) in nats, (S, N), of phi (S, d), x (N, D) and y (N,).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import torch
from latentbench.models.hmc import HMC
from torch import Generator, Tensor

#: Draws of phi of each rule, and of VI in a step; chains of HMC and leapfrog steps of a move.
DRAWS, VI_DRAWS, CHAINS, LEAPFROG = 1000, 100, 20, 20
#: Shares of epochs that SWAG may average; epochs of its deviations.
AVERAGED, RANK = (0.2, 1.0), 100
Rows = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Settings:
    """Adam's rate falls by `decay` a step; `walk` is the variance of particles' steps, `log_var` where VI starts."""

    batch: int
    epochs: int
    lr: float = 1e-2
    decay: float = 1.0
    walk: float = 1e-2
    log_var: float = 1.0
    particles: int = DRAWS


class Network:
    """Layers of the given widths, with GELUs between; the last but one is stochastic, with weights of N(0, 1)."""

    def __init__(self, widths: Sequence[int], draws: Generator, *, binary: bool) -> None:
        self.shapes, self.binary = list(pairwise(widths)), binary
        layers = [
            torch.cat([math.sqrt(2 / (n + m)) * torch.randn(n * m, generator=draws), torch.zeros(m)])
            for n, m in self.shapes
        ]
        self.phi = layers.pop(-2)
        self.psi, self.sizes = torch.cat(layers), [len(layer) for layer in layers]
        self.scale = torch.ones_like(self.phi)

    def outputs(self, phi: Tensor, psi: Tensor, x: Tensor) -> Tensor:
        """(S, N) logits if binary, else means of Gaussians with variance 1."""
        *layers, last = psi.split(self.sizes)
        h = x
        for theta, shape in zip(layers, self.shapes, strict=False):
            h = torch.nn.functional.gelu(_affine(h, theta, shape))
        n, m = self.shapes[-2]
        weights, bias = phi.split([n * m, m], 1)  # one product of matrices for all draws: (n, S m)
        h = h @ weights.unflatten(1, (n, m)).movedim(0, 1).flatten(1) + bias.flatten()
        h = torch.nn.functional.gelu(h.unflatten(1, (len(phi), m)))
        return _affine(h, last, self.shapes[-1])[..., 0].T

    def log_density(self, phi: Tensor, psi: Tensor, x: Tensor, y: Tensor) -> Tensor:
        out = self.outputs(phi, psi, x)
        if self.binary:
            return torch.nn.functional.logsigmoid((2 * y - 1) * out)
        return -0.5 * (y - out).square() - 0.5 * math.log(2 * math.pi)


def _affine(h: Tensor, theta: Tensor, shape: tuple[int, int]) -> Tensor:
    weights, bias = theta.split([math.prod(shape), shape[1]])
    return h @ weights.unflatten(0, shape) + bias


def log_prior(model: Any, phi: Tensor) -> Tensor:
    """Of phi (..., d), up to a constant."""
    return -0.5 * (phi / model.scale).square().sum(-1)


def select(phi: Tensor, log_weights: Tensor, draws: Generator) -> Tensor:
    """Stratified resampling of phi (S, d)."""
    n, heaped = len(phi), log_weights.double().softmax(0).cumsum(0)
    points = (torch.arange(n) + torch.rand(n, generator=draws, dtype=torch.float64)) / n
    return phi[torch.searchsorted(heaped, points).clamp(max=n - 1)]


class OpenHorizon:
    """OHSMC: particles stay from batch to batch, and psi ascends their mean log-likelihood."""

    def __init__(self, model: Any, of: Settings, draws: Generator) -> None:
        self.model, self.of, self.draws = model, of, draws
        self.phi = model.scale * torch.randn(of.particles, len(model.scale), generator=draws)
        self.psi = model.psi.clone().requires_grad_()
        self.parameters = [self.psi]

    @torch.no_grad()
    def advance(self, rows: Rows) -> float:
        """A step of the Feynman-Kac model: a random walk, then weights and selection by the likelihood of a batch.

        Returns:
            The log of the mean weight, by which the evidence of that model grows.
        """
        self.phi = self.phi + math.sqrt(self.of.walk) * torch.randn(self.phi.shape, generator=self.draws)
        logs = self.model.log_density(self.phi, self.psi, *rows).sum(1)
        self.phi = select(self.phi, logs, self.draws)
        return float(logs.logsumexp(0)) - math.log(len(logs))

    def loss(self, rows: Rows, ratio: float) -> Tensor:
        """Negative log-likelihood of a batch, times `ratio`, that of all rows to those of the batch."""
        self.advance(rows)
        return -ratio * self.model.log_density(self.phi, self.psi, *rows).sum(1).mean()

    def sample(self) -> Tensor:
        """Draws of phi (S, d)."""
        return self.phi.detach().clone()


class Point(OpenHorizon):
    """MAP of phi, with psi, from the model's starts or `at` others."""

    def __init__(self, model: Any, of: Settings, draws: Generator, at: tuple[Tensor, Tensor] | None = None) -> None:
        super().__init__(model, of, draws)
        self.phi, self.psi = (a.clone().requires_grad_() for a in at or (model.phi[None], model.psi))
        self.parameters = [self.psi, self.phi]

    def loss(self, rows: Rows, ratio: float) -> Tensor:
        return -ratio * self.model.log_density(self.phi, self.psi, *rows).sum() - log_prior(self.model, self.phi)[0]


class MeanField(OpenHorizon):
    """VI with independent Gaussians, on the negative ELBO up to a constant."""

    def __init__(self, model: Any, of: Settings, draws: Generator) -> None:
        super().__init__(model, of, draws)
        self.mean = model.phi.clone().requires_grad_()
        self.log_var = torch.full_like(model.phi, of.log_var).requires_grad_()
        self.parameters += [self.mean, self.log_var]

    def sample(self, n: int = DRAWS) -> Tensor:
        return self.mean + (0.5 * self.log_var).exp() * torch.randn(n, len(self.mean), generator=self.draws)

    def loss(self, rows: Rows, ratio: float) -> Tensor:
        phi = self.sample(VI_DRAWS)
        fit = ratio * self.model.log_density(phi, self.psi, *rows).sum(1) + log_prior(self.model, phi)
        return -fit.mean() - 0.5 * self.log_var.sum()


@torch.no_grad()
def nll(model: Any, phi: Tensor, psi: Tensor, rows: Rows) -> Tensor:
    """-log of the mean density over draws of phi, (N,) nats."""
    return math.log(len(phi)) - model.log_density(phi, psi, *rows).logsumexp(0)


def epochs(rule: OpenHorizon, rows: Rows, of: Settings, draws: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Draws of phi and psi after each epoch of Adam; a last batch that is too small is left out."""
    adam = torch.optim.Adam(rule.parameters, of.lr)
    schedule = torch.optim.lr_scheduler.ExponentialLR(adam, of.decay)
    while True:
        order = torch.randperm(len(rows[1]), generator=draws)[: len(rows[1]) // of.batch * of.batch]
        for chosen in order.split(of.batch):
            adam.zero_grad()
            rule.loss((rows[0][chosen], rows[1][chosen]), len(rows[1]) / of.batch).backward()
            adam.step()
            schedule.step()
        yield rule.sample().detach(), rule.psi.detach().clone()


def fit(rule: OpenHorizon, rows: Rows, held: Rows | None, of: Settings, draws: Generator) -> tuple[Tensor, Tensor]:
    """Draws of phi and psi of the epoch with the least NLL on held rows, or of the last one."""
    best, kept = math.inf, (rule.sample().detach(), rule.psi.detach())
    for now in islice(epochs(rule, rows, of, draws), of.epochs):
        value = -math.inf if held is None else float(nll(rule.model, *now, held).mean())
        if value <= best:
            best, kept = value, now
    return kept


def swag(rule: Point, rows: Rows, held: Rows, of: Settings, draws: Generator) -> tuple[Tensor, Tensor]:
    """Draws from a Gaussian about the mean of phi over epochs (Maddox et al. 2019), half of whose covariance is
    diagonal and half that of the last RANK epochs, and the mean of psi; of as many epochs as AVERAGED, of further
    `epochs`, whose draws have the least NLL on held rows."""
    counts, found = [max(2, int(share * of.epochs)) for share in AVERAGED], []
    seen = list(islice(epochs(rule, rows, of, draws), max(counts)))
    for n in counts:
        phi, psi = torch.cat([a for a, _ in seen[:n]]), torch.stack([b for _, b in seen[:n]])
        last = (phi - phi.mean(0))[-RANK:]
        one, two = (torch.randn(DRAWS, k, generator=draws) for k in (phi.shape[1], len(last)))
        noise = one * phi.std(0, correction=0) + two @ last / math.sqrt(len(last) - 1)
        found.append((phi.mean(0) + noise / math.sqrt(2), psi.mean(0)))
    return min(found, key=lambda a: float(nll(rule.model, a[0], a[1], held).mean()))


def hmc(model: Any, start: Tensor, psi: Tensor, rows: Rows, of: Settings, draws: Generator) -> Tensor:
    """Draws of phi by CHAINS chains from `start` (1, d), with as many gradients of a row as DRAWS particles have in
    all epochs."""
    chains, kernel = start.repeat(CHAINS, 1), HMC(leapfrog=LEAPFROG, acceptance=0.8, step=0.02)
    size, kept = kernel.start(chains), []
    for _ in range(max(1, DRAWS * of.epochs // (CHAINS * LEAPFROG))):
        chains, size, _ = kernel.move(
            chains, size, lambda z: model.log_density(z, psi, *rows).sum(1) + log_prior(model, z), draws
        )
        kept.append(chains)
    return torch.cat(kept[-DRAWS // CHAINS :])
