"""How much of a number's spread each axis of its seed makes: variance components of a crossed design.

Every level of initialisation meets every level of data order, and each such training is evaluated with every level of
evaluation seed. The random-effects model has one effect a level of each axis and one a combination; components are
estimated by equating mean squares with their expectations (Searle, Casella and McCulloch 1992, section 4.3), and a
negative estimate counts as zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Components:
    """Standard deviations, in the metric's unit, that each axis alone would make.

    Attributes:
        init: of the initial weights.
        order: of the order of the data and the noise of training.
        interaction: of their combinations, beyond the two.
        evaluation: of the random draws of evaluation, within one training.
        total: of a single run with fresh seeds on all axes.
        shape: levels of init, order and evaluation.
    """

    init: float
    order: float
    interaction: float
    evaluation: float
    total: float
    shape: tuple[int, int, int]


def variance_components(values: ArrayLike) -> Components:
    """Split the spread of a crossed design.

    Args:
        values: (I, O, E) float, the metric for each level of init, order and evaluation; I, O >= 2, E >= 1.

    Raises:
        ValueError: another shape, or values that are not finite.
    """
    y = np.asarray(values, dtype=np.float64)
    if y.ndim != 3 or y.shape[0] < 2 or y.shape[1] < 2 or y.shape[2] < 1:
        raise ValueError(f"a design of shape {y.shape}; at least (2, 2, 1) is needed")
    if not np.isfinite(y).all():
        raise ValueError("values must be finite")
    levels_i, levels_o, levels_e = y.shape
    means = y.mean(axis=2)
    grand, rows, columns = means.mean(), means.mean(axis=1), means.mean(axis=0)
    rest = means - rows[:, None] - columns[None, :] + grand
    ms_init = levels_o * float(((rows - grand) ** 2).sum()) / (levels_i - 1)
    ms_order = levels_i * float(((columns - grand) ** 2).sum()) / (levels_o - 1)
    ms_rest = float((rest**2).sum()) / ((levels_i - 1) * (levels_o - 1))
    init = max(0.0, (ms_init - ms_rest) / levels_o)
    order = max(0.0, (ms_order - ms_rest) / levels_i)
    evaluation, own = _evaluation(y)
    interaction = max(0.0, ms_rest - own / levels_e)
    total = init + order + interaction + evaluation
    return Components(
        init=math.sqrt(init),
        order=math.sqrt(order),
        interaction=math.sqrt(interaction),
        evaluation=math.sqrt(evaluation),
        total=math.sqrt(total),
        shape=(levels_i, levels_o, levels_e),
    )


def _evaluation(y: np.ndarray) -> tuple[float, float]:
    """Variance that evaluation makes within a training, and the part of it that differs between trainings."""
    levels_e = y.shape[2]
    if levels_e < 2:
        return 0.0, 0.0
    trainings = y.reshape(-1, levels_e)
    within = float(trainings.var(axis=1, ddof=1).mean())
    centred = trainings - trainings.mean(axis=1, keepdims=True)
    common = centred.mean(axis=0)  # what an evaluation seed does to every training alike
    own = float(((centred - common) ** 2).sum()) / ((len(trainings) - 1) * (levels_e - 1))
    return within, own
