"""Regression with noise that depends on the input, by Bayesian networks with a latent input for each row (BNN+LV).

y = f(x, z; w) + noise; z and all weights are standard normal a priori (the layers have scales of their own), q(w) and
q(z_n) are normal and independent. K settings train side by side: shapes are (K, draws of a step, ...). That NCAI
constrains latents to be independent of inputs and to have their prior's law is this project's reading of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.metrics.prediction import rmse
from latentbench.models import checks
from latentbench.models.densities import normal, normal_kl
from latentbench.models.study import Arrays, Problem, Study
from pydantic import PositiveInt
from scipy.stats import norm
from torch import Generator, Tensor, nn

#: Hidden units; scales of the layers; draws of a step; rate; deviations of weights at first, and of noise.
HIDDEN, INNER, OUTER, DRAWS, RATE, NARROW, NOISE = 20, 2.0, 3.0, 2, 0.01, 0.05, 0.2
#: Values of the latent that predictions go through, their probabilities, and draws of weights.
NODES = torch.linspace(-4.5, 4.5, 91)
PROBABILITIES, PREDICTIVE = (-0.5 * NODES.square()).softmax(0), 60
#: Rows that are judged; draws of the latents that dependence is averaged over.
TESTED, SAMPLES = 300, 10
#: Of each rule: weights of constraints, among which held rows choose; noise; spread of q (of the mode four are one).
RULES: Mapping[str, tuple[tuple[float, ...], str, float]] = {
    "ncai": ((1.0, 10.0, 30.0, 100.0), "fixed", 1.0),
    "bnn-lv": ((0.0,) * 4, "fixed", 1.0),
    "mode": ((0.0,), "fixed", 0.0),
    "bnn": ((0.0,) * 4, "learned", 1.0),
    "variance": ((0.0,) * 4, "function", 1.0),
}
SMALL = {"rows": 20, "steps": 5}
EXAMPLES = (Example("real-vector", SMALL), Example("real-vector", {**SMALL, "rule": "variance", "design": "yuan"}))


def centred(x: Tensor) -> Tensor:
    """H K H (N, N) of rows x (N, p), with K = exp(-|x - x'|^2 / (2 p)) and H = 1 - 1/N."""
    kernel = (-0.5 * torch.cdist(x, x).square() / x.shape[1]).exp()
    return kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()


def violations(kernel: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Of latents z (..., N) of rows with a `centred` kernel, by L = exp(-(z - z')^2 / 2): dependence (...), HSIC as
    tr(K H L H) / N^2 (Gretton et al. 2005), and distance (...) from the prior, the squared MMD of z and N(0, 1), which
    is Henze and Zirkler's statistic (1990) at beta = 1, over N, with the prior's moments for the sample's."""
    pairs = (-0.5 * (z[..., None] - z[..., None, :]).square()).exp()
    apart = pairs.mean((-1, -2)) - math.sqrt(2.0) * (-0.25 * z.square()).exp().mean(-1) + 1.0 / math.sqrt(3.0)
    return (kernel * pairs).mean((-1, -2)), apart


def network(w: Tensor, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Two outputs (..., N) of weights w (..., HIDDEN (p + 4) + 2), rows x (N, p) and latents z (..., N) or (..., 1)."""
    p = x.shape[1]
    inner, outer, bias = w.split([HIDDEN * (p + 2), 2 * HIDDEN, 2], -1)
    rows, latent, shift = inner.unflatten(-1, (p + 2, HIDDEN)).split([p, 1, 1], -2)
    hidden = torch.relu(INNER * (x @ rows + z[..., None] * latent + shift))
    both = hidden @ outer.unflatten(-1, (HIDDEN, 2)) * (OUTER / HIDDEN**0.5) + bias[..., None, :]
    return both[..., 0], both[..., 1]


class Posterior(nn.Module):
    """q(w) q(z) of as many settings as there are weights.

    Args:
        x, y: rows (N, p) and responses (N,), standardised.
        draws: of all that is random.
        settings: weights of NCAI's constraints, in nats a row.
        noise: ``fixed`` at NOISE, with latents; without, ``learned``, or a ``function`` of x, the second output.
        spread: of draws, in q's deviations: 0 leaves the mode of weights and latents.
    """

    def __init__(
        self, x: Tensor, y: Tensor, draws: Generator, settings: Sequence[float], noise: str, spread: float
    ) -> None:
        super().__init__()
        self.x, self.y, self.draws, self.spread, self.kernel = x, y, draws, spread, centred(x)
        self.latent, self.function = noise == "fixed", noise == "function"
        self.weight, start = torch.tensor(settings), torch.randn(HIDDEN * (x.shape[1] + 4) + 2, generator=draws)
        self.mean = nn.Parameter(start.repeat(len(settings), 1))
        self.log_sd = nn.Parameter(torch.full_like(self.mean, math.log(NARROW)))
        self.z_mean, self.z_log_sd = (nn.Parameter(torch.zeros(len(settings), len(x))) for _ in range(2))
        self.log_noise = nn.Parameter(torch.full((len(settings),), math.log(NOISE)), noise == "learned")

    def drawn(self, mean: Tensor, log_sd: Tensor, times: int) -> Tensor:
        """(..., times, n) for (..., n)."""
        noise = torch.randn((*mean.shape[:-1], times, mean.shape[-1]), generator=self.draws)
        return mean[..., None, :] + self.spread * log_sd.exp()[..., None, :] * noise

    def start_loss(self) -> Tensor:
        """(K,): mean squared error of the function at z = 0, halved."""
        mean, _ = network(self.mean, self.x, torch.zeros(len(self.mean), 1))
        return 0.5 * (self.y - mean).square().mean(1)

    def loss(self) -> Tensor:
        """(K,): the negative ELBO of a row, and both violations times their weight."""
        w, z = self.drawn(self.mean, self.log_sd, DRAWS), self.drawn(self.z_mean, self.z_log_sd, DRAWS)
        mean, log_sd = network(w, self.x, z if self.latent else torch.zeros(1))
        fit = normal(self.y, mean, log_sd if self.function else self.log_noise[:, None, None]).mean(1)
        loss = normal_kl(self.mean, self.log_sd) + normal_kl(self.z_mean, self.z_log_sd) - fit
        constraints = self.weight * sum(violations(self.kernel, z[:, 0])) if self.weight.any() else 0.0
        return loss / len(self.y) + constraints

    def descend(self, warm: int, steps: int) -> None:
        """Adam on the function alone, so that q(z) stays the prior, then on all, at a rate that falls to 0."""
        for loss, length in ((self.start_loss, warm), (self.loss, steps)):
            adam = torch.optim.Adam(self.parameters(), RATE)
            for i in range(length):
                adam.param_groups[0]["lr"] = RATE * 0.5 * (1.0 + math.cos(math.pi * i / length))
                adam.zero_grad()
                loss().sum().backward()
                adam.step()

    @torch.no_grad()
    def predict(self, k: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Of setting k, for rows x (T, p) with responses y (T,): log densities and means of the predictive law (T,).
        Weights are drawn from q; the latent has its prior and is summed over."""
        nodes, p = (NODES, PROBABILITIES) if self.latent else (torch.zeros(1), torch.ones(1))
        w = self.drawn(self.mean[k], self.log_sd[k], PREDICTIVE)
        mean, log_sd = network(w[:, None], x, nodes[:, None])
        each = normal(y[:, None], mean[..., None], log_sd[..., None] if self.function else self.log_noise[k])
        return (each + p.log()[:, None]).logsumexp((0, 1)) - math.log(PREDICTIVE), (p @ mean).mean(0)


def inputs(design: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n,): uniform on [0, 1], or Depeweg's three normal laws."""
    if design != "depeweg":
        return rng.uniform(0.0, 1.0, n)
    part = rng.integers(0, 3, n)
    return 4.0 * (part - 1) + np.where(part == 1, 0.9, 0.4) * rng.standard_normal(n)


def moments(design: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of the normal response to x: of Goldberg, Williams and Bishop 1998, Yuan and Wahba 2004, and
    Depeweg et al. 2018."""
    if design == "goldberg":
        return 2.0 * np.sin(2.0 * np.pi * x), 0.5 + x
    if design == "yuan":
        bump = np.exp(-30.0 * (x - 0.25) ** 2) + np.sin(np.pi * x**2)
        return 2.0 * bump - 2.0, np.exp(0.5 * np.sin(2.0 * np.pi * x))
    return 7.0 * np.sin(x), 3.0 * np.abs(np.cos(x / 2.0))


@model("noise-inference", "Iterative Study", "networks whose noise depends on the input", examples=EXAMPLES)
class NoiseInference(Study):
    """Answers: ``log_density`` and ``mean`` (T,) of new rows, ``z`` (SAMPLES, N) drawn from q, ``rate``, nats a row.

    Args:
        info: of no matter.
        rule: mean-field BNN+LV with NCAI's constraints (``ncai``), without (``bnn-lv``), or the joint mode of weights
            and latents (``mode``); without latents, noise of one deviation (``bnn``) or of a function (``variance``).
        design: of `moments`.
        rows: to train on, 10 or more; a third as many choose among a rule's four settings, or runs of one.
        steps: after a quarter as many for the function alone.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        rule: Literal["ncai", "bnn-lv", "mode", "bnn", "variance"] = "ncai",
        design: Literal["goldberg", "yuan", "depeweg"] = "goldberg",
        rows: PositiveInt = 200,
        steps: PositiveInt = 2000,
    ) -> None:
        super().__init__(info, problems=1)
        self.rule, self.design, self.rows, self.steps = rule, design, checks.whole("rows", rows, 10), steps

    def problem(self, rng: np.random.Generator) -> Problem:
        """Rows ``x`` (N + N // 3 + TESTED, 1) and ``y``, to train, choose and judge by, standardised by the first N;
        truth has ``x`` of these, and ``mean`` and ``log_density`` of the last."""
        n, new = self.rows, slice(-TESTED, None)
        x = inputs(self.design, n + n // 3 + TESTED, rng)
        mean, sd = moments(self.design, x)
        y = mean + sd * rng.standard_normal(len(x))
        at, by = y[:n].mean(), y[:n].std()
        x, y, mean, sd = (x[:, None] - x[:n].mean()) / x[:n].std(), (y - at) / by, (mean - at) / by, sd / by
        truth = {"x": x[:n], "mean": mean[new], "log_density": norm.logpdf(y, mean, sd)[new]}
        return Problem({"x": x, "y": y}, truth)

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        parts, draws = [self.rows, self.rows // 3, TESTED], torch.Generator().manual_seed(int(rng.integers(2**62)))
        (x, x_held, x_new), (y, y_held, y_new) = (Tensor(given[name]).split(parts) for name in "xy")
        found = Posterior(x, y, draws, *RULES[self.rule])
        found.descend(self.steps // 4, self.steps)
        best = int(np.argmax([found.predict(k, x_held, y_held)[0].mean() for k in range(len(found.weight))]))
        log_density, mean = found.predict(best, x_new, y_new)
        q = found.z_mean[best].detach(), found.z_log_sd[best].detach()
        z = found.drawn(*q, SAMPLES)
        return {"log_density": log_density, "mean": mean, "z": z, "rate": normal_kl(*q) / self.rows}


def over(model: Any, measure: Callable[[Arrays, Arrays], float]) -> MetricValue:
    """Raises UserError for another study."""
    try:
        return over_problems(model, measure)
    except KeyError as error:
        raise UserError(f"this study has no {error}", fix="model noise-inference") from None


@metric("noise_excess", "Study", "nats", "lower")
def noise_excess(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """How far the mean log density of a new response is below that of the true law."""
    return over(model, lambda truth, answer: (truth["log_density"] - answer["log_density"]).mean())


@metric("noise_function_error", "Study", "1", "lower", within=(0.0, None))
def noise_function_error(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Root mean squared error of the predicted mean of new responses, over the training responses' deviation."""
    return over(model, lambda truth, answer: rmse(answer["mean"], truth["mean"]).value)


@metric("noise_latent_rate", "Study", "nats", "lower", within=(0.0, None))
def noise_latent_rate(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """KL divergence of a row's latent from its prior."""
    return over(model, lambda _, answer: float(answer["rate"]))


@metric("noise_latent_information", "Study", "nats", "lower", within=(0.0, None))
def noise_latent_information(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mutual information of a training row's input and its latent drawn from q, by 3 nearest neighbours (Kraskov et al.
    2004; negative estimates count as 0), mean of SAMPLES draws. Of independent latents it is 0.02 at 200 rows."""
    from sklearn.feature_selection import mutual_info_regression

    each = partial(mutual_info_regression, random_state=0)
    return over(model, lambda truth, answer: np.mean([each(truth["x"], z) for z in answer["z"]]))
