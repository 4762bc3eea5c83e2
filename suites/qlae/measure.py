"""InfoMEC with quantised codes as discrete, and others cut as finely, or continuous as in the paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from latentbench.core.capabilities import Encoder
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.disentanglement import factors
from latentbench.evaluation.space import some_rows
from latentbench.evaluation.view import View
from latentbench.metrics.arrays import NotFiniteError
from latentbench.metrics.disentanglement import infomec
from torch import Generator

from .quantized import QuantizedAutoencoder


def symbols(codes: np.ndarray, bins: int) -> np.ndarray:
    """Numbers (N, D) below `bins` of codes (N, D): columns cut into equally many rows, equal values together."""
    first = np.stack([np.searchsorted(np.sort(c), c) for c in codes.T], axis=1)
    return first * bins // len(codes)


@metric(
    "infomec_by_kind",
    "Encoder",
    "1",
    "higher",
    "InfoM, InfoE or InfoC, with quantised codes as discrete and others cut into as many symbols",
    settings={"part": "infom", "rows": 10_000, "active": 0.125, "bins": 10},
    lowest={"rows": 10, "active": 0.0, "bins": 0},
    data=("factors",),
    within=(0.0, 1.0),
)
def infomec_by_kind(model: Encoder, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """`part` of InfoMEC on at most `rows` rows.

    InfoM and InfoC leave out codes whose range is no more than `active` of the widest, as the authors' train_ae.py, and
    are plug-in estimates: of quantised codes, and of others cut into `bins` symbols of equally many rows, so that all
    are as coarse. With no `bins`, those are estimated by nearest neighbours, as in the paper. InfoE keeps all codes:
    scalars by value, standardised; vectors by their numbers, one-hot. Detail `active` is the number of codes left.
    """
    if settings["part"] not in ("infom", "infoe", "infoc"):
        raise UserError(f"is {settings['part']!r}", where="part", fix="infom, infoe, infoc")
    rows = some_rows(view, int(settings["rows"]), generator)
    x, truth = view.x[rows.to(view.device)], np.asarray(factors(view))[rows.numpy()]
    values = torch.cat([model.encode(part) for part in x.split(512)]).cpu().numpy().astype(np.float64)
    numbers, scalars = None, True
    if isinstance(model, QuantizedAutoencoder) and model.kind != "none":
        numbers = torch.cat([model.nearest(model.continuous(part)) for part in x.split(512)]).cpu().numpy()
        scalars = model.kind == "scalar"
    elif settings["bins"]:
        numbers = symbols(values, int(settings["bins"]))
    measured = values if numbers is None else numbers
    ranges = np.ptp(values if scalars else measured, axis=0)
    active = ranges > float(settings["active"]) * ranges.max()
    if not active.any():  # an outcome of training, not a mistake in the suite
        raise NotFiniteError("all codes are constant, and inform of nothing", where="InfoMEC")
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    if settings["part"] == "infoe":
        found = infomec(values if scalars else measured, truth, discrete_codes=not scalars, seed=seed)
    else:
        found = infomec(measured * active, truth, discrete_codes=numbers is not None, seed=seed)
    return MetricValue(float(getattr(found, settings["part"])), None, len(truth), {"active": float(active.sum())})
