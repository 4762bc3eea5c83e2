"""Codes that are affine in latents, from a polynomial autoencoder, and linear steps from codes to latents."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy import ndarray
from torch import Generator, Tensor, nn

from .worlds import powers

HIDDEN, SLOPE, L2 = 100, 0.5, 5e-4  # layers of the encoder, leaky ReLU, Adam's weight decay
CONSTANT = 10.0  # what a combination of codes is to be under its intervention
WEIGHT, PAIRS, ROBUST = 10.0, 3, 0.01  # of the gap of supports; pairs of columns a step; share of extremes left out


class Autoencoder(nn.Module):
    """x (n, D) to d codes by an MLP, and back by a polynomial."""

    def __init__(self, features: int, d: int, degree: int, draws: Generator) -> None:
        super().__init__()
        first, second = linear(features, HIDDEN, draws), linear(HIDDEN, HIDDEN, draws)
        activations = nn.LeakyReLU(SLOPE), nn.LeakyReLU(SLOPE)
        self.encode = nn.Sequential(first, activations[0], second, activations[1], linear(HIDDEN, d, draws))
        self.decode = linear(sum(d**k for k in range(1, degree + 1)), features, draws)
        self.degree = degree

    def forward(self, x: Tensor) -> Tensor:
        """Mean squared error."""
        return (self.decode(torch.cat(powers(self.encode(x), self.degree), dim=1)) - x).square().mean()


def linear(n: int, m: int, draws: Generator) -> nn.Linear:
    """Weights and biases uniform within 1 / sqrt(n): torch's own start, but from `draws`."""
    layer = nn.utils.skip_init(nn.Linear, n, m)
    for p in layer.parameters():
        nn.init.uniform_(p, -(n**-0.5), n**-0.5, generator=draws)
    return layer


def minimise(module: nn.Module, loss: Callable[[], Tensor], rate: float, steps: int) -> None:
    """`steps` steps of Adam on what `loss` gives at each, at a rate that falls linearly to 0."""
    adam = torch.optim.Adam(module.parameters(), weight_decay=L2)
    for step in range(steps):
        adam.param_groups[0]["lr"] = rate * (1.0 - step / steps)
        adam.zero_grad()
        loss().backward()
        adam.step()


def trained(x: Tensor, draws: Generator, *, d: int, degree: int, batch: int, rate: float, steps: int) -> Autoencoder:
    """Of x (n, D), of which a batch is drawn with replacement at each step."""
    model = Autoencoder(x.shape[1], d, degree, draws)
    minimise(model, lambda: model(x[torch.randint(len(x), (batch,), generator=draws)]), rate, steps)
    return model


def constancy(codes: ndarray, targets: ndarray) -> ndarray:
    """(d, k): for each of k targets, least squares without intercept of CONSTANT on codes (n, d) with that target."""
    chosen = [codes[targets == t] for t in np.unique(targets)]
    return np.stack([np.linalg.lstsq(c, np.full(len(c), CONSTANT), rcond=None)[0] for c in chosen], axis=1)


def decomposed(codes: ndarray, new: ndarray, how: str, seed: int) -> ndarray:
    """(m, d): principal components, or with `how` ``ica`` FastICA, of codes (n, d), applied to new ones (m, d)."""
    from sklearn.decomposition import PCA, FastICA

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # FastICA need not converge where latents depend
        fitted = (FastICA(max_iter=1000, random_state=seed) if how == "ica" else PCA()).fit(codes)
    return fitted.transform(new)


def support_gap(codes: Tensor, uniform: Tensor) -> Tensor:
    """How far (P,) rows (P, B, 2) are from filling the box of their margins: IOSS, a robust Hausdorff distance.

    With columns scaled to [0, 1], of draws from the box, uniform (P, M, 2) on [0, 1]^2 before they are scaled: the
    greatest distance to the nearest row but for ROBUST of the draws. The box leaves out ROBUST of the rows at each end.
    """
    low, high = codes.amin(1, keepdim=True), codes.amax(1, keepdim=True)
    scaled, k = (codes - low) / (high - low), int(ROBUST * codes.shape[1]) + 1
    bottom, top = (scaled.topk(k, dim=1, largest=end).values[:, -1:] for end in (False, True))
    nearest = torch.cdist(bottom + (top - bottom) * uniform, scaled).amin(2)
    return nearest.topk(int(ROBUST * uniform.shape[1]) + 1, dim=1).values[:, -1]


def supported(
    codes: ndarray, new: ndarray, draws: Generator, *, batch: int, points: int, rate: float, steps: int
) -> ndarray:
    """(m, d): an affine map of new codes (m, d), learnt of codes (n, d) so that pairs of columns fill their boxes.

    The loss of a batch is the squared error of an affine map back, which keeps columns apart, and WEIGHT times the gaps
    of PAIRS random pairs of columns to `points` draws each.
    """
    d = codes.shape[1]
    rows, others = (torch.tensor((c - codes.mean(0)) / codes.std(0), dtype=torch.float32) for c in (codes, new))
    there, back = maps = nn.ModuleList([linear(d, d, draws), linear(d, d, draws)])

    def loss() -> Tensor:
        part = rows[torch.randperm(len(rows), generator=draws)[:batch]]
        z = there(part)
        pairs = torch.stack([torch.randperm(d, generator=draws)[:2] for _ in range(PAIRS)])
        gaps = support_gap(z.T[pairs].mT, torch.rand(PAIRS, points, 2, generator=draws))
        return (back(z) - part).square().mean() + WEIGHT * gaps.sum()

    minimise(maps, loss, rate, steps)
    return there(others).detach().double().numpy()
