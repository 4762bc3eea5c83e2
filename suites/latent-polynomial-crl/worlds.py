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

LAYERS, SLOPE, WEIGHTS = 2, 0.2, (0.2, 1.0)  # of f; sizes of coefficients
MEANS, SCALES, REST = (-1.0, 1.0), (0.3, 0.7), 0.4  # of the first latent's noise, and that of others in its units


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
    """Graph, coefficients (E, d, T), noise and mixing; `constant`: all environments, the reference too, have the same
    coefficients of the last latent. All but the first latent have a cause."""

    def __init__(self, rng: np.random.Generator, d: int, environments: int, constant: bool) -> None:
        graph, shape = np.triu(rng.random((d, d)) < 0.5, 1), (environments, d, d * (d + 3) // 2)
        graph[rng.integers(np.arange(1, d)), np.arange(1, d)] = True
        sizes = rng.uniform(*WEIGHTS, shape) * rng.choice([-1.0, 1.0], shape)
        sizes[0] = 0.0
        if constant:
            sizes[:, -1] = sizes[-1, -1]
        self.graph, unit = torch.tensor(graph), np.where(np.arange(d) > 0, REST, 1.0)
        self.coefficients = torch.tensor(sizes) * admissible(self.graph)
        self.mean, self.scale = (torch.tensor(unit * rng.uniform(*ends, shape[:2])) for ends in (MEANS, SCALES))
        self.mixing = torch.tensor(ortho_group.rvs(d, size=LAYERS, random_state=rng))

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
