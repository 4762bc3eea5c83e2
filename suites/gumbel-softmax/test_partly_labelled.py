"""Rows of which few are labelled."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.papers.gumbel_softmax import partly_labelled
from latentbench.papers.gumbel_softmax.partly_labelled import first_of_each, load_partly_labelled


def written(path: Path, values: np.ndarray) -> Path:
    head = bytes([0, 0, 8, values.ndim]) + np.asarray(values.shape, dtype=">i4").tobytes()
    path.write_bytes(gzip.compress(head + values.astype(np.uint8).tobytes()))
    return path


def test_labelled_rows_are_the_first_of_each_digit_and_half_of_the_training_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(partly_labelled, "TRAIN", 30)
    rng = np.random.default_rng(0)
    y = rng.permuted(np.repeat([3, 5, 8], [20, 12, 13]))
    x = np.arange(45 * 4 * 6).reshape(45, 4, 6) % 251
    names = {"train": (x, y), "t10k": (x[:7], y[:7])}
    files = {}
    for prefix, (images, labels) in names.items():
        for name, values in ((f"{prefix}-images-idx3-ubyte.gz", images), (f"{prefix}-labels-idx1-ubyte.gz", labels)):
            files[name] = written(tmp_path / name, values)
    chunks = {c.split: c.columns for c in load_partly_labelled(files, each=2, by=1)}
    assert {k: len(v["y"]) for k, v in chunks.items()} == {"train": 60, "valid": 15, "test": 7}
    train = chunks["train"]
    assert (train["y"][:30] == -1).all()
    np.testing.assert_array_equal(train["x"][:30], x[:30])
    known = {int(label): {i for i in range(30) if y[i] == label} for label in (3, 5, 8)}
    first = {label: sorted(rows)[:2] for label, rows in known.items()}
    for label, rows in first.items():
        found = train["x"][30:][train["y"][30:] == label]
        assert len(found) == 10, "six labelled rows, five times"
        assert {tuple(f.ravel()) for f in found} == {tuple(x[i].ravel()) for i in rows}
    np.testing.assert_array_equal(chunks["valid"]["y"], y[30:])
    np.testing.assert_array_equal(chunks["test"]["y"], y[:7])


def test_a_digit_with_too_few_rows_is_refused():
    with pytest.raises(UserError, match="fewer than 3"):
        first_of_each(np.array([0, 0, 0, 1, 1]), 3)
