"""Disentanglement scores of codes with the labels given to the encoder, guessed, or alone, and what these hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from latentbench.core.capabilities import Encoder
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.disentanglement import factors
from latentbench.evaluation.view import View
from latentbench.metrics import disentanglement
from latentbench.metrics.codes import information
from latentbench.models import densities
from torch import Generator, Tensor

from .label_vae import LabelPriorVAE

SCORES: Mapping[str, Callable[[Any, Any], float]] = {
    "mig": information.mig,
    "sap": lambda codes, truth: disentanglement.sap(codes, truth, continuous=True),
    "modularity": information.modularity,
}


def drawn_codes(model: Any, view: View, of: str, generator: Generator) -> Tensor:
    """(N, D) draws of q(z | x, u) with u ``given`` or ``guessed`` from x, or of p(z | u), by ``labels`` alone.

    Encoders that take no labels have one kind of draw, which is ``given`` and ``guessed``.
    """
    if isinstance(model, LabelPriorVAE) and of in ("given", "labels"):
        u = model.labels(view.parts)
        return densities.normal_draw(*(model.prior(u) if of == "labels" else model.given(view.x, u)), generator)
    if of not in ("given", "guessed"):
        raise UserError(f"{type(model).__name__} has no codes {of!r}", fix="given, guessed, or labels of label priors")
    codes: Tensor = model.encode_sample(view.x, generator)
    return codes


@metric(
    "label_code_score",
    "Encoder",
    "1",
    "higher",
    "disentanglement score of drawn codes, labels given to the encoder, guessed or alone, or of one over another",
    settings={"score": "mig", "codes": "given", "over": None},
    data=("factors",),
    within=(-1.0, 1.0),
)
def label_code_score(model: Encoder, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """``mig``, ``sap`` (squared correlations) or ``modularity`` of one draw of each row's code, as in authors' code.

    `over` names codes whose score is subtracted: given over labels is what looking at the image adds.
    """
    truth = np.asarray(factors(view))

    def score(of: object) -> float:
        codes = drawn_codes(model, view, str(of), generator).detach().cpu().double().numpy()
        return SCORES[str(settings["score"])](codes, truth)

    less = score(settings["over"]) if settings["over"] is not None else 0.0
    return MetricValue(score(settings["codes"]) - less, None, len(truth))


@metric(
    "label_rate",
    "Encoder",
    "nats",
    "higher",
    "mean KL of a label prior p(z | u) from N(0, I): 0 where the second VAE has collapsed",
    data=("factors",),
    within=(0.0, None),
)
def label_rate(model: Any, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """Mean over rows of KL(p(z | u) || N(0, I)), with its standard error."""
    if not isinstance(model, LabelPriorVAE):
        raise UserError(f"{type(model).__name__} has no label prior", where="label_rate", fix="measure label-prior-vae")
    rate = densities.normal_kl(*model.prior(model.labels(view.parts))).detach().double()
    return MetricValue(float(rate.mean()), float(rate.std() / len(rate) ** 0.5), len(rate))
