"""Shared networks: shapes for odd sizes and many leading axes, and their initialisation."""

from __future__ import annotations

import math

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.models import nets
from torch import nn


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 64, 64), (1, 28, 20), (2, 7, 5)])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_conv_network_keeps_every_size(shape: tuple[int, int, int], batch_norm: bool):
    parts = nets.build_network({"conv": {"channels": [3, 5], "batch_norm": batch_norm}}, DataInfo(shape, "real", 9))
    encoder, features = parts.encoder((11,), "relu")
    decoder, last = parts.decoder(4, (6,), "tanh", 2)
    x = torch.randn(3, *shape)
    assert features == 11
    assert encoder(x).shape == (3, 11)
    out = decoder(torch.randn(7, 3, 4))
    assert out.shape == (7, 3, 2 * math.prod(shape))
    assert last.out_channels == 2 * shape[0]


def test_conv_decoder_folds_leading_axes_without_mixing_them():
    parts = nets.build_network({"conv": {"channels": [3]}}, DataInfo((1, 6, 6), "real", 9))
    decoder, _ = parts.decoder(4, (), "tanh", 1)
    z = torch.randn(5, 2, 4)
    torch.testing.assert_close(decoder(z)[3, 1], decoder(z[3:4, 1:2])[0, 0])


def test_the_authors_conv_network_of_beta_tcvae_has_their_shapes():
    parts = nets.build_network({"conv": {"batch_norm": True}}, DataInfo((1, 64, 64), "binary", 9))
    encoder, _ = parts.encoder((512,), "relu")
    decoder, _ = parts.decoder(10, (512,), "relu", 1)
    shapes = [tuple(m.weight.shape) for m in encoder if isinstance(m, nn.Conv2d | nn.Linear)]
    assert shapes == [(32, 1, 4, 4), (32, 32, 4, 4), (64, 32, 4, 4), (64, 64, 4, 4), (512, 1024)]
    shapes = [tuple(m.weight.shape) for m in decoder.modules() if isinstance(m, nn.ConvTranspose2d | nn.Linear)]
    assert shapes == [(512, 10), (1024, 512), (64, 64, 4, 4), (64, 32, 4, 4), (32, 32, 4, 4), (32, 1, 4, 4)]


def test_discrete_levels_reach_the_network_centred():
    parts = nets.build_network("mlp", DataInfo((2,), "discrete", 9, levels=5))
    encoder, features = parts.encoder((), "tanh")
    assert features == 2
    torch.testing.assert_close(encoder(torch.tensor([[0.0, 4.0], [2.0, 1.0]])), torch.tensor([[-1.0, 1], [0, -0.5]]))


def test_glorot_treats_each_head_as_a_layer_of_its_own():
    torch.manual_seed(0)
    layer = nets.GaussianLayer(nn.Identity(), 40, 10)
    nets.initialise(layer, "glorot")
    bound = math.sqrt(6 / (40 + 10))
    assert layer.head.weight.abs().max() <= bound
    for half in layer.head.weight.chunk(2):
        assert half.abs().max() > 0.95 * bound
        assert half.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
    assert not layer.head.bias.any()


def test_default_init_is_pytorchs():
    torch.manual_seed(0)
    net = nets.mlp(5, (7,), "relu")
    nets.initialise(net, "default")
    torch.manual_seed(0)
    assert torch.equal(net[0].weight, nn.Linear(5, 7).weight)


def test_predicted_scales_stay_finite():
    layer = nets.GaussianLayer(nn.Identity(), 3, 2)
    _, log_std = layer(1e8 * torch.randn(20, 3))
    assert log_std.abs().max() == nets.LOG_STD_LIMIT
    assert torch.exp(2 * log_std).isfinite().all()


@pytest.mark.parametrize(
    ("choice", "shape", "message"),
    [
        ("conv", (784,), "needs images"),
        ({"conv": {"channels": [4, 4, 4, 4]}}, (1, 8, 8), "4 entries for images of 8x8"),
        ({"conv": {"channels": []}}, (1, 8, 8), "0 entries"),
        ({"conv": {"channels": [0]}}, (1, 8, 8), r"channels\[0\] is 0"),
        ({"conv": {"batch_norm": "yes"}}, (1, 8, 8), "true or false"),
        ({"mlp": {"channels": [3]}}, (1, 8, 8), "it has none"),
        ("resnet", (1, 8, 8), "known: conv, mlp"),
    ],
)
def test_refusals(choice: object, shape: tuple[int, ...], message: str):
    with pytest.raises(UserError, match=message):
        nets.build_network(choice, DataInfo(shape, "real", 9))
