"""Encoders that predict a posterior of the latent, from pairs of inputs: MCInfoNCE and its rivals (arXiv 2302.02865).

Scores are s = t z'z. Losses, of a positive and M negatives of an input:

    infonce     -log e^s / (e^s + mean_m e^s_m), of means
    mcinfonce   the same of S draws from the posteriors, averaged over draws inside of the logarithm
    hib         logistic losses with sigmoid(s + offset), averaged over draws outside of the logarithm (authors' code)
    hib-mean    the same, averaged inside, as Oh et al. (2019) have it
    elk         InfoNCE with t log of the integral of both posteriors' product as score
    likelihood  of the positive's mean under the vMF that is predicted for the input: a simple rival
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models.densities import log_mean_exp
from latentbench.models.study import Problem, Study
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from scipy.stats import spearmanr
from torch import Generator, Tensor
from torch.nn import functional

from .world import Posterior, World, log_normaliser, sample_vmf

Arrays = Mapping[str, Any]
Loss = Literal["infonce", "mcinfonce", "hib", "hib-mean", "elk", "likelihood"]
DIM, K, INPUTS = 10, 20.0, 1000  # of the world; inputs that are judged
MEANS, KAPPAS = (64, 64, 64), (32, 32)  # hidden layers of the encoder
BATCH, CANDIDATES, SAMPLES, RATE = 512, 64, 8, 1e-3


def log_ratio(positive: Tensor, negatives: Tensor, apart: Tensor, group: int) -> Tensor:
    """(..., n, m / M) log of e^s / (e^s + mean_m e^s_m), of scores (..., n) and those (..., n, m) that are `apart`."""
    scores = torch.where(apart, negatives, -1e4).unflatten(-1, (-1, group))
    count = apart.unflatten(-1, (-1, group)).sum(-1).clamp(min=1)
    return positive[..., None] - torch.logaddexp(positive[..., None], torch.logsumexp(scores, -1) - count.log())


def log_products(mu: Tensor, kappa: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """log of the integral of two vMF densities' product (1 for uniform ones): of positives (n,), candidates (n, m)."""
    v, dim = kappa[:, None] * mu, mu.shape[1]
    c = log_normaliser(kappa, dim)
    others = c[:n, None] + c[2 * n :] - log_normaliser((v[:n, None] + v[2 * n :]).norm(dim=2), dim)
    return c[:n] + c[n : 2 * n] - log_normaliser((v[:n] + v[n : 2 * n]).norm(dim=1), dim), others


def loss_of(loss: Loss, mu: Tensor, kappa: Tensor, apart: Tensor, settings: Arrays, draws: Generator) -> Tensor:
    """Mean loss of n inputs, with mu (2 n + m, d) and kappa (2 n + m,) of them, their positives and m candidates.

    Of these `apart` (n, m) are negatives; settings are ``temperature``, ``offset`` and ``group``.
    """
    n, t, group = len(apart), settings["temperature"], settings["group"]
    if loss == "likelihood":
        return -(log_normaliser(kappa[:n], mu.shape[1]) + kappa[:n] * (mu[:n] * mu[n : 2 * n]).sum(1)).mean()
    if loss == "elk":
        positive, negatives = (t * score[None] for score in log_products(mu, kappa, n))
    else:
        z = mu[None] if loss == "infonce" else sample_vmf(mu, kappa, draws, SAMPLES)
        positive, negatives = t * (z[:, :n] * z[:, n : 2 * n]).sum(2), t * z[:, :n] @ z[:, 2 * n :].mT
    if loss.startswith("hib"):
        together = functional.logsigmoid(positive + settings["offset"])
        asunder = functional.logsigmoid(-negatives - settings["offset"])
        if loss == "hib-mean":
            together, asunder = log_mean_exp(together), log_mean_exp(asunder)
        return -together.mean() - asunder[..., apart].mean()
    ratios = log_mean_exp(log_ratio(positive, negatives, apart, group))
    return -ratios[apart.unflatten(1, (-1, group)).any(2)].mean()


@model(
    "posterior-encoder",
    "Iterative Study",
    "a posterior of the latent by contrast of pairs",
    examples=(Example("real-vector", {"steps": 4}), Example("real-vector", {"steps": 4, "loss": "likelihood"})),
)
class PosteriorEncoder(Study):
    """Answers for one world are ``mu`` (N, d) and ``kappa`` (N,) of the inputs that are judged.

    Args:
        info: of the data, which are not looked at.
        loss: see above.
        phased: mu is learnt first, with one negative (for ``likelihood`` by InfoNCE), then kappa; else both at once.
        temperature, offset: of scores; the offset is HIB's, and None the true one.
        group: M in the second phase.
        steps: of Adam in all, whose rate falls to 0 in each phase.
        certainty: answered as kappa; ``norm`` is the length of the network's value for mu.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        loss: Loss = "mcinfonce",
        phased: bool = True,
        temperature: PositiveFloat = K,
        offset: float | None = None,
        group: PositiveInt = 1,
        steps: NonNegativeInt = 1600,
        certainty: Literal["kappa", "norm"] = "kappa",
    ) -> None:
        super().__init__(info, problems=1)
        self.objective, self.phased, self.steps, self.certainty = loss, phased, steps, certainty
        self.temperature, self.offset, self.group = temperature, offset, group

    def problem(self, rng: np.random.Generator) -> Problem:
        world, x = judged(int(rng.integers(2**62)))
        return Problem({"pairs": world.pairs, "offset": world.offset, "x": x}, predicted(world.posterior, x))

    @torch.enable_grad()
    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        draws = Generator().manual_seed(int(rng.integers(2**62)))
        posterior = Posterior(MEANS, KAPPAS, torch.rand(INPUTS, DIM, generator=draws), draws)
        offset = given["offset"] if self.offset is None else self.offset
        settings = {"temperature": self.temperature, "offset": offset, "group": 1}
        means, kappas = (list(one.parameters()) for one in (posterior.means, posterior.kappas))
        first = "infonce" if self.objective == "likelihood" else self.objective
        phases = [(first, means, settings), (self.objective, kappas, {**settings, "group": self.group})]
        if not self.phased:
            phases = [(self.objective, means + kappas, settings)]
        steps = self.steps // len(phases)
        for loss, trained, options in phases:
            adam = torch.optim.Adam(trained, lr=RATE)
            for step in range(steps):
                adam.param_groups[0]["lr"] = RATE * (1.0 - step / steps)
                *inputs, apart = given["pairs"](BATCH, CANDIDATES, draws)
                x = torch.cat(inputs)
                adam.zero_grad()
                loss_of(loss, posterior.mu(x), posterior.kappa(x), apart, options, draws).backward(inputs=trained)
                adam.step()
        found = predicted(posterior, given["x"])
        return {"mu": found["mu"], "kappa": found[self.certainty]}


@lru_cache(maxsize=4)
@torch.enable_grad()
def judged(seed: int) -> tuple[World, Tensor]:
    """A world, kept for other methods and for metrics, and (N, d) inputs."""
    draws = Generator().manual_seed(seed)
    return World(DIM, K, draws), torch.rand(INPUTS, DIM, generator=draws)


@torch.no_grad()
def predicted(posterior: Posterior, x: Tensor) -> dict[str, np.ndarray]:
    """``mu`` (N, d), ``kappa`` (N,) and ``norm`` (N,)."""
    found = {"mu": posterior.mu(x), "kappa": posterior.kappa(x), "norm": posterior.means(x).norm(dim=1)}
    return {name: values.double().numpy() for name, values in found.items()}


@metric("kappa_rank_correlation", "Study", "1", "higher", within=(-1.0, 1.0))
def kappa_rank_correlation(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Spearman's correlation of predicted and true concentration over inputs."""
    return over_problems(model, lambda a, b: spearmanr(a["kappa"], b["kappa"])[0])


@metric("kappa_r2", "Study", "1", "higher", within=(None, 1.0))
def kappa_r2(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """1 less the mean squared error of log kappa, not rescaled, over the true one's variance: 0 is a constant's."""
    return over_problems(
        model, lambda a, b: 1.0 - (np.log(b["kappa"] / a["kappa"]) ** 2).mean() / np.log(a["kappa"]).var()
    )


@metric("location_error", "Study", "1", "lower", within=(0.0, 2.0))
def location_error(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean absolute difference of cosines between two inputs' means: 0 where they differ by a rotation alone."""
    pairs = np.tril_indices(INPUTS, -1)
    return over_problems(model, lambda a, b: np.abs(a["mu"] @ a["mu"].T - b["mu"] @ b["mu"].T)[pairs].mean())
