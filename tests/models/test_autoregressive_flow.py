"""Autoregressive flows: inverse, log-determinant against autograd, order of dependence."""

from __future__ import annotations

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.models.autoregressive_flow import AutoregressiveFlow


def make(layers: int, dim: int = 4) -> AutoregressiveFlow:
    torch.manual_seed(0)
    flow = AutoregressiveFlow(dim, layers=layers, hidden=(16,))
    with torch.no_grad():
        for net in flow.nets:
            net[-1].weight.mul_(100.0)
    return flow


V = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


def test_it_starts_near_the_identity():
    torch.manual_seed(0)
    out, log_det = AutoregressiveFlow(4, layers=2)(V)
    torch.testing.assert_close(out, V, rtol=0, atol=0.1)
    torch.testing.assert_close(log_det, torch.zeros(6), rtol=0, atol=0.1)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_inverse_and_log_determinant(layers: int):
    flow = make(layers)
    out, log_det = flow(V)
    assert (out - V).abs().max() > 0.1
    torch.testing.assert_close(flow.inverse(out), V, rtol=1e-4, atol=1e-4)
    for v, found in zip(V, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda row: flow(row)[0], v)
        torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], found, rtol=1e-4, atol=1e-4)


def test_one_layer_depends_on_earlier_coordinates_alone():
    jacobian = torch.autograd.functional.jacobian(lambda row: make(1)(row)[0], V[0]).flip(0)
    assert (jacobian.triu(1) == 0).all()
    assert (jacobian.diagonal() > 0).all()
    assert jacobian.tril(-1).abs().sum() > 0


def test_one_coordinate_is_refused():
    with pytest.raises(UserError, match="one coordinate"):
        AutoregressiveFlow(1)
