"""FID of reconstructions, sharpness of posteriors, and the scatter of losses and gradients at one set of weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from latentbench.core.capabilities import GaussianEncoder, Reconstructor
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation import samples
from latentbench.evaluation.view import View
from latentbench.models import checks
from latentbench.papers.unscented_autoencoder.unscented import Points, UnscentedAutoencoder, UnscentedSampler
from torch import Generator, Tensor

Settings = Mapping[str, Any]


@dataclass
class Reconstructions:
    """Reconstructions of rows, one after the other, in the place of samples."""

    model: Reconstructor
    x: Tensor
    at: int = 0

    def sample(self, n: int, generator: Generator) -> Tensor:
        self.at += n
        return self.model.reconstruct(self.x[self.at - n : self.at])


@metric(
    "reconstruction_fid",
    "Reconstructor",
    "squared feature unit",
    "lower",
    "Fréchet distance of the split's rows and their reconstructions; features: a LeNet trained on the dataset",
    data=("images", "labels"),
    within=(0.0, None),
)
def reconstruction_fid(model: Reconstructor, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """As `fid_lenet`, with decoded posterior means of all rows in the place of samples."""
    rows = Reconstructions(model, view.x)
    fid: Any = samples.fid_lenet  # type: ignore[attr-defined]  # made by its declaration
    found: MetricValue = fid(rows, view, {"samples": len(view), "reference": "test"}, generator)
    return found


@metric(
    "posterior_share",
    "GaussianEncoder",
    "1",
    "lower",
    "share of the codes' total variance that lies within posteriors, 1 where codes hold nothing",
    within=(0.0, 1.0),
)
def posterior_share(model: GaussianEncoder, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Trace of E[Sigma] over that of Cov[mu] + E[Sigma]: how sharp posteriors are, whatever the scale of the code."""
    mean, log_var = (torch.cat(t).double() for t in zip(*(model.encode_gaussian(view.x[r]) for r in view.blocks())))
    within, between = log_var.exp().mean(0).sum(), mean.var(0, correction=0).sum()
    return MetricValue(float(within / (within + between)), None, len(view))


@metric(
    "sigma_scatter",
    "Staged",
    "log ratio",
    "lower",
    "log of the variance by sigma points over that by as many draws, of a batch's loss or gradient at these weights",
    settings={"of": "gradient", "rival": "draws", "rows": 64, "draws": 100},
    lowest={"rows": 1, "draws": 2},
)
def sigma_scatter(model: UnscentedSampler, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Below 0 where sigma points scatter less, at this model's weights, points a row, averaging and distance.

    ``of`` is ``loss`` or ``gradient`` (summed over all weights), ``rival`` ``draws`` or ``antithetic`` ones.
    """
    of, rival = settings["of"], settings["rival"]
    checks.one_of("of", of, ("gradient", "loss"))
    checks.one_of("rival", rival, ("draws", "antithetic"))
    part = copy.deepcopy(model.autoencoder).requires_grad_(True)
    x, n, found = view.x[: int(settings["rows"])], int(settings["draws"]), {}
    for points in ("sigma", rival):
        drawn = [estimate(part, x, points, of, generator) for _ in range(n)]
        found[points] = float(torch.stack(drawn).var(0).sum())
    return MetricValue(math.log(found["sigma"] / found[rival]), None, n, found)


def estimate(part: UnscentedAutoencoder, x: Tensor, points: Points, of: str, generator: Generator) -> Tensor:
    """One draw of the batch's loss, (1,), or of its gradient by all weights, end to end, in float64."""
    with torch.enable_grad():
        error, distance = part.squared_error(x, points, generator)
        loss = (error + part.weight * distance).mean()
        if of == "loss":
            return loss.detach().double()[None]
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(part.parameters()))]).double()
