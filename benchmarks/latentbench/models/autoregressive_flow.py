"""Affine autoregressive flows of short vectors, in both of their uses.

Read one way (posterior, IAF: Kingma et al. 2016, arXiv 1606.04934) they turn noise into codes in one pass; read the
other way (prior, AF: Chen et al. 2017, arXiv 1611.02731, section 3.2) they turn codes into noise in one pass and are
sampled coordinate by coordinate.
"""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from latentbench.core.errors import UserError
from latentbench.models import checks


class AutoregressiveFlow(nn.Module):
    """v_i -> v_i * exp(s_i(v_<i)) + m_i(v_<i), `layers` times with the order of coordinates turned about in between.

    Args:
        dim: number of coordinates, 2 or more.
        layers: number of steps; each starts at the identity.
        hidden: widths of the masked networks (zuko's).
    """

    def __init__(self, dim: int, *, layers: PositiveInt = 2, hidden: tuple[int, ...] = (64,)) -> None:
        from zuko.nn import MaskedMLP

        super().__init__()
        if checks.whole("latent_dim", dim) < 2:
            raise UserError("a flow of one coordinate is affine", fix="a latent_dim of 2 or more")
        before = torch.ones(dim, dim).tril(-1).bool()
        self.nets = nn.ModuleList(
            MaskedMLP(torch.cat([before, before]), checks.wholes("hidden", hidden), nn.ELU)
            for _ in range(checks.whole("layers", layers))
        )
        with torch.no_grad():
            for net in self.nets:
                last = list(net.children())[-1]
                last.weight.mul_(0.01)  # type: ignore[operator]
                last.bias.zero_()  # type: ignore[operator]

    def forward(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """(..., D) to (..., D) and log |d out / d v|, (...)."""
        total = v.new_zeros(v.shape[:-1])
        for net in self.nets:
            shift, log_scale = self._affine(net, v)
            v, total = (v * torch.exp(log_scale) + shift).flip(-1), total + log_scale.sum(-1)
        return v, total

    def inverse(self, v: Tensor) -> Tensor:
        """(..., D) to (..., D), one pass a coordinate and layer."""
        for net in reversed(self.nets):
            wanted, v = v.flip(-1), torch.zeros_like(v)
            for _ in range(v.shape[-1]):
                shift, log_scale = self._affine(net, v)
                v = (wanted - shift) * torch.exp(-log_scale)
        return v

    @staticmethod
    def _affine(net: nn.Module, v: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = net(v).chunk(2, -1)
        return shift, 3.0 * torch.tanh(log_scale / 3.0)  # bounded, so that no input makes the density infinite
