"""Codes compared with factors, or with each other, up to permutation or an affine map: MCC and UDR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import of_arrays
from latentbench.metrics.arrays import Floats, matrix, same_rows, vector
from latentbench.metrics.codes.inputs import Values, check_codes

Correlation = Literal["pearson", "spearman"]


@of_arrays("codes factors", "0 … 1", "higher", "Hyvärinen & Morioka 2016")
def mcc(codes: Values, factors: Values, *, correlation: Correlation = "pearson") -> float:
    """Mean correlation coefficient, 0 … 1, higher is better (Hyvärinen & Morioka 2016).

    Mean absolute correlation of each factor with its code, under the best one-to-one assignment (scipy's Hungarian
    algorithm). With more factors than codes the factors left over count as 0; a constant column correlates with none.

    Args:
        codes: (N, D) float.
        factors: (N, K), integers or reals.
    """
    from scipy.optimize import linear_sum_assignment

    z, v = check_codes(codes), matrix(factors, "factors")
    same_rows(codes=z, factors=v)
    absolute = np.abs(correlation_matrix(z, v, correlation))
    rows, columns = linear_sum_assignment(-absolute)
    return float(absolute[rows, columns].sum() / v.shape[1])


@of_arrays("codes factors", "0 … 1", "higher", "Khemakhem et al. 2020")
def mcc_affine(codes: Values, factors: Values) -> float:
    """Mean correlation after the best affine maps: mean canonical correlation over min(D, K), 0 … 1, higher is better.

    The "weak" MCC of identifiability up to an affine map (Khemakhem et al. 2020). Directions without variance are left
    out of their side.
    """
    from latentbench.metrics.correlation import canonical_correlations

    z, v = check_codes(codes), matrix(factors, "factors")
    same_rows(codes=z, factors=v)
    return float(canonical_correlations(z, v).sum() / min(z.shape[1], v.shape[1]))


def correlation_matrix(first: Floats, second: Floats, correlation: Correlation = "pearson") -> Floats:
    """Correlations of columns, (D, K); 0 where a column is constant."""
    if correlation == "spearman":
        from scipy.stats import rankdata

        first, second = rankdata(first, axis=0), rankdata(second, axis=0)
    elif correlation != "pearson":
        raise UserError(f"unknown correlation {correlation!r}", where="correlation", fix="pearson or spearman")
    a, b = _standardised(first), _standardised(second)
    return np.clip(a.T @ b / len(a), -1, 1)


def _standardised(x: Floats) -> Floats:
    x = x - x.mean(axis=0, dtype=np.float64)
    scale = np.abs(x).max(axis=0)
    x = x / np.where(scale > 0, scale, 1.0)  # squares of very small or large columns would leave the range of floats
    std = x.std(axis=0)
    return np.where(std > 1e-12, x / np.where(std > 1e-12, std, 1.0), 0.0)


@of_arrays("codes rates?", "0 … 1", "higher", "Duan et al. 2020")
def udr(
    codes: Sequence[Values],
    rates: Sequence[Values] | None = None,
    *,
    method: Literal["lasso", "spearman"] = "lasso",
    threshold: float = 0.01,
    seed: int = 0,
) -> tuple[MetricValue, ...]:
    """Unsupervised disentanglement ranking of models trained alike (Duan et al. 2020), higher is better.

    Codes that disentangle agree, over seeds, up to permutation and sign: a model's score is the median, over the other
    models, of how nearly one-to-one the two codes' similarity matrix is. disentanglement_lib's conventions.

    Args:
        codes: for each of M > 1 models, (N, D) posterior means of the same N samples, in the same order.
        rates: for each model, (D,) mean KL of each code in nats; codes at or under `threshold` take no part. Without
            them all codes do.
        method: similarity: absolute Lasso coefficients (alpha 0.1, standardised codes) or absolute rank correlation.

    Returns:
        A score a model, in order; details `pairs`: its similarity with each of the others.
    """
    z = [check_codes(c, name=f"codes[{i}]").astype(np.float64) for i, c in enumerate(codes)]
    if len(z) < 2 or any(c.shape != z[0].shape for c in z):
        raise UserError(f"shapes {[c.shape for c in z]}", where="codes", fix="give two or more models of one shape")
    masks = [np.ones(z[0].shape[1], dtype=bool) for _ in z]
    if rates is not None:
        if len(rates) != len(z):
            raise UserError(f"has {len(rates)} models, codes has {len(z)}", where="rates")
        masks = [vector(r, f"rates[{i}]") > threshold for i, r in enumerate(rates)]
        if any(len(m) != z[0].shape[1] for m in masks):
            raise UserError("needs one rate a code", where="rates")
    z = [_standardised(c) * m for c, m in zip(z, masks)]
    scores = np.zeros((len(z), len(z)))
    for i in range(len(z)):
        for j in range(len(z)):
            if i != j:
                similarity = _similarity(z[i], z[j], method, seed)[masks[i]][:, masks[j]]
                scores[i, j] = _one_to_one(similarity)
    others = [np.delete(scores[:, i], i) for i in range(len(z))]
    return tuple(MetricValue(float(np.median(o)), None, len(z[0]), {"pairs": o.tolist()}) for o in others)


def _similarity(first: Floats, second: Floats, method: str, seed: int) -> Floats:
    if method == "spearman":
        return np.abs(correlation_matrix(first, second, "spearman"))
    if method != "lasso":
        raise UserError(f"unknown method {method!r}", where="method", fix="lasso or spearman")
    from sklearn.linear_model import Lasso

    coefficients = Lasso(alpha=0.1, random_state=seed).fit(first, second).coef_
    return np.abs(np.atleast_2d(coefficients)).T


def _one_to_one(similarity: Floats) -> float:
    if not similarity.size:
        return 0.0

    def side(axis: int) -> float:
        total = similarity.sum(axis=axis)
        strength = similarity.max(axis=axis) ** 2
        return float(np.mean(np.where(total > 0, strength / np.where(total > 0, total, 1.0), 0.0)))

    return (side(0) + side(1)) / 2
