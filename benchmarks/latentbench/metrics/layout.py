"""How the axes of arrays are read, by the arrays' names, and what is told of it where a number comes from files.

A transposed matrix is as good a matrix: nothing but its shape beside those of others, or its reader, can tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from latentbench.core.errors import UserError
from latentbench.metrics.arrays import to_numpy

ROWS, FEATURES = "rows", "features"
#: Axes by name of the array; those of the same name in one metric have one length, but for `FREE`.
AXES: dict[str, tuple[str, ...]] = {
    "log_weights": ("draws", ROWS),
    "log_abs_det": (ROWS,),
    "codes": (ROWS, "codes"),
    "factors": (ROWS, "factors"),
    "means": (ROWS, "dimensions"),
    "log_variances": (ROWS, "dimensions"),
    "real": (ROWS, FEATURES),
    "fake": (ROWS, FEATURES),
    "train": (ROWS, FEATURES),
    "test": (ROWS, FEATURES),
    "first": (ROWS, FEATURES),
    "second": (ROWS, FEATURES),
    "logits": (ROWS, "classes"),
    "probabilities": (ROWS, "classes"),
    "predicted": ("from node", "to node"),
    "true": ("from node", "to node"),
    "relevance": ("queries", "items"),
    "original": (ROWS, "channels", "height", "width"),
    "reconstruction": (ROWS, "channels", "height", "width"),
}
#: Metrics whose arrays of that name have other axes.
OWN: dict[tuple[str, str], tuple[str, ...]] = {
    ("crps_samples", "samples"): (ROWS, "draws"),
    ("vendi_score", "samples"): (ROWS, FEATURES),
    ("bw2_uvp", "samples"): (ROWS, FEATURES),
    ("conditional_bw2_uvp", "samples"): ("conditions", "draws", FEATURES),
    ("conditional_bw2_uvp", "means"): ("conditions", FEATURES),
    ("ndcg", "scores"): ("queries", "items"),
    ("recall_at_k", "scores"): ("queries", "items"),
    ("edge_auroc", "scores"): ("from node", "to node"),
    ("edge_average_precision", "scores"): ("from node", "to node"),
}


def native(array: Any) -> Any:
    """The same numbers in this machine's byte order, which torch asks for."""
    if isinstance(array, np.ndarray) and not array.dtype.isnative:
        return array.astype(array.dtype.newbyteorder("="))
    return array


def axes_of(metric: str, name: str, array: Any) -> tuple[str, ...]:
    """Names of the axes of an array that a metric reads; none where no names are known for so many."""
    found = OWN.get((metric, name), AXES.get(name, ()))
    return found if len(found) == np.ndim(array) else ()


def check_draws(arrays: Mapping[str, Any]) -> None:
    """Refuse log-weights that lie the other way round, where another array says how many rows there are.

    Raises:
        UserError: they do.
    """
    weights, per_row = arrays.get("log_weights"), arrays.get("log_abs_det")
    if weights is None or per_row is None or np.ndim(weights) != 2 or np.ndim(per_row) != 1:
        return
    draws, rows = np.shape(weights)
    if rows != len(per_row):
        fix = "transpose it: it is (K, N), a row of draws each" if draws == len(per_row) else "give (K, N)"
        raise UserError(f"has {rows} columns where log_abs_det has {len(per_row)} rows", where="log_weights", fix=fix)


def check_range(arrays: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Refuse images of a wider range than `data_range` says.

    Raises:
        UserError: they have one.
    """
    largest, original = options.get("data_range"), arrays.get("original")
    if largest is None or original is None or not np.size(original):
        return
    spread = _spread(original)
    if spread > float(largest) * (1 + 1e-6):
        raise UserError(
            f"its values span {spread:.6g}, more than data_range = {largest:g}",
            where="original",
            fix="give the range that pixels can have: 1, or 255",
        )


def _spread(array: Any) -> float:
    values = to_numpy(array)
    return float(values.max()) - float(values.min())


def remarks(metric: str, arrays: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """What whoever gave the arrays should look at: axes that could be meant otherwise, a range far too wide."""
    said = []
    for name, array in arrays.items():
        axes, shape = axes_of(metric, name, array), np.shape(array)
        if len(axes) < 2:
            continue
        usual = axes[0] in (ROWS, "queries") and shape[0] > shape[1]
        if not usual:
            said.append(f"{name} is read as {' x '.join(f'{n:,} {axis}' for n, axis in zip(shape, axes, strict=True))}")
    largest, original = options.get("data_range"), arrays.get("original")
    if largest is not None and original is not None and 100 * _spread(original) < float(largest):
        said.append(
            f"original's values span {_spread(original):.6g}, less than a hundredth of data_range = {largest:g}"
        )
    return said
