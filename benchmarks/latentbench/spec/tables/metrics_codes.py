"""Metrics of codes: collapse, disentanglement, what can be read from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latentbench.spec.tables.entries import MetricEntry, metric

_BATCHES = {"batch": 64, "train": 10_000, "test": 5_000}
_FEW_BATCHES = {"batch": 2, "train": 2, "test": 1}
_TRAIN_SHARE = {"train_share": 2 / 3}


def _of_codes(
    target: str, summary: str, settings: Mapping[str, Any], lowest: Mapping[str, float], rows: int = 10_000
) -> MetricEntry:
    """A disentanglement score of at most `rows` codes with their factors."""
    return metric(
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
    "aggregate_mmd": metric(
        "aggregate:aggregate_mmd",
        "Encoder",
        "squared MMD",
        "lower",
        "Gaussian-kernel distance of posterior draws over the split from the standard normal prior",
        settings={"bandwidth": 0.0},
        lowest={"bandwidth": 0.0},
    ),
    "aggregate_log_det": metric(
        "aggregate:aggregate_log_det",
        "Encoder",
        "nats",
        "lower",
        "absolute log-determinant of the covariance of posterior draws over the split, 0 for the prior",
    ),
    "code_use": metric(
        "usage:code_use",
        "Encoder CodeLikelihood",
        "nats",
        "higher",
        "by how much a row's own code explains it better than another row's; 0 where the decoder ignores codes",
    ),
    "active_units": metric(
        "posterior:active_units",
        "Encoder",
        "units",
        "higher",
        "code dimensions whose posterior mean varies over the data",
        settings={"threshold": 0.01},
        lowest={"threshold": 0.0},
        counts=True,
    ),
    "total_correlation": metric(
        "posterior:total_correlation",
        "GaussianEncoder",
        "nats",
        "lower",
        "total correlation of the aggregate posterior; `saturated` where the rate nears the log of the number of rows",
        settings={"samples": 10_000},
        lowest={"samples": 2},
        version=2,
    ),
    "mutual_information": metric(
        "posterior:mutual_information",
        "GaussianEncoder",
        "nats",
        "higher",
        "mutual information of datum and code under the aggregate posterior; `saturated` as total_correlation is",
        settings={"samples": 10_000},
        lowest={"samples": 2},
        version=2,
    ),
    "mig_gaussian": metric(
        "disentanglement:mig_gaussian",
        "GaussianEncoder",
        "1",
        "higher",
        "mutual information gap under the full posterior (Chen et al. 2018)",
        settings={"samples": 10_000},
        lowest={"samples": 2},
        data=("factors",),
    ),
    "mig": metric(
        "disentanglement:mig",
        "Encoder",
        "1",
        "higher",
        "mutual information gap of posterior means (disentanglement_lib's bins)",
        settings={"bins": 20},
        lowest={"bins": 2},
        data=("factors",),
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
    "posterior_collapse": metric(
        "collapse:posterior_collapse",
        "GaussianEncoder",
        "share",
        "lower",
        "share of code dimensions whose posterior is the prior's for all but a few rows",
        settings={"epsilon": 0.01, "delta": 0.01},
        lowest={"epsilon": 0.0, "delta": 0.0},
    ),
    "linear_probe": metric(
        "representation:linear_probe",
        "Encoder",
        "1",
        "higher",
        "test accuracy of a logistic regression of the labels on codes",
        settings={"rows": 10_000, "c": 1.0},
        lowest={"rows": 2, "c": 1e-9},
        data=("labels",),
    ),
    "knn_probe": metric(
        "representation:knn_probe",
        "Encoder",
        "1",
        "higher",
        "test accuracy of the majority among the nearest training codes",
        settings={"rows": 10_000, "k": 5},
        lowest={"rows": 2, "k": 1},
        data=("labels",),
    ),
    "kmeans_accuracy": metric(
        "representation:kmeans_accuracy",
        "Encoder",
        "1",
        "higher",
        "share of rows whose k-means cluster of codes is matched to their label",
        settings={"rows": 10_000, "restarts": 10},
        lowest={"rows": 2, "restarts": 1},
        data=("labels",),
    ),
    "kmeans_nmi": metric(
        "representation:kmeans_nmi",
        "Encoder",
        "1",
        "higher",
        "normalised mutual information of k-means clusters of codes and labels",
        settings={"rows": 10_000, "restarts": 10},
        lowest={"rows": 2, "restarts": 1},
        data=("labels",),
    ),
}
