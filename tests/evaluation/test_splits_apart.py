"""Probes learn from training rows and are scored on test rows: here the training labels contradict the test's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from latentbench.core.imports import load
from latentbench.core.seeds import generator
from latentbench.evaluation.space import some_rows
from latentbench.evaluation.view import View
from latentbench.spec.registry import metrics

from tests.evaluation.views import view_of


class Rows:
    def encode(self, x):
        return x


def clusters(counts: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of three far clusters in random order, and the number of each row's cluster."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(3), counts))
    centres = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    return (centres[y] + 0.3 * rng.normal(size=(len(y), 2))).astype(np.float32), y


@pytest.fixture(scope="module")
def view() -> View:
    """90 test rows in shares of 5, 3 and 1; 60 training rows, whose cluster k is called k + 1."""
    x, y = clusters((50, 30, 10), 0)
    other, named = clusters((20, 20, 20), 1)
    train = view_of(other, columns={"y": (named + 1) % 3})
    return replace(view_of(x, columns={"y": y}, train=other), _train=train)


def measured(name: str, view: View, **changes):
    entry = metrics()[name]
    return load(entry.target)(Rows(), view, {**entry.settings, **changes}, generator(0, "evaluation", name))


@pytest.mark.parametrize("rows", [60, 41])
@pytest.mark.parametrize("name", ["linear_probe", "knn_probe"])
def test_a_probe_says_what_training_taught_it(name, rows, view):
    found = measured(name, view, rows=rows)
    assert found.value == 0.0, "each test row gets the name that training gave its cluster, which is wrong here"
    assert found.n == 90
    assert found.details["n_train"] == rows
    assert found.details["chance"] == pytest.approx(50 / 90)
    taught = replace(view, columns={"y": (np.asarray(view.columns["y"]) + 1) % 3})
    assert measured(name, taught, rows=rows).value == 1.0


@pytest.mark.parametrize("name", ["kmeans_accuracy", "kmeans_nmi"])
def test_clusters_are_of_the_test_rows(name, view):
    found = measured(name, view)
    assert found.n == 90
    assert found.value == pytest.approx(1.0)
    assert measured(name, view, rows=37).n == 37
    assert measured(name, view, rows=37).value == pytest.approx(1.0), "labels go with their rows"
    if name == "kmeans_accuracy":
        assert found.details["chance"] == pytest.approx(50 / 90)


def test_some_rows_are_drawn_once_each(view):
    rows = some_rows(view, 80, generator(0, "evaluation"))
    assert len(rows.unique()) == 80
    assert rows.max() < 90
    assert not torch.equal(rows, rows.sort().values)
    assert torch.equal(some_rows(view, 90, generator(0, "evaluation")), torch.arange(90))
