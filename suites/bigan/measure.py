"""How far E inverts G, as the authors' `train_gan.py` measures it, and the discriminator's features.

EGr = mean |x - G(E(x))|, and EGr_b = mean |x' - G(E(x))| with another row x' in the place of x; their README takes the
ratio, which is 1 where a reconstruction has nothing to do with its row. EGg and EGg_b are the same of generated rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from latentbench.core.capabilities import Encoder, Reconstructor, Sampler
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.space import samples
from latentbench.evaluation.view import View
from latentbench.metrics.representation import knn_probe
from torch import Generator, Tensor

Settings = Mapping[str, Any]
BLOCK = 500


class _Inverse(Reconstructor, Sampler, Protocol): ...


@metric(
    "inversion_ratio",
    "Reconstructor",
    "1",
    "lower",
    "distance of G(E(x)) from x over its distance from another row, on test rows",
    within=(0.0, None),
)
def inversion_ratio(model: Reconstructor, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """EGr / EGr_b over the test rows; both are in the details."""
    return ratio_of_distances(view.x, _regenerated(model, view.x))


@metric(
    "inversion_ratio_generated",
    "Reconstructor Sampler",
    "1",
    "lower",
    "distance of G(E(G(z))) from G(z) over its distance from another generated row",
    settings={"samples": 10_000},
    lowest={"samples": 2},
    within=(0.0, None),
)
def inversion_ratio_generated(model: _Inverse, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """EGg / EGg_b over `samples` draws."""
    rows = samples(model, int(settings["samples"]), generator)
    return ratio_of_distances(rows, _regenerated(model, rows))


@metric(
    "discriminator_knn",
    "Encoder",
    "1",
    "higher",
    "test accuracy of the nearest training rows in the features of a GAN's discriminator",
    settings={"k": 1},
    lowest={"k": 1},
    data=("labels",),
    within=(0.0, 1.0),
)
def discriminator_knn(model: Encoder, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """As `knn_probe`, on all training rows, in the layer of the discriminator before its answer.

    Raises:
        UserError: the model has no such features.
    """
    if not hasattr(model, "discriminator_features"):
        raise UserError("this model has no discriminator of rows", fix="leave it out with `methods:`")

    def features(of: View) -> Tensor:
        return torch.cat([model.discriminator_features(of.x[rows]).cpu() for rows in of.blocks(BLOCK)])

    labels, labels_test = np.asarray(view.train.columns["y"]), np.asarray(view.columns["y"])
    return knn_probe(features(view.train).numpy(), labels, features(view).numpy(), labels_test, k=int(settings["k"]))


def ratio_of_distances(rows: Tensor, back: Tensor) -> MetricValue:
    """Mean |rows - back| over mean |next row - back|, (N, D) each; s.e. by the delta method.

    As in the authors' code, the other row is the next one, and the first for the last.
    """
    own = torch.linalg.vector_norm((rows - back).double(), dim=1).cpu()
    other = torch.linalg.vector_norm((rows.roll(-1, 0) - back).double(), dim=1).cpu()
    value = float(own.mean() / other.mean())
    error = float((own - value * other).std() / other.mean() / len(rows) ** 0.5)
    return MetricValue(value, error, len(rows), {"own": float(own.mean()), "other": float(other.mean())})


def _regenerated(model: Reconstructor, rows: Tensor) -> Tensor:
    return torch.cat([model.reconstruct(part) for part in rows.split(BLOCK)])
