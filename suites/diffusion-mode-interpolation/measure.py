"""How many samples are hallucinations, where they lie, and how many of them a filter finds.

A hallucination lies outside the balls about the modes that hold all but `outside` of the data's mass
(`GridMixture.hallucinated`); the paper says outside the support, and its threshold was not found.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import torch
from latentbench.core.capabilities import Sampler
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.space import stored
from latentbench.evaluation.view import View
from latentbench.metrics.prediction import auroc
from latentbench.papers.diffusion_mode_interpolation.mixture import GridMixture
from torch import Generator

Settings = Mapping[str, Any]
BLOCK = 2000
GRID = 400


@metric(
    "hallucination_rate",
    "Sampler",
    "1",
    "lower",
    "share of samples outside the balls about the modes that hold all but `outside` of the data",
    settings={"samples": 10_000, "outside": 1e-6},
    lowest={"samples": 1, "outside": 1e-300},
    data=("oracle",),
    within=(0.0, 1.0),
)
def hallucination_rate(model: Sampler, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Share of samples that are hallucinations; `outside` of them would be expected of the law itself."""
    _, _, hallucinated, _ = _judged(model, view, settings, generator)
    return _share(int(hallucinated.sum()), len(hallucinated))


@metric(
    "nearest_mode_excess",
    "Sampler",
    "1",
    "higher",
    "share of far hallucinations on segments between nearest modes, less that of points spread evenly among the modes",
    settings={"samples": 10_000, "outside": 1e-6, "away": 3.0},
    lowest={"samples": 1, "outside": 1e-300, "away": 1.0},
    data=("oracle",),
    within=(-1.0, 1.0),
)
def nearest_mode_excess(model: Sampler, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Share within a ball's radius of such a segment, less that of an even grid over the modes' box.

    Of both only what lies `away` radii from every mode: nearer ones may be a mode that is too wide. Its part `counted`
    is the number of such samples.

    Raises:
        UserError: the modes lie on a line, where all that is between modes is between nearest ones.
    """
    law, x, _, _ = _judged(model, view, settings, generator)
    if law.means.shape[1] != 2:
        raise UserError("nearest modes are told from others on the plane", fix="leave the dataset out with `datasets:`")
    outside, away = float(settings["outside"]), float(settings["away"])
    width, far = law.radius(outside), law.hallucinated(x, outside, away)
    low, high = law.means.min(0), law.means.max(0)
    ticks = (np.arange(GRID) + 0.5) / GRID
    even = low + np.array(list(product(ticks, ticks))) * (high - low)
    even = even[law.hallucinated(even, outside, away)]
    if not len(even):
        raise UserError(f"nothing lies {away:g} radii from every mode", fix="a smaller `away`")
    by_chance = float(law.between(even, width).mean())
    found = _share(int(law.between(x[far], width).sum()), int(far.sum()))
    details = {"share": found.value, "by_chance": by_chance, "counted": float(far.sum())}
    return MetricValue(found.value - by_chance, found.se, found.n, details)


@metric(
    "widest_gap_share",
    "Sampler",
    "1",
    "lower",
    "share of hallucinations between neighbouring modes on a line that lie in the widest gap",
    settings={"samples": 10_000, "outside": 1e-6},
    lowest={"samples": 1, "outside": 1e-300},
    data=("oracle",),
    within=(0.0, 1.0),
)
def widest_gap_share(model: Sampler, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Its share with one more in each gap, so that none at all leave each gap an equal share; the part `counted` is
    the number in all gaps.

    Raises:
        UserError: the modes are not on a line.
    """
    law, x, hallucinated, _ = _judged(model, view, settings, generator)
    if law.means.shape[1] != 1 or len(law.means) < 3:
        raise UserError("there are no gaps to compare", fix="a mixture of three modes or more on a line")
    modes = np.sort(law.means[:, 0])
    counts = np.histogram(x[hallucinated, 0], modes)[0]
    widest = int(np.argmax(np.diff(modes)))
    details = {"counted": float(counts.sum())} | {f"gap_{i}": float(count) for i, count in enumerate(counts)}
    share = _share(int(counts[widest]) + 1, int(counts.sum()) + len(counts))
    return MetricValue(share.value, share.se, int(counts.sum()), details)


@metric(
    "filter_recall",
    "Staged Sampler",
    "1",
    "higher",
    "share of hallucinations that a filter removes where it keeps the share `keep` of the other samples",
    settings={"samples": 10_000, "outside": 1e-6, "keep": 0.96},
    lowest={"samples": 2, "outside": 1e-300, "keep": 0.0},
    data=("oracle",),
    within=(0.0, 1.0),
)
def filter_recall(model: Any, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Its parts are `hallucinations`, their number, `rate`, and `auroc`; 0 where there are no hallucinations.

    Raises:
        UserError: the model has no scores.
    """
    if not hasattr(model, "scored"):
        raise UserError("this model scores no samples", fix="leave it out with `methods:`")
    _, x, hallucinated, scores = _judged(model, view, settings, generator, scored=True)
    recall, auroc = found(scores, hallucinated, float(settings["keep"]))
    n = int(hallucinated.sum())
    share = _share(round(recall * n), n)
    return MetricValue(recall, share.se, n, {"hallucinations": float(n), "rate": n / len(x), "auroc": auroc})


def found(scores: np.ndarray, hallucinated: np.ndarray, keep: float) -> tuple[float, float]:
    """(recall, area under the ROC curve) of scores (N,) that should be higher where `hallucinated` (N,) is true.

    The threshold is the quantile `keep` of the others' scores. Without one kind they are 0 and 1/2.
    """
    if hallucinated.all() or not hallucinated.any():
        return 0.0, 0.5
    threshold = np.quantile(scores[~hallucinated], keep)
    return float((scores[hallucinated] > threshold).mean()), float(auroc(scores, hallucinated.astype(int)).value)


def _judged(
    model: Any, view: View, settings: Settings, generator: Generator, *, scored: bool = False
) -> tuple[GridMixture, np.ndarray, np.ndarray, np.ndarray]:
    """The law, samples (N, D) as stored, which are hallucinations (N,), and their scores (N,) or zeros."""
    law, n = view.oracle, int(settings["samples"])
    if not isinstance(law, GridMixture):
        raise UserError("these data are no mixture on a grid", fix="leave the dataset out with `datasets:`")
    sizes = [min(BLOCK, n - start) for start in range(0, n, BLOCK)]
    draw = model.scored if scored else lambda size, g: (model.sample(size, g), torch.zeros(size))
    blocks = [draw(size, generator) for size in sizes]
    x = np.asarray(stored(view, torch.cat([block[0] for block in blocks])), float)
    scores = torch.cat([block[1] for block in blocks]).cpu().numpy()
    return law, x, law.hallucinated(x, float(settings["outside"])), scores


def _share(count: int, n: int) -> MetricValue:
    """count / n with its binomial standard error; 0 of none."""
    share = count / n if n else 0.0
    return MetricValue(share, (share * (1.0 - share) / n) ** 0.5 if n else None, n)
