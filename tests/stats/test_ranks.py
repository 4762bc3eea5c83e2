"""Mean ranks over datasets and their critical difference."""

from __future__ import annotations

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.stats.ranks import mean_ranks

#: Four classifiers on fourteen datasets, area under the curve (Demšar 2006, Table 6).
DEMSAR = [
    [0.763, 0.768, 0.771, 0.798],
    [0.599, 0.591, 0.590, 0.569],
    [0.954, 0.971, 0.968, 0.967],
    [0.628, 0.661, 0.654, 0.657],
    [0.882, 0.888, 0.886, 0.898],
    [0.936, 0.931, 0.916, 0.931],
    [0.661, 0.668, 0.609, 0.685],
    [0.583, 0.583, 0.563, 0.625],
    [0.775, 0.838, 0.866, 0.875],
    [1.000, 1.000, 1.000, 1.000],
    [0.940, 0.962, 0.965, 0.962],
    [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.9751, 0.975],
    [0.957, 0.978, 0.946, 0.970],
]


def test_a_published_example_comes_out():
    found = mean_ranks(DEMSAR, "higher", alpha=0.1)
    assert found.means == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=1e-3)
    assert found.critical_difference == pytest.approx(1.12, abs=0.005)
    assert 0.01 < found.p < 0.0258, "that of chi-squared 9.28, which does without the correction for ties"
    assert found.alike() == [(3, 1, 2), (2, 0)], "C4.5 falls behind the two best alone"


@pytest.mark.parametrize(("methods", "quantile"), [(3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_critical_differences_are_those_of_the_tables(methods, quantile):
    rng = np.random.default_rng(0)
    found = mean_ranks(rng.normal(size=(7, methods)), "lower")
    assert found.critical_difference == pytest.approx(quantile * (methods * (methods + 1) / 42) ** 0.5, rel=1e-3)


def test_the_direction_turns_the_ranks_and_ties_share_theirs():
    table = [[1.0, 2.0, 2.0], [1.0, 5.0, 9.0]]
    lower, higher = mean_ranks(table, "lower"), mean_ranks(table, "higher")
    assert lower.ranks.tolist() == [[1, 2.5, 2.5], [1, 2, 3]]
    assert (lower.ranks + higher.ranks == 4).all()


def test_where_all_tie_nothing_is_told_apart():
    found = mean_ranks([[1.0] * 3] * 5, "lower")
    assert (found.p, found.means, found.alike()) == (1.0, [2.0] * 3, [(0, 1, 2)])


def test_friedman_keeps_its_level_and_finds_what_differs():
    rng = np.random.default_rng(1)
    alike = np.mean([mean_ranks(rng.normal(size=(10, 4)), "lower").p <= 0.05 for _ in range(400)])
    assert 0.01 < alike < 0.08
    assert mean_ranks(rng.normal([0, 0, 0, 9], size=(10, 4)), "lower").p < 0.01


@pytest.mark.parametrize(
    "table", [[[1.0, 2.0, 3.0]], [[1.0, 2.0]] * 4, [[1.0, 2.0, float("nan")]] * 4, [1.0, 2.0, 3.0]]
)
def test_tables_without_ranks_are_refused(table):
    with pytest.raises(UserError):
        mean_ranks(table, "lower")
