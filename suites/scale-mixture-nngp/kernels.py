"""Kernels of infinitely wide networks in closed form, and exact inference with them, in float64.

A network of L hidden layers on d inputs, with weights N(0, w / fan-in) and biases N(0, b), has before its first
activation K = w x x' / d + b, and w E[phi(u) phi(v)] + b, (u, v) ~ N(0, K), after each activation phi but the last (Lee
et al. 2018). The last layer has weights N(0, v / fan-in) and no biases: the kernel of what comes out is
v E[phi(u) phi(v)], and in this module v = 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Activation = Literal["relu", "erf"]


def moment(activation: Activation, k: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """E[phi(u) phi(v)] for (u, v) ~ N(0, [[left, k], [k, right]]), elementwise.

    Cho & Saul 2009, equation 6, half of it at degree 1, for ``relu``; Williams 1997, equation 11, for ``erf``.
    """
    if activation == "erf":
        return (2 / math.pi) * torch.asin(2 * k / torch.sqrt((1 + 2 * left) * (1 + 2 * right)))
    scale = torch.sqrt(left * right)
    cosine = (k / scale.clamp_min(1e-300)).clamp(-1.0, 1.0)
    angle = torch.acos(cosine)
    return scale * (torch.sin(angle) + (math.pi - angle) * cosine) / (2 * math.pi)


def kernels(
    x: Tensor, others: Tensor, activation: Activation, w: float, b: float, depths: tuple[int, ...]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Kernels of rows x (N, d) with others (M, d), (N, M), and variances of the others (M,), at each of rising depths.

    Each depth is on the way to the next, so that all cost as much as the last.
    """
    d = x.shape[1]
    k = w * x @ others.T / d + b
    left, right = (w * rows.square().sum(1) / d + b for rows in (x, others))
    for layer in range(1, max(depths) + 1):
        if layer > 1:
            k, left, right = w * k + b, w * left + b, w * right + b
        k = moment(activation, k, left[:, None], right[None])
        left, right = (moment(activation, a, a, a) for a in (left, right))
        if layer in depths:
            yield k, right


class Posterior(NamedTuple):
    """What the training rows say of new rows, for a last layer of variance 1.

    Attributes:
        mean: (M,) of the function, whatever the last layer's variance.
        variance: (M,) of the function, or of an observation.
        quadratic: y' S^-1 y of the N training targets, S their covariance with noise.
    """

    mean: Tensor
    variance: Tensor
    quadratic: float


def posterior(k: Tensor, prior: Tensor, y: Tensor, noise: float, observed: bool) -> Posterior:
    """Condition on targets with noise, which the variance of the last layer multiplies as it does the kernel.

    Args:
        k: (N, N + M) of the training rows with themselves and with new ones.
        prior: (N + M,) variances.
        y: (N,) targets.
        noise: its variance, as a share of the training rows' mean variance.
        observed: whether noise is in `variance`.
    """
    n = len(y)
    amount = noise * float(prior[:n].mean())
    s = k[:, :n].clone()
    s.diagonal().add_(amount)
    chol = torch.linalg.cholesky(s)
    solved = torch.linalg.solve_triangular(chol, torch.cat([y[:, None], k[:, n:]], 1), upper=False)
    target, cross = solved[:, 0], solved[:, 1:]
    variance = (prior[n:] - cross.square().sum(0)).clamp_min(1e-12) + amount * observed
    return Posterior(cross.T @ target, variance, float(target @ target))
