"""Networks with a stochastic layer on small sets, and the crescent, whose evidence and posterior are known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.metrics.fidelity.kernels import energy_distance
from latentbench.models.study import Arrays, Problem, TableStudy
from numpy import ndarray
from pydantic import NonNegativeInt, PositiveInt
from scipy.special import logsumexp
from torch import Generator, Tensor

from .training import MeanField, Network, OpenHorizon, Point, Settings, fit, hmc, nll, swag

#: Settings of the authors, whose file for tables is not public (their epochs are those of `wave`); widths after inputs.
SETTINGS = {
    "crescent": Settings(batch=10, epochs=200, lr=0.1, decay=0.96**0.1, walk=1e-3, log_var=0.0),
    "moons": Settings(batch=20, epochs=100),
    "wave": Settings(batch=20, epochs=200),
    "table": Settings(batch=50, epochs=200),
}
WIDTHS = {"moons": (100, 20, 5, 1), "wave": (20, 10, 1), "table": (50, 20, 5, 1)}
#: Variances of the crescent's prior; points of its quadrature over phi_1.
VARIANCES, GRID = (2.0, 1.0), np.linspace(-8, 8, 2001)
SMALL = {"epochs": 1, "particles": 40, "problems": 2}
EXAMPLES = (Example("real-vector", SMALL), Example("real-vector", {**SMALL, "design": "moons", "rule": "map-hmc"}))


class Crescent:
    """y ~ N(phi_2 / psi + (phi_1^2 + psi^2) / 2, 1), phi ~ N(0, diag(VARIANCES))."""

    phi, psi, scale = torch.zeros(2), torch.tensor([0.1]), torch.tensor(VARIANCES).sqrt()

    def log_density(self, phi: Tensor, psi: Tensor, x: Tensor, y: Tensor) -> Tensor:
        mean = phi[:, 1:] / psi + 0.5 * (phi[:, :1].square() + psi.square())
        return -0.5 * (y - mean).square() - 0.5 * math.log(2 * math.pi)


def crescent_log_weights(y: ndarray, psi: float) -> ndarray:
    """log of p(phi_1, mean of y; psi) on GRID, up to a constant: without phi_2 the mean is Gaussian given phi_1."""
    variance = VARIANCES[1] / psi**2 + 1 / len(y)
    gap = y.mean() - (GRID**2 + psi**2) / 2
    return -0.5 * (GRID**2 / VARIANCES[0] + gap**2 / variance + math.log(variance))


def crescent_posterior(y: ndarray, n: int, rng: np.random.Generator) -> tuple[float, ndarray]:
    """psi of the greatest evidence, to 0.001, and n draws of phi (n, 2) given y there."""
    psi = max(np.arange(0.2, 3, 1e-3), key=lambda a: logsumexp(crescent_log_weights(y, a)))
    logs = crescent_log_weights(y, psi)
    one = rng.choice(GRID, n, p=np.exp(logs - logsumexp(logs)))
    precision = 1 / VARIANCES[1] + len(y) / psi**2
    mean = len(y) / psi * (y.mean() - (one**2 + psi**2) / 2) / precision
    return float(psi), np.column_stack([one, mean + rng.standard_normal(n) / math.sqrt(precision)])


def made(design: str, n: int, rng: np.random.Generator) -> tuple[ndarray, ndarray, ndarray]:
    """Inputs (n, D), outcomes (n,), and what is to be predicted (n,): labels of two moons with noise of 0.3, or
    f(x) = x sin(x tanh x) beneath unit noise."""
    if design == "moons":
        label, angle = np.arange(n) % 2, rng.uniform(0, np.pi, n)
        x = np.where(label, [1 - np.cos(angle), 0.5 - np.sin(angle)], [np.cos(angle), np.sin(angle)]).T
        return x + 0.3 * rng.standard_normal((n, 2)), label.astype(float), label.astype(float)
    x = rng.uniform(-6, 6, n)
    f = x * np.sin(x * np.tanh(x))
    return x[:, None], f + rng.standard_normal(n), f


@model("partial-bnn", "Iterative Study", "networks of which one layer is stochastic", examples=EXAMPLES)
class PartialBNN(TableStudy):
    """Answers: ``nll`` (T,) and ``mean`` (T,) of new rows; of the crescent ``phi`` (S, 2) and ``psi``.

    Args:
        info: of rows with target ``y``, where the design is `table`.
        rule: ``map-hmc`` has HMC at the psi of MAP; ``swag`` is not for the crescent, which has no held rows.
        design: what is learnt, with the authors' network and settings.
        epochs, particles, log_var: as the design has them where None (`training.Settings`).
        problems: draws of data, or random splits (60 % train, 30 % choose the epoch, 10 % are judged).
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        rule: Literal["ohsmc", "map", "map-hmc", "vi", "swag"] = "ohsmc",
        design: Literal["crescent", "moons", "wave", "table"] = "crescent",
        epochs: NonNegativeInt | None = None,
        particles: PositiveInt | None = None,
        log_var: float | None = None,
        problems: PositiveInt = 1,
    ) -> None:
        super().__init__(info, problems=problems)
        if rule == "swag" and design == "crescent":
            raise UserError("SWAG needs held rows, which the crescent has not", fix="another design")
        self.rule, self.design = rule, design
        given: dict[str, Any] = {"epochs": epochs, "particles": particles, "log_var": log_var}
        self.settings = replace(SETTINGS[design], **{k: v for k, v in given.items() if v is not None})

    def start(self, data: Batch, generator: Generator) -> None:
        """Raises UserError where the design is a table and the data are none with a target."""
        super().start(data, generator)
        if self.design == "table":
            if "y" not in data.columns:
                raise UserError("no table with a target", fix="dataset uci-yacht")
            self.keep(data)

    def problem(self, rng: np.random.Generator) -> Problem:
        """``x`` and ``y`` to train on, the same with ``_held`` and ``_new``; truth: ``target`` of the new."""
        if self.design == "crescent":
            y = 0.5 + rng.standard_normal(100)
            psi, phi = crescent_posterior(y, 2000, rng)
            return Problem({"x": np.zeros((100, 1)), "y": y}, {"psi": psi, "phi": phi})
        if self.design == "table":
            rows = np.column_stack([self.x, self.y])[rng.permutation(len(self.x))]
            ends = [int(len(rows) * share) for share in (0.6, 0.9)]
            rows = (rows - rows[: ends[0]].mean(0)) / np.maximum(rows[: ends[0]].std(0), 1e-9)
            x, y, target = rows[:, :-1], rows[:, -1], rows[:, -1]
        else:
            ends = [100, 200]
            x, y, target = made(self.design, 1200, rng)
        parts = zip(("", "_held", "_new"), np.split(x, ends), np.split(y, ends), strict=True)
        given = {name + part: a for part, *both in parts for name, a in zip("xy", both, strict=True)}
        return Problem(given, {"target": target[ends[1] :]})

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        draws = torch.Generator().manual_seed(int(rng.integers(2**62)))
        of, rows = self.settings, (Tensor(given["x"]), Tensor(given["y"]))
        crescent = self.design == "crescent"
        binary, widths = self.design == "moons", (rows[0].shape[1], *WIDTHS.get(self.design, ()))
        net: Any = Crescent() if crescent else Network(widths, draws, binary=binary)
        held = None if crescent else (Tensor(given["x_held"]), Tensor(given["y_held"]))
        rule = {"ohsmc": OpenHorizon, "vi": MeanField}.get(self.rule, Point)(net, of, draws)
        phi, psi = fit(rule, rows, held, of, draws)
        if held and self.rule == "swag":
            phi, psi = swag(Point(net, of, draws, (phi, psi)), rows, held, of, draws)
        if self.rule == "map-hmc":
            phi = hmc(net, phi, psi, rows, of, draws)
        if crescent:
            return {"phi": phi.numpy(), "psi": float(psi)}
        new = Tensor(given["x_new"])
        with torch.no_grad():
            outputs = net.outputs(phi, psi, new)
        mean = outputs.sigmoid() if binary else outputs
        return {"nll": nll(net, phi, psi, (new, Tensor(given["y_new"]))).numpy(), "mean": mean.mean(0).numpy()}


def _of(name: str, answer: Arrays) -> ndarray:
    if name not in answer:
        raise UserError(f"no {name} is answered", fix="a design that has it, of the model partial-bnn")
    found: ndarray = answer[name]
    return found


@metric("pbnn_nll", "Study", "nats", "lower")
def pbnn_nll(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean negative log predictive density of a new row."""
    return over_problems(model, lambda _, answer: float(_of("nll", answer).mean()))


@metric("pbnn_rmse", "Study", "1", "lower", within=(0.0, None))
def pbnn_rmse(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Root mean squared error of the predictive mean, against f of made rows or the target of a table."""
    return over_problems(model, lambda t, answer: float(np.sqrt(np.square(_of("mean", answer) - t["target"]).mean())))


@metric("pbnn_misclassified", "Study", "1", "lower", within=(0.0, 1.0))
def pbnn_misclassified(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Share of new rows whose label has the lesser predictive probability."""
    return over_problems(model, lambda t, answer: float(((_of("mean", answer) > 0.5) != (t["target"] > 0.5)).mean()))


@metric("crescent_energy", "Study", "1", "lower", within=(0.0, None))
def crescent_energy(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Energy distance of draws of phi from the posterior at the psi of greatest evidence; psi's sign is free."""
    return over_problems(model, lambda t, a: energy_distance(_of("phi", a) * [1.0, np.sign(a["psi"])], t["phi"]))
