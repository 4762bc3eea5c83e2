"""What an experiment measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from latentbench.core.types import MetricValue
from latentbench.training.state import Trained


@dataclass
class Outcome:
    """See the module.

    Attributes:
        values: metric key -> value.
        failures: metric key -> why it has no value.
        trained: the training's curve and counts.
        parameters: number of trainable parameters.
        seconds: wall time by phase (data, training, evaluation).
        model: the trained model, for whoever stores its weights.
        outcomes: words for what happened besides numbers, e.g. ``posterior-collapse``.
        elsewhere: seconds of the training in which stages were trained, or waited for, that are runs of their own.
    """

    values: dict[str, MetricValue] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    trained: Trained = field(default_factory=Trained)
    parameters: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    model: Any = None
    outcomes: list[str] = field(default_factory=list)
    elsewhere: float = 0.0
