"""Classifiers by empirical risk, half Bayes and Bayes (Alemi et al. 2020, arXiv 2011.08711), on one network.

    ERM    mean_i -log q(y_i | x_i)
    VIB    mean_i E_e(z | x_i) -log q(y_i | z) + beta KL(e(z | x_i) || r(z))       a law of the code of each input
    Bayes  mean_i E_q(w) -log q(y_i | x_i, w) + beta / n KL(q(w) || p(w))          one law of the weights; beta is 1

Predictions average probabilities over the law. ERM is VIB with beta 0 and codes without noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from latentbench.core.capabilities import Classifier
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.prediction import ROWS
from latentbench.evaluation.view import View
from latentbench.metrics import prediction
from latentbench.metrics.arrays import mean_and_se
from latentbench.models import checks
from latentbench.models.densities import normal_kl
from pydantic import NonNegativeFloat, PositiveInt
from torch import Generator, Tensor, nn

#: Log standard deviation of weights at the start; what is added to outputs whose softplus is a code's scale.
LOG_STD, SCALE_SHIFT = -5.0, -5.0
SMALL = {"classes": 3, "hidden": (6,), "code": 4, "draws": 8}
Settings = Mapping[str, Any]


class GaussianLinear(nn.Linear):
    """Independent Gaussian weights and biases, N(0, 2 / inputs) a priori, which keeps the size of activations."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.log_std = nn.Parameter(torch.full_like(self.weight, LOG_STD))
        self.bias_log_std = nn.Parameter(torch.full_like(self.bias, LOG_STD))

    def drawn(self, x: Tensor, noise: Tensor) -> Tensor:
        """Activations (..., outputs) of x (..., inputs), whose law has standard normal `noise` (Kingma et al. 2015)."""
        variance = nn.functional.linear(x.square(), (2 * self.log_std).exp(), (2 * self.bias_log_std).exp())
        return self(x) + variance.sqrt() * noise

    def divergence(self) -> Tensor:
        """KL from the prior, nats."""
        prior = 0.5 * math.log(2.0 / self.in_features)
        mean = torch.cat([self.weight.flatten(), self.bias])
        return normal_kl(mean / math.exp(prior), torch.cat([self.log_std.flatten(), self.bias_log_std]) - prior)


class Network(nn.Module):
    """ReLU layers, a linear code and a linear decoder, of these widths; `noisy` are those of a pass's noise."""

    def __init__(self, widths: Sequence[int], rule: str) -> None:
        super().__init__()
        self.rule, self.noisy = rule, {"vib": widths[-2:-1], "bayes": widths[1:]}.get(rule, [])
        layer = GaussianLinear if rule == "bayes" else nn.Linear
        outputs = [*widths[1:-2], widths[-2] * (2 if rule == "vib" else 1), widths[-1]]
        self.layers = nn.ModuleList(layer(a, b) for a, b in zip(widths[:-1], outputs, strict=True))

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (..., classes) of x (..., inputs) with noise (..., sum of `noisy`), and the KL divergence of the rule:
        that of codes (...) for VIB, that of weights () for Bayes, else 0."""
        parts, (*body, encode, decode) = iter(noise.split(list(self.noisy), -1)), self.layers

        def after(layer: Any, x: Tensor) -> Tensor:
            out: Tensor = layer.drawn(x, next(parts)) if self.rule == "bayes" else layer(x)
            return out

        for layer in body:
            x = after(layer, x).relu()
        code, divergence = after(encode, x), x.new_zeros(())
        if self.rule == "vib":
            mean, raw = code.chunk(2, -1)
            scale = nn.functional.softplus(raw + SCALE_SHIFT)
            code, divergence = mean + scale * next(parts), normal_kl(mean, scale.log())
        elif self.rule == "bayes":
            divergence = torch.stack([layer.divergence() for layer in self.layers]).sum()
        return after(decode, code), divergence


@model(
    "half-bayes-classifier",
    "Trainable Validated Classifier",
    "classifier by empirical risk, with a law of codes, with a law of weights, or an ensemble",
    examples=(
        Example("labelled", {**SMALL, "rule": "erm"}),
        Example("labelled", {**SMALL, "rule": "vib", "beta": 0.02}),
        Example("labelled", {**SMALL, "rule": "bayes"}),
        Example("labelled", {**SMALL, "rule": "ensemble"}),
    ),
)
class HalfBayesClassifier(nn.Module):
    """One network by one of the rules.

    Args:
        info: rows of any shape, with labels in column ``y``.
        classes: number of labels.
        hidden: widths of ReLU layers.
        code: width of the linear code.
        rule: ``erm``, ``vib``, ``bayes``, or ``ensemble``: networks that ERM trains from different starts.
        beta: weight of the divergence, for ``vib`` and ``bayes``; below 1, Bayes has a cold posterior.
        draws: of codes or weights, which predictions average over and which are kept; networks of an ensemble.

    Raises:
        UserError: there is no column ``y``, or a parameter is out of its range.
    """

    noise: Tensor

    def __init__(
        self,
        info: DataInfo,
        *,
        classes: Annotated[int, Ge(2)] = 10,
        hidden: Sequence[int] = (128, 128),
        code: PositiveInt = 32,
        rule: Literal["erm", "vib", "bayes", "ensemble"] = "vib",
        beta: NonNegativeFloat = 1.0,
        draws: PositiveInt = 32,
    ) -> None:
        super().__init__()
        if "y" not in info.parts:
            raise UserError("the data have no column y to predict", fix="choose labelled data")
        self.beta, members = beta / (info.n_train if rule == "bayes" else 1), draws if rule == "ensemble" else 1
        widths = [info.dims, *checks.wholes("hidden", hidden), code, classes]
        self.members = nn.ModuleList(Network(widths, rule) for _ in range(members))
        noisy = sum(self.members[0].noisy)
        # the same for all rows: each row's prediction still has the law that it should, and looks at no other row
        self.register_buffer("noise", torch.randn(draws if noisy else 1, 1, noisy))

    def classify(self, x: Tensor) -> Tensor:
        """Log predictive probabilities, (N, *shape) -> (N, classes)."""
        logits = torch.cat([net(x.flatten(1)[None], self.noise)[0] for net in self.members])
        return logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Cross-entropy with a draw a row, plus the divergence; a sum over members, whose gradients are their own."""
        x, y, losses = batch.x.flatten(1), batch.columns["y"].long().flatten(), []
        for net in self.members:
            logits, divergence = net(x, torch.randn(len(x), sum(net.noisy), generator=generator, device=x.device))
            losses.append(nn.functional.cross_entropy(logits, y) + self.beta * divergence.mean())
        return {"loss": torch.stack(losses).sum()}

    def validation_loss(self, batch: Batch, generator: Generator) -> Tensor:
        """Mean negative log predictive probability of the labels, nats."""
        return nn.functional.nll_loss(self.classify(batch.x), batch.columns["y"].long().flatten())


def predicted(model: Classifier, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Log probabilities (N, C), float64, and labels (N,) of test rows."""
    found = torch.cat([model.classify(view.x[rows]).double().log_softmax(-1) for rows in view.blocks(ROWS)])
    return found.cpu().numpy(), np.asarray(view.columns["y"][:]).astype(int).ravel()


@metric("label_nll", "Classifier", "nats", "lower", data=("labels",), within=(0.0, None))
def label_nll(model: Classifier, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Mean negative log probability of test rows' labels."""
    log_p, y = predicted(model, view)
    value, se = mean_and_se(-log_p[np.arange(len(y)), y])
    return MetricValue(value, se, len(y))


@metric("label_calibration_error", "Classifier", "1", "lower", data=("labels",), within=(0.0, 1.0))
def label_calibration_error(model: Classifier, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Expected calibration error of test rows, over 15 bins of equal width (Guo et al. 2017)."""
    log_p, y = predicted(model, view)
    return MetricValue(prediction.expected_calibration_error(np.exp(log_p), y, bins=15), None, len(y))
