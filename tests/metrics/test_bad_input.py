"""Every metric of arrays on broken arrays: an error that says what is wrong, or a finite answer, never NaN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.metrics.catalog import CatalogEntry, _generator, flatten, metrics_of_arrays

RNG = np.random.default_rng(0)
N = 40
FACTORS = np.stack([RNG.integers(0, 3, N), RNG.integers(0, 4, N)], axis=1)
CODES = FACTORS @ np.array([[1.0, 0.2, 0.0], [0.0, 1.0, 0.4]]) + 0.2 * RNG.normal(size=(N, 3))
COVARIANCE = np.array([[2.0, 0.5], [0.5, 1.0]])
IMAGES = RNG.random((2, 1, 176, 176))
#: Arrays that suit every metric with a parameter of that name; `OWN` has those of single metrics.
COMMON: dict[str, Any] = {
    "log_prob": RNG.normal(size=N), "log_abs_det": RNG.normal(size=N), "tokens": np.full(N, 7.0),
    "rate": RNG.random(N), "distortion": RNG.random(N), "log_weights": RNG.normal(size=(9, N)),
    "means": RNG.normal(size=(N, 2)), "log_variances": RNG.normal(size=(N, 2)),
    "codes": CODES, "factors": FACTORS, "codes_test": CODES[::-1], "factors_test": FACTORS[::-1],
    "labels": FACTORS[:, 0], "labels_test": FACTORS[::-1, 0], "predicted": FACTORS[:, 1],
    "real": RNG.normal(size=(N, 2)), "fake": RNG.normal(size=(N, 2)), "directions": np.eye(2),
    "train": RNG.normal(size=(N, 2)), "test": RNG.normal(size=(N, 2)), "logits": RNG.normal(size=(N, 3)),
    "samples": RNG.normal(size=(N, 2)), "first": RNG.normal(size=(N, 2)), "second": RNG.normal(size=(N, 2)),
    "original": IMAGES, "reconstruction": IMAGES * 0.9, "bits": np.full(N, 90.0),
    "rates": np.array([1.0, 2.0, 3.0, 4.0]), "distortions": np.array([4.0, 3.0, 2.0, 1.0]),
    "anchor_rates": np.array([1.0, 2.0, 3.0, 4.0]), "anchor_quality": np.array([30.0, 32.0, 33.0, 34.0]),
    "quality": np.array([31.0, 32.5, 33.5, 34.5]), "probabilities": np.full((N, 3), 1 / 3),
    "scores": RNG.normal(size=N), "positive": RNG.integers(0, 2, N), "target": RNG.normal(size=N),
    "mean": RNG.normal(size=N), "std": np.ones(N), "lower": np.zeros(N), "upper": np.ones(N),
    "true": np.triu(np.ones((4, 4)), 1), "relevance": RNG.integers(0, 2, (5, 9)), "ranks": np.arange(1, 9),
    "positive_scores": RNG.normal(size=9), "negative_scores": RNG.normal(size=9), "covariance": COVARIANCE,
    "mean1": np.zeros(2), "mean2": np.ones(2), "cov1": COVARIANCE, "cov2": np.eye(2),
    "covariances": np.stack([COVARIANCE] * 3),
}  # fmt: skip
GRAPHS = ("shd", "sid", "edge_f1", "edge_auroc", "edge_average_precision")
OWN: dict[str, dict[str, Any]] = {
    "udr": {"codes": [CODES, CODES[:, ::-1]], "rates": [np.ones(3), np.ones(3)]},
    "bw2_uvp": {"mean": np.zeros(2)},
    "conditional_bw2_uvp": {"samples": RNG.normal(size=(3, 9, 2)), "means": np.zeros((3, 2))},
    "ndcg": {"scores": RNG.normal(size=(5, 9))},
    "recall_at_k": {"scores": RNG.normal(size=(5, 9))},
    "crps_samples": {"samples": RNG.normal(size=(N, 5))},
    **{g: {"predicted": np.triu(np.ones((4, 4)), 2), "scores": RNG.random((4, 4))} for g in GRAPHS},
    **{m: {"predicted": RNG.normal(size=N)} for m in ("rmse", "mae", "quantile_loss")},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "bits_per_dim": {"dims": 3}, "psnr": {"data_range": 1.0}, "ssim": {"data_range": 1.0},
    "ms_ssim": {"data_range": 1.0}, "bits_per_pixel": {"pixels": 9}, "quantile_loss": {"quantile": 0.5},
    "dci": {"model": "forest"}, "factor_vae_score": {"train": 50, "test": 50}, "copying_statistic": {"cells": 1},
    "beta_vae_score": {"train": 50, "test": 50}, "conditional_bw2_uvp": {"variance": 2.0},
    "gaussian_entropic_cost": {"epsilon": 1.0}, "gaussian_sinkhorn_divergence": {"epsilon": 1.0},
    "sinkhorn_divergence": {"epsilon": 1.0}, "inception_score": {"splits": 2}, "c2st": {"classifier": "linear"},
}  # fmt: skip
#: Arrays whose number of rows is their own.
FREE = {
    ("importance_bound", "log_weights"), ("bw2_uvp", "samples"), ("link_prediction", "positive_scores"),
    ("link_prediction", "negative_scores"),
}  # fmt: skip
ENTRIES = [e for e in metrics_of_arrays().values() if e.from_file]


def arrays_of(entry: CatalogEntry) -> dict[str, Any]:
    own = OWN.get(entry.name, {})
    return {k: own.get(k, COMMON[k]) for k in (*entry.arrays, *entry.optional)}


def numbers(entry: CatalogEntry, arrays: dict[str, Any]) -> dict[str, float | int | None]:
    draws = {k: _generator(k, 0) for k in entry.options() if k in ("generator", "rng")}
    return flatten(entry.load()(**arrays, **OPTIONS.get(entry.name, {}), **draws))


def spoilt(array: Any, value: float) -> Any:
    if isinstance(array, list):
        return [spoilt(array[0], value), *array[1:]]
    broken = np.array(array, dtype=np.float64)
    broken.flat[broken.size // 2] = value
    return broken


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_sound_arrays_give_finite_numbers(entry):
    found = numbers(entry, arrays_of(entry))
    assert found
    assert all(v is None or math.isfinite(v) for v in found.values()), found


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["nan", "inf"])
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_nan_and_infinity_are_refused_in_every_array(entry, value):
    arrays = arrays_of(entry)
    for name in arrays:
        with pytest.raises(UserError):
            numbers(entry, {**arrays, name: spoilt(arrays[name], value)})


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_one_row_and_no_row_give_an_error_or_a_finite_answer(entry):
    arrays = arrays_of(entry)
    for rows in (0, 1):
        try:
            found = numbers(entry, {k: a[:rows] for k, a in arrays.items()})
        except UserError:
            continue
        assert rows == 1, "nothing cannot be measured"
        assert all(v is None or math.isfinite(v) for v in found.values()), found


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_arrays_that_do_not_fit_each_other_are_refused(entry):
    """A row less, where rows belong together; a column less, where only columns do."""
    arrays = arrays_of(entry)
    independent = ("real", "fake", "train", "test", "directions")
    for name in arrays:
        if len(arrays) == 1 or (entry.name, name) in FREE:
            continue
        a = arrays[name]
        short = a[:, :-1] if name in independent else a[:-1]
        with pytest.raises(UserError):
            numbers(entry, {**arrays, name: short})


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_constant_arrays_give_an_error_or_a_finite_answer(entry):
    arrays = arrays_of(entry)
    for name, array in arrays.items():
        constant = [np.zeros_like(a) for a in array] if isinstance(array, list) else np.zeros_like(array)
        try:
            found = numbers(entry, {**arrays, name: constant})
        except UserError:
            continue
        finite = (v is None or math.isfinite(v) for v in found.values())
        assert all(finite) or (entry.name, found.get("value")) == ("psnr", math.inf), (name, found)
