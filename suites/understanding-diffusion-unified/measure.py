"""How far predicted scores are from those of a known mixture under the diffusion's noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from latentbench.core.capabilities import BoundTerms
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.data.generated.oracles import PlanarMixture
from latentbench.declare import metric
from latentbench.evaluation.view import View
from latentbench.models.diffusion.bound import amplitudes
from latentbench.models.diffusion.ends import stratified
from latentbench.papers.understanding_diffusion_unified.parameterisations import TargetedDiffusion
from torch import Generator


def noised_score(law: PlanarMixture, z: np.ndarray, alpha: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """The gradient of log p(z), (N, 2) float64, where z = alpha x + sigma eps and x is of `law`.

    Args:
        law: of x.
        z: (N, 2).
        alpha, sigma: (N,).
    """
    spread = alpha[:, None, None, None] ** 2 * law.covariances + (sigma**2)[:, None, None, None] * np.eye(2)
    precision = np.linalg.inv(spread)  # (N, K, 2, 2)
    apart = z[:, None] - alpha[:, None, None] * law.means
    pull = np.einsum("nkij,nkj->nki", precision, apart)
    log_p = np.log(law.weights) + 0.5 * np.linalg.slogdet(precision)[1] - 0.5 * (apart * pull).sum(2)
    weights = np.exp(log_p - log_p.max(1, keepdims=True))
    return -(weights[..., None] * pull).sum(1) / weights.sum(1)[:, None]


@metric(
    "score_error",
    "BoundTerms",
    "1",
    "lower",
    "squared error of the score under the diffusion's noise, over the score's square, both times the noise's variance",
    data=("oracle",),
    within=(0.0, None),
)
def score_error(model: BoundTerms, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """E sigma^2 |s_hat(z_t) - s(z_t)|^2 / E sigma^2 |s(z_t)|^2 over rows and times spread evenly; 1 of a score of zero.

    Raises:
        UserError: the model predicts no score, the law is no planar mixture, or rows are not as they are stored.
    """
    law, x = view.oracle, view.x
    if not isinstance(model, TargetedDiffusion):
        raise UserError("this model predicts no score", fix="leave it out with `methods:`")
    if not isinstance(law, PlanarMixture) or bool((view.log_abs_det != 0).any()):
        raise UserError("the score is known of planar mixtures as they are stored", fix="leave out `preprocess`")
    gamma = model.noise(stratified(len(x), generator, x)).gamma
    alpha, sigma = amplitudes(gamma)
    z = alpha * x + sigma * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    with torch.no_grad():
        found = (sigma * model.score(z, gamma)).double().cpu().numpy()
    a, s = (part.double().cpu().numpy()[:, 0] for part in (alpha, sigma))
    truth = s[:, None] * noised_score(law, z.double().cpu().numpy(), a, s)
    error, size = ((found - truth) ** 2).sum(1), (truth**2).sum(1)
    share = float(error.sum() / size.sum())
    spread = float(np.std(error - share * size, ddof=1) / (np.sqrt(len(x)) * size.mean()))
    return MetricValue(share, spread, len(x))
