"""Deep kernel machines and deep Gaussian processes in terms of their Gram matrices, in float64 (Yang et al. 2023).

Features of a layer, F (P, N) at P rows, are N draws from N(0, K(G)), G the Gram matrix F F' / N of the layer before;
F = L Z with L L' = K(G) and Z standard normal, so that the Gram matrix is L A A' L' with A = Z / sqrt(N). Where N
grows and the targets y are repeated N times, what is left (the paper's representation learning limit) are the Gram
matrices that maximise

    log N(y | 0, a K(G_L) + s I) - nu sum_l KL(N(0, G_l) || N(0, K(G_l-1))),

and by A, square and lower triangular, each term of the sum is (|A|^2 - P) / 2 - sum log A_ii, whatever K is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray
from scipy.optimize import minimize
from torch import Tensor

#: Added to the diagonal of the kernel of training rows; least variance of noise.
JITTER, FLOOR = 1e-6, 1e-4
BOUND = 10.0


class Settings(NamedTuple):
    """Logarithms, float64.

    Attributes:
        inputs: (1,) or (D,) length scales of the first kernel, in units of sqrt(D).
        lengths: (L,) length scales of the kernels of Gram matrices.
        amplitude: () variance a of the output.
        noise: () variance of its noise, over `FLOOR`.
    """

    inputs: Tensor
    lengths: Tensor
    amplitude: Tensor
    noise: Tensor


class Outputs(NamedTuple):
    """Covariances of the targets of n training rows, then of T new ones, with training rows.

    Attributes:
        k: (..., n + T, n) without noise.
        variance: (..., n + T) without noise.
        noise: () its variance.
        features: for each layer the factor V (..., n, N) of its Gram matrix V V' of training rows.
    """

    k: Tensor
    variance: Tensor
    noise: Tensor
    features: list[Tensor]


def covariances(settings: Settings, x: Tensor, factors: Tensor | None, new: Tensor | None = None) -> Outputs:
    """Through squared exponential kernels of Gram matrices, one more than there are lengths.

    New rows have the mean of their Gram matrix given that of training rows, which the factors say.

    Args:
        settings: of the kernels.
        x: (n, D) training rows.
        factors: (..., L, n, N), the A of each layer; None for infinite width (A = I: NNGP, G = K).
        new: (T, D).
    """
    n, d = x.shape
    rows = (x if new is None else torch.cat([x, new])) * torch.exp(-settings.inputs) / d**0.5
    gram, diagonal = rows @ rows[:n].mT, rows.square().sum(-1)
    features = []
    for layer, length in enumerate(settings.lengths):
        k = squared_exponential(gram, diagonal)
        chol = torch.linalg.cholesky(k[..., :n, :] + JITTER * torch.eye(n, dtype=k.dtype))
        s = chol if new is None else _stacked(chol, k[..., n:, :])
        v = s if factors is None else s @ factors[..., layer, :, :]
        features.append(v[..., :n, :])
        scale = torch.exp(-2 * length)
        gram = scale * v @ v[..., :n, :].mT
        diagonal = scale * (v.square().sum(-1) + (1.0 + JITTER - s.square().sum(-1)).clamp_min(0.0))
    k = squared_exponential(gram, diagonal)
    a = settings.amplitude.exp()
    return Outputs(a * k, a * torch.ones_like(k[..., 0]), FLOOR + settings.noise.exp(), features)


def _stacked(chol: Tensor, cross: Tensor) -> Tensor:
    """Rows of the lower triangular factor L (..., n, n), then K L'^-1 of new rows' K (..., T, n)."""
    return torch.cat([chol, torch.linalg.solve_triangular(chol, cross.mT, upper=False).mT], -2)


def squared_exponential(gram: Tensor, diagonal: Tensor) -> Tensor:
    """exp(-(G_ii - 2 G_ij + G_jj) / 2) of G (..., m, n), whose first n rows are its columns', and G_ii (..., m)."""
    return torch.exp(gram - 0.5 * (diagonal[..., :, None] + diagonal[..., None, : gram.shape[-1]]))


def log_likelihood(out: Outputs, y: Tensor) -> Tensor:
    """(...,) nats of the targets y (n,) of training rows."""
    n = len(y)
    chol = torch.linalg.cholesky(out.k[..., :n, :] + out.noise * torch.eye(n, dtype=y.dtype))
    z = torch.linalg.solve_triangular(chol, y[:, None], upper=False)[..., 0]
    halves = torch.diagonal(chol, dim1=-2, dim2=-1).log().sum(-1)
    return -0.5 * z.square().sum(-1) - halves - 0.5 * n * torch.log(torch.tensor(2 * torch.pi))


def sparse(out: Outputs, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Variational bound of targets at rows (Titsias 2009, equation 9), and what predictions are made with.

    Args:
        out: of M inducing rows, then n rows with targets.
        y: (n,).

    Returns:
        () nats; (M, M) factor L of K + J, and of I + L^-1 K_mn K_nm L'^-1 / s.
    """
    m, n = out.k.shape[-1], len(y)
    eye = torch.eye(m, dtype=y.dtype)
    chol = torch.linalg.cholesky(out.k[:m] + JITTER * out.variance[0] * eye)
    a = torch.linalg.solve_triangular(chol, out.k[m:].mT, upper=False)
    inner = torch.linalg.cholesky(eye + a @ a.mT / out.noise)
    c = torch.linalg.solve_triangular(inner, a @ y[:, None], upper=False) / out.noise
    missing = (out.variance[m:].sum() - a.square().sum() + y.square().sum()) / out.noise - c.square().sum()
    return -0.5 * (missing + n * torch.log(2 * torch.pi * out.noise)) - inner.diagonal().log().sum(), chol, inner


def predict(out: Outputs, y: Tensor) -> tuple[Tensor, Tensor]:
    """Means and variances, noise included, (T,) each, of targets of the last T rows, of M inducing, n and T rows."""
    m, n = out.k.shape[-1], len(y)
    _, chol, inner = sparse(Outputs(out.k[: m + n], out.variance[: m + n], out.noise, []), y)
    a = torch.linalg.solve_triangular(chol, out.k[m:].mT, upper=False)
    b = torch.linalg.solve_triangular(inner, a, upper=False)
    mean = b[:, n:].mT @ (b[:, :n] @ y) / out.noise
    return mean, out.variance[m + n :] - a[:, n:].square().sum(0) + b[:, n:].square().sum(0) + out.noise


def lower(raw: Tensor) -> Tensor:
    """Lower triangular matrices (..., n, n) whose diagonals are exponentials."""
    return raw.tril(-1) + torch.diag_embed(torch.diagonal(raw, dim1=-2, dim2=-1).exp())


def divergence(raw: Tensor) -> Tensor:
    """Sum of KL(N(0, L A A' L') || N(0, L L')) over layers, A = `lower` of raw (L, n, n), whatever L is."""
    diagonal = torch.diagonal(raw, dim1=-2, dim2=-1)
    return 0.5 * (lower(raw).square().sum() - diagonal.numel()) - diagonal.sum()


def optimum(
    settings: Settings, x: Tensor, y: Tensor, nu: float | None, *, steps: int, inducing: Tensor | None = None
) -> tuple[Settings, Tensor, Tensor | None]:
    """What maximises the objective, by L-BFGS from A = I (NNGP): factors alone, or settings and inducing rows as well.

    Args:
        settings: to start from; they stay where there are no inducing rows.
        x, y: (n, D), (n,) training rows.
        nu: weight of the divergences, by the number of the targets' columns (1); None for infinity: A = I.
        steps: of L-BFGS at most.
        inducing: (M, D) to start from; with them the likelihood is its bound (`sparse`).

    Returns:
        Settings, rows of the Gram matrices (n or M, D), factors (L, n or M, n or M) or None.
    """
    rows = x if inducing is None else inducing
    raw = torch.zeros(len(settings.lengths), len(rows), len(rows), dtype=x.dtype)
    start = [*(() if inducing is None else (*settings, inducing)), *(() if nu is None else (raw,))]
    sizes = [value.numel() for value in start]

    def parts(flat: Tensor) -> tuple[Settings, Tensor, Tensor | None]:
        values = [part.view_as(value) for part, value in zip(flat.split(sizes), start, strict=True)]
        at = settings if inducing is None else Settings(*values[:4])
        return at, rows if inducing is None else values[4], None if nu is None else values[-1]

    def loss(flat: ndarray) -> tuple[float, ndarray]:
        leaf = torch.from_numpy(flat).requires_grad_()
        try:
            with torch.enable_grad():
                at, held, free = parts(leaf)
                out = covariances(at, held, None if free is None else lower(free), None if inducing is None else x)
                value = log_likelihood(out, y) if inducing is None else sparse(out, y)[0]
                value = (0.0 if free is None or nu is None else nu * divergence(free)) - value
                return value.item(), torch.autograd.grad(value, leaf)[0].numpy()
        except torch.linalg.LinAlgError:  # the search went too far; it turns back
            return 1e10, np.zeros_like(flat)

    flat = torch.cat([value.flatten() for value in start]).numpy()
    options = {"maxiter": steps, "maxfun": 2 * steps, "maxcor": 20}
    found = minimize(loss, flat, jac=True, method="L-BFGS-B", bounds=[(-BOUND, BOUND)] * len(flat), options=options)
    at, held, free = parts(torch.from_numpy(found.x))
    return at, held, None if free is None else lower(free)
