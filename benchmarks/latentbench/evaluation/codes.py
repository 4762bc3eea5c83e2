"""How a trained model's codes stand to ground-truth factors: the scores that need no more than rows of both.

Each is bound by one line: what it takes of codes (N, D), factors (N, K), the settings and a source of randomness. All
draw at most `rows` rows of the evaluation split, and detail `shuffled` is the score with the factors of other rows
(what chance scores), but where the score itself takes minutes.
"""

# ruff: noqa: ARG001, ARG005 (the functions of a table share one signature)

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Generator

from latentbench.core.capabilities import Encoder
from latentbench.core.types import MetricValue
from latentbench.declare import metric as declared_metric
from latentbench.evaluation.disentanglement import factors
from latentbench.evaluation.space import some_rows
from latentbench.evaluation.view import View
from latentbench.metrics import disentanglement as metric
from latentbench.metrics.arrays import NotFiniteError

Settings = Mapping[str, Any]
Evaluator = Callable[[Encoder, View, Settings, Generator], MetricValue]
Score = Callable[[np.ndarray, np.ndarray, Settings, np.random.Generator], float]
BLOCK = 512


def _scored(score: Score, *, control: bool = True) -> Evaluator:
    def evaluate(model: Encoder, view: View, settings: Settings, generator: Generator) -> MetricValue:
        v = np.asarray(factors(view))
        rows = some_rows(view, int(settings["rows"]), generator)
        z = torch.cat([model.encode(view.x[part.to(view.device)]).cpu() for part in rows.split(BLOCK)]).numpy()
        v = v[rows.numpy()]
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        details: dict[str, float] = {}
        if control:
            shuffled = v[np.random.default_rng(seed).permutation(len(v))]
            details["shuffled"] = float(score(z, shuffled, settings, np.random.default_rng(seed)))
        return MetricValue(float(score(z, v, settings, np.random.default_rng(seed))), None, len(v), details)

    return evaluate


def _batches(s: Settings) -> dict[str, Any]:
    return {"batch": int(s["batch"]), "train": int(s["train"]), "test": int(s["test"])}


def _dci(part: str) -> Score:
    def score(z: np.ndarray, v: np.ndarray, s: Settings, rng: np.random.Generator) -> float:
        z, v = _shuffled(z, v, rng)
        seed = int(rng.integers(2**31))
        found: float = getattr(metric.dci(z, v, model=s["model"], train_share=float(s["train_share"]), seed=seed), part)
        return found

    return score


def _shuffled(z: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Codes and factors in one random order: their last rows are tested on, and a dataset may be sorted by factors."""
    order = rng.permutation(len(z))
    return z[order], v[order]


def _infomec(part: str) -> Score:
    def score(z: np.ndarray, v: np.ndarray, s: Settings, rng: np.random.Generator) -> float:
        if not np.ptp(z, axis=0).any():  # an outcome of training, not a mistake in the suite
            raise NotFiniteError("all codes are constant, and inform of nothing", where="InfoMEC")
        found: float = getattr(metric.infomec(z, v, seed=int(rng.integers(2**31))), part)
        return found

    return score


beta_vae_score = _scored(lambda z, v, s, rng: metric.beta_vae_score(z, v, rng=rng, **_batches(s)))
declared_metric(
    "beta_vae_score",
    "Encoder",
    "1",
    "higher",
    "accuracy of telling which factor pairs share",
    settings={"rows": 10_000, "batch": 64, "train": 10_000, "test": 5_000},
    lowest={"rows": 10, "batch": 2, "train": 2, "test": 1},
    data=("factors",),
    within=(0.0, 1.0),
)(beta_vae_score)
factor_vae_score = _scored(
    lambda z, v, s, rng: metric.factor_vae_score(z, v, rng=rng, threshold=float(s["threshold"]), **_batches(s))
)
declared_metric(
    "factor_vae_score",
    "Encoder",
    "1",
    "higher",
    "accuracy of a majority vote for the factor held fixed, by the code that varies least",
    settings={"rows": 10_000, "threshold": 0.05, "batch": 64, "train": 10_000, "test": 5_000},
    lowest={"rows": 10, "threshold": 0.0, "batch": 2, "train": 2, "test": 1},
    data=("factors",),
    within=(0.0, 1.0),
)(factor_vae_score)
dci_disentanglement = _scored(_dci("disentanglement"), control=False)
declared_metric(
    "dci_disentanglement",
    "Encoder",
    "1",
    "higher",
    "disentanglement by the importances of boosted trees (`model: forest` is fast, and another metric)",
    settings={"rows": 15_000, "model": "boosted", "train_share": 2 / 3},
    lowest={"rows": 10, "train_share": 0.1},
    version=2,
    data=("factors",),
    within=(0.0, 1.0),
)(dci_disentanglement)
dci_completeness = _scored(_dci("completeness"), control=False)
declared_metric(
    "dci_completeness",
    "Encoder",
    "1",
    "higher",
    "completeness by the importances of boosted trees (`model: forest` is fast, and another metric)",
    settings={"rows": 15_000, "model": "boosted", "train_share": 2 / 3},
    lowest={"rows": 10, "train_share": 0.1},
    version=2,
    data=("factors",),
    within=(0.0, 1.0),
)(dci_completeness)
dci_informativeness = _scored(_dci("informativeness"), control=False)
declared_metric(
    "dci_informativeness",
    "Encoder",
    "1",
    "higher",
    "informativeness by the importances of boosted trees (`model: forest` is fast, and another metric)",
    settings={"rows": 15_000, "model": "boosted", "train_share": 2 / 3},
    lowest={"rows": 10, "train_share": 0.1},
    version=2,
    data=("factors",),
)(dci_informativeness)
sap = _scored(
    lambda z, v, s, rng: metric.sap(*_shuffled(z, v, rng), train_share=float(s["train_share"])), control=False
)
declared_metric(
    "sap",
    "Encoder",
    "1",
    "higher",
    "gap between the two codes that predict a factor best, linear SVMs",
    settings={"rows": 15_000, "train_share": 2 / 3},
    lowest={"rows": 10, "train_share": 0.1},
    version=2,
    data=("factors",),
    within=(0.0, 1.0),
)(sap)
modularity = _scored(lambda z, v, s, rng: metric.modularity(z, v, bins=int(s["bins"])))
declared_metric(
    "modularity",
    "Encoder",
    "1",
    "higher",
    "how far each code informs of one factor only",
    settings={"rows": 10_000, "bins": 20},
    lowest={"rows": 10, "bins": 2},
    data=("factors",),
    within=(0.0, 1.0),
)(modularity)
explicitness = _scored(
    lambda z, v, s, rng: (
        metric.modularity_explicitness(*_shuffled(z, v, rng), train_share=float(s["train_share"])).explicitness
    )
)
declared_metric(
    "explicitness",
    "Encoder",
    "1",
    "higher",
    "AUROC of logistic regressions of the factors",
    settings={"rows": 15_000, "train_share": 2 / 3},
    lowest={"rows": 10, "train_share": 0.1},
    version=2,
    data=("factors",),
    within=(0.0, 1.0),
)(explicitness)
irs = _scored(lambda z, v, s, rng: metric.irs(z, v, quantile=float(s["quantile"]), bins=int(s["bins"])))
declared_metric(
    "irs",
    "Encoder",
    "1",
    "higher",
    "interventional robustness: how little a code strays while its factor is fixed",
    settings={"rows": 10_000, "quantile": 0.99, "bins": 20},
    lowest={"rows": 10, "quantile": 0.01, "bins": 2},
    data=("factors",),
    within=(0.0, 1.0),
)(irs)
mcc = _scored(lambda z, v, s, rng: metric.mcc(z, v, correlation=s["correlation"]))
declared_metric(
    "mcc",
    "Encoder",
    "1",
    "higher",
    "mean correlation with the factors up to permutation",
    settings={"rows": 10_000, "correlation": "pearson"},
    lowest={"rows": 10},
    data=("factors",),
    within=(0.0, 1.0),
)(mcc)
infom = _scored(_infomec("infom"))
declared_metric(
    "infom",
    "Encoder",
    "1",
    "higher",
    "modularity in units of information (InfoMEC)",
    settings={"rows": 10_000},
    lowest={"rows": 10},
    data=("factors",),
    within=(0.0, 1.0),
)(infom)
infoe = _scored(_infomec("infoe"))
declared_metric(
    "infoe",
    "Encoder",
    "1",
    "higher",
    "explicitness in units of information (InfoMEC)",
    settings={"rows": 10_000},
    lowest={"rows": 10},
    data=("factors",),
    within=(0.0, 1.0),
)(infoe)
infoc = _scored(_infomec("infoc"))
declared_metric(
    "infoc",
    "Encoder",
    "1",
    "higher",
    "compactness in units of information (InfoMEC)",
    settings={"rows": 10_000},
    lowest={"rows": 10},
    data=("factors",),
    within=(0.0, 1.0),
)(infoc)
