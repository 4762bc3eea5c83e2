"""Transport between two marginals: the plan against the known one, and where the sources arrive.

Rows of the data are (2, D), a source and a target point that have nothing to do with each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from latentbench.core.capabilities import Transporter
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View
from latentbench.metrics import samples, transport
from torch import Generator, Tensor

#: Coordinates that are transported at once.
CHUNK = 1 << 22

Settings = Mapping[str, Any]


@metric(
    "conditional_bw2_uvp",
    "Transporter",
    "%",
    "lower",
    "error of the plan given a source point, in its first two moments (known plan; Gushchin et al. 2023)",
    settings={"sources": 1_000, "samples": 1_000},
    lowest={"sources": 1, "samples": 2},
    data=("oracle",),
    within=(0.0, None),
)
def conditional_bw2_uvp(model: Transporter, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """cBW₂²-UVP of Gushchin et al. 2023, per cent, over the first `sources` test sources with `samples` draws each.

    The detail `floor` is the value that draws of the true plan get: what finite samples alone cost.
    """
    plan = _plan(view)
    sources, draws = min(int(settings["sources"]), len(view)), int(settings["samples"])
    raw = view.raw[:sources, 0].astype(np.float64)
    variance = float(np.trace(plan.target_moments[1]))
    rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator, device=generator.device)))
    ours: list[float] = []
    floor: list[float] = []
    per = max(1, CHUNK // (draws * raw.shape[1]))
    for start in range(0, sources, per):
        rows = slice(start, min(start + per, sources))
        moments = plan.conditional_moments(raw[rows])
        x = view.x[rows, 0].repeat_interleave(draws, 0)
        sent = _push(model, view, x, generator).reshape(-1, draws, raw.shape[1])
        true = plan.sample_conditional(raw[rows].repeat(draws, 0), rng).reshape(sent.shape)
        for found, drawn in ((ours, sent), (floor, true)):
            found += [
                transport.conditional_bw2_uvp(drawn[i : i + 1], moments[0][i : i + 1], moments[1][i : i + 1], variance)
                for i in range(len(drawn))
            ]
    se = float(np.std(ours, ddof=1) / np.sqrt(sources)) if sources > 1 else None
    return MetricValue(float(np.mean(ours)), se, sources, {"floor": float(np.mean(floor)), "samples": draws})


@metric(
    "target_bw2_uvp",
    "Transporter",
    "%",
    "lower",
    "error of the pushed marginal in its first two moments (known plan; Gushchin et al. 2023)",
    data=("oracle",),
    within=(0.0, None),
)
def target_bw2_uvp(
    model: Transporter,
    view: View,
    settings: Settings,
    generator: Generator,
) -> MetricValue:
    """BW₂²-UVP of the pushed test sources against the target's moments, per cent."""
    mean, covariance = _plan(view).target_moments
    sent = _push(model, view, view.x[:, 0], generator)
    return MetricValue(transport.bw2_uvp(sent, mean, covariance), None, len(view))


@metric(
    "pushed_energy_distance",
    "Transporter",
    "root raw unit",
    "lower",
    "energy distance of the pushed sources, at a time on their way, from the test targets",
    settings={"time": 1.0, "rows": 5_000},
    lowest={"time": 0.0, "rows": 2},
    within=(0.0, None),
)
def pushed_energy_distance(model: Transporter, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Energy distance of the sources, at `time` on their way, from the targets, over the first `rows` test rows."""
    rows = min(int(settings["rows"]), len(view))
    sent = _push(model, view, view.x[:rows, 0], generator, float(settings["time"]))
    return MetricValue(samples.energy_distance(view.raw[:rows, 1], sent), None, rows)


def _plan(view: View) -> Any:
    if not hasattr(view.oracle, "conditional_moments"):
        raise UserError(
            "the plan of these data is not known", fix="use a generated dataset of pairs, such as bridge-2d"
        )
    return view.oracle


def _push(model: Transporter, view: View, x: Tensor, generator: Generator, time: float = 1.0) -> np.ndarray:
    """Where sources x (N, D) of model space are sent, in raw units, (N, D) float64."""
    per = max(1, CHUNK // x.shape[1])
    sent = torch.cat([model.transport(rows, generator, time) for rows in x.split(per)])
    raw: np.ndarray = view.pipeline.inverse(torch.stack([x, sent], 1))[:, 1].double().cpu().numpy()
    return raw
