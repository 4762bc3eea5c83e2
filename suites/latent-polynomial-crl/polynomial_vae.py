"""VAEs whose prior is a latent causal model of the environment: polynomial, linear, without causes, or N(0, I).

With noise n as in `worlds`, the bound is (arXiv 2310.15580, section 4; as z(n) has Jacobian 1, it is that in z)

    E_q(n|x,u) [log p(x | f(z(n, lambda(u))))] - beta KL(q(n|x,u) || p(n|u)).

The mean of q is the noise of codes h(x), h_i - sum_t lambda_it(u) m_t(h): prior and posterior share coefficients.
Without coefficients it is the bound of iVAE (Khemakhem et al. 2020).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import cycle, pairwise, permutations
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.metrics.codes.matching import correlation_matrix
from latentbench.metrics.structure import shd
from latentbench.models.densities import normal_draw, normal_kl
from latentbench.models.study import Problem, Study
from numpy import ndarray
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from scipy.optimize import linear_sum_assignment
from torch import Generator, Tensor
from torch.nn import functional

from .worlds import World, admissible, caused, holds, latents, monomials

VARIANCE, BATCH, RATE, CLIP, HIDDEN, SLOPE = 0.01, 256, 5e-3, 5.0, (32, 32), 0.2
LATENTS, STARTS, FIT, TEST = 3, 6, 600, 300  # FIT: steps of `informed`; TEST: test rows of each environment
POSTERIOR, EDGE = 0.1, 0.1  # first deviations of posteriors; least contribution of a cause, in its effect's deviations
SMALL = {"environments": 3, "rows": 20, "steps": 3}
Arrays = Mapping[str, Any]


class LatentCausalVAEs:
    """Several starts (S) side by side, of codes h(x), (S, n, d): priors with causes from one network, its codes in one
    causal order after the other, others from networks of their own. Coefficients of environment 0 stay 0."""

    def __init__(self, starts: int, d: int, features: int, environments: int, prior: str, draws: Generator) -> None:
        self.conditional, causal = prior != "normal", prior in ("polynomial", "linear")
        allowed = admissible(torch.ones(d, d, dtype=torch.bool).triu(1)) & causal
        if prior == "linear":
            allowed &= monomials(torch.full((d,), 2.0)) == 2.0
        self.allowed = allowed.float() * (torch.arange(environments) > 0)[:, None, None]
        self.table = torch.zeros(starts, *self.allowed.shape, requires_grad=True)
        self.noise = torch.zeros(starts, environments, 2 * d, requires_grad=True)  # means and log deviations
        seen = features + environments * self.conditional
        shapes = ([features, *HIDDEN, d], [seen, *HIDDEN, d], [d, *HIDDEN, features])
        nets = self.code, self.spread, self.decoder = [network(starts, widths, draws) for widths in shapes]
        weights = [one for net in nets for one in net]
        self.spread[-2].zero_(), self.spread[-1].fill_(math.log(POSTERIOR))
        for s, order in zip(range(starts * causal), cycle(map(list, permutations(range(d))))):
            for one in weights:
                one[s] = one[0]
            self.code[-2][s], self.decoder[0][s] = self.code[-2][0][:, order], self.decoder[0][0][order]
        self.parameters = [self.table, self.noise, *(one.requires_grad_() for one in weights)]

    def coefficients(self, u: Tensor) -> Tensor:
        """(S, n, d, T) of one-hot environments u (n, E)."""
        return (u @ (self.table * self.allowed).flatten(2)).unflatten(2, self.allowed.shape[1:])

    def terms(self, x: Tensor, u: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        """-log p(x | z), but for its constant, of a draw z, and KL, (S, n) each, of x (n, D) and one-hot u (n, E)."""
        coefficients, h = self.coefficients(u), forward(self.code, x)
        mean = h - caused(h, coefficients)
        log_std = forward(self.spread, torch.cat([x, u], 1) if self.conditional else x)
        z = latents(normal_draw(mean, log_std, draws), coefficients)
        error = (forward(self.decoder, z) - x).square().sum(2) / (2.0 * VARIANCE)
        if self.conditional:
            centre, log_scale = (u @ self.noise).chunk(2, 2)
            mean, log_std = (mean - centre) * torch.exp(-log_scale), log_std - log_scale
        return error, normal_kl(mean, log_std)

    def clip(self) -> None:
        """Hold the norm of each start's gradient at `CLIP`: a start that diverges leaves the others alone."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()
        for g in gradients:
            g *= (CLIP / norm).clamp(max=1.0).reshape(-1, *[1] * (g.ndim - 1))


def network(starts: int, widths: Sequence[int], draws: Generator) -> list[Tensor]:
    """Weights (S, in, out), Glorot's normal ones, and biases (S, 1, out) of 0 of each layer."""
    weights = [torch.randn(starts, n, m, generator=draws) * (2.0 / (n + m)) ** 0.5 for n, m in pairwise(widths)]
    return [one for w in weights for one in (w, torch.zeros(starts, 1, w.shape[2]))]


def forward(layers: list[Tensor], x: Tensor) -> Tensor:
    """(n, in) or (S, n, in) to (S, n, out), with leaky ReLUs between layers."""
    for i in range(0, len(layers), 2):
        x = torch.matmul(functional.leaky_relu(x, SLOPE) if i else x, layers[i]) + layers[i + 1]
    return x


@model(
    "latent-polynomial-vae",
    "Iterative Study LatentEstimator",
    "latents of a structural causal model that changes with the environment, by VAEs or FastICA",
    examples=(
        Example("real-vector", {**SMALL, "informed": True}),
        Example("real-vector", {**SMALL, "prior": "linear", "constant": True}),
        Example("real-vector", {**SMALL, "prior": "normal", "beta": 4.0}),
        Example("real-vector", {**SMALL, "prior": "ica"}),
    ),
)
class LatentPolynomialVAE(Study):
    """Answers, of the start with the least loss: ``latents`` (m, d), codes of test rows; ``causes`` (d, d), the root
    mean square of what code j contributes to code i by the deviation of code i; and ``bound``, the training rows' loss.

    Args:
        info: of the data, which are not looked at.
        prior: see above; ``independent`` is iVAE's, ``normal`` a VAE's, which sees no environment; ``ica`` is FastICA.
        beta: weight of KL.
        informed: start at true tables, codes and decoder fitted to true latents, or what fits as well (`constant`).
        environments, constant: see `World`; with `rows` to learn from of each environment.
        steps: of Adam, whose rate falls linearly to 0.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        prior: Literal["polynomial", "linear", "independent", "normal", "ica"] = "polynomial",
        beta: PositiveFloat = 1.0,
        informed: bool = False,
        environments: PositiveInt = 7,
        constant: bool = False,
        rows: PositiveInt = 3000,
        steps: NonNegativeInt = 2500,
    ) -> None:
        super().__init__(info, problems=1)
        self.prior, self.beta, self.informed, self.steps = prior, beta, informed, steps
        self.environments, self.constant, self.rows = environments, constant, rows

    def problem(self, rng: np.random.Generator) -> Problem:
        """Features ``x`` (E * rows, D) of environments ``u``; ``tests`` (m, D)."""
        world = World(rng, LATENTS, self.environments, self.constant)
        (z, u), (tests, _) = world.draw(rng, self.rows), world.draw(rng, TEST)
        given = {"x": world.mix(z).numpy(), "u": u.numpy(), "tests": world.mix(tests).numpy()}
        if self.informed:
            noise, table = torch.cat([world.mean, world.scale.log()], 1), world.coefficients.clone()
            if self.constant:  # as coefficients of the reference are 0, the best code of the last latent is its noise
                z[:, -1] -= caused(z, table[u])[:, -1]
                table[:, -1] = 0.0
            given |= {"z": z.numpy(), "table": table.numpy(), "noise": noise.numpy()}
        return Problem(given, {"latents": tests.numpy(), "graph": world.graph.numpy()})

    @torch.enable_grad()
    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        if self.prior == "ica":
            new = components(given["x"], given["tests"], int(rng.integers(2**31)))
            return {"latents": new, "causes": np.zeros((LATENTS, LATENTS)), "bound": 0.0}
        draws = Generator().manual_seed(int(rng.integers(2**62)))
        data = {name: torch.tensor(one, dtype=torch.float32) for name, one in given.items() if name != "u"}
        x, u = data["x"], functional.one_hot(torch.tensor(given["u"]), self.environments).float()
        vaes = LatentCausalVAEs(STARTS, LATENTS, x.shape[1], self.environments, self.prior, draws)

        def distance(rows: Tensor) -> Tensor:
            pairs = (vaes.code, x, data["z"]), (vaes.decoder, data["z"], x)
            return torch.stack([(forward(net, a[rows]) - b[rows]).square().sum(2) for net, a, b in pairs]).mean(2).sum()

        def loss(rows: Tensor) -> Tensor:
            error, kl = vaes.terms(x[rows], u[rows], draws)
            return (error + self.beta * kl).mean(1)

        if self.informed:
            vaes.table.data[:], vaes.noise.data[:] = data["table"], data["noise"]
            descend([*vaes.code, *vaes.decoder], distance, FIT, len(x), draws)
        descend(vaes.parameters, lambda rows: loss(rows).sum(), self.steps, len(x), draws, vaes.clip)
        with torch.no_grad():
            bounds = loss(torch.arange(len(x)))
            best = int(bounds.nan_to_num(torch.inf).argmin())
            h, codes = forward(vaes.code, x)[best], forward(vaes.code, data["tests"])[best]
            parts = vaes.coefficients(u)[best] * monomials(h)[:, None]
            causes = torch.einsum("nit,jt->nji", parts, holds(LATENTS).float()).square().mean(0).sqrt() / h.std(0)
        found = {"latents": codes, "causes": causes, "bound": bounds[best]}
        return {name: one.double().numpy() for name, one in found.items()}


def descend(weights: list[Tensor], loss: Any, steps: int, rows: int, draws: Generator, clip: Any = None) -> None:
    """Minimise loss(random rows) by `steps` of Adam, gradients clipped by `clip`."""
    adam = torch.optim.Adam(weights, fused=True)
    for step in range(steps):
        adam.param_groups[0]["lr"] = RATE * (1.0 - step / steps)
        value = loss(torch.randint(rows, (BATCH,), generator=draws))
        adam.zero_grad()
        value.backward()
        if clip:
            clip()
        adam.step()


def components(x: ndarray, new: ndarray, seed: int) -> ndarray:
    """(m, d): independent components of x (n, d), by FastICA, of new rows."""
    from sklearn.decomposition import FastICA

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it need not converge where latents depend
        return np.asarray(FastICA(max_iter=1000, random_state=seed).fit(x).transform(new))


def scores(truth: Arrays, answer: Arrays) -> dict[str, float]:
    """Correlation of the last latent, and the mean of the others, with the codes that are matched to them as for MCC;
    edges that differ, of causes that contribute more than `EDGE`; and the bound."""
    absolute = np.abs(correlation_matrix(truth["latents"], answer["latents"]))
    rows, which = linear_sum_assignment(-absolute)
    graph, (*others, last) = answer["causes"][np.ix_(which, which)] > EDGE, absolute[rows, which]
    found = {"last": last, "others": np.mean(others), "edges": shd(graph, truth["graph"]), "bound": answer["bound"]}
    return {name: float(one) for name, one in found.items()}


def mean_score(model: Any, of: str) -> MetricValue:
    if not isinstance(model, LatentPolynomialVAE):
        raise UserError("this model has no latents of environments", fix="leave it out with `methods:`")
    return over_problems(model, lambda truth, answer: scores(truth, answer)[of])


@metric("correlation_by_latent", "Study", "1", "higher", settings={"of": "last"}, within=(0.0, 1.0))
def correlation_by_latent(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Correlation of the ``last`` latent, or mean correlation of the ``others``, with matched codes."""
    return mean_score(model, settings["of"])


@metric("cause_errors", "Study", "edges", "lower", within=(0.0, None))
def cause_errors(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Structural Hamming distance of the graph of matched codes."""
    return mean_score(model, "edges")


@metric("negative_bound", "Study", "nats", "lower", settings={"slack": 0.0}, lowest={"slack": 0.0}, within=(0.0, None))
def negative_bound(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Negative bound of training rows, but for its constant, and `slack` more, for what is to be almost as good."""
    value = mean_score(model, "bound")
    return replace(value, value=value.value + settings["slack"])
