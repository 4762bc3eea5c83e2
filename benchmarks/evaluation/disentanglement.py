"""How a trained model's codes relate to the ground-truth factors of the evaluation split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Generator

from benchmarks.core.capabilities import Encoder
from benchmarks.core.errors import UserError
from benchmarks.core.types import MetricValue
from benchmarks.evaluation.posterior import codes
from benchmarks.evaluation.view import View
from benchmarks.metrics import disentanglement

Settings = Mapping[str, Any]


def mig(model: Encoder, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Mutual information gap of posterior means, `bins` equal-width bins (disentanglement_lib's convention)."""
    return _value(disentanglement.mig(codes(model, view), factors(view), bins=int(settings["bins"])), len(view))


def factors(view: View) -> Any:
    """(N, K) integers.

    Raises:
        UserError: the dataset has no ground-truth factors.
    """
    if "factors" not in view.columns:
        raise UserError("this metric needs ground-truth factors", fix="use a dataset with a column `factors`")
    return view.columns["factors"][:]


def _value(found: MetricValue | float, n: int) -> MetricValue:
    return found if isinstance(found, MetricValue) else MetricValue(float(found), None, n)
