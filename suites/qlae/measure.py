"""InfoMEC as the paper takes it: quantised codes are discrete, others continuous."""

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


def in_use(codes: np.ndarray, least: float) -> np.ndarray:
    """(D,) bool: which columns of codes (N, D) have a range above `least` of the widest one's."""
    ranges: np.ndarray = np.ptp(codes, axis=0)
    return ranges > least * ranges.max()


def binned(codes: np.ndarray, bins: int) -> np.ndarray:
    """Numbers (N, D) of `bins` equal intervals of each column's range."""
    low, span = codes.min(0), np.ptp(codes, axis=0)
    return np.minimum((codes - low) / np.where(span > 0, span, 1.0) * bins, bins - 1).astype(np.int64)


@metric(
    "infomec_by_kind",
    "Encoder",
    "1",
    "higher",
    "InfoM, InfoE or InfoC: plug-in information of quantised codes, nearest neighbours' of continuous ones",
    settings={"part": "infom", "rows": 10_000, "active": 0.125, "bins": 0},
    lowest={"rows": 10, "active": 0.0, "bins": 0},
    data=("factors",),
    within=(0.0, 1.0),
)
def infomec_by_kind(model: Encoder, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """`part` of InfoMEC on at most `rows` rows, with the conventions of the authors' train_ae.py.

    InfoM and InfoC leave out codes whose range is no more than `active` of the widest. InfoE keeps all: scalars by
    value, standardised; vectors by their numbers, one-hot. `bins` above 0 cuts continuous codes into as many equal
    intervals and takes the plug-in information of all models alike. Detail `active` is the number of codes left.
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
        numbers = binned(values, int(settings["bins"]))
    measured = values if numbers is None else numbers
    active = in_use(values if scalars else measured, float(settings["active"]))
    if not active.any():  # an outcome of training, not a mistake in the suite
        raise NotFiniteError("all codes are constant, and inform of nothing", where="InfoMEC")
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    if settings["part"] == "infoe":
        found = infomec(values if scalars else measured, truth, discrete_codes=not scalars, seed=seed)
    else:
        found = infomec(measured * active, truth, discrete_codes=numbers is not None, seed=seed)
    return MetricValue(float(getattr(found, settings["part"])), None, len(truth), {"active": float(active.sum())})
