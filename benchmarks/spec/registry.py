"""Names that a suite may use for models and metrics, with what is known of them before anything is imported.

One line each. Nothing here imports torch, so `list`, `show` and `validate` answer at once; tests hold every line
against the class or function that it names. Third parties add theirs through the entry-point groups
``latentbench.models`` and ``latentbench.metrics``, whose objects are `ModelEntry` or `MetricEntry`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar

from benchmarks.core.errors import UserError, did_you_mean
from benchmarks.core.imports import module_file

Better = Literal["higher", "lower"]
#: Which quantity a likelihood metric reports; never ranked against another one. None for other metrics.
Likelihood = Literal["exact", "elbo", "importance-weighted", "annealed-importance-sampling"] | None


@dataclass(frozen=True)
class ModelEntry:
    """A model that suites may name.

    Attributes:
        target: ``module:Class``; its constructor takes a `DataInfo` and keyword parameters.
        can: names of the protocols in `benchmarks.core.capabilities` that it implements.
        summary: one line for `latentbench list models`.
    """

    target: str
    can: frozenset[str]
    summary: str


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
        data: what the dataset must offer beyond samples: ``factors``, ``labels``, ``oracle``.
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


def _model(target: str, can: str, summary: str) -> ModelEntry:
    return ModelEntry(f"benchmarks.models.{target}", frozenset(can.split()), summary)


def _metric(
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
    return MetricEntry(
        f"benchmarks.evaluation.{target}",
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


MODELS: dict[str, ModelEntry] = {
    "vae": _model(
        "vae:VAE",
        "Trainable VariationalBound Sampler Encoder Decoder Reconstructor GaussianEncoder",
        "variational autoencoder with one stochastic layer; ELBO, beta-ELBO or IWAE objective",
    ),
    "hierarchical-vae": _model(
        "vae:HierarchicalVAE",
        "Trainable VariationalBound Sampler Encoder Decoder Reconstructor",
        "variational autoencoder with several stochastic layers; ELBO or IWAE objective",
    ),
    "beta-tcvae": _model(
        "tcvae:BetaTCVAE",
        "Trainable VariationalBound Sampler Encoder Decoder Reconstructor GaussianEncoder",
        "VAE with weights on mutual information, total correlation and dimension-wise KL",
    ),
    "coupling-flow": _model(
        "coupling:CouplingFlow",
        "Trainable ExactLikelihood Sampler",
        "affine (Real NVP) or additive (NICE) coupling flow of vectors",
    ),
    "real-nvp": _model(
        "real_nvp:RealNVP", "Trainable ExactLikelihood Sampler", "multi-scale convolutional coupling flow of images"
    ),
    "factorised": _model(
        "baselines:Factorised", "Fittable ExactLikelihood Sampler", "independent coordinates: the likelihood's floor"
    ),
    "gaussian": _model("baselines:Gaussian", "Fittable ExactLikelihood Sampler", "full-covariance Gaussian"),
    "ppca": _model(
        "baselines:PPCA",
        "Fittable ExactLikelihood Sampler Encoder Decoder Reconstructor GaussianEncoder",
        "probabilistic PCA in closed form",
    ),
    "gaussian-mixture": _model(
        "mixtures:GaussianMixture", "Fittable ExactLikelihood Sampler", "mixture of Gaussians by EM (scikit-learn)"
    ),
    "bernoulli-mixture": _model(
        "mixtures:BernoulliMixture", "Fittable ExactLikelihood Sampler", "mixture of Bernoullis by EM, for binary data"
    ),
}

METRICS: dict[str, MetricEntry] = {
    "nll": _metric("likelihood:nll", "ExactLikelihood", "nats", "lower", "exact negative log-likelihood", "exact"),
    "bits_per_dim": _metric(
        "likelihood:bits_per_dim",
        "ExactLikelihood",
        "bits/dim",
        "lower",
        "exact, with the preprocessing's Jacobian",
        "exact",
    ),
    "nll_iw": _metric(
        "likelihood:nll_iw",
        "VariationalBound",
        "nats",
        "lower",
        "importance-weighted upper bound on the negative log-likelihood",
        "importance-weighted",
        {"k": 5000},
        {"k": 1},
    ),
    "bits_per_dim_iw": _metric(
        "likelihood:bits_per_dim_iw",
        "VariationalBound",
        "bits/dim",
        "lower",
        "importance-weighted upper bound, with the preprocessing's Jacobian",
        "importance-weighted",
        {"k": 5000},
        {"k": 1},
    ),
    "elbo": _metric(
        "likelihood:elbo",
        "VariationalBound",
        "nats",
        "higher",
        "evidence lower bound, with rate and distortion",
        "elbo",
        {"samples": 1},
        {"samples": 1},
    ),
    "likelihood_share": _metric(
        "likelihood:likelihood_share",
        "ExactLikelihood|VariationalBound",
        "1",
        "higher",
        "share of the attainable log-likelihood that was reached (known density; 0 is independent Gaussians)",
        settings={"k": 500},
        lowest={"k": 1},
        data=("oracle",),
    ),
    "active_units": _metric(
        "posterior:active_units",
        "Encoder",
        "units",
        "higher",
        "code dimensions whose posterior mean varies over the data",
        settings={"threshold": 0.01},
        lowest={"threshold": 0.0},
        counts=True,
    ),
    "total_correlation": _metric(
        "posterior:total_correlation",
        "GaussianEncoder",
        "nats",
        "lower",
        "total correlation of the aggregate posterior; overrated where the rate nears the log of the number of rows",
        settings={"samples": 10_000},
        lowest={"samples": 2},
    ),
    "mutual_information": _metric(
        "posterior:mutual_information",
        "GaussianEncoder",
        "nats",
        "higher",
        "mutual information of datum and code under the aggregate posterior",
        settings={"samples": 10_000},
        lowest={"samples": 2},
    ),
    "mig_gaussian": _metric(
        "disentanglement:mig_gaussian",
        "GaussianEncoder",
        "1",
        "higher",
        "mutual information gap under the full posterior (Chen et al. 2018)",
        settings={"samples": 10_000},
        lowest={"samples": 2},
        data=("factors",),
    ),
    "mig": _metric(
        "disentanglement:mig",
        "Encoder",
        "1",
        "higher",
        "mutual information gap of posterior means (disentanglement_lib's bins)",
        settings={"bins": 20},
        lowest={"bins": 2},
        data=("factors",),
    ),
}


E_ = TypeVar("E_", ModelEntry, MetricEntry)


@cache
def models() -> dict[str, ModelEntry]:
    """All models: ours and those of installed plug-ins."""
    return {**_plugins("latentbench.models", ModelEntry), **MODELS}


@cache
def metrics() -> dict[str, MetricEntry]:
    """All metrics: ours and those of installed plug-ins."""
    return {**_plugins("latentbench.metrics", MetricEntry), **METRICS}


def _plugins(group: str, kind: type[E_]) -> dict[str, E_]:
    from importlib.metadata import entry_points

    found: dict[str, E_] = {}
    for point in entry_points(group=group):
        entry = point.load()
        if not isinstance(entry, kind):
            raise UserError(
                f"plug-in {point.name!r} of group {group!r} is no {kind.__name__}",
                where=point.value,
                fix=f"point it at a benchmarks.spec.registry.{kind.__name__}",
            )
        found[point.name] = entry
    return found


def find_model(name: str) -> ModelEntry:
    return _find(name, models(), "model")


def find_metric(name: str) -> MetricEntry:
    return _find(name, metrics(), "metric")


def _find(name: str, table: Mapping[str, E_], what: str) -> E_:
    if name not in table:
        raise UserError(f"unknown {what} {name!r}", fix=did_you_mean(name, table))
    return table[name]


@cache
def parameters(target: str) -> dict[str, str | None]:
    """Keyword parameters of a model's constructor and the source of their defaults, read without importing it.

    The first argument (`DataInfo`) is left out; parameters of base classes in the same module are followed where the
    class has no constructor of its own.
    """
    module, _, name = target.partition(":")
    source = module_file(module)
    if source is None:
        raise LookupError(f"{target} has no source file")
    tree = ast.parse(source.read_text(encoding="utf-8"))
    classes = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef)}
    while name in classes:
        node = classes[name]
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                return _arguments(item.args)
        name = next((b.id for b in node.bases if isinstance(b, ast.Name) and b.id in classes), "")
    raise LookupError(f"{target} has no constructor that can be read")


def _arguments(args: ast.arguments) -> dict[str, str | None]:
    plain = [*args.posonlyargs, *args.args][2:]  # self, info
    defaults: Iterable[ast.expr | None] = [None] * (len(plain) - len(args.defaults[-len(plain) :] if plain else []))
    defaults = [*defaults, *(args.defaults[-len(plain) :] if plain else [])]
    pairs = [*zip(plain, defaults, strict=True), *zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return {a.arg: ast.unparse(d) if d is not None else None for a, d in pairs}
