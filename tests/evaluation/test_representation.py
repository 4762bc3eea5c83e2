"""Probes and clusters of codes, and reconstructions, in suites."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.seeds import generator
from latentbench.evaluation import collapse, reconstruction, representation
from latentbench.spec.registry import metrics

from tests.evaluation.views import pixels, view_of


class Coder:
    def __init__(self, matrix, std: float = 1.0) -> None:
        self.matrix, self.std = torch.as_tensor(matrix, dtype=torch.float32), std

    def encode(self, x):
        return x @ self.matrix

    def encode_gaussian(self, x):
        mean = self.encode(x)
        return mean, torch.full_like(mean, 2 * math.log(self.std))


class Back:
    def __init__(self, change) -> None:
        self.reconstruct = change


@pytest.fixture(scope="module")
def view():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    x = np.eye(3)[y] * 6 + rng.normal(size=(400, 3))
    return view_of(x.astype(np.float32), columns={"y": y})


@pytest.mark.parametrize("name", ["linear_probe", "knn_probe", "kmeans_accuracy", "kmeans_nmi"])
def test_codes_that_hold_the_label_score_high_and_constant_codes_at_chance(name, view):
    evaluate, settings = getattr(representation, name), metrics()[name].settings
    good = evaluate(Coder(np.eye(3)), view, settings, generator(0, "evaluation"))
    none = evaluate(Coder(np.zeros((3, 2))), view, settings, generator(0, "evaluation"))
    assert good.value > 0.97
    floor = good.details["chance"] if "chance" in good.details else good.details["shuffled"]
    assert none.value == pytest.approx(floor, abs=0.1)
    with pytest.raises(UserError, match="labels"):
        evaluate(Coder(np.eye(3)), view_of(view.raw), settings, generator(0, "evaluation"))


def test_probes_train_on_no_more_rows_than_said(view):
    found = representation.linear_probe(Coder(np.eye(3)), view, {"rows": 50, "c": 1.0}, generator(0, "evaluation"))
    assert found.details["n_train"] == 50
    assert found.n == 400


def test_the_mean_row_is_that_of_training_rows():
    rng = np.random.default_rng(1)
    test, train = (rng.integers(low, high, (40, 2, 3)).astype(np.uint8) for low, high in ((10, 120), (150, 256)))
    view = view_of(test, ["to_unit"], train=train, levels=256)
    found = reconstruction.reconstruction_mse(Back(lambda x: x), view, {}, generator(0, "evaluation"))
    naive = np.square((test.astype(float) - train.mean(0)) / 255).mean()
    assert found.details["mean_row"] == pytest.approx(naive, rel=0.02), "of the same rows, in units of whole levels"


def test_reconstruction_errors_are_in_units_of_stored_images():
    view = view_of(pixels(40, (12, 12)), ["dequantise", {"logit": 0.01}, "flatten"], levels=256)

    def measure(name, change):
        return getattr(reconstruction, name)(Back(change), view, {}, generator(0, "evaluation"))

    exact = measure("reconstruction_mse", lambda x: x)
    assert exact.value == 0.0
    assert exact.details["mean_row"] == pytest.approx(1 / 12, rel=0.1), "uniform pixels about their mean"
    assert measure("reconstruction_ssim", lambda x: x).value == pytest.approx(1.0)
    assert measure("reconstruction_ssim", torch.zeros_like).value < 0.2
    worst = measure("reconstruction_mse", torch.zeros_like)
    assert worst.value == pytest.approx(np.square(view.raw / 255 - 127 / 255).mean(), rel=0.02)
    assert measure("reconstruction_psnr", torch.zeros_like).value == pytest.approx(10.8, abs=0.3)
    vectors = view_of(np.ones((9, 2), np.float32))
    with pytest.raises(UserError, match="needs images"):
        reconstruction.reconstruction_psnr(Back(lambda x: x), vectors, {}, generator(0, "evaluation"))


def test_collapse_is_an_outcome(view):
    settings = {"epsilon": 0.01, "delta": 0.01}
    fallen = collapse.posterior_collapse(Coder(np.zeros((3, 4))), view, settings, generator(0, "evaluation"))
    half = collapse.posterior_collapse(Coder([[1.0, 0.0]] * 3), view, settings, generator(0, "evaluation"))
    assert (fallen.value, fallen.details["outcomes"]) == (1.0, ("posterior-collapse",))
    assert half.value == 0.5
    assert "outcomes" not in half.details
