"""Expectation maximisation of a hierarchical mixture, and GFlowNets in its E-step (arXiv 2302.06576).

Rows are of four clusters with four petals each, z = (cluster, petal). M-step: ascend log p(x, z) with z from (an
approximation of) p(z | x). E-steps, of which the first is exact:

    exact        the posterior, summed over all codes
    mean-field   the best product of a law of clusters and one of petals, by coordinate ascent (variational EM)
    hard         the likeliest code alone, as k-means has it
    gibbs        a draw by a chain that changes one place at a time (Monte-Carlo EM)
    balance      a draw of a policy that is trained by trajectory balance (GFlowNet-EM), in part with a sleep phase
    kl           the law of such a policy that is trained by the exact gradient of KL(q || p(z | x))

Of its own draws, balance has in expectation the gradient of kl (times 2 / m^2; Malkin et al. 2023): it differs by its
noise, and by what it can learn from draws that are not its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.view import View
from latentbench.models.study import Problem, Study
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator, Tensor
from torch.nn import functional

from .codes import Policy, gibbs, log_product, mean_field, number, reverse_kl, symbols, trajectory_balance

Arrays = Mapping[str, Any]
M, K = 2, 4  # places of a code, symbols at each
SCALE = 0.25  # standard deviation of a petal
MEANS = math.sqrt(2.0) * torch.tensor([[-1.0, -1.0], [1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
PETALS = math.sqrt(0.5) * torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]], dtype=torch.float64)
PEAK = -math.log(K**M * 2.0 * math.pi * SCALE**2)  # log p(x, z) at a petal's centre


def centres(means: Tensor) -> Tensor:
    """(16, 2) of petals, of clusters' means (4, 2)."""
    return (means[:, None] + PETALS.to(means)).flatten(0, 1)


def log_joint(x: Tensor, means: Tensor) -> Tensor:
    """log p(x, z) of rows (n, 2) and all codes, (n, 16)."""
    return PEAK - 0.5 * ((x[:, None] - centres(means)) / SCALE).square().sum(2)


def m_step(x: Tensor, means: Tensor, weights: Tensor, rate: float) -> Tensor:
    """Means (4, 2) after a gradient step on the mean of log p(x, z) under `weights` (n, 16), or at rate 0 at its top.

    A cluster of no weight stays where it is.
    """
    mass, away = weights.unflatten(1, (K, K)), x[:, None, None] - centres(means).unflatten(0, (K, K))
    total = (mass[..., None] * away).sum((0, 2))
    return means + (rate * total / (len(x) * SCALE**2) if rate else total / mass.sum((0, 2))[:, None].clamp(min=1e-8))


def exact_em(x: Tensor, means: Tensor, rounds: int) -> Tensor:
    """Means (4, 2) after rounds of exact EM."""
    for _ in range(rounds):
        means = m_step(x, means, log_joint(x, means).softmax(1), 0.0)
    return means


@model(
    "code-em",
    "Iterative Study",
    "EM of a hierarchical mixture",
    examples=(
        Example("real-vector", {"e_step": "balance", "rows": 20, "rounds": 2, "e_updates": 2, "sleep": 0.5}),
        Example("real-vector", {"e_step": "mean-field", "rows": 20, "rounds": 2, "starts": 0}),
        Example("real-vector", {"e_step": "kl", "rows": 20, "rounds": 2, "e_updates": 2, "factorised": True}),
    ),
)
class CodeEM(Study):
    """Answers are ``means`` (4, 2) and, but for gibbs, ``kl``: that of q from the posterior, mean over rows.

    Args:
        info: of the data, which are not looked at.
        e_step: see above.
        spacing: of the true means. At 1 petals lie apart; at 0.5 those of neighbours coincide, and a posterior has up
            to four modes, which are no product.
        start: of the means, at four rows or at the true ones.
        rows: drawn to learn from, and as many to be judged by.
        rounds: of an E-step and an M-step.
        e_updates, rate: of a policy in an E-step, by Adam on all rows.
        m_rate: of the M-step, see `m_step`.
        hidden: width of the policy's one hidden layer.
        factorised: whether the policy is a product over places.
        sleep: probability that an update is followed by one on codes and rows drawn from the model itself.
        floor: rewards are no lower than that of a petal's centre times exp(-floor).
        sweeps: of mean-field, and of gibbs, which starts at a uniform code.
        starts: of mean-field at random, of which each row keeps the best; 0 goes on from the round before.
        taught: whether the M-step is given the exact posterior, so that E-steps are compared at common weights.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        e_step: Literal["exact", "mean-field", "hard", "gibbs", "balance", "kl"],
        spacing: PositiveFloat = 1.0,
        start: Literal["rows", "truth"] = "rows",
        rows: PositiveInt = 4000,
        rounds: NonNegativeInt = 60,
        e_updates: PositiveInt = 1000,
        rate: PositiveFloat = 3e-4,
        m_rate: NonNegativeFloat = 0.0,
        hidden: PositiveInt = 32,
        factorised: bool = False,
        sleep: NonNegativeFloat = 0.0,
        floor: PositiveFloat = 20.0,
        sweeps: PositiveInt = 1,
        starts: NonNegativeInt = 1,
        taught: bool = False,
    ) -> None:
        super().__init__(info, problems=1)
        self.e_step, self.spacing, self.begin, self.rows, self.rounds = e_step, spacing, start, rows, rounds
        self.e_updates, self.rate, self.m_rate = e_updates, rate, m_rate
        self.hidden, self.factorised = hidden, factorised
        self.sleep, self.floor, self.sweeps, self.starts, self.taught = sleep, floor, sweeps, starts, taught

    def problem(self, rng: np.random.Generator) -> Problem:
        petals = centres(self.spacing * MEANS).numpy()
        x, test = petals[rng.integers(K**M, size=(2, self.rows))] + SCALE * rng.standard_normal((2, self.rows, 2))
        means = x[rng.integers(self.rows, size=K)] if self.begin == "rows" else self.spacing * MEANS.numpy()
        exact = exact_em(torch.from_numpy(x), torch.from_numpy(means), self.rounds)
        return Problem({"x": x, "means": means}, {"x": test, "exact": exact.numpy()})

    @torch.enable_grad()
    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        draws = Generator().manual_seed(int(rng.integers(2**62)))
        x, means = (torch.tensor(given[name], dtype=torch.float32) for name in ("x", "means"))
        policy = Policy(2, M, K, [self.hidden], self.factorised, draws)
        adam = torch.optim.Adam(policy.parameters(), lr=self.rate)
        self.left: Tensor | None = None
        for _ in range(self.rounds):
            if self.e_step in ("balance", "kl"):
                self.learn(policy, adam, x, means, draws)
            with torch.no_grad():
                means = m_step(x, means, self.weights(policy, x, log_joint(x, means), draws), self.m_rate)
        found = {"means": means.double().numpy()}
        if self.e_step != "gibbs":
            with torch.no_grad():
                log_p = log_joint(x, means).log_softmax(1)
                log_q = self.law(policy, x, log_p, draws)
            found["kl"] = (log_q.exp() * (log_q - log_p)).sum(1).double().mean().numpy()
        return found

    def learn(self, policy: Policy, adam: torch.optim.Adam, x: Tensor, means: Tensor, draws: Generator) -> None:
        """An E-step of a policy."""

        def update(loss: Tensor) -> None:
            adam.zero_grad()
            loss.backward()
            adam.step()

        table, codes = log_joint(x, means).clamp(min=PEAK - self.floor), symbols(M, K)
        for _ in range(self.e_updates):
            if self.e_step == "kl":
                update(reverse_kl(policy, x, table))
                continue
            with torch.no_grad():
                z = policy.sample(x, draws)
            update(trajectory_balance(policy, x, z, table.gather(1, number(z, K)[:, None])[:, 0]))
            if torch.rand((), generator=draws) < self.sleep:
                code = torch.randint(K**M, (len(x),), generator=draws)
                dreamt = centres(means)[code] + SCALE * torch.randn(x.shape, generator=draws)
                update(-policy.log_prob(dreamt, codes[code])[0].mean() / M)

    def weights(self, policy: Policy, x: Tensor, log_p: Tensor, draws: Generator) -> Tensor:
        """(n, 16): what the M-step takes for the posterior, one code with weight 1 where that is a draw."""
        if self.taught:
            return log_p.softmax(1)
        if self.e_step == "gibbs":
            z = gibbs(log_p, torch.randint(K, (len(x), M), generator=draws), K, self.sweeps, draws)
        elif self.e_step == "balance":
            z = policy.sample(x, draws)
        else:
            return self.law(policy, x, log_p, draws).exp()
        return functional.one_hot(number(z, K), K**M).float()

    def law(self, policy: Policy, x: Tensor, log_p: Tensor, draws: Generator) -> Tensor:
        """log q(z | x), (n, 16), given log p(x, z); hard EM's is -1000 for all codes but one."""
        if self.e_step in ("balance", "kl"):
            return policy.log_table(x)
        if self.e_step == "hard":
            return (functional.one_hot(log_p.argmax(1), K**M) - 1.0) * 1e3
        if self.e_step == "exact":
            return log_p.log_softmax(1)
        start = torch.rand(max(self.starts, 1), len(x), M, K, generator=draws).softmax(3)
        if not self.starts and self.left is not None:
            start = self.left[None]
        found = mean_field(log_p.repeat(len(start), 1), start.flatten(0, 1), K, self.sweeps)
        log_q = log_product(found.log().clamp(min=-1e3)).unflatten(0, start.shape[:2])
        best = (log_q.exp() * (log_q - log_p)).sum(2).argmin(0)
        self.left = found.unflatten(0, start.shape[:2])[best, torch.arange(len(x))]
        return log_q[best, torch.arange(len(x))]


def _nll(model: Any) -> tuple[float, float, int]:
    """-log p(x), mean over rows to be judged by, of the answer and of exact EM from where it began; their number."""
    ((truth, answer),) = model.answered()
    x, both = torch.as_tensor(truth["x"]), (answer["means"], truth["exact"])
    found, exact = (float(-log_joint(x, torch.as_tensor(means)).logsumexp(1).mean()) for means in both)
    return found, exact, len(x)


@metric("code_nll", "Study", "nats", "lower")
def code_nll(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """-log p(x), summed over all codes, mean over rows that were not learnt from."""
    found, _, n = _nll(model)
    return MetricValue(found, None, n)


@metric("code_nll_over_exact", "Study", "nats", "lower")
def code_nll_over_exact(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """`code_nll` less that of exact EM after as many rounds from the same means."""
    found, exact, n = _nll(model)
    return MetricValue(found - exact, None, n)


@metric("code_posterior_kl", "Study", "nats", "lower", within=(-1e-3, None))
def code_posterior_kl(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """KL(q || p(z | x)) at the last weights, summed over all codes, mean over the rows that were learnt from."""
    ((_, answer),) = model.answered()
    return MetricValue(float(answer["kl"]), None, model.rows)
