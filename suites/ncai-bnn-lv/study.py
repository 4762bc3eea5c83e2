"""Regression with noise that depends on the input: laws that are known, and inference with latent inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.metrics.prediction import rmse
from latentbench.models.study import Arrays, Problem, Study
from numpy import ndarray
from pydantic import PositiveInt
from scipy.stats import norm
from torch import Generator, Tensor

from .latents import Posterior, divergence

#: Rows that are judged, at most; draws of the latents that dependence is averaged over.
TESTED, SAMPLES = 300, 10
#: Of each rule: weights of the constraints, among which held rows choose, the noise, and the spread of q.
PLAIN, CONSTRAINED = (0.0, 0.0, 0.0, 0.0), (1.0, 10.0, 30.0, 100.0)
RULES: Mapping[str, tuple[tuple[float, ...], str, float]] = {
    "ncai": (CONSTRAINED, "fixed", 1.0),
    "bnn-lv": (PLAIN, "fixed", 1.0),
    "cold": (PLAIN, "fixed", 1.0),
    "mode": (PLAIN, "fixed", 0.0),
    "ncai-mode": (CONSTRAINED, "fixed", 0.0),
    "bnn": (PLAIN, "learned", 1.0),
    "variance": (PLAIN, "function", 1.0),
}
SMALL = {"rows": 20, "steps": 5}
EXAMPLES = (Example("real-vector", SMALL), Example("real-vector", {**SMALL, "rule": "variance", "design": "yuan"}))


def inputs(design: str, n: int, rng: np.random.Generator) -> ndarray:
    """(n,): uniform on [0, 1], or Depeweg's three normal laws."""
    if design != "depeweg":
        return rng.uniform(0.0, 1.0, n)
    part = rng.integers(0, 3, n)
    return 4.0 * (part - 1) + np.where(part == 1, 0.9, 0.4) * rng.standard_normal(n)


def moments(design: str, x: ndarray) -> tuple[ndarray, ndarray]:
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
        rule: each has four settings, or four times the same, that held rows choose from. Mean-field BNN+LV with NCAI's
            constraints (``ncai``), without (``bnn-lv``), so from random weights (``cold``); the joint mode of weights
            and latents, without and with them (``mode``, ``ncai-mode``); without latents, noise of one deviation
            (``bnn``) or of one that is a function of x (``variance``).
        design: of `moments`.
        rows: to train on; a third as many choose the setting.
        steps: after a quarter as many for the function alone, which ``cold`` adds to the others.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        rule: Literal["ncai", "bnn-lv", "cold", "mode", "ncai-mode", "bnn", "variance"] = "ncai",
        design: Literal["goldberg", "yuan", "depeweg"] = "goldberg",
        rows: PositiveInt = 200,
        steps: PositiveInt = 2000,
    ) -> None:
        super().__init__(info, problems=1)
        self.rule, self.design, self.rows, self.steps = rule, design, rows, steps

    def problem(self, rng: np.random.Generator) -> Problem:
        """Rows ``x`` (N, 1) and ``y`` (N,) to train on, and the same with ``_held`` and ``_new``, standardised by the
        first; truth has ``x``, and ``mean`` and ``log_density`` of the new."""
        ends = [self.rows, self.rows + self.rows // 3]
        x = inputs(self.design, ends[1] + TESTED, rng)
        mean, sd = moments(self.design, x)
        y = mean + sd * rng.standard_normal(len(x))
        at, by = y[: self.rows].mean(), y[: self.rows].std()
        x, y, mean, sd = (x - x[: self.rows].mean()) / x[: self.rows].std(), (y - at) / by, (mean - at) / by, sd / by
        parts = zip(("", "_held", "_new"), np.split(x[:, None], ends), np.split(y, ends), strict=True)
        given = {name + part: a for part, *both in parts for name, a in zip("xy", both, strict=True)}
        new = slice(ends[1], None)
        truth = {"x": given["x"], "mean": mean[new], "log_density": norm.logpdf(y, mean, sd)[new]}
        return Problem(given, truth)

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        draws = torch.Generator().manual_seed(int(rng.integers(2**62)))
        of = {name: Tensor(a) for name, a in given.items()}
        found, warm = Posterior(of["x"], of["y"], draws, *RULES[self.rule]), self.steps // 4
        found.descend(*((0, warm + self.steps) if self.rule == "cold" else (warm, self.steps)))
        held = [found.predict(k, of["x_held"], of["y_held"])[0].mean() for k in range(len(found.weight))]
        best = int(np.argmax(held))
        log_density, mean = found.predict(best, of["x_new"], of["y_new"])
        z_mean, z_log_sd = found.z_mean[best].detach(), found.z_log_sd[best].detach()
        z = z_mean + found.spread * z_log_sd.exp() * torch.randn((SAMPLES, len(z_mean)), generator=draws)
        rate = divergence(z_mean, z_log_sd) / len(z_mean)
        return {"log_density": log_density, "mean": mean, "z": z, "rate": rate, "chosen": best}


def taken(of: Arrays, name: str) -> Any:
    """Raises UserError where a study's truth or answer lacks that part."""
    if name not in of:
        raise UserError(f"this study has no {name!r}", fix="model noise-inference")
    return of[name]


@metric("noise_excess", "Study", "nats", "lower")
def noise_excess(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """How far the mean log density of a new response is below that of the true law."""
    below = lambda truth, answer: (taken(truth, "log_density") - taken(answer, "log_density")).mean()  # noqa: E731
    return over_problems(model, below)


@metric("noise_function_error", "Study", "1", "lower", within=(0.0, None))
def noise_function_error(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Root mean squared error of the predicted mean of new responses, over the training responses' deviation."""
    return over_problems(model, lambda truth, answer: rmse(taken(answer, "mean"), taken(truth, "mean")).value)


@metric("noise_latent_rate", "Study", "nats", "lower", within=(0.0, None))
def noise_latent_rate(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """KL divergence of a row's latent from its prior."""
    return over_problems(model, lambda _, answer: float(taken(answer, "rate")))


@metric("noise_latent_information", "Study", "nats", "lower", within=(0.0, None))
def noise_latent_information(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mutual information of a training row's one input and its latent drawn from q, by 3 nearest neighbours (Kraskov,
    Stögbauer and Grassberger 2004; negative estimates count as 0), mean of SAMPLES draws."""
    from sklearn.feature_selection import mutual_info_regression

    def information(truth: Arrays, answer: Arrays) -> float:
        each = [mutual_info_regression(truth["x"], z, random_state=0)[0] for z in taken(answer, "z")]
        return float(np.mean(each))

    return over_problems(model, information)
