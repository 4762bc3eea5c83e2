"""Likelihoods of a trained model: exact, ELBO and importance-weighted, never one in the place of another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from latentbench.core.capabilities import ExactLikelihood, VariationalBound
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View
from latentbench.metrics import likelihood

#: Rows and importance samples that are drawn together: small enough for the caches, and part of a seed's meaning.
ROWS, SAMPLES = 100, 50

Settings = Mapping[str, Any]


@metric(
    "nll",
    "ExactLikelihood",
    "nats",
    "lower",
    "exact negative log-likelihood",
    likelihood="exact",
    tightens=("nll_iw", "nll_iw_mcmc", "nll_elbo", "elbo"),
)
def nll(model: ExactLikelihood, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Exact negative log-likelihood of the raw data, nats a sample."""
    return _negative(likelihood.log_likelihood(log_prob(model, view), view.log_abs_det))


@metric(
    "bits_per_dim",
    "ExactLikelihood",
    "bits/dim",
    "lower",
    "exact, with the preprocessing's Jacobian",
    likelihood="exact",
    tightens=("bits_per_dim_iw", "bits_per_dim_elbo"),
)
def bits_per_dim(
    model: ExactLikelihood,
    view: View,
    settings: Settings,  # noqa: ARG001
    generator: Generator,  # noqa: ARG001
) -> MetricValue:
    """Exact negative log-likelihood of the raw data, bits a dimension."""
    return likelihood.bits_per_dim(log_prob(model, view), view.dims, view.log_abs_det)


@metric(
    "nll_iw",
    "VariationalBound LikelihoodHead|NormalisedLikelihood",
    "nats",
    "lower",
    "importance-weighted upper bound on the negative log-likelihood",
    likelihood="importance-weighted",
    settings={"k": 5_000},
    lowest={"k": 1},
    tightens=("elbo",),
)
def nll_iw(model: VariationalBound, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Importance-weighted upper bound on the negative log-likelihood, nats a sample (Burda et al. 2016, eq. 8)."""
    return _negative(_bound(model, view, settings, generator).summary(view.log_abs_det))


@metric(
    "bits_per_dim_iw",
    "VariationalBound LikelihoodHead|NormalisedLikelihood",
    "bits/dim",
    "lower",
    "importance-weighted upper bound, with the preprocessing's Jacobian",
    likelihood="importance-weighted",
    settings={"k": 5_000},
    lowest={"k": 1},
)
def bits_per_dim_iw(model: VariationalBound, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Importance-weighted upper bound, bits a dimension."""
    bound = _bound(model, view, settings, generator)
    value = likelihood.bits_per_dim(bound.log_prob(), view.dims, view.log_abs_det)
    return MetricValue(value.value, value.se, value.n, bound.summary().details)


@metric(
    "elbo",
    "VariationalBound LikelihoodHead|NormalisedLikelihood",
    "nats",
    "higher",
    "evidence lower bound, with rate and distortion",
    likelihood="elbo",
    settings={"samples": 1},
    lowest={"samples": 1},
)
def elbo(model: VariationalBound, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Evidence lower bound of the raw data, nats a sample, averaged over `samples` draws; with rate and distortion."""
    require_normalised(model)
    rates, distortions = [], []
    for rows in view.blocks(ROWS):
        draws = [model.elbo(view.x[rows], generator) for _ in range(int(settings["samples"]))]
        rates.append(torch.stack([d.rate for d in draws]).mean(0))
        distortions.append(torch.stack([d.distortion for d in draws]).mean(0))
    return likelihood.elbo(torch.cat(rates), torch.cat(distortions), view.log_abs_det)


@metric(
    "likelihood_share",
    "ExactLikelihood|VariationalBound ExactLikelihood|LikelihoodHead|NormalisedLikelihood",
    "1",
    "higher",
    "share of the attainable log-likelihood that was reached (known density; 0 is independent Gaussians)",
    settings={"k": 500},
    lowest={"k": 1},
    data=("oracle",),
    within=(None, 1.0),
)
def likelihood_share(model: Any, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Share of the attainable log-likelihood that the model reached: 1 is the true density, 0 independent Gaussians
    fitted to the training split. Both ends are measured on the very samples that the model is.

    A model without exact likelihood enters with its importance-weighted bound, and the share is then a lower bound.
    """
    if view.oracle is None:
        raise UserError("likelihood_share needs a dataset whose density is known", fix="use a generated one")
    if isinstance(model, ExactLikelihood):
        ours = likelihood.log_likelihood(log_prob(model, view), view.log_abs_det)
    else:
        ours = _bound(model, view, settings, generator).summary(view.log_abs_det)
    raw, train = (torch.from_numpy(v.raw[:].astype("float64")).flatten(1) for v in (view, view.train))
    mean, std = train.mean(0), train.std(0)
    floor = (-0.5 * ((raw - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)).sum(1).mean()
    optimum = float(view.oracle.log_prob(view.raw[:]).mean())
    share = likelihood.attainable_share(ours, float(floor), optimum)
    details = {"log_likelihood": ours.value, "floor": float(floor), "optimum": optimum}
    return MetricValue(share.value, share.se, share.n, details)


def require_normalised(model: Any) -> None:
    """Refuse a decoder whose `log_prob` is no log-density, such as the cross-entropy of a Bernoulli with grey values.

    Raises:
        UserError: the number would not be a likelihood.
    """
    head = getattr(model, "likelihood", None)
    if not getattr(head, "normalised", True):
        raise UserError(
            f"the head {type(head).__name__} on these data gives no normalised likelihood",
            where="likelihood metrics",
            fix="binarise the data, or choose a head for real or discrete values",
        )


def log_prob(model: ExactLikelihood, view: View) -> Tensor:
    """(N,) nats in model space, in blocks."""
    return torch.cat([model.log_prob(view.x[rows]) for rows in view.blocks(512)])


def _bound(model: VariationalBound, view: View, settings: Settings, generator: Generator) -> likelihood.ImportanceBound:
    """The bound of every row, streamed over rows and samples; each row is encoded once."""
    require_normalised(model)
    encoded = [(view.x[rows], model.posterior(view.x[rows])) for rows in view.blocks(ROWS)]

    def draw(k: int) -> Tensor:
        return torch.cat([model.log_importance_weights(x, q, k, generator) for x, q in encoded], dim=1)

    bound, _ = likelihood.importance_weighted(draw, int(settings["k"]), chunk=SAMPLES)
    return bound


def _negative(value: MetricValue) -> MetricValue:
    return MetricValue(-value.value, value.se, value.n, value.details)
