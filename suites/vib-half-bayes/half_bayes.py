"""Empirical risk, half Bayes and Bayes (Alemi et al. 2020, arXiv 2011.08711), on one network and in linear regression.

    ERM    mean_i -log q(y_i | x_i)
    VIB    mean_i E_e(z | x_i) -log q(y_i | z) + beta KL(e(z | x_i) || r(z))       a law of the code of each input
    Bayes  mean_i E_q(w) -log q(y_i | x_i, w) + beta / n KL(q(w) || p(w))          one law of the weights; beta is 1

Predictions average probabilities over the law. ERM is VIB with beta 0 and codes without noise. Labels of the regression
are x'w + N(0, noise^2), with w ~ N(0, signal^2 / p I) and p inputs x ~ N(0, I), and its predictives are exact:

    ERM    N(x'w_n, noise^2), w_n of least squares
    VIB    codes z ~ N(x'v, s^2), r(z) = N(0, signal^2), q(y | z) = N(z, noise^2):
           v = w_n / (1 + beta noise^2 / signal^2), s^2 = beta / (1 / noise^2 + beta / signal^2)
    Bayes  N(x'm, noise^2 + x'Sx) with the posterior N(m, S) of w

So v is the posterior mean under Zellner's prior N(0, g noise^2 (X'X)^-1) with g = signal^2 / (beta noise^2), and for
beta = p / n, s^2 is what x'Sx under that prior is on average over training inputs. It is the same at all others.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.capabilities import Classifier
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.prediction import ROWS
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.metrics import prediction
from latentbench.metrics.arrays import mean_and_se
from latentbench.models import checks
from latentbench.models.densities import normal_kl
from latentbench.models.study import Arrays, Problem, Study
from numpy import ndarray
from pydantic import NonNegativeFloat, PositiveInt
from torch import Generator, Tensor, nn

CLASSES, HIDDEN, CODE = 10, (128, 128), 32
#: Codes or weights that predictions average over; log standard deviations at the start; what shifts scales of codes.
DRAWS, LOG_STD, SCALE_SHIFT = 32, -5.0, -5.0
#: Of the regression: p; n; new inputs; standard deviations of labels about x'w, and of x'w over inputs and w.
INPUTS, LABELLED, NEW, NOISE, SIGNAL = 20, 40, 200, 1.0, 2.0
Rule = Literal["erm", "vib", "bayes"]


class GaussianLinear(nn.Linear):
    """Independent Gaussian weights and biases, N(0, 2 / inputs) a priori, which keeps the size of activations."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.log_std = nn.Parameter(torch.full((outputs, inputs + 1), LOG_STD))  # of biases in the last column

    def drawn(self, x: Tensor, noise: Tensor) -> Tensor:
        """Activations (..., outputs) of x (..., inputs), whose law has standard normal `noise` (Kingma et al. 2015)."""
        variances = (2 * self.log_std).exp()
        return self(x) + nn.functional.linear(x.square(), variances[:, :-1], variances[:, -1]).sqrt() * noise

    def divergence(self) -> Tensor:
        """KL from the prior, nats."""
        prior = 0.5 * math.log(2.0 / self.in_features)
        mean = torch.cat([self.weight, self.bias[:, None]], 1)
        return normal_kl(mean / math.exp(prior), self.log_std - prior).sum()


@model(
    "half-bayes-classifier",
    "Trainable Validated Classifier",
    "classifier by empirical risk, with a law of the code of each input, or with a law of weights",
    examples=(Example("labelled", {}), Example("labelled", {"rule": "erm"}), Example("labelled", {"rule": "bayes"})),
)
class HalfBayesClassifier(nn.Module):
    """ReLU layers, a linear code and a linear decoder, by one of the rules.

    Args:
        info: rows of any shape, with labels under CLASSES in column ``y``.
        rule: ``erm``, ``vib`` or ``bayes``.
        beta: weight of the divergence, for ``vib`` and ``bayes``; below 1, Bayes has a cold posterior.

    Raises:
        UserError: there is no column ``y``.
    """

    noise: Tensor

    def __init__(self, info: DataInfo, *, rule: Rule = "vib", beta: NonNegativeFloat = 1.0) -> None:
        super().__init__()
        if "y" not in info.parts:
            raise UserError("the data have no column y to predict", fix="choose labelled data")
        self.rule, self.beta = rule, beta / (info.n_train if rule == "bayes" else 1)
        outputs = [*HIDDEN, 2 * CODE if rule == "vib" else CODE, CLASSES]
        layer = GaussianLinear if rule == "bayes" else nn.Linear
        self.layers = nn.ModuleList(map(layer, [info.dims, *HIDDEN, CODE], outputs))
        self.noisy = {"erm": [], "vib": [CODE], "bayes": outputs}[rule]
        # the same for all rows: each row's prediction still has the law that it should, and looks at no other row
        self.register_buffer("noise", torch.randn(DRAWS if self.noisy else 1, 1, sum(self.noisy)))

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (..., classes) of x (..., inputs) with noise (..., sum of `noisy`), and the KL divergence of the rule:
        that of codes (...) for VIB, that of weights () for Bayes, else 0."""
        parts, layers, divergence = iter(noise.split(self.noisy, -1)), list[Any](self.layers), x.new_zeros(())
        for layer in layers:
            x = layer.drawn(x, next(parts)) if self.rule == "bayes" else layer(x)
            divergence = divergence + layer.divergence() if self.rule == "bayes" else divergence
            if layer is layers[-2] and self.rule == "vib":
                mean, raw = x.chunk(2, -1)
                scale = nn.functional.softplus(raw + SCALE_SHIFT)
                x, divergence = mean + scale * next(parts), normal_kl(mean, scale.log())
            x = x if layer in layers[-2:] else x.relu()
        return x, divergence

    def classify(self, x: Tensor) -> Tensor:
        """Log predictive probabilities, (N, *shape) -> (N, classes)."""
        logits, _ = self(x.flatten(1)[None], self.noise)
        return logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Cross-entropy with a draw a row, plus the divergence, nats."""
        x, y = batch.x.flatten(1), batch.columns["y"].long().flatten()
        logits, divergence = self(x, torch.randn(len(x), sum(self.noisy), generator=generator, device=x.device))
        return {"loss": nn.functional.cross_entropy(logits, y) + self.beta * divergence.mean()}

    def validation_loss(self, batch: Batch, generator: Generator) -> Tensor:
        """Mean negative log predictive probability of the labels, nats."""
        return nn.functional.nll_loss(self.classify(batch.x), batch.columns["y"].long().flatten())


def predicted(model: Classifier, view: View) -> tuple[ndarray, ndarray]:
    """Log probabilities (N, C), float64, and labels (N,) of test rows."""
    found = torch.cat([model.classify(view.x[rows]).double().log_softmax(-1) for rows in view.blocks(ROWS)])
    return found.cpu().numpy(), np.asarray(view.columns["y"][:]).astype(int).ravel()


@metric("label_nll", "Classifier", "nats", "lower", data=("labels",), within=(0.0, None))
def label_nll(model: Classifier, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean negative log probability of test rows' labels."""
    log_p, y = predicted(model, view)
    return MetricValue(*mean_and_se(-log_p[np.arange(len(y)), y]), len(y))


@metric("label_calibration_error", "Classifier", "1", "lower", data=("labels",), within=(0.0, 1.0))
def label_calibration_error(model: Classifier, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Expected calibration error of test rows, over 15 bins of equal width (Guo et al. 2017)."""
    log_p, y = predicted(model, view)
    return MetricValue(prediction.expected_calibration_error(np.exp(log_p), y, bins=15), None, len(y))


@model("gaussian-regression", "Iterative Study", examples=(Example("real-vector", {"problems": 2}),))
class GaussianRegression(Study):
    """Answers: `mean` and `variance` of the predictive, (LABELLED + NEW,), at the training inputs and then at new ones.

    Args:
        info: not used.
        rule: ``erm``, ``vib`` (beta = p / n) or ``bayes``.
        problems: draws of w, inputs and labels.
    """

    def __init__(self, info: DataInfo, *, rule: Rule = "vib", problems: PositiveInt = 100) -> None:
        super().__init__(info, problems=problems)
        self.rule = rule

    def problem(self, rng: np.random.Generator) -> Problem:
        """Inputs ``x`` (LABELLED + NEW, p), labels ``y`` (LABELLED,) of the first of them; x'w is ``f`` in truth."""
        x = rng.standard_normal((LABELLED + NEW, INPUTS))
        f = x @ (SIGNAL / np.sqrt(INPUTS) * rng.standard_normal(INPUTS))
        given = {"x": x, "y": f[:LABELLED] + NOISE * rng.standard_normal(LABELLED)}
        return Problem(given, {**given, "f": f})

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        return dict(zip(("mean", "variance"), predictive(self.rule, given), strict=True))


def predictive(rule: str, given: Arrays) -> tuple[ndarray, ndarray]:
    """Mean and variance (LABELLED + NEW,) by the rule."""
    (x, y), seen, noise, signal = (given["x"], given["y"]), given["x"][:LABELLED], NOISE**2, SIGNAL**2
    if rule == "bayes":
        spread = np.linalg.inv(seen.T @ seen / noise + np.eye(INPUTS) * INPUTS / signal)
        return x @ (spread @ (seen.T @ y) / noise), noise + np.einsum("ij,jk,ik->i", x, spread, x)
    beta = INPUTS / LABELLED if rule == "vib" else 0.0
    mean = x @ np.linalg.lstsq(seen, y, rcond=None)[0] / (1.0 + beta * noise / signal)
    return mean, np.full(len(x), noise + beta / (1.0 / noise + beta / signal))


def excess(f: ndarray, mean: ndarray, variance: ndarray, at: str) -> float:
    """Mean KL in nats of N(mean, variance) from the labels' law N(f, NOISE^2), at `seen` inputs or at `new` ones."""
    part = slice(LABELLED) if at == "seen" else slice(LABELLED, None)
    error, ratio = ((f - mean)[part] / NOISE) ** 2, variance[part] / NOISE**2
    return float(np.mean(np.log(ratio) + (1.0 + error) / ratio - 1.0) / 2)


def _own(model: Any) -> GaussianRegression:
    if not isinstance(model, GaussianRegression):
        raise UserError(f"{type(model).__name__} has no Gaussian predictive", fix="gaussian-regression")
    return model


@metric("predictive_excess_nll", "Study", "nats", "lower", settings={"at": "new"}, within=(0.0, None))
def predictive_excess_nll(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean negative log density of new labels beyond their entropy, at inputs `seen` in training or at `new` ones."""
    at = checks.one_of("at", settings["at"], ("seen", "new"))
    return over_problems(_own(model), lambda truth, found: excess(truth["f"], found["mean"], found["variance"], at))


@metric("label_risk_lead", "Study", "1", "higher")
def label_risk_lead(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Share of Bayes' gain over ERM in `predictive_excess_nll` at seen inputs less that at new ones; details: both."""
    found, share = list(_own(model).answered()), {}
    for at in ("seen", "new"):
        own = sum(excess(truth["f"], answer["mean"], answer["variance"], at) for truth, answer in found)
        erm, bayes = (sum(excess(t["f"], *predictive(rule, t), at) for t, _ in found) for rule in ("erm", "bayes"))
        share[at] = (erm - own) / (erm - bayes)
    return MetricValue(share["seen"] - share["new"], None, len(found), share)
