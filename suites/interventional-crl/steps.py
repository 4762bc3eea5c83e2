"""Codes that are affine in latents, from a polynomial autoencoder, and linear steps from codes to latents."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn

from .worlds import powers

HIDDEN, SLOPE, L2, PATIENCE, LEAST = 100, 0.5, 5e-4, 10, 1e-4
#: What a combination of codes is to be under its intervention; weight, pairs and robustness of the gap of supports.
CONSTANT, WEIGHT, PAIRS, ROBUST = 10.0, 10.0, 3, 0.01


class Autoencoder(nn.Module):
    """x (n, D) to d codes by an MLP, and back by a polynomial."""

    def __init__(self, features: int, d: int, degree: int, draws: torch.Generator) -> None:
        super().__init__()
        first, second = linear(features, HIDDEN, draws), linear(HIDDEN, HIDDEN, draws)
        activations = nn.LeakyReLU(SLOPE), nn.LeakyReLU(SLOPE)
        self.encode = nn.Sequential(first, activations[0], second, activations[1], linear(HIDDEN, d, draws))
        self.decode = linear(sum(d**k for k in range(1, degree + 1)), features, draws)
        self.degree = degree

    def forward(self, x: Tensor) -> Tensor:
        """Mean squared error."""
        return (self.decode(torch.cat(powers(self.encode(x), self.degree), dim=1)) - x).square().mean()


def linear(n: int, m: int, draws: torch.Generator) -> nn.Linear:
    """Weights and biases uniform within 1 / sqrt(n): torch's own start, but from `draws`."""
    layer = nn.utils.skip_init(nn.Linear, n, m)
    for p in layer.parameters():
        nn.init.uniform_(p, -(n**-0.5), n**-0.5, generator=draws)
    return layer


def trained(
    x: Tensor, validation: Tensor, seed: int, *, d: int, degree: int, rate: float, epochs: int, batch: int, cooled: bool
) -> Autoencoder:
    """By Adam, until PATIENCE epochs have passed whose validation error is above the least before by LEAST or more.

    Weights are those of the last epoch of which that is not so. The rate falls linearly to 0 if `cooled`.
    """
    draws = torch.Generator().manual_seed(seed)
    model = Autoencoder(x.shape[1], d, degree, draws)
    adam, best, since = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=L2), float("inf"), 0
    total, kept = epochs * -(-len(x) // batch), model.state_dict()
    cooling = torch.optim.lr_scheduler.LambdaLR(adam, lambda t: 1.0 - t / total if cooled else 1.0)
    for _ in range(epochs):
        for part in torch.randperm(len(x), generator=draws).split(batch):
            adam.zero_grad()
            model(x[part]).backward()
            adam.step()
            cooling.step()
        with torch.no_grad():
            error = float(model(validation))
        since += 1
        if error < best + LEAST:
            best, since, kept = error, 0, copy.deepcopy(model.state_dict())
        if since >= PATIENCE:
            break
    model.load_state_dict(kept)
    return model


def constancy(codes: ndarray, targets: ndarray) -> ndarray:
    """(d, k): for each of k targets, least squares without intercept of CONSTANT on codes (n, d) with that target."""
    chosen = [codes[targets == t] for t in np.unique(targets)]
    return np.stack([np.linalg.lstsq(c, np.full(len(c), CONSTANT), rcond=None)[0] for c in chosen], axis=1)


def completed(found: ndarray, codes: ndarray, new: ndarray) -> ndarray:
    """(m, d): new codes (m, d) by `found` (d, k), and d - k principal components of what it leaves of codes (n, d)."""
    known, again = (np.column_stack([np.ones(len(c)), c @ found]) for c in (codes, new))
    fit = np.linalg.lstsq(known, codes, rcond=None)[0]
    components = np.linalg.svd(codes - known @ fit, full_matrices=False)[2][: codes.shape[1] - found.shape[1]]
    return np.hstack([new @ found, (new - again @ fit) @ components.T])


def independent(codes: ndarray, new: ndarray, rng: np.random.Generator) -> ndarray:
    """(m, d): FastICA of codes (n, d), applied to new ones (m, d)."""
    from sklearn.decomposition import FastICA

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it need not converge where latents depend
        ica = FastICA(whiten="unit-variance", max_iter=1000, random_state=int(rng.integers(2**31))).fit(codes)
    return ica.transform(new)


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
    codes: ndarray, new: ndarray, rng: np.random.Generator, *, rate: float, epochs: int, batch: int, points: int
) -> ndarray:
    """(m, d): an affine map of new codes (m, d), learnt of codes (n, d) so that pairs of columns fill their boxes.

    The loss is the squared error of an affine map back and WEIGHT times the gaps of PAIRS random pairs of columns.
    """
    draws, d = torch.Generator().manual_seed(int(rng.integers(2**62))), codes.shape[1]
    rows, others = (torch.tensor((c - codes.mean(0)) / codes.std(0), dtype=torch.float32) for c in (codes, new))
    there, back = maps = nn.ModuleList([linear(d, d, draws), linear(d, d, draws)])
    adam = torch.optim.Adam(maps.parameters(), lr=rate, weight_decay=L2)
    for _ in range(epochs):
        for part in torch.randperm(len(rows), generator=draws)[: len(rows) // batch * batch].split(batch):
            z = there(rows[part])
            pairs = torch.stack([torch.randperm(d, generator=draws)[:2] for _ in range(PAIRS)])
            gaps = support_gap(z.T[pairs].mT, torch.rand(PAIRS, points, 2, generator=draws))
            adam.zero_grad()
            ((back(z) - rows[part]).square().mean() + WEIGHT * gaps.sum()).backward()
            adam.step()
    return there(others).detach().double().numpy()
