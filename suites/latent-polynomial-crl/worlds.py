"""Latents of a polynomial structural causal model whose coefficients and noise change with the environment, and x.

With latents in causal order, the model of arXiv 2310.15580 is, for coefficients lambda and noise n of environment u,

    n_i ~ N(mu_i(u), sigma_i(u)^2),    z_i = sum_t lambda_it(u) m_t(z_1, ..., z_i-1) + n_i,    x = f(z),

with m_t the monomials of degrees 1 and 2. Environment 0 is the reference, in which all lambda are 0.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import ortho_group
from torch import Tensor
from torch.nn import functional

LAYERS, SLOPE = 1, 0.2  # of f
MEANS, SCALES = (-2.0, 2.0), (0.5, 2.0)  # of noise
SIZES, EFFECTS, PROBES = (0.5, 1.0), (1.0, 2.5), 1000  # sizes of coefficients; deviations of effects, in the noise's


def monomials(z: Tensor) -> Tensor:
    """(..., d) to (..., T): of each latent z_i in turn, z_i and z_i z_j for all j <= i."""
    one = z.new_ones(()).expand(*z.shape[:-1], 1)
    return torch.cat([z[..., [i]] * torch.cat([one, z[..., : i + 1]], -1) for i in range(z.shape[-1])], -1)


def holds(d: int) -> Tensor:
    """(d, T) bool: whether monomial t has a factor z_j."""
    return torch.stack([monomials(row) > 1.0 for row in 1.0 + torch.eye(d)])


def admissible(graph: Tensor) -> Tensor:
    """(d, T) bool: monomials of latent i, whose factors are all among its causes, graph (d, d) [j, i] bool."""
    return ~(~graph.T[:, :, None] & holds(len(graph))).any(1)


def caused(z: Tensor, coefficients: Tensor) -> Tensor:
    """(..., d): what causes contribute to each of z (..., d), with coefficients (..., d, T)."""
    return (coefficients * monomials(z)[..., None, :]).sum(-1)


def latents(noise: Tensor, coefficients: Tensor) -> Tensor:
    """z, (..., d), of noise (..., d): the inverse of z - caused(z), one latent after the other."""
    z = terms = noise[..., :0]
    for i in range(noise.shape[-1]):
        new = (coefficients[..., i, : terms.shape[-1]] * terms).sum(-1, keepdim=True) + noise[..., i : i + 1]
        z = torch.cat([z, new], -1)
        terms = torch.cat([terms, new, new * z], -1)
    return z


class World:
    """Graph, coefficients (E, d, T), noise and mixing. Coefficients keep their signs, lest effects cancel over
    environments. In each they go with monomials of deviation 1, and what causes contribute to a latent is scaled to
    deviate by 1 to 2.5 of its noise's deviations, lest squares of squares make tails on which correlations lean.
    `constant`: all environments, the reference too, have the same ones for the last latent."""

    def __init__(self, rng: np.random.Generator, d: int, environments: int, constant: bool) -> None:
        graph, shape, terms = np.triu(rng.random((d, d)) < 0.5, 1), (environments, d), d * (d + 3) // 2
        graph[rng.integers(np.arange(1, d)), np.arange(1, d)] = True  # all but the first have a cause
        self.graph = torch.tensor(graph)
        self.mean, self.scale, effects = (torch.tensor(rng.uniform(*ends, shape)) for ends in (MEANS, SCALES, EFFECTS))
        sizes = rng.uniform(*SIZES, (*shape, terms)) * rng.choice([-1.0, 1.0], (d, terms))
        self.coefficients = torch.tensor(sizes) * admissible(self.graph)
        noise = self.mean + self.scale * torch.tensor(rng.standard_normal((PROBES, *shape)))
        for i in range(1, d):
            z = latents(noise, self.coefficients)
            self.coefficients[:, i] /= monomials(z).std(0)
            deviation = caused(z, self.coefficients)[..., i].std(0)
            self.coefficients[:, i] *= (effects[:, i] * self.scale[:, i] / deviation)[:, None]
            self.coefficients[0, i] = 0.0
        if constant:
            self.coefficients[:, -1] = self.coefficients[1, -1].clone()
        self.mixing = torch.tensor(ortho_group.rvs(d, size=LAYERS, random_state=rng)).reshape(LAYERS, d, d)

    def draw(self, rng: np.random.Generator, rows: int) -> tuple[Tensor, Tensor]:
        """Latents (E * rows, d) and environments (E * rows,), so many rows each."""
        u = torch.arange(len(self.mean)).repeat_interleave(rows)
        noise = self.mean[u] + self.scale[u] * torch.tensor(rng.standard_normal((len(u), self.mean.shape[1])))
        return latents(noise, self.coefficients[u]), u

    def mix(self, z: Tensor) -> Tensor:
        """f, (n, d) to (n, d): a leaky ReLU, then an orthogonal matrix, each time."""
        for matrix in self.mixing:
            z = functional.leaky_relu(z, SLOPE) @ matrix
        return z
