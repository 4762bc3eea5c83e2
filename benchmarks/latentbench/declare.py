"""How a model, a metric, a step, a loader or a generator says what it is, beside its class or function.

::

    from latentbench.declare import Example, model

    @model("my-flow", "Trainable Sampler", examples=(Example("real-vector", {"layers": 2}),))
    class MyFlow(nn.Module): ...

At run time a declaration returns what it stands on, and does nothing else. What there is gets found by reading sources
(`latentbench.discovery`), so arguments are literals or constants of the same module: numbers, texts, tuples, lists and
mappings, ``**`` of a mapping, arithmetic on numbers, `Example`. Where a name is assigned, the declaration is a
statement below it: ``metric("sap", …)(sap)``.
"""

# ruff: noqa: ARG001 (arguments are read where they stand)

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Better = Literal["higher", "lower"]
Direction = Literal["higher", "lower", "none"]
#: Which quantity a likelihood metric reports; never ranked against another one. None for other metrics.
Likelihood = Literal["exact", "elbo", "importance-weighted", "annealed-importance-sampling", None]

T = TypeVar("T")


@dataclass(frozen=True)
class Example:
    """Small parameters with which a model is tested.

    Attributes:
        data: kind of made-up data, one of `latentbench.contracts.synthetic`.
        params: the constructor's keyword parameters.
        objective: what the loss is with these parameters in evaluation mode, if it is one of them, a mean over the
            rows: ``likelihood``, -`log_prob`; ``elbo``, an estimate of -`elbo`; ``bound``, the sum of `bound_terms`.
            Its gradient at fixed draws must then be that of its value, as with draws that are reparameterised.
        training: its protocol but for the length, where one loss and a usual optimiser will not do: stages, phases.
    """

    data: str
    params: Mapping[str, Any] = field(default_factory=dict)
    objective: Literal["", "likelihood", "elbo", "bound"] = ""
    training: Mapping[str, Any] = field(default_factory=dict)


def model(
    name: str,
    can: str,
    summary: str = "",
    *,
    version: int = 1,
    scalars: tuple[str, ...] = (),
    draws: str = "",
    whole_batch: bool = False,
    unless: Mapping[str, str] | None = None,
    players: tuple[str, ...] = (),
    updates: tuple[str, ...] = (),
    stages: tuple[str, ...] = (),
    examples: tuple[Example, ...] = (),
) -> Callable[[T], T]:
    """A model that suites may name.

    Args:
        name: as suites have it.
        can: names of the protocols that it implements and of the properties that it has, both of
            `latentbench.core.capabilities`, apart by spaces.
        summary: one line for `latentbench list models`; the first of the docstring where it is left out.
        version: raised when the same parameters and seed come to other numbers.
        scalars: parameters, as dotted paths, that are used as numbers and nothing else, so that runs which differ in
            them may train side by side.
        draws: the parameter, as a dotted path, that counts the draws which training makes for each row, so that runs
            which differ in it may train side by side (`run --stack-draws`). Only where the loss, its gradient and the
            other terms stay as they are when every draw is repeated (means and log-mean-exps over the draws), where the
            noise comes from `torch.randn` or `torch.rand` in the shape (draws, N, ...), or (N, ...) for one draw, and
            where the model holds the number in an attribute of the parameter's name.
        whole_batch: its training loss can take something from the batch as a whole (an estimate of the aggregate
            posterior, statistics of the costs, counts of an EM step, Markov chains), so that no batch may be divided.
        unless: what of `can` it has not where a parameter is set: capability -> parameter.
        players, updates, stages: names that a protocol may use, of a model with `Players`, `Updates` or `Staged`.
        examples: what it is tested with, each on data of its kind.
    """
    return _as_it_is


def metric(
    name: str,
    needs: str,
    unit: str,
    better: Better,
    summary: str = "",
    likelihood: Likelihood = None,
    settings: Mapping[str, Any] | None = None,
    lowest: Mapping[str, float] | None = None,
    data: tuple[str, ...] = (),
    version: int = 1,
    counts: bool = False,
    within: tuple[float | None, float | None] = (None, None),
    tightens: tuple[str, ...] = (),
    collapse_helps: bool = False,
    each: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[T], T]:
    """A metric that suites may name: a function ``f(model, view, settings, generator) -> MetricValue``.

    On a module's ``__getattr__`` it is the attribute of the metric's name. Several may stand on one function.

    Args:
        name: as suites have it.
        needs: capabilities that the model must have, apart by spaces; ``|`` separates alternatives.
        unit: unit of the value.
        better: which direction is better.
        summary: one line for `latentbench list metrics`; the first of the docstring where it is left out.
        likelihood: which likelihood quantity it is, if it is one.
        settings: settings and their defaults; all of them enter the metric's identity.
        lowest: smallest admissible value of a numeric setting, by name.
        data: what the dataset must offer beyond samples: ``factors``, ``labels``, ``images``, ``words``, ``links``,
            ``oracle``.
        version: raised whenever the implementation changes a value.
        counts: values are whole numbers, so equal ones over seeds do not show a method without randomness.
        within: lowest and highest value that there can be, None where there is no end. Intervals stay inside, and a
            value outside, by more than five of its standard errors, is called impossible.
        tightens: metrics of the same unit and the same quantity, measured on the same rows, that can be no better than
            this one in expectation: the bounds of an exact likelihood, the ELBO of an importance-weighted bound.
        collapse_helps: a model that has learned nothing can reach its best value, so a claim on it needs a gate.
        each: one metric a key instead, called ``<name>_<key>``, with arguments in place of these; those that are no
            arguments stand for their name in braces in the summary.
    """
    return _as_it_is


def of_arrays(
    arrays: str,
    unit: str,
    direction: Direction,
    reference: str = "-",
    *,
    name: str = "",
    from_file: bool = True,
    version: int = 1,
) -> Callable[[T], T]:
    """A pure function on arrays, for ``latentbench metric NAME FILE …``.

    Args:
        arrays: its parameters that are arrays, apart by spaces, those that may be left out with a question mark.
        unit: of the value, or its range.
        direction: which values are better (`none`: neither).
        reference: the papers that define it.
        name: the function's own where it is left out.
        from_file: whether it makes numbers of arrays alone (else it is for code only).
        version: raised when the code's result changes for equal input.
    """
    return _as_it_is


def step(name: str, *, version: int = 1, same_quantity: bool = False) -> Callable[[T], T]:
    """A step of preprocessing, a `latentbench.data.step.Step`.

    Args:
        name: as suites have it, and as the class does.
        version: raised when the same rows come out otherwise.
        same_quantity: what a metric measures is the same with and without it, log-Jacobian and inverse accounted for
            (a bijection), or it is no part of what a metric sees. Otherwise figures with and without it are kept apart.
    """
    return _as_it_is


def loader(name: str, *, pickles: bool = False) -> Callable[[T], T]:
    """A function that reads a dataset's files, as registry entries name it.

    Args:
        name: it goes by.
        pickles: whether it reads pickles: their files are taken by their sha256 alone, which the entry gives.
    """
    return _as_it_is


def generator(name: str) -> Callable[[T], T]:
    """A function that makes data from a seed, as registry entries name it."""
    return _as_it_is


def oracle(name: str) -> Callable[[T], T]:
    """The exact density of generated data, as registry entries name it."""
    return _as_it_is


def _as_it_is(thing: T) -> T:
    return thing


@dataclass(frozen=True)
class ModelEntry:
    """A model as declared: see `model`. `target` is ``module:Class``."""

    target: str
    can: frozenset[str]
    summary: str
    scalars: tuple[str, ...] = ()
    whole_batch: bool = False
    draws: str = ""
    version: int = 1
    examples: tuple[Example, ...] = ()
    unless: Mapping[str, str] = field(default_factory=dict)
    players: tuple[str, ...] = ()
    updates: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()

    def can_with(self, params: Mapping[str, Any]) -> frozenset[str]:
        """What it can where its parameters are these."""
        return frozenset(c for c in self.can if not params.get(self.unless.get(c, "")))


@dataclass(frozen=True)
class MetricEntry:
    """A metric as declared: see `metric`. `target` is ``module:function``."""

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
    within: tuple[float | None, float | None] = (None, None)
    tightens: tuple[str, ...] = ()
    collapse_helps: bool = False

    def kind(self, settings: Mapping[str, Any]) -> str:
        """The likelihood's kind as tables print it, e.g. ``importance-weighted, K=5000``; empty if it is none."""
        if self.likelihood == "importance-weighted":
            return f"importance-weighted, K={settings.get('k')}"
        return self.likelihood or ""
