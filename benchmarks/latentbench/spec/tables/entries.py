"""What is known of a model and of a metric before anything is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Better = Literal["higher", "lower"]
#: Which quantity a likelihood metric reports; never ranked against another one. None for other metrics.
Likelihood = Literal["exact", "elbo", "importance-weighted", "annealed-importance-sampling"] | None


@dataclass(frozen=True)
class ModelEntry:
    """A model that suites may name.

    Attributes:
        target: ``module:Class``; its constructor takes a `DataInfo` and keyword parameters.
        can: names of the protocols in `latentbench.core.capabilities` that it implements.
        summary: one line for `latentbench list models`.
        scalars: parameters, as dotted paths, that are used as numbers and nothing else, so that runs which differ in
            them may train side by side.
        draws: the parameter, as a dotted path, that counts the draws which training makes for each row, so that runs
            which differ in it may train side by side (`run --stack-draws`). Only where the loss, its gradient and the
            other terms stay as they are when every draw is repeated (means and log-mean-exps over the draws), where the
            noise comes from `torch.randn` or `torch.rand` in the shape (draws, N, ...), or (N, ...) for one draw, and
            where the model holds the number in an attribute of the parameter's name.
        whole_batch: its training loss can take something from the batch as a whole (an estimate of the aggregate
            posterior, statistics of the costs, counts of an EM step, Markov chains), so that no batch may be divided.
    """

    target: str
    can: frozenset[str]
    summary: str
    scalars: tuple[str, ...] = ()
    whole_batch: bool = False
    draws: str = ""


@dataclass(frozen=True)
class MetricEntry:
    """A metric that suites may name.

    Attributes:
        target: ``module:function`` with the signature ``f(model, view, settings, generator) -> MetricValue``.
        needs: capabilities that the model must have; ``|`` separates alternatives.
        unit: unit of the value.
        better: which direction is better.
        summary: one line for `latentbench list metrics`.
        likelihood: which likelihood quantity it is, if it is one.
        settings: settings and their defaults; all of them enter the metric's identity.
        data: what the dataset must offer beyond samples: ``factors``, ``labels``, ``images``, ``oracle``.
        version: raised whenever the implementation changes a value.
        lowest: smallest admissible value of a numeric setting, by name.
        counts: values are whole numbers, so equal ones over seeds do not show a method without randomness.
    """

    target: str
    needs: tuple[str, ...]
    unit: str
    better: Better
    summary: str
    likelihood: Likelihood = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    version: int = 1
    lowest: Mapping[str, float] = field(default_factory=dict)
    counts: bool = False

    def kind(self, settings: Mapping[str, Any]) -> str:
        """The likelihood's kind as tables print it, e.g. ``importance-weighted, K=5000``; empty if it is none."""
        if self.likelihood == "importance-weighted":
            return f"importance-weighted, K={settings.get('k')}"
        return self.likelihood or ""


def model(
    target: str,
    can: str,
    summary: str,
    *,
    scalars: tuple[str, ...] = (),
    whole_batch: bool = False,
    draws: str = "",
) -> ModelEntry:
    """The entry of one of our models; `can` names its protocols, apart by spaces."""
    return ModelEntry(f"latentbench.models.{target}", frozenset(can.split()), summary, scalars, whole_batch, draws)


def metric(
    target: str,
    needs: str,
    unit: str,
    better: Better,
    summary: str,
    likelihood: Likelihood = None,
    settings: Mapping[str, Any] | None = None,
    lowest: Mapping[str, float] | None = None,
    data: tuple[str, ...] = (),
    version: int = 1,
    counts: bool = False,
) -> MetricEntry:
    """The entry of one of our metrics; `needs` names capabilities, apart by spaces."""
    return MetricEntry(
        f"latentbench.evaluation.{target}",
        tuple(needs.split()),
        unit,
        better,
        summary,
        likelihood,
        settings or {},
        data,
        version,
        lowest or {},
        counts,
    )
