"""All metrics by name: where each lives, what arrays it needs, its unit, direction and reference.

Nothing is imported until a metric is used. `compute` backs ``latentbench metric NAME FILE …``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from latentbench.core.errors import UserError, did_you_mean

Direction = Literal["higher", "lower", "none"]


@dataclass(frozen=True)
class CatalogEntry:
    """A metric.

    Attributes:
        name: as `compute` takes it.
        group: module under `latentbench.metrics`; `function` in it.
        arrays: parameters that are arrays, in order; those in `optional` may be left out.
        unit: of the value, or its range.
        direction: which values are better (`none`: neither).
        reference: the papers that define it.
        from_file: whether it makes numbers of arrays alone (else it is for code only).
        version: raised when the code's result changes for equal input.
    """

    name: str
    group: str
    function: str
    arrays: tuple[str, ...]
    optional: tuple[str, ...]
    unit: str
    direction: Direction
    reference: str
    from_file: bool = True
    version: int = 1

    def load(self) -> Callable[..., Any]:
        """The function (imports its module)."""
        return getattr(importlib.import_module(f"latentbench.metrics.{self.group}"), self.function)

    def options(self) -> dict[str, inspect.Parameter]:
        """Parameters of the function that are no arrays."""
        parameters = inspect.signature(self.load()).parameters
        return {k: p for k, p in parameters.items() if k not in (*self.arrays, *self.optional, "source")}

    def identity(self, options: Mapping[str, Any]) -> str:
        """Hash of the function, its version and every option's value: figures of unequal identity are not compared."""
        defaults = {k: p.default for k, p in self.options().items() if p.default is not inspect.Parameter.empty}
        values = {k: repr(v) for k, v in sorted({**defaults, **options}.items())}
        text = json.dumps([self.group, self.function, self.version, values])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _entry(
    target: str,
    arrays: str,
    unit: str,
    direction: Direction,
    reference: str,
    *,
    name: str | None = None,
    from_file: bool = True,
    version: int = 1,
) -> CatalogEntry:
    """`arrays`: names apart by spaces, optional ones with a question mark."""
    group, function = target.split(":")
    names = arrays.split()
    return CatalogEntry(
        name or function,
        group,
        function,
        tuple(n for n in names if not n.endswith("?")),
        tuple(n[:-1] for n in names if n.endswith("?")),
        unit,
        direction,
        reference,
        from_file,
        version,
    )


_TRAIN_TEST = "codes factors codes_test? factors_test?"
_RATE_CURVES = "anchor_rates anchor_quality rates quality"
_ENTRIES = [
    # likelihood
    _entry("likelihood:log_likelihood", "log_prob log_abs_det?", "nats", "higher", "-"),
    _entry("likelihood:bits_per_dim", "log_prob log_abs_det?", "bits/dim", "lower", "Theis et al. 2016"),
    _entry("likelihood:elbo", "rate distortion log_abs_det?", "nats", "higher", "Kingma & Welling 2014"),
    _entry("likelihood:importance_bound", "log_weights log_abs_det?", "nats", "higher", "Burda et al. 2016"),
    _entry("likelihood:perplexity", "log_prob tokens", "1 …", "lower", "Jelinek et al. 1977"),
    _entry("likelihood:attainable_share", "", "share", "higher", "-", from_file=False),
    _entry("ais:annealed_importance_sampling", "", "nats", "higher", "Neal 2001; Wu et al. 2017", from_file=False),
    # posterior
    _entry("posterior:active_units", "means", "count", "higher", "Burda et al. 2016"),
    _entry("posterior:posterior_collapse", "means log_variances", "share", "lower", "Lucas et al. 2019"),
    _entry(
        "posterior:aggregate_posterior",
        "means log_variances",
        "nats",
        "none",
        "Hoffman & Johnson 2016; Chen et al. 2018",
        version=2,
    ),
    _entry("posterior:gaussian_total_correlation", "codes", "nats", "lower", "Locatello et al. 2019"),
    # disentanglement
    _entry("disentanglement:mig", "codes factors", "0 … 1", "higher", "Chen et al. 2018; Locatello et al. 2019"),
    _entry("disentanglement:mig_gaussian", "means log_variances factors", "0 … 1", "higher", "Chen et al. 2018"),
    _entry("disentanglement:dci", _TRAIN_TEST, "0 … 1", "higher", "Eastwood & Williams 2018"),
    _entry("disentanglement:sap", _TRAIN_TEST, "0 … 1", "higher", "Kumar et al. 2018"),
    _entry("disentanglement:modularity_explicitness", _TRAIN_TEST, "0 … 1", "higher", "Ridgeway & Mozer 2018"),
    _entry("disentanglement:modularity", "codes factors", "0 … 1", "higher", "Ridgeway & Mozer 2018"),
    _entry("disentanglement:factor_vae_score", "codes factors", "0 … 1", "higher", "Kim & Mnih 2018"),
    _entry("disentanglement:beta_vae_score", "codes factors", "0 … 1", "higher", "Higgins et al. 2017"),
    _entry("disentanglement:irs", "codes factors", "0 … 1", "higher", "Suter et al. 2019"),
    _entry("disentanglement:mcc", "codes factors", "0 … 1", "higher", "Hyvärinen & Morioka 2016"),
    _entry("disentanglement:mcc_affine", "codes factors", "0 … 1", "higher", "Khemakhem et al. 2020"),
    _entry("disentanglement:infomec", "codes factors", "… 1", "higher", "Hsu et al. 2023"),
    _entry("disentanglement:mutual_information_score", "codes", "nats", "lower", "Locatello et al. 2019"),
    _entry("disentanglement:udr", "codes rates?", "0 … 1", "higher", "Duan et al. 2020"),
    # samples
    _entry("samples:frechet_distance", "real fake", "squared feature unit", "lower", "Heusel et al. 2017"),
    _entry("samples:frechet_distance_infinite", "real fake", "squared feature unit", "lower", "Chong & Forsyth 2020"),
    _entry("samples:kid", "real fake", "squared MMD", "lower", "Bińkowski et al. 2018"),
    _entry("samples:mmd", "real fake", "squared MMD", "lower", "Gretton et al. 2012"),
    _entry("samples:energy_distance", "real fake", "root feature unit", "lower", "Székely & Rizzo 2013"),
    _entry("samples:sliced_wasserstein", "real fake directions?", "feature unit", "lower", "Bonneel et al. 2015"),
    _entry("samples:precision_recall", "real fake", "0 … 1", "higher", "Kynkäänniemi et al. 2019"),
    _entry("samples:density_coverage", "real fake", "0 …", "higher", "Naeem et al. 2020"),
    _entry("samples:inception_score", "logits", "1 … classes", "higher", "Salimans et al. 2016"),
    _entry("samples:vendi_score", "samples", "1 … N", "higher", "Friedman & Dieng 2023"),
    _entry("samples:c2st", "real fake", "0.5 … 1", "lower", "Lopez-Paz & Oquab 2017"),
    _entry("samples:nearest_training_ratio", "fake train test", "share", "none", "-"),
    _entry("samples:authenticity", "fake train", "share", "higher", "Alaa et al. 2022"),
    _entry("samples:copying_statistic", "fake train test", "Z score", "none", "Meehan et al. 2020"),
    # representation
    _entry(
        "representation:linear_probe", "codes labels codes_test labels_test", "0 … 1", "higher", "Alain & Bengio 2016"
    ),
    _entry("representation:knn_probe", "codes labels codes_test labels_test", "0 … 1", "higher", "Wu et al. 2018"),
    _entry("representation:clustering_accuracy", "predicted labels", "0 … 1", "higher", "Yang et al. 2010"),
    _entry("representation:nmi", "predicted labels", "0 … 1", "higher", "Vinh et al. 2010"),
    _entry("representation:ari", "predicted labels", "… 1", "higher", "Hubert & Arabie 1985"),
    _entry("representation:silhouette", "codes labels", "-1 … 1", "higher", "Rousseeuw 1987"),
    _entry("representation:cka", "first second", "0 … 1", "higher", "Kornblith et al. 2019"),
    _entry("representation:svcca", "first second", "0 … 1", "higher", "Raghu et al. 2017"),
    _entry("representation:mean_correlation", "first second", "0 … 1", "higher", "Hyvärinen & Morioka 2016"),
    # reconstruction and compression
    _entry("reconstruction:mse", "original reconstruction", "squared data unit", "lower", "-"),
    _entry("reconstruction:psnr", "original reconstruction", "dB", "higher", "-"),
    _entry("reconstruction:ssim", "original reconstruction", "… 1", "higher", "Wang et al. 2004"),
    _entry("reconstruction:ms_ssim", "original reconstruction", "0 … 1", "higher", "Wang et al. 2003"),
    _entry("reconstruction:bits_per_pixel", "bits", "bits/pixel", "lower", "-"),
    _entry(
        "reconstruction:rate_distortion_curve",
        "rates distortions",
        "as given",
        "none",
        "Alemi et al. 2018",
        from_file=False,
    ),
    _entry("reconstruction:bd_rate", _RATE_CURVES, "per cent", "lower", "Bjøntegaard 2001"),
    _entry("reconstruction:bd_psnr", _RATE_CURVES, "dB", "higher", "Bjøntegaard 2001"),
    # prediction and uncertainty
    _entry("prediction:accuracy", "predicted labels", "0 … 1", "higher", "-"),
    _entry("prediction:brier_score", "probabilities labels", "0 … 2", "lower", "Brier 1950"),
    _entry("prediction:expected_calibration_error", "probabilities labels", "0 … 1", "lower", "Guo et al. 2017"),
    _entry("prediction:auroc", "scores positive", "0 … 1", "higher", "DeLong et al. 1988"),
    _entry("prediction:average_precision", "scores positive", "0 … 1", "higher", "Davis & Goadrich 2006"),
    _entry("prediction:fpr_at_tpr", "scores positive", "0 … 1", "lower", "Hendrycks & Gimpel 2017; Ren et al. 2019"),
    _entry("prediction:rmse", "predicted target", "target unit", "lower", "-"),
    _entry("prediction:mae", "predicted target", "target unit", "lower", "-"),
    _entry("prediction:quantile_loss", "predicted target", "target unit", "lower", "Koenker & Bassett 1978"),
    _entry("prediction:crps_samples", "samples target", "target unit", "lower", "Gneiting & Raftery 2007"),
    _entry("prediction:crps_gaussian", "mean std target", "target unit", "lower", "Gneiting & Raftery 2007"),
    _entry("prediction:interval_coverage", "lower upper target", "share", "none", "-"),
    _entry("prediction:interval_width", "lower upper", "target unit", "lower", "-"),
    # structure, rankings, links
    _entry("structure:shd", "predicted true", "edges", "lower", "Tsamardinos et al. 2006"),
    _entry("structure:sid", "predicted true", "pairs", "lower", "Peters & Bühlmann 2015"),
    _entry("structure:edge_f1", "predicted true", "0 … 1", "higher", "-"),
    _entry("structure:edge_auroc", "scores true", "0 … 1", "higher", "-"),
    _entry("structure:edge_average_precision", "scores true", "0 … 1", "higher", "-"),
    _entry("structure:ndcg", "scores relevance", "0 … 1", "higher", "Järvelin & Kekäläinen 2002"),
    _entry("structure:recall_at_k", "scores relevance", "0 … 1", "higher", "Liang et al. 2018"),
    _entry("structure:link_prediction", "positive_scores negative_scores", "0 … 1", "higher", "Kipf & Welling 2016"),
    _entry("structure:rank_metrics", "ranks", "0 … 1", "higher", "Bordes et al. 2013"),
    # transport
    _entry("transport:bw2_uvp", "samples mean covariance", "per cent", "lower", "Korotin et al. 2021"),
    _entry("transport:conditional_bw2_uvp", "samples means covariances", "per cent", "lower", "Gushchin et al. 2023"),
    _entry("transport:gaussian_entropic_cost", "mean1 cov1 mean2 cov2", "cost", "none", "Janati et al. 2020"),
    _entry("transport:gaussian_sinkhorn_divergence", "mean1 cov1 mean2 cov2", "cost", "lower", "Janati et al. 2020"),
    _entry("transport:sinkhorn_divergence", "real fake", "cost", "lower", "Feydy et al. 2019"),
]
METRICS: dict[str, CatalogEntry] = {e.name: e for e in _ENTRIES}


def find(name: str) -> CatalogEntry:
    """The entry of that name, or `UserError` with the nearest ones."""
    if name not in METRICS:
        raise UserError(
            f"no metric is called {name!r}",
            where="metric",
            fix=did_you_mean(name, METRICS, "`latentbench metric --list`"),
        )
    return METRICS[name]


@dataclass(frozen=True)
class Computed:
    """A metric computed from files: `numbers` by name (the first is the metric's), with what it takes to cite it."""

    entry: CatalogEntry
    numbers: dict[str, float | int | None]
    options: dict[str, Any]
    identity: str


def compute(name: str, files: Sequence[str | Path], options: Mapping[str, str] | None = None) -> Computed:
    """Compute a metric on the arrays of .npz and .parquet files.

    Args:
        name: in the catalogue.
        files: see `latentbench.metrics.files.read_arrays`.
        options: of the function, as text; `seed` seeds the draws of those that draw (default 0).

    Raises:
        UserError: unknown metric or option, missing array, a value of the wrong type, or bad arrays.
    """
    from latentbench.metrics.files import read_arrays

    entry = find(name)
    if not entry.from_file:
        raise UserError(
            f"{name} does not make numbers of arrays alone",
            where="metric",
            fix=f"call latentbench.metrics.{entry.group}",
        )
    chosen = _options(entry, options or {})
    arrays = read_arrays(files, entry.arrays, entry.optional)
    result = entry.load()(**arrays, **chosen.arguments)
    numbers = flatten(result)
    return Computed(entry, numbers, chosen.shown, entry.identity(chosen.shown))


@dataclass(frozen=True)
class _Options:
    arguments: dict[str, Any]
    shown: dict[str, Any]


def _options(entry: CatalogEntry, given: Mapping[str, str]) -> _Options:
    known = entry.options()
    draws = [k for k in known if k in ("generator", "rng")]
    allowed = {*known, "seed"} - set(draws) if draws else set(known)
    for key in given:
        if key not in allowed:
            raise UserError(f"{entry.name} has no option {key!r}", where="option", fix=did_you_mean(key, allowed))
    shown: dict[str, Any] = {k: _parse(k, v, known[k].annotation if k in known else int) for k, v in given.items()}
    missing = [k for k, p in known.items() if p.default is inspect.Parameter.empty and k not in (*shown, *draws)]
    if missing:
        raise UserError(f"{entry.name} needs {', '.join(missing)}", where="option", fix=f"give {missing[0]}=…")
    arguments = dict(shown)
    if draws:
        shown.setdefault("seed", 0)
        seed = arguments.pop("seed", 0) if "seed" not in known else shown["seed"]
        arguments |= {k: _generator(k, seed) for k in draws}
    return _Options(arguments, shown)


def _generator(kind: str, seed: int) -> Any:
    if kind == "rng":
        import numpy as np

        return np.random.default_rng(seed)
    import torch

    return torch.Generator().manual_seed(seed)


def _parse(key: str, text: str, annotation: Any) -> Any:
    """Text as the parameter's type: bool, int, float, or a word (checked by the function itself)."""
    kind = getattr(annotation, "__name__", str(annotation)).split(" ")[0]
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        return {"int": int, "float": float}.get(kind, str)(text)
    except (KeyError, ValueError):
        raise UserError(f"{key}={text} is no {kind}", where="option") from None


def flatten(result: Any) -> dict[str, float | int | None]:
    """The numbers of a metric's result, by name; arrays, texts and tables are left out.

    A float is `value`; a `MetricValue` is `value`, `se`, `n` and its numeric details; other results give their fields,
    and fields that are results themselves are prefixed by their name.
    """
    return dict(_numbers(result, ""))


def _numbers(result: Any, prefix: str) -> list[tuple[str, float | int | None]]:
    if isinstance(result, (bool, int, float)):
        return [(prefix or "value", float(result) if isinstance(result, float) else int(result))]
    if result is None:
        return [(prefix, None)]
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        fields = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    elif isinstance(result, tuple) and hasattr(result, "_asdict"):
        fields = result._asdict()
    elif isinstance(result, tuple):
        fields = {str(i): v for i, v in enumerate(result)}
    elif isinstance(result, Mapping):
        fields = dict(result)
    else:
        return []
    join = f"{prefix}_" if prefix else ""
    pairs: list[tuple[str, float | int | None]] = []
    for key, value in fields.items():
        if key == "details" or (key == "value" and prefix):
            pairs += _numbers(value, prefix)
        elif not (isinstance(result, Mapping) and isinstance(value, (tuple, list, Mapping))):
            pairs += _numbers(value, f"{join}{key}")
    return pairs
