"""An autoencoder of tied weights, which has as few parameters as a gradient origin network (arXiv 2007.02798)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, nets
from latentbench.papers.gon.gon import _Decoding
from torch import Tensor, nn
from torch.nn import functional


@model(
    "tied-autoencoder",
    "Trainable Encoder Decoder Reconstructor",
    "autoencoder by squared error whose encoder has the decoder's weights, transposed",
    examples=(
        Example("unit-vector", {"latent_dim": 3, "hidden": (8,)}),
        Example("unit-image", {"latent_dim": 3, "network": {"conv": {"channels": [4, 6]}}}),
    ),
)
class TiedAutoencoder(_Decoding):
    """The decoder's layers in reverse order, each by its transposed weights and with a bias of its own.

    Args:
        info, latent_dim, hidden, activation, network, init: as for `Autoencoder`.

    Raises:
        UserError: a parameter is out of its range, the network does not fit the data, or it has batch normalisation,
            whose scales have no transpose.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: int = 32,
        hidden: Sequence[int] = (),
        activation: str = "elu",
        network: checks.Choice = "mlp",
        init: str = "default",
    ) -> None:
        nets.build_network(network, info)  # refuses what has no encoder to be
        super().__init__(info, latent_dim, hidden, activation, network, init)
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.decoder.modules()):
            raise UserError("tied weights with batch normalisation", fix="network.conv.batch_norm: false")
        widths = [m.in_features if isinstance(m, nn.Linear) else m.in_channels for m in self._weights()]
        self.biases = nn.ParameterList(torch.zeros(width) for width in widths)
        self.nonlinearity = nets.ACTIVATIONS[self.activation]()

    def _weights(self) -> list[nn.Linear | nn.ConvTranspose2d]:
        """The decoder's layers that have weights, from data to code."""
        return [m for m in self.decoder.modules() if isinstance(m, nn.Linear | nn.ConvTranspose2d)][::-1]

    def encode(self, x: Tensor) -> Tensor:
        """The code, (N, latent_dim)."""
        h = x
        for i, (layer, bias) in enumerate(zip(self._weights(), self.biases, strict=True)):
            h = self.nonlinearity(h) if i else h
            if isinstance(layer, nn.Linear):
                h = functional.linear(h.flatten(1), layer.weight.T, bias)
            else:
                h = functional.conv2d(h, layer.weight, bias, stride=2, padding=1)
        return h
