"""What is for training rows alone never reaches an evaluation."""

from __future__ import annotations

import numpy as np
import torch

from tests.evaluation.views import pixels, view_of


def test_rows_are_measured_as_they_are():
    x = pixels(200, (3, 4, 2))
    view = view_of(x, ["flip", "to_unit"], train=pixels(40, (3, 4, 2), seed=1), levels=256)
    expected = torch.from_numpy(x.astype(np.float32)).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(view.x, expected)
    torch.testing.assert_close(view.train.x[:, :, :, 0].mean(), view.train.x.flip(-1)[:, :, :, -1].mean())
    assert not torch.allclose(view.x, view.x.flip(-1))
