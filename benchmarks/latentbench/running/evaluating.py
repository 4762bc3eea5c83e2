"""The metrics of a run, one after another, each with draws of its own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch

from latentbench.core.errors import Diverged, UserError
from latentbench.core.imports import load
from latentbench.core.seeds import generator
from latentbench.core.types import MetricValue
from latentbench.running.outcome import Outcome
from latentbench.running.run_data import Data, view_of
from latentbench.training.state import Checkpointer

if TYPE_CHECKING:
    from latentbench.planning.plan import RunSpec


class RunKeeper(Checkpointer, Protocol):
    """A `Checkpointer` that keeps the values of an evaluation as well."""

    def worth(self, seconds: float) -> bool:
        """Whether work of so many seconds is worth keeping."""
        ...

    def keep_value(self, key: str, value: MetricValue) -> None: ...

    def values(self) -> Mapping[str, MetricValue]:
        """Those that were kept, by metric key."""
        ...


def evaluate(
    model: Any,
    data: Data,
    spec: RunSpec,
    device: torch.device,
    out: Outcome,
    on_phase: Callable[[str], None],
    checkpoints: RunKeeper | None,
) -> None:
    """Measure every metric of a run; what one lacks costs no other.

    Args:
        model: trained.
        data, spec: the run.
        device: where.
        out: is given the values, and why one is missing.
        on_phase: told of each metric by its key.
        checkpoints: where values are kept, and those of an evaluation that was interrupted are found.
    """
    if isinstance(model, torch.nn.Module):
        model.to(device).eval()
    view = view_of(data, spec.seeds, device)
    kept = checkpoints.values() if checkpoints is not None else {}
    for metric in spec.metrics:
        on_phase(metric.key)
        draws = generator(spec.seeds, "evaluation", metric.key, device=str(device))
        since = time.monotonic()
        try:
            with torch.no_grad():
                value = kept.get(metric.key) or load(metric.target)(model, view, metric.settings, draws)
        except (Diverged, UserError) as e:  # what it needs is not there: the other metrics are measured all the same
            out.failures[metric.key] = str(e)
            continue
        if not math.isfinite(value.value):
            out.failures[metric.key] = f"its value is {value.value}"
            continue
        if checkpoints is not None and metric.key not in kept and checkpoints.worth(time.monotonic() - since):
            checkpoints.keep_value(metric.key, value)
        out.values[metric.key] = value
        out.outcomes += [o for o in value.details.get("outcomes", ()) if o not in out.outcomes]
