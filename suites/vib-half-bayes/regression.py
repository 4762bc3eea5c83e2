"""Linear regression in which ERM, the variational information bottleneck and Bayes are known in closed form.

Labels are x'w + N(0, noise^2), with w ~ N(0, signal^2 / p I) and inputs x ~ N(0, I) in p dimensions. Predictives are

    ERM    N(x'w_n, noise^2), w_n of least squares
    VIB    codes z ~ N(x'v, s^2), r(z) = N(0, signal^2), q(y | z) = N(z, noise^2):
           v = w_n / (1 + beta noise^2 / signal^2), s^2 = beta / (1 / noise^2 + beta / signal^2)
    Bayes  N(x'm, noise^2 + x'Sx) with the posterior N(m, S) of w

So v is the posterior mean under Zellner's prior N(0, g noise^2 (X'X)^-1) with g = signal^2 / (beta noise^2), and for
beta = p / n, s^2 is what x'Sx under that prior is on average over training inputs. It is the same at all others.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models import checks
from latentbench.models.study import Arrays, Problem, Study
from numpy import ndarray
from pydantic import PositiveFloat, PositiveInt
from torch import Generator

Rule = Literal["erm", "many-labels", "vib", "bayes"]
#: Labels of a training row, of which all rules but `many-labels` see one; inputs besides those of training.
LABELS, NEW = 10, 200
SMALL = {"inputs": 3, "rows": 9, "problems": 2}


@model("gaussian-regression", "Iterative Study", examples=(Example("real-vector", SMALL),))
class GaussianRegression(Study):
    """Answers: `mean` and `variance` of the predictive, (rows + NEW,), at the training inputs and then at new ones.

    Args:
        info: not used.
        rule: ``erm``, ``vib`` (beta = inputs / rows) or ``bayes``; ``many-labels`` is ERM of LABELS labels a row.
        inputs: p.
        rows: n, at least p.
        noise, signal: standard deviations of labels about x'w, and of x'w over inputs and w.
        problems: draws of w, rows and labels.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        rule: Rule = "vib",
        inputs: PositiveInt = 20,
        rows: PositiveInt = 40,
        noise: PositiveFloat = 1.0,
        signal: PositiveFloat = 2.0,
        problems: PositiveInt = 100,
    ) -> None:
        super().__init__(info, problems=problems)
        if rows < inputs:
            raise UserError(f"{rows} rows leave the weights of {inputs} inputs open", where="rows")
        self.rule, self.inputs, self.rows, self.noise, self.signal = rule, inputs, rows, noise, signal

    def problem(self, rng: np.random.Generator) -> Problem:
        """Inputs ``x`` (rows + NEW, p), those of training first, labels ``y`` (rows, LABELS); x'w is ``f`` in truth."""
        x = rng.standard_normal((self.rows + NEW, self.inputs))
        f = x @ (self.signal / np.sqrt(self.inputs) * rng.standard_normal(self.inputs))
        given = {"x": x, "y": f[: self.rows, None] + self.noise * rng.standard_normal((self.rows, LABELS))}
        return Problem(given, {**given, "f": f})

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        mean, variance = self.predictive(self.rule, given)
        return {"mean": mean, "variance": variance}

    def predictive(self, rule: Rule, given: Arrays) -> tuple[ndarray, ndarray]:
        """Mean and variance (rows + NEW,) by the rule."""
        x, noise, signal = given["x"], self.noise**2, self.signal**2
        seen, y = x[: self.rows], given["y"].mean(1) if rule == "many-labels" else given["y"][:, 0]
        if rule == "bayes":
            spread = np.linalg.inv(seen.T @ seen / noise + np.eye(self.inputs) * self.inputs / signal)
            return x @ (spread @ (seen.T @ y) / noise), noise + np.einsum("ij,jk,ik->i", x, spread, x)
        beta = self.inputs / self.rows if rule == "vib" else 0.0
        mean = x @ np.linalg.lstsq(seen, y, rcond=None)[0] / (1.0 + beta * noise / signal)
        return mean, np.full(len(x), noise + beta / (1.0 / noise + beta / signal))

    def excess(self, truth: Arrays, mean: ndarray, variance: ndarray, at: str) -> float:
        """Mean KL in nats of N(mean, variance) from the labels' law, at training inputs (`seen`) or at `new` ones."""
        part = slice(self.rows) if at == "seen" else slice(self.rows, None)
        error, ratio = ((truth["f"] - mean)[part] / self.noise) ** 2, variance[part] / self.noise**2
        return float(np.mean(np.log(ratio) + (1.0 + error) / ratio - 1.0) / 2)


def _own(model: Any) -> GaussianRegression:
    if not isinstance(model, GaussianRegression):
        raise UserError(f"{type(model).__name__} has no Gaussian predictive", fix="gaussian-regression")
    return model


@metric("predictive_excess_nll", "Study", "nats", "lower", settings={"at": "new"}, within=(0.0, None))
def predictive_excess_nll(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean negative log density of new labels beyond their entropy, at inputs `seen` in training or at `new` ones."""
    study, at = _own(model), checks.one_of("at", settings["at"], ("seen", "new"))
    return over_problems(study, lambda truth, answer: study.excess(truth, answer["mean"], answer["variance"], at))


@metric("label_risk_lead", "Study", "1", "higher")
def label_risk_lead(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Share of Bayes' gain over ERM in `predictive_excess_nll` at seen inputs less that at new ones; details: both."""
    study, found, share = _own(model), list(_own(model).answered()), {}
    for at in ("seen", "new"):
        own = sum(study.excess(truth, answer["mean"], answer["variance"], at) for truth, answer in found)
        erm, bayes = (sum(study.excess(t, *study.predictive(r, t), at) for t, _ in found) for r in ("erm", "bayes"))
        share[at] = (erm - own) / (erm - bayes)
    return MetricValue(share["seen"] - share["new"], None, len(found), share)
