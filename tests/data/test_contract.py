"""The contract tests of a dataset find what is wrong with one, and let pass what its entry says."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from latentbench.contracts.datasets import check_dataset

from .tiny import entry, sha

FINITE, APART = "values are finite", "test rows are not among the training rows"


def faults(workplace, train, test, target=(), **column):
    """Names of what does not hold of rows that are (N, 2) arrays, of whose columns some may be a target."""
    raw = {f"{k}.csv.gz": gzip.compress(v.encode(), mtime=0) for k, v in (("a", lines(train)), ("b", lines(test)))}
    workplace.put(raw)
    files = [{"name": n, "mirror": f"tiny/{n}", "sha256": sha(r)} for n, r in raw.items()]
    own = {"x": {"shape": [2 - len(target)], "dtype": "float64", **column}}
    own |= {"y": {"shape": [len(target)], "dtype": "float64"}} if target else {}
    declared = entry(
        files=files, columns=own, modality="vector", protocols={"plain": {"train": "train", "test": "test"}}
    )
    declared["forms"][0] |= {"loader": "delimited", "params": {"splits": {"a.csv.gz": "train", "b.csv.gz": "test"}}}
    declared["forms"][0]["params"] |= {"target": list(target)} if target else {}
    declared["splits"] = {"train": {"rows": len(train)}, "test": {"rows": len(test)}}
    workplace.declare(declared)
    found = list(check_dataset(workplace.data / "registry/tiny.yaml"))
    assert len(found) > 3, found
    return {f.test for f in found if not f.holds}


def lines(rows):
    return "".join(f"{a},{b}\n" for a, b in rows)


@pytest.mark.parametrize(("missing", "found"), [(False, {FINITE}), (True, set())])
def test_what_is_not_there_is_nan_only_where_the_entry_says_so(workplace, missing, found):
    assert faults(workplace, [(1, 2), (3, 4)], [("nan", 2), (5, 6)], missing=missing) == found


def test_infinity(workplace):
    assert faults(workplace, [(1, 2), ("inf", 4)], [(5, 6)], missing=True) == {FINITE}


@pytest.mark.parametrize(("leak", "found"), [(0, set()), (1, {APART})])
def test_one_test_row_among_distinct_training_rows_is_a_leak(workplace, leak, found):
    train = [(k, -k) for k in range(50)]
    assert faults(workplace, train, train[:leak] + [(k, 9) for k in range(60, 70)]) == found


@pytest.mark.parametrize(("distinct", "found"), [(False, set()), (True, {APART})])
def test_rows_that_repeat_themselves_anywhere_do_so_in_the_test_split_too(workplace, distinct, found):
    """As short sentences do; the same rows among the test rows are a leak where training has none twice."""
    rng = np.random.default_rng(0)
    drawn = [(int(a), int(b)) for a, b in rng.integers(0, 12, (120, 2))]
    train = list(dict.fromkeys(drawn[:60])) if distinct else drawn[:60]
    assert faults(workplace, train, drawn[60:]) == found


@pytest.mark.parametrize(("target", "found"), [(0.5, set()), (0.25, {APART})])
def test_a_number_that_two_rows_share_is_no_leak_where_their_targets_differ(workplace, target, found):
    train = [(k, k + 0.25) for k in range(50)]
    assert faults(workplace, train, [(3, 3 + target), (60, 1)], target=[1]) == found
