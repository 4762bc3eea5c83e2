"""Accuracy of reconstructed tokens on rows that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.seeds import generator
from latentbench.papers.autogen.measure import token_accuracy

from tests.evaluation.views import view_of


class Fixed:
    def __init__(self, rows) -> None:
        self.rows = torch.as_tensor(rows, dtype=torch.float32)

    def reconstruct(self, x):
        return self.rows[: len(x)]


ROWS = np.array([[1, 2, 0, 0], [2, 2, 2, 2], [1, 0, 0, 0]], dtype=np.int32)


def measure(rows, end=0):
    return token_accuracy(Fixed(rows), view_of(ROWS, levels=3), {"end": end}, generator(0, "evaluation"))


def test_tokens_up_to_the_end_mark_count():
    assert measure(ROWS).value == 1.0
    assert measure(ROWS).details["exact"] == 1.0
    other = [[1, 1, 0, 2], [2, 2, 2, 1], [1, 0, 1, 1]]
    assert measure(other).value == pytest.approx((2 / 3 + 3 / 4 + 1) / 3)
    assert measure(other).details["exact"] == pytest.approx(1 / 3)
    assert measure(other, end=-1).value == pytest.approx((2 / 4 + 3 / 4 + 2 / 4) / 3)
