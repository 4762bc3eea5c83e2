"""Networks of which one layer is stochastic, and ways to train them (Zhao, Mair, Schön, Sjölund, arXiv 2310.19608).

Weights phi have the prior N(0, 1); psi, all the others, is one vector. A model has starts `phi` (d,) and `psi` (p,) and
``log_density(phi, psi, x, y)``, log p(y_n | phi_s; psi, x_n) in nats, (S, N), of phi (S, d), x (N, D) and y (N,).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice, pairwise
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models.hmc import HMC
from latentbench.models.study import Arrays, Problem, Study
from numpy import ndarray
from pydantic import PositiveInt
from torch import Generator, Tensor

WIDTHS = {"moons": (2, 100, 20, 5, 1), "wave": (1, 20, 10, 1)}
#: Adam's rate; variance of a particle's step; draws of phi of each rule, and of VI in a step; SWAG's last epochs.
BATCH, RATE, WALK, DRAWS, VI_DRAWS, RANK = 20, 1e-2, 1e-2, 1000, 100, 100
#: Chains of HMC and leapfrog steps of a move; shares of the epochs that SWAG may average.
CHAINS, LEAPFROG, AVERAGED = 20, 20, (0.2, 1.0)
Rows = tuple[Tensor, ...]


class Network:
    """Layers of the given widths, with GELUs between; the last but one is stochastic."""

    def __init__(self, widths: Sequence[int], draws: Generator, *, binary: bool) -> None:
        self.shapes, self.binary = list(pairwise(widths)), binary
        weights = [math.sqrt(2 / (n + m)) * torch.randn(n * m, generator=draws) for n, m in self.shapes]
        layers = [torch.cat([w, torch.zeros(m)]) for w, (_, m) in zip(weights, self.shapes, strict=True)]
        self.phi = layers.pop(-2)
        self.psi, self.sizes = torch.cat(layers), [len(layer) for layer in layers]

    def log_density(self, phi: Tensor, psi: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Outputs are logits if binary, else means of Gaussians with variance 1."""
        *layers, last = psi.split(self.sizes)
        for theta, shape in zip(layers, self.shapes, strict=False):
            x = torch.nn.functional.gelu(_affine(x, theta, shape))
        n, m = self.shapes[-2]
        weights, bias = phi.split([n * m, m], 1)  # one product of matrices for all draws: (n, S m)
        h = x @ weights.unflatten(1, (n, m)).movedim(0, 1).flatten(1) + bias.flatten()
        h = torch.nn.functional.gelu(h.unflatten(1, (len(phi), m)))
        out = _affine(h, last, self.shapes[-1])[..., 0].T
        if self.binary:
            return torch.nn.functional.logsigmoid((2 * y - 1) * out)
        return -0.5 * (y - out).square() - 0.5 * math.log(2 * math.pi)


def _affine(h: Tensor, theta: Tensor, shape: tuple[int, int]) -> Tensor:
    weights, bias = theta.split([math.prod(shape), shape[1]])
    return h @ weights.unflatten(0, shape) + bias


def select(phi: Tensor, log_weights: Tensor, draws: Generator) -> Tensor:
    """Stratified resampling of phi (S, d)."""
    n, heaped = len(phi), log_weights.double().softmax(0).cumsum(0)
    points = (torch.arange(n) + torch.rand(n, generator=draws, dtype=torch.float64)) / n
    return phi[torch.searchsorted(heaped, points).clamp(max=n - 1)]


class OpenHorizon:
    """OHSMC: particles stay from batch to batch, and psi ascends their mean log-likelihood."""

    def __init__(self, model: Any, draws: Generator) -> None:
        self.model, self.draws = model, draws
        self.phi = torch.randn(DRAWS, len(model.phi), generator=draws)
        self.psi = model.psi.clone().requires_grad_()
        self.parameters = [self.psi]

    def loss(self, rows: Rows, ratio: float) -> Tensor:
        """Negative log-likelihood of a batch, times `ratio`, that of all rows to those of the batch, after a step of
        the Feynman-Kac model: a random walk, then weights and selection by the likelihood of the batch."""
        self.phi = self.phi + math.sqrt(WALK) * torch.randn(self.phi.shape, generator=self.draws)
        with torch.no_grad():
            self.phi = select(self.phi, self.model.log_density(self.phi, self.psi, *rows).sum(1), self.draws)
        return -ratio * self.model.log_density(self.phi, self.psi, *rows).sum(1).mean()

    def sample(self) -> Tensor:
        """Draws of phi (S, d)."""
        return self.phi.detach().clone()


class Point(OpenHorizon):
    """MAP of phi, with psi, from the model's starts or `at` others."""

    def __init__(self, model: Any, draws: Generator, at: tuple[Tensor, Tensor] | None = None) -> None:
        super().__init__(model, draws)
        self.phi, self.psi = (a.clone().requires_grad_() for a in at or (model.phi[None], model.psi))
        self.parameters = [self.psi, self.phi]

    def loss(self, rows: Rows, ratio: float) -> Tensor:
        return -ratio * self.model.log_density(self.phi, self.psi, *rows).sum() + 0.5 * self.phi.square().sum()


class MeanField(OpenHorizon):
    """VI with independent Gaussians, on the negative ELBO up to a constant."""

    def __init__(self, model: Any, draws: Generator, log_var: float) -> None:
        super().__init__(model, draws)
        self.mean = model.phi.clone().requires_grad_()
        self.log_var = torch.full_like(model.phi, log_var).requires_grad_()
        self.parameters += [self.mean, self.log_var]

    def sample(self, n: int = DRAWS) -> Tensor:
        """Draws of phi (n, d), differentiable."""
        return self.mean + (0.5 * self.log_var).exp() * torch.randn(n, len(self.mean), generator=self.draws)

    def loss(self, rows: Rows, ratio: float) -> Tensor:
        phi = self.sample(VI_DRAWS)
        fit = ratio * self.model.log_density(phi, self.psi, *rows).sum(1) - 0.5 * phi.square().sum(1)
        return -fit.mean() - 0.5 * self.log_var.sum()


@torch.no_grad()
def nll(model: Any, phi: Tensor, psi: Tensor, rows: Rows) -> Tensor:
    """-log of the mean density over draws of phi, (N,) nats."""
    return math.log(len(phi)) - model.log_density(phi, psi, *rows).logsumexp(0)


def epochs(rule: OpenHorizon, rows: Rows) -> Iterator[tuple[Tensor, Tensor]]:
    """Draws of phi and psi after each epoch of Adam; batches divide the rows."""
    adam = torch.optim.Adam(rule.parameters, RATE)
    while True:
        for chosen in torch.randperm(len(rows[1]), generator=rule.draws).split(BATCH):
            adam.zero_grad()
            rule.loss(tuple(a[chosen] for a in rows), len(rows[1]) / BATCH).backward()
            adam.step()
        yield rule.sample().detach(), rule.psi.detach().clone()


def fit(rule: OpenHorizon, rows: Rows, held: Rows, n: int) -> tuple[Tensor, Tensor]:
    """Draws of phi and psi of that of `n` epochs, at least one, which has the least NLL on held rows."""
    return min(islice(epochs(rule, rows), n), key=lambda a: float(nll(rule.model, a[0], a[1], held).mean()))


def swag(rule: Point, rows: Rows, held: Rows, n: int) -> tuple[Tensor, Tensor]:
    """Draws from a Gaussian about the mean of phi over epochs (Maddox et al. 2019), half of whose covariance is
    diagonal and half that of the last RANK epochs, and the mean of psi; of the shares AVERAGED of `n` more epochs the
    one whose draws have the least NLL on held rows."""
    counts, found = [max(2, int(share * n)) for share in AVERAGED], []
    seen = list(islice(epochs(rule, rows), max(counts)))
    for count in counts:
        phi, psi = torch.cat([a for a, _ in seen[:count]]), torch.stack([b for _, b in seen[:count]])
        last = (phi - phi.mean(0))[-RANK:]
        one, two = (torch.randn(DRAWS, k, generator=rule.draws) for k in (phi.shape[1], len(last)))
        noise = one * phi.std(0, correction=0) + two @ last / math.sqrt(len(last) - 1)
        found.append((phi.mean(0) + noise / math.sqrt(2), psi.mean(0)))
    return min(found, key=lambda a: float(nll(rule.model, a[0], a[1], held).mean()))


def hmc(model: Any, start: Tensor, psi: Tensor, rows: Rows, n: int, draws: Generator) -> Tensor:
    """Draws of phi by CHAINS chains from `start` (1, d), with as many gradients of a row as OHSMC has in `n` epochs."""
    chains, kernel = start.repeat(CHAINS, 1), HMC(leapfrog=LEAPFROG, acceptance=0.8, step=0.02)
    size, kept = kernel.start(chains), []
    for _ in range(DRAWS * n // (CHAINS * LEAPFROG)):
        chains, size, _ = kernel.move(
            chains, size, lambda z: model.log_density(z, psi, *rows).sum(1) - 0.5 * z.square().sum(1), draws
        )
        kept.append(chains)
    return torch.cat(kept[-DRAWS // CHAINS :])


def made(design: str, n: int, rng: np.random.Generator) -> tuple[ndarray, ndarray]:
    """Inputs (n, D) and outcomes (n,): labels of two moons with noise of 0.3, or x sin(x tanh x) with unit noise."""
    if design == "moons":
        label, angle = np.arange(n) % 2, rng.uniform(0, np.pi, n)
        x = np.where(label, [1 - np.cos(angle), 0.5 - np.sin(angle)], [np.cos(angle), np.sin(angle)]).T
        return x + 0.3 * rng.standard_normal((n, 2)), label.astype(float)
    x = rng.uniform(-6, 6, n)
    return x[:, None], x * np.sin(x * np.tanh(x)) + rng.standard_normal(n)


EXAMPLES = (Example("real-vector", {"epochs": 1}), Example("real-vector", {"epochs": 1, "rule": "map-hmc"}))


@model("partial-bnn", "Iterative Study", "networks of which one layer is stochastic", examples=EXAMPLES)
class PartialBNN(Study):
    """Answers ``nll`` (T,) of new rows, in nats.

    Args:
        info: of data that are not used.
        rule: how it is trained; ``map-hmc`` has HMC at the psi of MAP.
        design: what is learnt, with the authors' network.
        epochs: of training, and as many more of SWAG.
        log_var: log variance from which VI starts.
        problems: draws of data.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        rule: Literal["ohsmc", "map", "map-hmc", "vi", "swag"] = "ohsmc",
        design: Literal["moons", "wave"] = "moons",
        epochs: PositiveInt = 100,
        log_var: float = 1.0,
        problems: PositiveInt = 1,
    ) -> None:
        super().__init__(info, problems=problems)
        self.rule, self.design, self.epochs, self.log_var = rule, design, epochs, log_var

    def problem(self, rng: np.random.Generator) -> Problem:
        """``x`` and ``y``: 100 rows to train on, 100 by which the epoch is chosen, 1,000 new ones."""
        return Problem(dict(zip("xy", made(self.design, 1200, rng), strict=True)))

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        draws = Generator().manual_seed(int(rng.integers(2**62)))
        rows, held, new = zip(*(Tensor(given[name]).tensor_split([100, 200]) for name in "xy"), strict=True)
        net = Network(WIDTHS[self.design], draws, binary=self.design == "moons")
        others: dict[str, Any] = {"ohsmc": OpenHorizon, "vi": partial(MeanField, log_var=self.log_var)}
        phi, psi = fit(others.get(self.rule, Point)(net, draws), rows, held, self.epochs)
        if self.rule == "swag":
            phi, psi = swag(Point(net, draws, (phi, psi)), rows, held, self.epochs)
        if self.rule == "map-hmc":
            phi = hmc(net, phi, psi, rows, self.epochs, draws)
        return {"nll": nll(net, phi, psi, new).numpy()}


@metric("pbnn_nll", "Study", "nats", "lower")
def pbnn_nll(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean negative log predictive density of a new row."""
    if not isinstance(model, PartialBNN):
        raise UserError(f"{type(model).__name__} predicts no rows", fix="a method of the model partial-bnn")
    return over_problems(model, lambda _, answer: float(answer["nll"].mean()))
