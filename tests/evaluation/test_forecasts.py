"""Forecast errors on futures that change with time, series and coordinate, against a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from latentbench.evaluation.prediction import forecast_rmse

from tests.evaluation.views import view_of


@pytest.mark.parametrize("length", [1, 4])
def test_against_a_loop(length):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(530, 3, 2)).astype(np.float32)
    future = (np.arange(1, length + 1)[None, :, None] * x[:, -1:] + rng.normal(size=(530, length, 2))).astype(
        np.float32
    )

    class Straight:
        def forecast(self, x, columns, length):
            return torch.arange(1, length + 1)[None, :, None] * x[:, -1:]

    found = forecast_rmse(Straight(), view_of(x, columns={"future": future}), {}, torch.Generator())
    total, squares = 0.0, []
    for n in range(530):
        each = 0.0
        for t in range(length):
            for d in range(2):
                each += (float(future[n, t, d]) - (t + 1) * float(x[n, -1, d])) ** 2
        squares.append(each / (2 * length))
        total += each
    assert found.value == pytest.approx(math.sqrt(total / (530 * length * 2)), rel=1e-5)
    spread = np.std(squares, ddof=1) / math.sqrt(530) / (2 * found.value)
    assert found.se == pytest.approx(spread, rel=1e-4)
    assert found.n == 530
