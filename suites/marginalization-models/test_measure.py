"""Distances from a known target, by hand on four states."""

from __future__ import annotations

import math

import pytest
import torch
from latentbench.papers.marginalization_models.measure import kl_to_target

P, TARGET = (0.85, 0.05, 0.05, 0.05), (0.25, 0.25, 0.4, 0.1)
STATES = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


class Known:
    def target(self):
        return STATES, torch.tensor(TARGET).log()

    def log_model(self, x):
        index = (2 * x[:, 0] + x[:, 1]).long()
        return torch.tensor(P).log()[index]


def test_the_divergence_is_of_the_model_from_the_target():
    forward = sum(p * math.log(p / q) for p, q in zip(P, TARGET))
    backward = sum(q * math.log(q / p) for p, q in zip(P, TARGET))
    assert abs(forward - backward) > 0.05
    found = kl_to_target(Known(), None, {}, torch.Generator())
    assert found.value == pytest.approx(forward, rel=1e-5)
    assert found.n == 4
