"""Marginal likelihood of a decoder by posterior sampling, for codes of few dimensions and models without an encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.likelihood import ROWS, SAMPLES, require_normalised
from latentbench.evaluation.view import View
from latentbench.metrics import likelihood
from latentbench.models import densities
from latentbench.models.hmc import HMC, gaussian_fit

Settings = Mapping[str, Any]


@metric(
    "nll_iw_mcmc",
    "Sampler StandardNormalPrior|CodePrior LikelihoodHead|CodeLikelihood",
    "nats",
    "lower",
    "upper bound on the negative log-likelihood that needs no encoder: posterior chains give the proposals",
    likelihood="importance-weighted",
    settings={"k": 1_000, "draws": 50, "burn_in": 50, "starts": 256},
    lowest={"k": 1, "draws": 2, "burn_in": 0, "starts": 1},
)
def nll_iw_mcmc(model: Any, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Importance-weighted upper bound on the negative log-likelihood, nats a sample, with proposals that owe nothing to
    an encoder (after Kingma & Welling 2014, appendix D).

    For each datum a Hamiltonian chain of 4 leapfrog steps starts at the best of `starts` prior draws, moves `burn_in`
    times and then `draws` times; a Gaussian with the moments of those draws proposes `k` codes, fresh ones, so the
    result is a bound whatever the chain did. (The paper averages the reciprocal over the posterior draws themselves,
    whose variance may be infinite.)

    Raises:
        UserError: the model is not a decoder of one code under a standard normal prior.
    """
    require_normalised(model)
    log_joint, width = _joint(model)
    if int(settings["draws"]) <= width:
        raise UserError(
            f"{settings['draws']} draws do not settle a covariance of {width} dimensions", fix="raise `draws`"
        )
    kernel = HMC(leapfrog=4)
    dets: list[Tensor] = []
    proposals: list[tuple[Tensor, Tensor, Tensor]] = []
    first = torch.randn((int(settings["starts"]), width), generator=generator, device=view.device)
    for rows in view.blocks(ROWS):
        x = view.x[rows]
        scores = torch.stack([log_joint(x, z.expand(len(x), -1)) for z in first])
        mean, root = gaussian_fit(
            first[scores.argmax(0)],
            partial(log_joint, x),
            generator,
            kernel=kernel,
            burn_in=int(settings["burn_in"]),
            draws=int(settings["draws"]),
        )
        proposals.append((x, mean, root))
        dets.append(root.diagonal(dim1=-2, dim2=-1).log().sum(-1))

    def draw(k: int) -> Tensor:
        weights = []
        for (x, mean, root), det in zip(proposals, dets, strict=True):
            noise = torch.randn((k, *mean.shape), generator=generator, device=x.device)
            z = mean + torch.einsum("nij,knj->kni", root, noise)
            weights.append(log_joint(x, z) - densities.standard_normal(noise) + det)
        return torch.cat(weights, 1)

    bound, _ = likelihood.importance_weighted(draw, int(settings["k"]), chunk=SAMPLES)
    value = bound.summary(view.log_abs_det)
    return MetricValue(-value.value, value.se, value.n, value.details)


def _joint(model: Any) -> tuple[Callable[[Tensor, Tensor], Tensor], int]:
    """log p(x, z) of x (N, *shape) and z (..., N, D), result (..., N); and D.

    By `log_likelihood(x, z)` and `log_prior(z)` where the model has them, else by `decoder`, `likelihood` and a
    standard normal prior.
    """
    conditional: Any
    conditional, prior = getattr(model, "log_likelihood", None), getattr(model, "log_prior", densities.standard_normal)
    decoder: Any
    head: Any
    dims: tuple[Any, ...]
    decoder, head = getattr(model, "decoder", None), getattr(model, "likelihood", None)
    dims = getattr(model, "latent_dims", None) or (getattr(model, "latent_dim", None),)
    if (conditional is None and (decoder is None or head is None)) or len(dims) != 1 or not isinstance(dims[0], int):
        raise UserError(
            f"nll_iw_mcmc cannot measure a {type(model).__name__}",
            fix="it needs one code of `latent_dim`, and `decoder` and `likelihood`",
        )

    def log_joint(x: Tensor, z: Tensor) -> Tensor:
        given: Tensor = conditional(x, z) if conditional else head.log_prob(x.flatten(1), decoder(z))
        return given + prior(z)

    return log_joint, dims[0]
