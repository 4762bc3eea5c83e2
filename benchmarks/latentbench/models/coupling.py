"""Coupling flows for vectors: Real NVP (affine) and NICE (additive).

Dinh et al. 2015, "NICE" (arXiv 1410.8516); Dinh et al. 2017, "Real NVP" (1605.08803). Images have `real_nvp`.

Own code, because seeds of a flow must stack under `torch.func.vmap`, which zuko's couplings (`nonzero` on their mask in
every call) do not; the tests hold it against zuko's with the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import PositiveInt
from torch import Generator, Tensor, nn

from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, densities, nets


@model(
    "coupling-flow",
    "Trainable ExactLikelihood Sampler",
    "affine (Real NVP) or additive (NICE) coupling flow of vectors",
    examples=(
        Example("real-vector", {"couplings": 3, "hidden": (8,)}, "likelihood"),
        Example("real-vector", {"couplings": 4, "hidden": (8,), "additive": True}, "likelihood"),
    ),
)
class CouplingFlow(nn.Module):
    """Coupling layers that change the even and the odd coordinates in turn, then a learned diagonal map.

    One half b changes, given the other half a: b' = b * exp(s(a)) + t(a) (Real NVP section 3.2), with s a learned scale
    of each coordinate times tanh of a network's output (their section 4.1), or b' = b + t(a) (NICE). The diagonal map
    is the rescaling that NICE puts last (its section 3.3), without which additive couplings preserve volume. The prior
    is a standard normal.

    Args:
        info: the data: vectors of two or more real coordinates.
        couplings: number of coupling layers.
        hidden: widths of each layer's network.
        activation: tanh, relu, elu, silu or softplus.
        additive: NICE in place of Real NVP.

    Raises:
        UserError: a parameter is out of its range, or the data are no such vectors.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        couplings: PositiveInt = 8,
        hidden: Sequence[PositiveInt] = (64, 64),
        activation: str = "relu",
        additive: bool = False,
    ) -> None:
        checks.support("CouplingFlow", info, "real", "unit")
        super().__init__()
        self.dims = checks.vector_length("CouplingFlow", info)
        if self.dims < 2:
            raise UserError("CouplingFlow needs two coordinates or more", fix="one to condition the other on")
        self.additive = checks.flag("additive", additive)
        widths = checks.wholes("hidden", hidden)
        checks.one_of("activation", activation, nets.ACTIVATIONS)
        sizes = ((self.dims + 1) // 2, self.dims // 2)
        self.nets, self.scales = nn.ModuleList(), nn.ParameterList()
        for i in range(checks.whole("couplings", couplings)):
            given, changed = sizes[i % 2], sizes[1 - i % 2]
            body = nets.mlp(given, widths, activation)
            self.nets.append(nn.Sequential(*body, nn.Linear([given, *widths][-1], changed * (1 if additive else 2))))
            if not additive:
                self.scales.append(nn.Parameter(torch.ones(changed)))
        self.log_scale = nn.Parameter(torch.zeros(self.dims))
        self.shift = nn.Parameter(torch.zeros(self.dims))

    def _step(self, i: int, given: Tensor) -> tuple[Tensor, Tensor | None]:
        """Shift t and log scale s (None where additive) of coupling i."""
        out = self.nets[i](given)
        if self.additive:
            return out, None
        shift, raw = out.chunk(2, -1)
        return shift, self.scales[i] * torch.tanh(raw)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, D) to z (N, D), even coordinates before odd ones, and log |dz/dx| (N,)."""
        a, b = x[:, 0::2], x[:, 1::2]
        log_det = self.log_scale.sum()
        for i in range(len(self.nets)):
            shift, s = self._step(i, a)
            if s is None:
                b = b + shift
            else:
                b = torch.addcmul(shift, b, torch.exp(s))
                log_det = log_det + s.sum(-1)
            a, b = b, a
        if len(self.nets) % 2:
            a, b = b, a
        return torch.addcmul(self.shift, torch.cat([a, b], -1), torch.exp(self.log_scale)), log_det

    def inverse(self, z: Tensor) -> Tensor:
        """z (N, D), as `forward` orders it, to x (N, D)."""
        rows = (z - self.shift) * torch.exp(-self.log_scale)
        a, b = rows.split(((self.dims + 1) // 2, self.dims // 2), -1)
        if len(self.nets) % 2:
            a, b = b, a
        for i in reversed(range(len(self.nets))):
            a, b = b, a
            shift, s = self._step(i, a)
            b = b - shift if s is None else (b - shift) * torch.exp(-s)
        x = torch.empty_like(z)
        x[:, 0::2], x[:, 1::2] = a, b
        return x

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log-density, (N,) nats."""
        z, log_det = self(x)
        return densities.standard_normal(z) + log_det

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        return {"loss": -self.log_prob(batch.x).mean()}

    def sample(self, n: int, generator: Generator) -> Tensor:
        like = self.shift
        return self.inverse(torch.randn(n, self.dims, generator=generator, device=like.device, dtype=like.dtype))
