"""EM for a hierarchical mixture of Gaussians by an exact, a mean-field or a GFlowNet's E-step (arXiv 2302.06576).

A row x in the plane comes of one of K clusters and one of its K petals, z = (cluster, petal), uniformly; only clusters'
means are learnt, in M-steps that ascend the mean of log p(x, z) over q. All K^2 codes are listed (first the petals of
the first cluster). E-steps, given the means:

    exact       p(z | x)
    mean-field  the product q(cluster | x) q(petal | x) that coordinate ascent on the ELBO finds (variational EM)
    gflownet    a policy that chooses a cluster, then a petal, trained by trajectory balance on codes of its own:
                (log Z(x) + log q(z | x) - log p(x, z))^2  (GFlowNet-EM)
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
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.nn.utils import skip_init

Arrays = Mapping[str, Any]
K = 4  # clusters, and petals of each
SCALE = 0.25  # standard deviation of a petal
PEAK = -math.log(K**2 * 2.0 * math.pi * SCALE**2)  # log p(x, z) at a petal's centre
MEANS = math.sqrt(2.0) * torch.tensor([[-1.0, -1.0], [1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
PETALS = math.sqrt(0.5) * torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]], dtype=torch.float64)
# means of the authors' figure 2
AMBIGUOUS = torch.tensor([[-2.470494, 0.388880], [1.149350, -0.603844], [-0.196420, -1.426131], [0.211121, 1.147870]])


def centres(means: Tensor) -> Tensor:
    """(16, 2) of the petals, given the clusters' means (4, 2)."""
    return (means[:, None] + PETALS.to(means)).flatten(0, 1)


def log_weights(x: Tensor, means: Tensor) -> Tensor:
    """log p(x, z) - PEAK, (n, 16), of rows (n, 2): at most 0."""
    return -0.5 * ((x[:, None] - centres(means)) / SCALE).square().sum(2)


def nll(x: np.ndarray, means: np.ndarray) -> float:
    """-log p(x) in nats, mean over rows (n, 2)."""
    return float(-log_weights(torch.as_tensor(x), torch.as_tensor(means)).logsumexp(1).mean()) - PEAK


def posterior_kl(log_q: Tensor, weights: Tensor) -> Tensor:
    """KL(q(z | x) || p(z | x)) (..., n), given log q (..., n, 16) and `log_weights` (n, 16)."""
    return (log_q.exp() * (log_q - weights.log_softmax(1))).sum(-1)


def m_step(x: Tensor, means: Tensor, q: Tensor, rate: float) -> Tensor:
    """Means (4, 2) after a gradient step on the mean of log p(x, z) over q (n, 16); at rate 0, those of its maximum."""
    mass, away = q.unflatten(1, (K, K)), x[:, None, None] - centres(means).unflatten(0, (K, K))
    total = (mass[..., None] * away).sum((0, 2))
    return means + (rate * total / (len(x) * SCALE**2) if rate else total / mass.sum((0, 2))[:, None].clamp(min=1e-8))


def mean_field(weights: Tensor, petals: Tensor, sweeps: int) -> tuple[Tensor, Tensor]:
    """log q(z | x) (n, 16) and q(petal | x) (1, n, 4) after coordinate ascent on the ELBO, clusters first.

    Of `petals`, starts of q(petal | x) (s, n, 4), each row keeps the one that ends best; weights are `log_weights`.
    """
    table = weights.unflatten(1, (K, K))
    for _ in range(sweeps):
        clusters = torch.einsum("nij,snj->sni", table, petals).softmax(2)
        petals = torch.einsum("nij,sni->snj", table, clusters).softmax(2)
    log_q = (clusters[..., None] * petals[:, :, None]).flatten(2).clamp(min=1e-30).log()
    best = posterior_kl(log_q, weights).argmin(0), torch.arange(len(weights))
    return log_q[best], petals[best][None]


class Policy(nn.Module):
    """A network that sees (x, cluster or 0, 0) and whose heads choose cluster and petal and give log Z."""

    def __init__(self, hidden: int, draws: Generator) -> None:
        super().__init__()
        layers = [skip_init(nn.Linear, 2 + 2 * K, hidden), skip_init(nn.Linear, hidden, 2 * K + 1)]
        for one in layers:
            for values in one.parameters():
                nn.init.uniform_(values, -(one.in_features**-0.5), one.in_features**-0.5, generator=draws)
        self.net = nn.Sequential(layers[0], nn.LeakyReLU(), layers[1])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log q(z | x) of all codes (n, 16) and log Z(x) (n,), of rows (n, 2)."""
        states = torch.cat([x.new_zeros(1, 2 * K), torch.eye(K, 2 * K)])  # nothing chosen yet, or a cluster
        seen = torch.cat([x.expand(K + 1, -1, -1), states[:, None].expand(-1, len(x), -1)], 2)
        heads = self.net(seen)
        cluster, petal = heads[0, :, :K].log_softmax(1), heads[1:, :, K:-1].log_softmax(2)
        return (cluster[:, :, None] + petal.transpose(0, 1)).flatten(1), heads[0, :, -1]


def trajectory_balance(log_q: Tensor, log_z: Tensor, log_rewards: Tensor, z: Tensor) -> Tensor:
    """Mean over rows of (log Z(x) + log q(z | x) - log reward)^2 at codes z (n,); log q and log rewards are (n, 16)."""
    return (log_z + (log_q - log_rewards).gather(1, z[:, None])[:, 0]).square().mean()


@model(
    "hierarchical-mixture-em",
    "Iterative Study",
    "EM of a hierarchical mixture",
    examples=(
        Example("real-vector", {"e_step": "gflownet", "rows": 20, "rounds": 2, "updates": 2}),
        Example("real-vector", {"e_step": "mean-field", "rows": 20, "rounds": 2, "starts": 2}),
    ),
)
class MixtureEM(Study):
    """Answers are ``means`` (4, 2), and ``kl``: `posterior_kl` of the last E-step at its means, mean over rows.

    Args:
        info: of the data, which are not looked at.
        e_step: see above.
        spacing: of the true means: at 1 petals lie apart; at 0.5 those of neighbours coincide.
        start: of the means: at four rows, within noise of `SCALE` about the true ones, or `AMBIGUOUS`.
        fixed: whether there is no M-step.
        rows: drawn to learn from, and as many to be judged by.
        rounds: of an E-step and an M-step; at 0, q is that of an untrained policy.
        updates, rate: of the policy in an E-step, by Adam on all rows.
        m_rate: of the M-step, see `m_step`.
        hidden: width of the policy's hidden layer.
        floor: log rewards are at least -floor, a petal's centre being at 0.
        sweeps, starts: of mean-field; starts are drawn anew each round, but 0 goes on from the round before.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        e_step: Literal["exact", "mean-field", "gflownet"],
        spacing: PositiveFloat = 1.0,
        start: Literal["rows", "near", "ambiguous"] = "rows",
        fixed: bool = False,
        rows: PositiveInt = 4000,
        rounds: NonNegativeInt = 60,
        updates: PositiveInt = 1000,
        rate: PositiveFloat = 3e-4,
        m_rate: NonNegativeFloat = 0.0,
        hidden: PositiveInt = 32,
        floor: PositiveFloat = 20.0,
        sweeps: PositiveInt = 1,
        starts: NonNegativeInt = 1,
    ) -> None:
        super().__init__(info, problems=1)
        self.spacing, self.begin, self.fixed, self.rows, self.rounds = spacing, start, fixed, rows, rounds
        self.updates, self.rate, self.m_rate, self.hidden, self.floor = updates, rate, m_rate, hidden, floor
        self.e_step, self.sweeps, self.starts = e_step, sweeps, starts

    def problem(self, rng: np.random.Generator) -> Problem:
        true = self.spacing * MEANS.numpy()
        spots = centres(self.spacing * MEANS).numpy()[rng.integers(K**2, size=(2, self.rows))]
        x, test = spots + SCALE * rng.standard_normal((2, self.rows, 2))
        rows, near = x[rng.integers(self.rows, size=K)], true + SCALE * rng.standard_normal((K, 2))
        means = {"rows": rows, "near": near, "ambiguous": AMBIGUOUS.numpy()}[self.begin]
        return Problem({"x": x, "means": means}, {"x": test, "means": true})

    @torch.enable_grad()
    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        draws = Generator().manual_seed(int(rng.integers(2**62)))
        x, means = (torch.tensor(given[name], dtype=torch.float32) for name in ("x", "means"))
        policy = Policy(self.hidden, draws)
        adam = torch.optim.Adam(policy.parameters(), lr=self.rate)
        petals = torch.rand(1, len(x), K, generator=draws).softmax(2)
        weights, log_q = log_weights(x, means), policy(x)[0].detach()
        for _ in range(self.rounds):
            weights = log_weights(x, means)
            log_q, q = weights.log_softmax(1), weights.softmax(1)
            if self.e_step == "mean-field":
                if self.starts:
                    petals = torch.rand(self.starts, len(x), K, generator=draws).softmax(2)
                log_q, petals = mean_field(weights, petals, self.sweeps)
                q = log_q.exp()
            elif self.e_step == "gflownet":
                self.learn(policy, adam, x, weights.clamp(min=-self.floor), draws)
                log_q = policy(x)[0].detach()
                q = functional.one_hot(torch.multinomial(log_q.exp(), 1, generator=draws)[:, 0], K**2).to(x)
            means = means if self.fixed else m_step(x, means, q, self.m_rate)
        return {"means": means.numpy(), "kl": posterior_kl(log_q, weights).mean().numpy()}

    def learn(self, policy: Policy, adam: torch.optim.Adam, x: Tensor, log_rewards: Tensor, draws: Generator) -> None:
        """Updates of the policy by trajectory balance, on one code of its own a row."""
        for _ in range(self.updates):
            log_q, log_z = policy(x)
            z = torch.multinomial(log_q.detach().exp(), 1, generator=draws)[:, 0]
            adam.zero_grad()
            trajectory_balance(log_q, log_z, log_rewards, z).backward()
            adam.step()


@metric("mixture_nll", "Study", "nats", "lower")
def mixture_nll(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """-log p(x), summed over all codes, mean over rows that were not learnt from."""
    ((truth, answer),) = model.answered()
    return MetricValue(nll(truth["x"], answer["means"]), None, model.rows)


@metric("mixture_nll_excess", "Study", "nats", "lower")
def mixture_nll_excess(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """`mixture_nll` less that of the true means on the same rows."""
    ((truth, answer),) = model.answered()
    return MetricValue(nll(truth["x"], answer["means"]) - nll(truth["x"], truth["means"]), None, model.rows)


@metric("mixture_posterior_kl", "Study", "nats", "lower", within=(-1e-3, None))
def mixture_posterior_kl(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """KL(q(z | x) || p(z | x)) of the last E-step, summed over all codes, mean over the rows that were learnt from."""
    ((_, answer),) = model.answered()
    return MetricValue(float(answer["kl"]), None, model.rows)
