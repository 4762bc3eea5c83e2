"""Autoencoders with a maximum moment restriction (Rep4Ex) or as VAEs, one for each of several worlds, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from latentbench.models.nets import LOG_STD_LIMIT
from numpy import ndarray
from scipy.spatial.distance import cdist, pdist
from torch import Tensor
from torch.nn import functional

HIDDEN, BATCH, RATE = (32, 32), 256, 3e-3
LANDMARKS = 60


def moments(a: ndarray, landmarks: ndarray) -> ndarray:
    """(n, m) functions q of actions a (n, d), such that |q' phi / n|^2 is the maximum moment restriction of phi (n, d).

    That is sum_ij r_i' k(a_i, a_j) r_j / n^2, with r what the best affine function of a leaves of phi, and k a Gaussian
    kernel as wide as the median distance (in Nystroem's approximation, exact where all rows are landmarks).
    """
    width = np.median(pdist(landmarks))
    values, vectors = np.linalg.eigh(np.exp(-0.5 * cdist(landmarks, landmarks, "sqeuclidean") / width**2))
    kept = values > 1e-8 * values[-1]
    q = np.exp(-0.5 * cdist(a, landmarks, "sqeuclidean") / width**2) @ (vectors[:, kept] / np.sqrt(values[kept]))
    affine = np.column_stack([np.ones(len(a)), a])
    return q - affine @ np.linalg.lstsq(affine, q, rcond=None)[0]


def restriction(phi: Tensor, q: Tensor) -> Tensor:
    """Estimates, (W,), of the restriction from minibatches phi (W, B, d) and q (W, B, m): pairs of different rows."""
    batch = phi.shape[1]
    same = (phi.square().sum(2) * q.square().sum(2)).sum(1)
    return ((phi.mT @ q).square().sum((1, 2)) - same) / (batch * (batch - 1))


class Autoencoders:
    """One a world, trained on x (W, n, D) and a (W, n, d), with d codes.

    The loss is the squared error, summed over features on a common scale, plus the weighted penalty. Codes that are
    no draws are whitened, since a restriction on codes that may shrink in some direction restricts nothing there.

    Args:
        weight: of the restriction (0: a plain autoencoder) or, if `variational`, of the KL divergence.
        steps: of Adam, whose rate falls linearly to 0.
    """

    def __init__(
        self, x: ndarray, a: ndarray, rng: np.random.Generator, *, variational: bool, weight: float, steps: int
    ) -> None:
        self.d, self.variational = a.shape[2], variational
        self.mean, self.scale = x.mean(1, keepdims=True), x.std((1, 2), keepdims=True)
        draws = torch.Generator().manual_seed(int(rng.integers(2**62)))
        found = [torch.tensor(moments(one, one[:LANDMARKS]), dtype=torch.float32) for one in a]
        q = torch.nn.utils.rnn.pad_sequence([one.T for one in found], batch_first=True).mT
        widths = [x.shape[2], *HIDDEN, self.d * (2 if variational else 1)]
        self.encoder = network(len(x), widths, draws)
        self.decoder = network(len(x), [self.d, *reversed(widths[:-1])], draws)
        rows, worlds = self._rows(x), torch.arange(len(x))[:, None]
        adam = torch.optim.Adam(self.encoder + self.decoder, lr=RATE)
        for step in range(steps):
            adam.param_groups[0]["lr"] = RATE * (1.0 - step / steps)
            chosen = torch.randint(rows.shape[1], (len(rows), BATCH), generator=draws)
            codes, penalty = self._codes(forward(self.encoder, rows[worlds, chosen]), q[worlds, chosen], draws)
            error = (forward(self.decoder, codes) - rows[worlds, chosen]).square().sum(2).mean(1)
            adam.zero_grad()
            (error + weight * penalty).sum().backward()
            adam.step()
        self.rows = rows

    def _rows(self, x: ndarray) -> Tensor:
        return torch.tensor((x - self.mean) / self.scale, dtype=torch.float32)

    def _codes(self, h: Tensor, q: Tensor, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Codes (W, B, d) to be decoded, and the penalty (W,)."""
        if not self.variational:
            codes = whiten(h, h)
            return codes, restriction(codes, q)
        mean, log_std = h[..., : self.d], h[..., self.d :].clamp(-LOG_STD_LIMIT, LOG_STD_LIMIT)
        kl = 0.5 * (mean.square() + (2.0 * log_std).exp() - 1.0) - log_std
        return mean + log_std.exp() * torch.randn(mean.shape, generator=draws), kl.sum(2).mean(1)

    @torch.no_grad()
    def encode(self, x: ndarray) -> ndarray:
        """(W, n, d)"""
        h, of = (forward(self.encoder, rows)[..., : self.d] for rows in (self._rows(x), self.rows))
        return (h if self.variational else whiten(h, of)).double().numpy()

    @torch.no_grad()
    def decode(self, codes: ndarray) -> ndarray:
        """(W, n, D)"""
        return forward(self.decoder, torch.tensor(codes, dtype=torch.float32)).numpy() * self.scale + self.mean


def whiten(h: Tensor, of: Tensor) -> Tensor:
    """h (W, n, d) less the mean of `of` (W, N, d), in the coordinates in which that has an identity covariance."""
    mean = of.mean(1, keepdim=True)
    covariance = (of - mean).mT @ (of - mean) / (of.shape[1] - 1) + 1e-6 * torch.eye(of.shape[2])
    return torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (h - mean).mT, upper=False).mT


def network(worlds: int, widths: Sequence[int], draws: torch.Generator) -> list[Tensor]:
    """Weights (W, in, out), normal of variance 1.6 / in, and biases (W, 1, out) of each layer."""
    layers = []
    for n, m in pairwise(widths):
        layers += [torch.randn(worlds, n, m, generator=draws) * (1.6 / n) ** 0.5, torch.zeros(worlds, 1, m)]
    return [one.requires_grad_() for one in layers]


def forward(layers: list[Tensor], x: Tensor) -> Tensor:
    """(W, n, in) to (W, n, out), with leaky ReLUs between the layers."""
    for i in range(0, len(layers), 2):
        x = torch.baddbmm(layers[i + 1], functional.leaky_relu(x, 0.2) if i else x, layers[i])
    return x
