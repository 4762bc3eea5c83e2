"""Scores on factors whose values are far from equally frequent, against loops over cells."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from latentbench.metrics.codes.information import mig, mig_gaussian, modularity


def information(a: np.ndarray, b: np.ndarray) -> float:
    """Mutual information of two columns of labels in nats, cell by cell."""
    total = 0.0
    for i in np.unique(a):
        for j in np.unique(b):
            both = float(np.mean((a == i) & (b == j)))
            if both:
                total += both * math.log(both / float(np.mean(a == i)) / float(np.mean(b == j)))
    return total


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Codes of whole numbers 0 to 9, which ten bins keep as they are, and factors in shares of up to 9 in 10."""
    rng = np.random.default_rng(0)
    factors = np.stack([rng.choice(3, 600, p=[0.9, 0.07, 0.03]), rng.choice(4, 600, p=[0.05, 0.7, 0.05, 0.2])], 1)
    noise = rng.integers(0, 10, 600)
    mixed = np.where(rng.random(600) < 0.8, 3 * factors[:, 0], noise)
    codes = np.stack([3 * factors[:, 0], mixed, 3 * factors[:, 1], noise], 1)
    codes[:2] = [[0] * 4, [9] * 4]  # the ends of every code's range
    return codes.astype(float), factors


def test_mig(rows):
    codes, factors = rows
    gaps = []
    for k in range(2):
        told = sorted(information(codes[:, j], factors[:, k]) for j in range(4))
        gaps.append((told[-1] - told[-2]) / information(factors[:, k], factors[:, k]))
    assert mig(codes, factors, bins=10) == pytest.approx(np.mean(gaps), rel=1e-9)


def test_modularity(rows):
    codes, factors = rows
    each = []
    for j in range(4):
        squares = sorted(information(codes[:, j], factors[:, k]) ** 2 for k in range(2))
        each.append(1.0 - squares[0] / squares[1])
    assert modularity(codes, factors, bins=10) == pytest.approx(np.mean(each), rel=1e-9)


def test_gaussian_mig_weighs_each_value_by_its_rows():
    """Posteriors far apart tell all of a factor, its entropy, however wide those of its rare value are."""
    factors = (np.arange(300) % 10 == 3).astype(int)[:, None]
    log_std = np.where(factors, math.log(4.0), math.log(0.5))
    g = torch.Generator().manual_seed(0)
    found = mig_gaussian(1000.0 * factors, 2.0 * log_std, factors, generator=g)
    expected = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    assert found.details["information"][0][0] == pytest.approx(expected, abs=1e-6)
    assert found.value == pytest.approx(1.0, abs=1e-5)
