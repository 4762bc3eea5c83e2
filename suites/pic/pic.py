"""Probabilistic integral circuits (Gala et al. 2024, arXiv 2310.16986).

The hidden variables of a hidden Chow-Liu tree are continuous, z in [-1, 1], and small networks give their densities:

    p(z_i | z_parent) = exp(-e_i(z_parent, z_i)) / integral of exp(-e_i(z_parent, z)) dz,   p(x_i | z_i) = network(z_i).

A quadrature rule with points z_1 .. z_K and weights w_1 .. w_K turns every integral into a sum, and the model into a
circuit of K states whose sum weights are w_k p(z_k | z_parent), normalised by the same rule. The circuit is what is
trained and evaluated, and its likelihood is exact.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.circuits.em import Tables
from latentbench.models.circuits.latent_tree import LatentTree
from pydantic import PositiveFloat
from torch import Tensor, nn

RULES = ("trapezoidal", "gauss-legendre")


def quadrature(rule: str, points: int) -> tuple[Tensor, Tensor]:
    """Points in [-1, 1] and weights that sum to 2, (points,) float32 each."""
    if rule == "gauss-legendre":
        z, w = np.polynomial.legendre.leggauss(points)
    else:
        z, w = np.linspace(-1.0, 1.0, points), np.full(points, 2.0 / (points - 1))
        w[[0, -1]] *= 0.5
    return torch.tensor(z, dtype=torch.float32), torch.tensor(w, dtype=torch.float32)


class FunctionNets(nn.Module):
    """Several networks of one shape on the same points: Fourier features, a tanh layer, a linear layer.

    Args:
        nets: how many networks.
        inputs: coordinates of a point.
        outputs: of each network.
        hidden: width; even.
        sigma: standard deviation of the frequencies, which are drawn once and are common to all networks.
    """

    frequencies: Tensor
    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor

    def __init__(self, nets: int, inputs: int, outputs: int, hidden: int, sigma: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", sigma * torch.randn(inputs, hidden // 2))
        bound = 1.0 / math.sqrt(hidden)
        shapes = {"w1": (nets, hidden, hidden), "b1": (nets, 1, hidden), "w2": (nets, hidden, outputs)}
        for name, shape in {**shapes, "b2": (nets, 1, outputs)}.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape).uniform_(-bound, bound)))

    def forward(self, z: Tensor) -> Tensor:
        """Points (P, inputs) to (nets, P, outputs)."""
        angle = 2.0 * math.pi * (z @ self.frequencies)
        features = torch.cat([angle.cos(), angle.sin()], -1)
        hidden = torch.tanh(features @ self.w1 + self.b1)
        return hidden @ self.w2 + self.b2


@model(
    "pic",
    "Trainable Preparable ExactLikelihood Sampler",
    "probabilistic integral circuit: a hidden Chow-Liu tree whose weights are networks under quadrature",
    examples=(
        Example("binary-image", {"points": 4, "units": 8}, "likelihood"),
        Example("discrete-vector", {"points": 3, "units": 8, "rule": "gauss-legendre"}, "likelihood"),
    ),
)
class PIC(LatentTree):
    """A probabilistic integral circuit over a hidden Chow-Liu tree, by quadrature with a fixed number of points.

    Args:
        points: quadrature points K, the states of the circuit.
        rule: ``trapezoidal`` or ``gauss-legendre``.
        units: width of each network; even.
        sigma: standard deviation of the Fourier features' frequencies.
        smoothing: added to each count behind the tree's mutual information.
    """

    nodes: Tensor
    log_weights: Tensor

    def __init__(
        self,
        info: DataInfo,
        *,
        points: Annotated[int, Ge(2)] = 64,
        rule: str = "trapezoidal",
        units: Annotated[int, Ge(2)] = 64,
        sigma: PositiveFloat = 1.0,
        smoothing: float = 0.01,
    ) -> None:
        super().__init__(info, states=checks.whole("points", points, 2), smoothing=smoothing)
        width = checks.whole("units", units, 2)
        if width % 2:
            raise UserError(f"units is {units}", fix="an even number: half of the features are sines")
        sigma = checks.number("sigma", sigma, above=True)
        z, w = quadrature(checks.one_of("rule", rule, RULES), points)
        self.register_buffer("nodes", z)
        self.register_buffer("log_weights", w.log())
        self.prior = FunctionNets(1, 1, 1, width, sigma)
        self.edges = FunctionNets(self.dims - 1, 2, 1, width, sigma)
        self.leaves = FunctionNets(self.dims, 1, self.levels - 1, width, sigma)

    def tables(self) -> Tables:
        """The circuit that the quadrature makes of the integrals (the paper's section 3.2)."""
        one = self.nodes[:, None]
        k = self.states
        two = torch.stack([self.nodes[:, None].expand(k, k), self.nodes[None].expand(k, k)], -1).flatten(0, 1)
        energy = nn.functional.softplus(self.edges(two)).view(-1, k, k)
        prior_energy = nn.functional.softplus(self.prior(one)).view(k)
        logits = self.leaves(one)
        logits = torch.cat([torch.zeros_like(logits[..., :1]), logits], -1)  # the first level's logit is zero
        return {
            "prior": (self.log_weights - prior_energy).softmax(-1),
            "weights": (self.log_weights - energy).softmax(-1),
            "leaves": logits.softmax(-1),
        }
