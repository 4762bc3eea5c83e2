"""Deep kernel machines and deep Gaussian processes in terms of their Gram matrices, in float64 (Yang et al. 2023).

Features of a layer, F (P, N) at P rows, are N draws from N(0, K(G)), G the Gram matrix F F' / N of the layer before;
F = L Z with L L' = K(G) and Z standard normal, so that the Gram matrix is L A A' L' with A = Z / sqrt(N). Where N
grows and the targets y are repeated N times, what is left (the paper's representation learning limit) are the Gram
matrices that maximise

    log N(y | 0, a K(G_L) + s I) - nu sum_l KL(N(0, G_l) || N(0, K(G_l-1))),  nu = 1,

and by A, square and lower triangular, each term of the sum is (|A|^2 - P) / 2 - sum log A_ii, whatever K is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray
from scipy.optimize import minimize
from torch import Tensor
from torch.distributions import MultivariateNormal

#: Added to the diagonal of kernels; least variance of noise; bound of all that is optimised.
JITTER, FLOOR, BOUND = 1e-6, 1e-4, 10.0


class Settings(NamedTuple):
    """Logarithms, float64: length scales of the inputs (1,) or (D,), in units of sqrt(D), and of the Gram matrices
    (L,); variances () of the output and, over `FLOOR`, of its noise."""

    inputs: Tensor
    lengths: Tensor
    amplitude: Tensor
    noise: Tensor


class Outputs(NamedTuple):
    """Covariances k (..., n + T, n) of the outputs at n rows, then T new ones, with those at the n rows; variances
    (..., n + T), all without noise; the noise's variance (); factors V (..., L, n, N) of the Gram matrices V V'."""

    k: Tensor
    variance: Tensor
    noise: Tensor
    features: Tensor


def covariances(settings: Settings, x: Tensor, factors: Tensor | None, new: Tensor | None = None) -> Outputs:
    """Of rows x (n, D) and new ones (T, D), whose Gram matrices have their mean given those of the n rows, by the A of
    each layer, `factors` (..., L, n, N); None for infinite width (A = I: NNGP, G = K)."""
    n, d = x.shape
    rows = (x if new is None else torch.cat([x, new])) * torch.exp(-settings.inputs) / d**0.5
    gram, diagonal = rows @ rows[:n].mT, rows.square().sum(-1)
    features = []
    for layer, length in enumerate(settings.lengths):
        k = squared_exponential(gram, diagonal)
        chol = torch.linalg.cholesky(k[..., :n, :] + JITTER * torch.eye(n, dtype=k.dtype))
        s = torch.cat([chol, torch.linalg.solve_triangular(chol, k[..., n:, :].mT, upper=False).mT], -2)
        v = s if factors is None else s @ factors[..., layer, :, :]
        features.append(v[..., :n, :])
        scale = torch.exp(-2 * length)
        gram = scale * v @ v[..., :n, :].mT
        diagonal = scale * (v.square().sum(-1) + (1.0 + JITTER - s.square().sum(-1)).clamp_min(0.0))
    k = squared_exponential(gram, diagonal)
    a = settings.amplitude.exp()
    return Outputs(a * k, a * torch.ones_like(k[..., 0]), FLOOR + settings.noise.exp(), torch.stack(features, -3))


def squared_exponential(gram: Tensor, diagonal: Tensor) -> Tensor:
    """exp(-(G_ii - 2 G_ij + G_jj) / 2) of G (..., m, n), whose first n rows are its columns', and G_ii (..., m)."""
    return torch.exp(gram - 0.5 * (diagonal[..., :, None] + diagonal[..., None, : gram.shape[-1]]))


def log_likelihood(out: Outputs, y: Tensor) -> Tensor:
    """(...,) nats of the targets y (n,) at all rows."""
    chol = torch.linalg.cholesky(out.k + out.noise * torch.eye(len(y), dtype=y.dtype))
    return MultivariateNormal(torch.zeros_like(y), scale_tril=chol, validate_args=False).log_prob(y)


def sparse(out: Outputs, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Variational bound () of targets y (n,) in nats, and means and variances (T,) of more of them, noise included.

    Titsias 2009, equations 9 and 6; outputs are of M inducing rows, then n with targets, then T without.
    """
    m, n = out.k.shape[-1], len(y)
    eye = torch.eye(m, dtype=y.dtype)
    chol = torch.linalg.cholesky(out.k[:m] + JITTER * out.variance[0] * eye)
    a, variance = torch.linalg.solve_triangular(chol, out.k[m:].mT, upper=False), out.variance[m:]
    inner = torch.linalg.cholesky(eye + a[:, :n] @ a[:, :n].mT / out.noise)
    b = torch.linalg.solve_triangular(inner, a, upper=False)
    c = b[:, :n] @ y / out.noise
    missing = (variance[:n].sum() - a[:, :n].square().sum() + y.square().sum()) / out.noise - c.square().sum()
    bound = -0.5 * (missing + n * torch.log(2 * torch.pi * out.noise)) - inner.diagonal().log().sum()
    return bound, c @ b[:, n:], (variance - a.square().sum(0) + b.square().sum(0))[n:] + out.noise


def lower(raw: Tensor) -> Tensor:
    """Lower triangular matrices (..., n, n) whose diagonals are exponentials."""
    return raw.tril(-1) + torch.diag_embed(torch.diagonal(raw, dim1=-2, dim2=-1).exp())


def divergence(raw: Tensor) -> Tensor:
    """Sum of KL(N(0, L A A' L') || N(0, L L')) over layers, A = `lower` of raw (L, n, n), whatever L is."""
    diagonal = torch.diagonal(raw, dim1=-2, dim2=-1)
    return 0.5 * (lower(raw).square().sum() - diagonal.numel()) - diagonal.sum()


def limit(settings: Settings, x: Tensor, y: Tensor, *, steps: int) -> Tensor:
    """Factors (L, n, n) of the representation learning limit of rows x (n, D) with targets y (n,), nu = 1."""
    raw = torch.zeros(len(settings.lengths), len(x), len(x), dtype=x.dtype)
    found = maximise(lambda a: log_likelihood(covariances(settings, x, lower(a)), y) - divergence(a), [raw], steps)
    return lower(found[0])


def train(
    start: Settings, x: Tensor, y: Tensor, inducing: Tensor, nu: float | None, *, steps: int
) -> tuple[Settings, Tensor, Tensor | None]:
    """Settings, inducing rows (M, D) and factors (L, M, M) that maximise the bound less nu times the divergences.

    Factors start at A = I, the NNGP, and stay there, as None, where `nu` is None.
    """
    raw = torch.zeros(len(start.lengths), len(inducing), len(inducing), dtype=x.dtype)

    def objective(*at: Tensor) -> Tensor:
        if nu is None:
            return sparse(covariances(Settings(*at[:4]), at[4], None, x), y)[0]
        return sparse(covariances(Settings(*at[:4]), at[4], lower(at[5]), x), y)[0] - nu * divergence(at[5])

    found = maximise(objective, [*start, inducing] if nu is None else [*start, inducing, raw], steps)
    return Settings(*found[:4]), found[4], None if nu is None else lower(found[5])


def maximise(objective: Callable[..., Tensor], start: list[Tensor], steps: int) -> list[Tensor]:
    """Where at most `steps` steps of L-BFGS lead from a start: arguments of an objective ()."""
    sizes = [value.numel() for value in start]

    def parts(flat: Tensor) -> list[Tensor]:
        return [part.view_as(value) for part, value in zip(flat.split(sizes), start, strict=True)]

    def loss(flat: ndarray) -> tuple[float, ndarray]:
        leaf = torch.from_numpy(flat).requires_grad_()
        try:
            with torch.enable_grad():
                value = -objective(*parts(leaf))
                return value.item(), torch.autograd.grad(value, leaf)[0].numpy()
        except torch.linalg.LinAlgError:  # the search went too far; it turns back
            return 1e10, np.zeros_like(flat)

    flat = torch.cat([value.flatten() for value in start]).numpy()
    options = {"maxiter": steps, "maxfun": 2 * steps, "maxcor": 20}
    found = minimize(loss, flat, jac=True, method="L-BFGS-B", bounds=[(-BOUND, BOUND)] * len(flat), options=options)
    return parts(torch.from_numpy(found.x))
