"""Evaluators of predictions, on predictors that are known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.evaluation.prediction import classification_error, forecast_rmse
from torch import Tensor

from .views import view_of


def test_classification_error():
    x = np.arange(800, dtype=np.float32)[:, None]
    y = (np.arange(800) % 4).astype(np.int64)

    class Three:
        """Right but where the label is 3."""

        def classify(self, x: Tensor) -> Tensor:
            label = (x[:, 0].long() % 4).clamp(max=2)
            return torch.nn.functional.one_hot(label, 4).float()

    value = classification_error(Three(), view_of(x, columns={"y": y}), {}, torch.Generator())
    assert value.value == pytest.approx(25.0)
    assert value.n == 800
    assert value.se == pytest.approx(100 * np.sqrt(0.25 * 0.75 / 800), rel=0.01)


def test_forecast_rmse():
    x = np.zeros((700, 5, 2), np.float32)
    future = np.ones((700, 3, 2), np.float32)
    seen = []

    class Constant:
        def forecast(self, x: Tensor, columns: Mapping[str, Tensor], length: int) -> Tensor:
            seen.append(set(columns))
            assert all(len(c) == len(x) for c in columns.values())
            return torch.full((len(x), length, 2), 3.0)

    columns = {"future": future, "observed": np.ones((700, 5), np.uint8)}
    value = forecast_rmse(Constant(), view_of(x, columns=columns), {}, torch.Generator())
    assert value.value == pytest.approx(2.0)
    assert seen[0] == {"observed"}, "what is to be predicted is not shown"
    with pytest.raises(UserError, match="future"):
        forecast_rmse(Constant(), view_of(x), {}, torch.Generator())
