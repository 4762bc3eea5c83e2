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
from pathlib import Path
from typing import Any, Literal, TypeVar

from benchmarks.core import plugins
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
    "wake-sleep": _model(
        "wake_sleep:WakeSleep",
        "Trainable VariationalBound Sampler Encoder Decoder Reconstructor GaussianEncoder",
        "the networks of a VAE with one stochastic layer, trained by wake-sleep",
    ),
    "monte-carlo-em": _model(
        "monte_carlo_em:MonteCarloEM",
        "Fittable Sampler Decoder",
        "the decoder of a VAE fitted by Monte Carlo EM with Hamiltonian chains; codes of few dimensions",
    ),
    "skip-hvae": _model(
        "skip_hvae:SkipHVAE",
        "Trainable VariationalBound Sampler OutlierScorer",
        "convolutional hierarchical VAE with skip connections; outlier scores by likelihood, LLR>k or complexity",
    ),
    "pixel-vae": _model(
        "pixel_vae:PixelVAE",
        "Trainable VariationalBound Sampler Encoder",
        "VAE with PixelCNN decoder, autoregressive-flow prior or posterior, and the InfoVAE loss, each if wanted",
    ),
    "pixelcnn": _model("pixelcnn:PixelCNN", "Trainable ExactLikelihood Sampler", "autoregressive density of images"),
    "gon": _model(
        "gon:GON",
        "Trainable Encoder Decoder Reconstructor",
        "gradient origin network: the code is one gradient step from zero; decoder explicit or implicit (SIREN)",
    ),
    "autoencoder": _model("gon:Autoencoder", "Trainable Encoder Decoder Reconstructor", "autoencoder by squared error"),
    "variational-gon": _model(
        "gon:VariationalGON",
        "Trainable VariationalBound Sampler Encoder Decoder Reconstructor GaussianEncoder",
        "VAE whose posterior is read off one gradient step from zero",
    ),
    "sentence-vae": _model(
        "sentence_vae:SentenceVAE",
        "Trainable VariationalBound Sampler Encoder Reconstructor GaussianEncoder",
        "LSTM sentence VAE; AutoGen's m, annealed KL or word dropout",
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
    "light-sb": _model(
        "bridges.light_sb:LightSB", "Trainable Transporter", "light Schrödinger bridge: a mixture as adjusted potential"
    ),
    "sinkhorn": _model(
        "bridges.sinkhorn:Sinkhorn", "Fittable Transporter", "discrete entropic transport, looked up at new points"
    ),
    "cnf": _model("ode.cnf:CNF", "Trainable ExactLikelihood Sampler", "continuous normalising flow with gated units"),
    "planar-flow": _model(
        "ode.planar:PlanarFlow", "Trainable ExactLikelihood Sampler", "planar normalising flow of vectors"
    ),
    "ode-net": _model(
        "ode.odenet:OdeNet",
        "Trainable Classifier",
        "image classifier with an equation or residual blocks in the middle",
    ),
    "latent-ode": _model(
        "ode.latent:LatentODE", "Trainable Forecaster", "VAE of irregular series with a latent equation or recurrence"
    ),
    "recurrent-predictor": _model(
        "ode.latent:RecurrentPredictor", "Trainable Forecaster", "recurrent network of irregular series, one ahead"
    ),
    "dsbm": _model(
        "bridges.dsbm:DSBM", "Trainable Transporter", "diffusion Schrödinger bridge matching with two small networks"
    ),
    "polynomial-programme": _model(
        "discrete.programme:PolynomialProgramme",
        "Trainable EstimatedGradient ExpectedCost",
        "binary variables that minimise an expected polynomial: a test of gradient estimators, without data",
    ),
    "discrete-vae": _model(
        "discrete.vae:DiscreteVAE",
        "Trainable VariationalBound Sampler Encoder Decoder Reconstructor EstimatedGradient",
        "VAE with categorical or Bernoulli variables, trained by any of eleven gradient estimators",
    ),
    "class-vae": _model(
        "discrete.class_vae:ClassVAE",
        "Trainable VariationalBound Sampler",
        "VAE with a class and a style, the class marginalised or sampled",
    ),
    "any-order-arm": _model(
        "autoregressive.any_order:AnyOrderARM",
        "Trainable ExactLikelihood Sampler Marginals",
        "conditionals of every variable given every subset, for binary vectors",
    ),
    "marginalization-model": _model(
        "autoregressive.any_order:MarginalizationModel",
        "Trainable ExactLikelihood Sampler Marginals",
        "any-order conditionals and, distilled from them, marginals in one pass",
    ),
    "lattice-arm": _model(
        "autoregressive.energy:LatticeARM",
        "Trainable KnownTarget",
        "autoregressive model of a spin lattice, trained to its energy without data",
    ),
    "lattice-mam": _model(
        "autoregressive.energy:LatticeMaM",
        "Trainable KnownTarget",
        "marginalization model of a spin lattice, trained to its energy without data",
    ),
    "structured-predictor": _model(
        "discrete.structured:StructuredPredictor",
        "Trainable ConditionalBound",
        "stochastic network that predicts the second half of a binary vector from the first",
    ),
    "chow-liu-tree": _model(
        "circuits.classical:ChowLiuTree",
        "Fittable ExactLikelihood Sampler",
        "the tree-shaped distribution nearest to binary or discrete data",
    ),
    "learnspn": _model(
        "circuits.classical:LearnSPN",
        "Fittable ExactLikelihood Sampler",
        "sum-product network grown by independence tests and clustering, for binary data",
    ),
    "hclt": _model(
        "circuits.latent_tree:HCLT",
        "Trainable Preparable ExactLikelihood Sampler",
        "hidden Chow-Liu tree with free tables, by EM or gradient descent",
    ),
    "pic": _model(
        "circuits.pic:PIC",
        "Trainable Preparable ExactLikelihood Sampler",
        "probabilistic integral circuit: a hidden Chow-Liu tree whose weights are networks under quadrature",
    ),
    "patch-circuit": _model(
        "circuits.patches:PatchCircuit",
        "Trainable Preparable ExactLikelihood Sampler",
        "circuit of image patches by EM, from a random start or distilled from a VAE's features",
    ),
    "hmm": _model(
        "circuits.hmm:HMM",
        "Trainable Preparable ExactLikelihood Sampler",
        "hidden Markov model of discrete sequences by EM, from a random start or distilled from a transformer",
    ),
    "sequence-transformer": _model(
        "circuits.hmm:SequenceTransformer",
        "Trainable ExactLikelihood Sampler",
        "small causal transformer over discrete sequences",
    ),
    "vdm": _model(
        "diffusion.vdm:VDM",
        "Trainable BoundTerms Sampler PathSampler",
        "variational diffusion with a fixed, a learned scalar or a learned multivariate noise schedule",
    ),
    "mulan": _model(
        "diffusion.mulan:MuLAN",
        "Trainable BoundTerms Sampler PathSampler",
        "diffusion whose multivariate noise schedule depends on a latent variable drawn from the datum",
    ),
    "nfdm": _model(
        "diffusion.nfdm:NFDM",
        "Trainable BoundTerms Sampler PathSampler",
        "diffusion with a learned Gaussian forward map, and straight paths if wanted",
    ),
}

_BATCHES = {"batch": 64, "train": 10_000, "test": 5_000}
_FEW_BATCHES = {"batch": 2, "train": 2, "test": 1}
_TRAIN_SHARE = {"train_share": 2 / 3}
_EXTRACTORS = {
    "pixels": "raw pixels (stored values)",
    "random": "an untrained network",
    "lenet": "a LeNet trained on the dataset",
    "inception": "Inception, as torch-fidelity has it",
}


def _sampled(
    target: str,
    unit: str,
    better: Better,
    summary: str,
    settings: Mapping[str, Any] | None = None,
    *,
    least: Mapping[str, float] | None = None,
    reference: bool = True,
    samples: int = 10_000,
    data: tuple[str, ...] = (),
) -> MetricEntry:
    """A metric of as many samples as real rows, `samples` at most; `reference` says of which split those are."""
    common: dict[str, Any] = {"samples": samples, **({"reference": "test"} if reference else {})}
    return _metric(
        f"samples:{target}",
        "Sampler",
        unit,
        better,
        summary,
        settings={**common, **(settings or {})},
        lowest={"samples": 10, **(least or {})},
        data=data,
    )


def _of_features(
    name: str,
    unit: str,
    better: Better,
    summary: str,
    settings: Mapping[str, Any] | None = None,
    *,
    least: Mapping[str, float] | None = None,
    reference: bool = True,
    classifier: bool = False,
) -> dict[str, MetricEntry]:
    """One metric a feature extractor (with classes, where it needs a classifier): `<name>_<extractor>`."""
    needs: dict[str, tuple[str, ...]] = {"pixels": (), "random": ("images",), "lenet": ("images", "labels")}
    return {
        f"{name}_{extractor}": _sampled(
            f"{name}_{extractor}",
            unit,
            better,
            f"{summary}; features: {of}",
            settings,
            least=least,
            reference=reference,
            data=needs.get(extractor, ("images",)),
        )
        for extractor, of in _EXTRACTORS.items()
        if not classifier or extractor in ("lenet", "inception")
    }


def _of_codes(
    target: str, summary: str, settings: Mapping[str, Any], lowest: Mapping[str, float], rows: int = 10_000
) -> MetricEntry:
    """A disentanglement score of at most `rows` codes with their factors."""
    return _metric(
        f"codes:{target}",
        "Encoder",
        "1",
        "higher",
        summary,
        settings={"rows": rows, **settings},
        lowest={"rows": 10, **lowest},
        data=("factors",),
    )


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
    "nll_iw_mcmc": _metric(
        "marginal:nll_iw_mcmc",
        "Sampler",
        "nats",
        "lower",
        "upper bound on the negative log-likelihood that needs no encoder: posterior chains give the proposals",
        "importance-weighted",
        {"k": 1000, "draws": 50, "burn_in": 50, "starts": 256},
        {"k": 1, "draws": 2, "burn_in": 0, "starts": 1},
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
    "nll_elbo": _metric(
        "bounds:nll_elbo",
        "BoundTerms",
        "nats",
        "lower",
        "upper bound on the negative log-likelihood of a diffusion model, with its parts",
        "elbo",
        {"samples": 1},
        {"samples": 1},
    ),
    "bits_per_dim_elbo": _metric(
        "bounds:bits_per_dim_elbo",
        "BoundTerms",
        "bits/dim",
        "lower",
        "upper bound of a diffusion model, with the preprocessing's Jacobian",
        "elbo",
        {"samples": 1},
        {"samples": 1},
    ),
    "bound_spread": _metric(
        "bounds:bound_spread",
        "BoundTerms",
        "bits/dim",
        "lower",
        "standard deviation of a one-draw estimate of a row's bound",
        settings={"samples": 8},
        lowest={"samples": 2},
    ),
    "few_step_distance": _metric(
        "trajectories:few_step_distance",
        "PathSampler",
        "data unit",
        "lower",
        "sliced Wasserstein distance of samples by few Euler steps and real rows as stored",
        settings={"steps": 10, "samples": 2_000, "projections": 200},
        lowest={"steps": 1, "samples": 10, "projections": 1},
    ),
    "path_straightness": _metric(
        "trajectories:path_straightness",
        "PathSampler",
        "1",
        "higher",
        "distance between the ends of a generative path by its length",
        settings={"steps": 100, "samples": 1_000},
        lowest={"steps": 2, "samples": 2},
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
    "outlier_auroc": _metric(
        "outliers:auroc",
        "OutlierScorer",
        "1",
        "higher",
        "area under the ROC curve of the model's outlier score against another dataset",
        settings={"other": "", "content": "", "split": "test", "reduce": 1},
        lowest={"reduce": 1},
    ),
    "outlier_ap": _metric(
        "outliers:average_precision",
        "OutlierScorer",
        "1",
        "higher",
        "average precision of the model's outlier score, the other dataset's rows being positives",
        settings={"other": "", "content": "", "split": "test", "reduce": 1},
        lowest={"reduce": 1},
    ),
    "outlier_fpr80": _metric(
        "outliers:fpr80",
        "OutlierScorer",
        "1",
        "lower",
        "false positives of the outlier score where 80 per cent of the other dataset are found",
        settings={"other": "", "content": "", "split": "test", "reduce": 1},
        lowest={"reduce": 1},
    ),
    "aggregate_mmd": _metric(
        "aggregate:aggregate_mmd",
        "Encoder",
        "squared MMD",
        "lower",
        "Gaussian-kernel distance of posterior draws over the split from the standard normal prior",
        settings={"bandwidth": 0.0},
        lowest={"bandwidth": 0.0},
    ),
    "aggregate_log_det": _metric(
        "aggregate:aggregate_log_det",
        "Encoder",
        "nats",
        "lower",
        "absolute log-determinant of the covariance of posterior draws over the split, 0 for the prior",
    ),
    "rate": _metric(
        "aggregate:rate", "VariationalBound", "nats", "higher", "KL of posterior and prior: what codes hold"
    ),
    "token_accuracy": _metric(
        "tokens:token_accuracy",
        "Reconstructor",
        "1",
        "higher",
        "share of tokens that the reconstruction has at the same place, up to the end mark",
        settings={"end": 0},
        lowest={"end": -1},
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
        "total correlation of the aggregate posterior; `saturated` where the rate nears the log of the number of rows",
        settings={"samples": 10_000},
        lowest={"samples": 2},
        version=2,
    ),
    "mutual_information": _metric(
        "posterior:mutual_information",
        "GaussianEncoder",
        "nats",
        "higher",
        "mutual information of datum and code under the aggregate posterior; `saturated` as total_correlation is",
        settings={"samples": 10_000},
        lowest={"samples": 2},
        version=2,
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
    "classification_error": _metric(
        "prediction:classification_error",
        "Classifier",
        "%",
        "lower",
        "test rows that are given a wrong label",
        data=("labels",),
    ),
    "forecast_rmse": _metric(
        "prediction:forecast_rmse", "Forecaster", "raw", "lower", "root mean square error of a series' continuation"
    ),
    "training_memory": _metric(
        "memory:training_memory",
        "Trainable",
        "MiB",
        "lower",
        "peak of what one step's gradients keep in memory, counted from the tensors that autograd saves",
        settings={"rows": 128},
        lowest={"rows": 1},
        counts=True,
    ),
    "parameters": _metric("memory:parameters", "Trainable", "million", "lower", "trainable parameters", counts=True),
    "conditional_bw2_uvp": _metric(
        "transport:conditional_bw2_uvp",
        "Transporter",
        "%",
        "lower",
        "error of the plan given a source point, in its first two moments (known plan; Gushchin et al. 2023)",
        settings={"sources": 1000, "samples": 1000},
        lowest={"sources": 1, "samples": 2},
        data=("oracle",),
    ),
    "target_bw2_uvp": _metric(
        "transport:target_bw2_uvp",
        "Transporter",
        "%",
        "lower",
        "error of the pushed marginal in its first two moments (known plan; Gushchin et al. 2023)",
        data=("oracle",),
    ),
    "pushed_energy_distance": _metric(
        "transport:pushed_energy_distance",
        "Transporter",
        "root raw unit",
        "lower",
        "energy distance of the pushed sources, at a time on their way, from the test targets",
        settings={"time": 1.0, "rows": 5000},
        lowest={"time": 0.0, "rows": 2},
    ),
    "gradient_cosine": _metric(
        "gradients:gradient_cosine",
        "EstimatedGradient",
        "1",
        "higher",
        "cosine between the mean of gradient estimates and the exact gradient",
        settings={"rows": 10, "draws": 1024},
        lowest={"rows": 1, "draws": 2},
    ),
    "gradient_bias": _metric(
        "gradients:gradient_bias",
        "EstimatedGradient",
        "1",
        "lower",
        "length of the bias of gradient estimates relative to the exact gradient, sampling noise taken off",
        settings={"rows": 10, "draws": 1024},
        lowest={"rows": 1, "draws": 2},
    ),
    "expected_cost": _metric(
        "gradients:expected_cost", "ExpectedCost", "1", "lower", "exact objective of an optimisation without data"
    ),
    "cross_entropy_bound": _metric(
        "discrete:cross_entropy_bound",
        "VariationalBound",
        "nats",
        "lower",
        "rate plus cross-entropy with grey values: a training objective, no likelihood",
        settings={"split": "test", "samples": 1, "rows": 10_000},
        lowest={"samples": 1, "rows": 1},
    ),
    "conditional_nll_iw": _metric(
        "discrete:conditional_nll_iw",
        "ConditionalBound",
        "nats",
        "lower",
        "importance-weighted upper bound on the negative log-likelihood of a part given the rest",
        "importance-weighted",
        {"k": 1000},
        {"k": 1},
    ),
    "step_ms": _metric(
        "cost:step_ms",
        "Trainable",
        "ms",
        "lower",
        "median time of a loss and its gradient: depends on the machine, for comparison within one run of a suite",
        settings={"rows": 100, "steps": 20},
        lowest={"rows": 1, "steps": 1},
    ),
    "beta_vae_score": _of_codes(
        "beta_vae_score", "accuracy of telling which factor pairs share", _BATCHES, _FEW_BATCHES
    ),
    "factor_vae_score": _of_codes(
        "factor_vae_score",
        "accuracy of a majority vote for the factor held fixed, by the code that varies least",
        {"threshold": 0.05, **_BATCHES},
        {"threshold": 0.0, **_FEW_BATCHES},
    ),
    **{
        f"dci_{part}": _of_codes(
            f"dci_{part}",
            f"{part} by the importances of boosted trees (`model: forest` is fast, and another metric)",
            {"model": "boosted", **_TRAIN_SHARE},
            {"train_share": 0.1},
            rows=15_000,
        )
        for part in ("disentanglement", "completeness", "informativeness")
    },
    "sap": _of_codes(
        "sap",
        "gap between the two codes that predict a factor best, linear SVMs",
        _TRAIN_SHARE,
        {"train_share": 0.1},
        15_000,
    ),
    "modularity": _of_codes("modularity", "how far each code informs of one factor only", {"bins": 20}, {"bins": 2}),
    "explicitness": _of_codes(
        "explicitness", "AUROC of logistic regressions of the factors", _TRAIN_SHARE, {"train_share": 0.1}, 15_000
    ),
    "irs": _of_codes(
        "irs",
        "interventional robustness: how little a code strays while its factor is fixed",
        {"quantile": 0.99, "bins": 20},
        {"quantile": 0.01, "bins": 2},
    ),
    "mcc": _of_codes("mcc", "mean correlation with the factors up to permutation", {"correlation": "pearson"}, {}),
    "infom": _of_codes("infom", "modularity in units of information (InfoMEC)", {}, {}),
    "infoe": _of_codes("infoe", "explicitness in units of information (InfoMEC)", {}, {}),
    "infoc": _of_codes("infoc", "compactness in units of information (InfoMEC)", {}, {}),
    "posterior_collapse": _metric(
        "collapse:posterior_collapse",
        "GaussianEncoder",
        "share",
        "lower",
        "share of code dimensions whose posterior is the prior's for all but a few rows",
        settings={"epsilon": 0.01, "delta": 0.01},
        lowest={"epsilon": 0.0, "delta": 0.0},
    ),
    "linear_probe": _metric(
        "representation:linear_probe",
        "Encoder",
        "1",
        "higher",
        "test accuracy of a logistic regression of the labels on codes",
        settings={"rows": 10_000, "c": 1.0},
        lowest={"rows": 2, "c": 1e-9},
        data=("labels",),
    ),
    "knn_probe": _metric(
        "representation:knn_probe",
        "Encoder",
        "1",
        "higher",
        "test accuracy of the majority among the nearest training codes",
        settings={"rows": 10_000, "k": 5},
        lowest={"rows": 2, "k": 1},
        data=("labels",),
    ),
    "kmeans_accuracy": _metric(
        "representation:kmeans_accuracy",
        "Encoder",
        "1",
        "higher",
        "share of rows whose k-means cluster of codes is matched to their label",
        settings={"rows": 10_000, "restarts": 10},
        lowest={"rows": 2, "restarts": 1},
        data=("labels",),
    ),
    "kmeans_nmi": _metric(
        "representation:kmeans_nmi",
        "Encoder",
        "1",
        "higher",
        "normalised mutual information of k-means clusters of codes and labels",
        settings={"rows": 10_000, "restarts": 10},
        lowest={"rows": 2, "restarts": 1},
        data=("labels",),
    ),
    "reconstruction_mse": _metric(
        "reconstruction:reconstruction_mse",
        "Reconstructor",
        "squared data unit",
        "lower",
        "mean squared error of reconstructions as stored, images in 0 … 1",
    ),
    "reconstruction_psnr": _metric(
        "reconstruction:reconstruction_psnr",
        "Reconstructor",
        "dB",
        "higher",
        "peak signal-to-noise ratio of reconstructed images",
        data=("images",),
    ),
    "reconstruction_ssim": _metric(
        "reconstruction:reconstruction_ssim",
        "Reconstructor",
        "1",
        "higher",
        "structural similarity of reconstructed images",
        data=("images",),
    ),
    **_of_features("fid", "squared feature unit", "lower", "Fréchet distance of samples and real rows"),
    **_of_features(
        "kid",
        "squared MMD",
        "lower",
        "kernel distance of samples and real rows",
        {"subsets": 100, "subset_size": 1000},
        least={"subsets": 1, "subset_size": 2},
    ),
    **_of_features(
        "precision", "1", "higher", "share of samples within the real rows' reach", {"k": 3}, least={"k": 1}
    ),
    **_of_features("recall", "1", "higher", "share of real rows within the samples' reach", {"k": 3}, least={"k": 1}),
    **_of_features("density", "1", "higher", "how many real rows reach a sample", {"k": 5}, least={"k": 1}),
    **_of_features("coverage", "1", "higher", "share of real rows that reach a sample", {"k": 5}, least={"k": 1}),
    **_of_features("vendi", "samples", "higher", "effective number of different samples"),
    **_of_features(
        "copying",
        "Z score",
        "higher",
        "C_T: below 0 where samples lie nearer to training rows than test rows do",
        {"cells": 3, "smallest": 20},
        least={"cells": 1, "smallest": 1},
        reference=False,
    ),
    **_of_features(
        "inception_score",
        "1",
        "higher",
        "how sure of each sample, and how spread over all, a classifier is",
        {"splits": 10},
        least={"splits": 1},
        reference=False,
        classifier=True,
    ),
    "mmd": _sampled("mmd", "squared MMD", "lower", "Gaussian-kernel distance of samples and real rows as stored"),
    "energy_distance": _sampled(
        "energy_distance", "root data unit", "lower", "energy distance of samples and real rows as stored"
    ),
    "sliced_wasserstein": _sampled(
        "sliced_wasserstein",
        "data unit",
        "lower",
        "sliced Wasserstein distance of samples and real rows as stored",
        {"projections": 500},
        least={"projections": 1},
    ),
    "c2st": _sampled(
        "c2st",
        "1",
        "lower",
        "cross-validated accuracy of telling samples from real rows, 0.5 at best",
        {"classifier": "mlp", "folds": 5},
        least={"folds": 2},
        samples=2_000,
    ),
    "marginal_correlation": _metric(
        "marginals:marginal_correlation",
        "Marginals",
        "1",
        "higher",
        "Spearman's correlation of log-marginals with those of an ensemble of conditional chains",
        settings={"rows": 100, "subsets": 5, "orders": 5},
        lowest={"rows": 3, "subsets": 1, "orders": 1},
    ),
    "marginal_ms": _metric(
        "marginals:marginal_ms",
        "Marginals",
        "ms",
        "lower",
        "median time of a batch of marginals: depends on the machine, for comparison within one run of a suite",
        settings={"rows": 16, "repeats": 5},
        lowest={"rows": 1, "repeats": 1},
    ),
    "kl_to_target": _metric(
        "marginals:kl_to_target", "KnownTarget", "nats", "lower", "KL divergence to a known distribution, all states"
    ),
    "marginal_error": _metric(
        "marginals:marginal_error",
        "KnownTarget",
        "nats",
        "lower",
        "mean absolute error of log-marginals of random subsets against the exact ones",
        settings={"subsets": 200},
        lowest={"subsets": 2},
    ),
}


E_ = TypeVar("E_", ModelEntry, MetricEntry)


@cache
def models() -> dict[str, ModelEntry]:
    """All models: ours, those of installed plug-ins and those in the folders that the user names."""
    return {**_plugins("latentbench.models", ModelEntry), **_folders("MODELS", ModelEntry), **MODELS}


@cache
def metrics() -> dict[str, MetricEntry]:
    """All metrics: ours, those of installed plug-ins and those in the folders that the user names."""
    return {**_plugins("latentbench.metrics", MetricEntry), **_folders("METRICS", MetricEntry), **METRICS}


def add_folder(folder: Path) -> None:
    """Know the models and metrics of one more plug-in folder, in this process and those that it starts."""
    plugins.add_folder(folder)
    models.cache_clear()
    metrics.cache_clear()


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


def _folders(table: str, kind: type[E_]) -> dict[str, E_]:
    found: dict[str, E_] = {}
    for module in plugins.modules():
        for name, entry in dict(getattr(module, table, {})).items():
            if not isinstance(entry, kind):
                raise UserError(
                    f"{table}[{name!r}] is no {kind.__name__}",
                    where=str(module.__file__),
                    fix=f"make it a benchmarks.spec.registry.{kind.__name__}",
                )
            if name in (MODELS if kind is ModelEntry else METRICS):
                raise UserError(
                    f"{table}[{name!r}] has the name of one of latentbench's own",
                    where=str(module.__file__),
                    fix="choose another name",
                )
            found[str(name)] = entry
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
