"""Split expressions and partitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.data.splits import Listed, parse, partition, permutation

bound = st.one_of(st.none(), st.integers(-150, 150))


@given(st.integers(1, 100), bound, bound)
def test_bounds_as_in_python(n, low, high):
    expected = list(range(n))[low:high]
    text = f"train[{'' if low is None else low}:{'' if high is None else high}]"
    if not expected:
        with pytest.raises(UserError, match="no rows"):
            parse(text, {"train": n})
        return
    (part,) = parse(text, {"train": n})
    assert list(range(part.start, part.stop)) == expected


@given(st.integers(0, 100), st.integers(1, 1000))
def test_percent_cuts_without_gap(share, n):
    low = parse(f"t[:{share}%]", {"t": n}) if round(n * share / 100) else []
    high = parse(f"t[{share}%:]", {"t": n}) if round(n * share / 100) < n else []
    assert sum(p.rows for p in low + high) == n


def test_sums_and_lists():
    rows = {"train": 10, "valid": 5, "folds": 3}
    assert [(p.name, p.start, p.stop) for p in parse("train[2:4] + valid", rows)] == [("train", 2, 4), ("valid", 0, 5)]
    (part,) = parse("train@folds.test.2", rows)
    assert part.listed == Listed("folds", "test", 2)


@pytest.mark.parametrize(
    "text", ["", "trian", "train[", "train[1]", "train[::2]", "train+", "train@folds.test.3", "train@nothing.test.0"]
)
def test_wrong_expressions(text):
    with pytest.raises(UserError):
        parse(text, {"train": 10, "folds": 3})


@given(st.integers(1, 300), st.integers(0, 2**63 - 1))
def test_permutation(n, seed):
    order = permutation(n, seed)
    assert sorted(order) == list(range(n))
    assert (permutation(n, seed) == order).all()


def test_permutation_is_fixed_for_good():
    assert permutation(8, 0).tolist() == [1, 4, 5, 7, 6, 0, 3, 2]
    orders = np.stack([permutation(50, seed) for seed in range(2000)])
    assert abs(orders.mean(axis=0) - 24.5).max() < 5 * 50 / np.sqrt(12 * 2000)


def test_partition():
    parts = partition(100, {"train": 70, "valid": 10, "test": 20}, seed=3)
    assert [len(p) for p in parts.values()] == [70, 10, 20]
    assert sorted(np.concatenate(list(parts.values()))) == list(range(100))
    assert all((np.diff(p) > 0).all() for p in parts.values())
    assert (partition(100, {"train": 70, "rest": 30}, 3)["train"] == parts["train"]).all()
    assert (partition(100, {"train": 70, "rest": 30}, 4)["train"] != parts["train"]).any()
    with pytest.raises(UserError, match="sum"):
        partition(100, {"train": 99}, 0)
