"""How much a run does, from its specification alone, and by what factor one does more than another."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latentbench.data.registry import Entry, load_entry
from latentbench.spec.protocol import Training, TrainingProtocol

WORK = frozenset({"k", "samples", "steps", "draws", "repeats", "restarts", "subsets", "projections", "orders"})
"""Settings of metrics that multiply their work."""


@dataclass(frozen=True)
class Work:
    """How much a run does: training rows, samples that training goes through, steps, and the work of its metrics (rows
    and the product of the settings that multiply it). A model that is fitted at once has neither samples nor steps."""

    rows: float
    samples: float
    steps: float
    metrics: Mapping[str, tuple[float, float]]

    @classmethod
    def of(cls, settled: Mapping[str, Any]) -> Work:
        """From a specification as `RunSpec.settled` gives it and records keep it.

        Raises:
            KeyError, TypeError, ValueError: it is not one.
        """
        data, training = settled["data"], Training.model_validate(settled["training"])
        entry = load_entry(data["source"])
        rows = _rows(entry, data["split"]["train"], data["limit"].get("train"))
        test = _rows(entry, data["split"].get("test", data["split"]["train"]), data["limit"].get("test"))
        own: list[TrainingProtocol] = [stage for stage in training.in_stages if stage.model is None] or [training]
        steps, samples = (sum(each) for each in zip(*(_training(one, rows) for one in own), strict=True))
        metrics = {m["key"]: _work(m["settings"], test) for m in settled["metrics"]}
        return cls(float(rows), float(samples), float(steps), metrics)

    def training_factors(self, old: Work, *, fitted: bool) -> tuple[float, float]:
        """Least and largest factor by which training grows from `old`: by steps or by samples; by rows if `fitted`."""
        if fitted:
            return (self.rows / old.rows,) * 2
        factors = self.steps / old.steps, self.samples / old.samples
        return min(factors), max(factors)


def _training(training: TrainingProtocol, rows: int) -> tuple[int, int]:
    """Steps, and samples that they go through."""
    size, each = training.batch_rows(rows), training.batches_per_step
    epochs, steps = training.length
    if steps is not None:
        return steps, steps * each * min(size, rows)
    return math.ceil((epochs or 0) * math.ceil(rows / size) / each), (epochs or 0) * rows


def _work(settings: Mapping[str, Any], rows: float) -> tuple[float, float]:
    """Rows that a metric looks at, and the product of the settings that multiply its work."""
    own = settings.get("rows", settings.get("sources"))
    product = math.prod(v for k, v in settings.items() if k in WORK and isinstance(v, int | float) and v > 0)
    return (min(float(own), rows) if isinstance(own, int) and own > 0 else rows), float(product)


def _rows(entry: Entry, expression: str, limit: int | None) -> int:
    """Rows of a split expression, such as ``train[:50000]+test``, from what the registry declares."""
    total = 0
    for part in expression.split("+"):
        found = re.fullmatch(r"\s*([^\[\]]+?)\s*(?:\[(.*)\])?\s*", part)
        if found is None or found[1] not in entry.splits:
            raise ValueError(expression)
        n = entry.splits[found[1]].rows
        if found[2]:
            ends = [_end(end, n) for end in found[2].split(":")]
            start, stop = (ends[0] or 0), (n if len(ends) < 2 or ends[1] is None else ends[1])
            n = max(0, min(n, stop) - start)
        total += n
    return total if limit is None else min(total, limit)


def _end(text: str, n: int) -> int | None:
    if not (text := text.strip()):
        return None
    value = round(n * float(text[:-1]) / 100) if text.endswith("%") else int(text)
    return value + n if value < 0 else value


def evaluation_factors(old: Work, new: Work) -> tuple[float, float] | None:
    """Least and largest factor by which evaluation grows over the metrics of `new`; None if `old` lacks one of them.

    A record does not say which metric took how long, so the factors of all are possible.
    """
    factors = []
    for key, (rows, product) in new.metrics.items():
        if key not in old.metrics:
            return None
        rows_before, product_before = old.metrics[key]
        factors.append((rows / rows_before) * (product / product_before) if rows_before and product_before else 1.0)
    return (min(factors), max(factors)) if factors else (1.0, 1.0)
