"""Vector flows: exact inverses, determinants and densities, and zuko as an independent implementation."""

from __future__ import annotations

import pytest
import torch
import zuko
from hypothesis import given, settings
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.models.coupling import CouplingFlow


def make(dims: int, *, seed: int = 0, shake: float = 0.3, **params: object) -> CouplingFlow:
    torch.manual_seed(seed)
    model = CouplingFlow(DataInfo((dims,), "real", 100), **{"hidden": (16,), **params})
    with torch.no_grad():  # away from the starting values, where scales are one and shifts zero
        for p in model.parameters():
            p.add_(shake * torch.randn_like(p))
    return model


def points(n: int, dims: int, seed: int = 0) -> torch.Tensor:
    return 2.0 * torch.randn(n, dims, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 7), st.integers(1, 5), st.booleans(), st.integers(0, 10**6))
def test_inverse_undoes_forward_and_the_determinant_is_autograds(dims: int, couplings: int, additive: bool, seed: int):
    model = make(dims, seed=seed, couplings=couplings, additive=additive).double()
    x = points(3, dims, seed).double()
    z, log_det = model(x)
    torch.testing.assert_close(model.inverse(z), x, rtol=1e-6, atol=1e-6)
    for i in range(3):
        jacobian = torch.autograd.functional.jacobian(lambda v: model(v[None])[0][0], x[i])
        torch.testing.assert_close(log_det.expand(3)[i], torch.linalg.slogdet(jacobian)[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("additive", [False, True])
def test_round_trip_in_single_precision(additive: bool):
    model = make(6, couplings=8, additive=additive, shake=0.1)
    x = points(500, 6)
    with torch.no_grad():
        assert (model.inverse(model(x)[0]) - x).abs().max() < 1e-4


@pytest.mark.parametrize("additive", [False, True])
def test_density_integrates_to_one(additive: bool):
    model = make(2, couplings=4, additive=additive)
    z = torch.randn(20000, 2, generator=torch.Generator().manual_seed(1))
    x = model.inverse(z).detach()
    low, high = x.min(0).values - 3.0, x.max(0).values + 3.0
    axes = [torch.linspace(a, b, 1500) for a, b in zip(low.tolist(), high.tolist())]
    cell = (axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0])
    with torch.no_grad():
        total = model.log_prob(torch.cartesian_prod(*axes)).double().exp().sum() * cell
    assert total.item() == pytest.approx(1.0, abs=0.01)


def test_additive_couplings_preserve_volume_up_to_the_diagonal():
    model = make(5, couplings=4, additive=True)
    _, log_det = model(points(10, 5))
    torch.testing.assert_close(log_det, model.log_scale.sum())


def test_samples_have_the_density():
    """The mean of log p over samples is minus the entropy, which the latent noise gives independently."""
    model = make(3, couplings=4)
    with torch.no_grad():
        x = model.sample(4000, torch.Generator().manual_seed(3))
        z = torch.randn(4000, 3, generator=torch.Generator().manual_seed(3))
        torch.testing.assert_close(model(x)[0], z, rtol=0, atol=1e-3)


class Affine(torch.distributions.AffineTransform):
    """exp(scale * tanh(raw)) x + shift for zuko's coupling."""

    def __init__(self, shift: torch.Tensor, raw: torch.Tensor) -> None:
        super().__init__(shift, torch.exp(torch.tanh(raw)))


@pytest.mark.parametrize("additive", [False, True])
def test_against_zuko(additive: bool):
    """The same weights in zuko's coupling transforms give the same density."""
    torch.manual_seed(0)
    model = CouplingFlow(DataInfo((5,), "real", 100), couplings=3, hidden=(9,), additive=additive)
    univariate, shapes = (zuko.transforms.AdditiveTransform, ((),)) if additive else (Affine, ((), ()))
    flow = zuko.flows.NICE(5, transforms=3, hidden_features=(9,), univariate=univariate, shapes=shapes)
    for i, theirs in enumerate(flow.transform.transforms):
        theirs.mask = torch.arange(5) % 2 == i % 2
        ours, changed = model.nets[i], 5 - int(theirs.mask.sum())
        hyper = zuko.nn.MLP(int(theirs.mask.sum()), changed * len(shapes), (9,))
        hyper.load_state_dict(ours.state_dict())
        if not additive:  # they interleave shift and scale, we put one block after the other
            order = torch.arange(2 * changed).view(2, changed).T.flatten()
            hyper[2].weight.data, hyper[2].bias.data = ours[2].weight.data[order], ours[2].bias.data[order]
        theirs.hyper = hyper
    x = points(20, 5)
    torch.testing.assert_close(model.log_prob(x), flow().log_prob(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("info", "params", "message"),
    [
        (DataInfo((1, 8, 8), "real", 9), {}, "needs vectors"),
        (DataInfo((1,), "real", 9), {}, "two coordinates"),
        (DataInfo((4,), "binary", 9), {}, "support 'binary'"),
        (DataInfo((4,), "real", 9), {"couplings": 0}, "couplings is 0"),
        (DataInfo((4,), "real", 9), {"additive": 1}, "true or false"),
        (DataInfo((4,), "real", 9), {"activation": "sin"}, "activation"),
    ],
)
def test_refusals(info: DataInfo, params: dict, message: str):
    with pytest.raises(UserError, match=message):
        CouplingFlow(info, **params)
