"""Mixtures of low-rank Gaussians: a denoiser of low rank, and subspace clustering (Wang et al., arXiv 2409.02426).

x0 = U_k a with a ~ N(0, I_d), clusters k equally likely and their subspaces orthogonal (assumptions of theorem 4). The
best denoiser of x0 + sigma eps is a mixture of projections (lemma 1); with assignments by the clean sample, training it
is principal component analysis for one cluster (theorem 1) and K-subspaces for several (theorem 3).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from itertools import permutations
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models.study import Problem, Study
from numpy import ndarray
from pydantic import PositiveFloat, PositiveInt
from torch import Generator, Tensor

#: A cluster is recovered if the projectors differ by less (Frobenius norm); one wrong direction makes it 1.41.
CLOSE = 0.5
SMALL = {"problems": 1, "clusters": 2, "dims": [1, 2], "ambients": [5, 6], "counts": [1, 2, 4]}
FEW = {**SMALL, "steps": 9}
EXAMPLES = (Example("real-vector", FEW), Example("real-vector", {**FEW, "weights": "posterior"}))
Arrays = Mapping[str, Any]


class SubspaceStudy(Study):
    """Answers are orthonormal bases (numbers of samples, K, n, d), one array for each d and n.

    Args:
        info: not used.
        clusters: K, which procedures are told, as they are told d.
        dims: intrinsic dimensions d.
        ambients: ambient dimensions n, none below K d.
        counts: ascending numbers N_k of samples a cluster; the first ones of the largest sample.
        restarts: random starts, of which the one with the least energy outside of its subspaces is kept.
        problems: how many.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        clusters: PositiveInt = 1,
        dims: tuple[PositiveInt, ...] = (2, 4, 8),
        ambients: tuple[PositiveInt, ...] = (16, 64),
        counts: tuple[PositiveInt, ...] = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16),
        restarts: PositiveInt = 2,
        problems: PositiveInt = 1,
    ) -> None:
        super().__init__(info, problems=problems)
        if clusters * max(dims) > min(ambients):
            raise UserError("orthogonal subspaces do not fit into the ambient space", fix="raise ambients")
        if len(counts) < 2 or list(counts) != sorted(set(counts)):
            raise UserError(f"counts are {counts}", fix="give at least two, in ascending order")
        self.clusters, self.restarts, self.counts = clusters, restarts, tuple(counts)
        self.cells = {f"d{d}-n{n}": (d, n) for d in dims for n in ambients}

    def problem(self, rng: np.random.Generator) -> Problem:
        samples, truth = {}, {}
        for name, (d, n) in self.cells.items():
            joint = np.linalg.qr(rng.standard_normal((n, self.clusters * d)))[0]
            bases = joint.reshape(n, self.clusters, d).swapaxes(0, 1)
            x = rng.standard_normal((self.clusters, max(self.counts), d)) @ bases.swapaxes(1, 2)
            samples[name], truth[name], truth[f"x-{name}"] = x, bases, x
        return Problem(samples, truth)

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        found = {}
        for name, x in given.items():
            bases = self.bases(x, self.cells[name][0], rng)  # (numbers, restarts, K, n, d)
            left = [[outside(x[:, :c], b) for b in each] for c, each in zip(self.counts, bases, strict=True)]
            found[name] = np.stack([each[i] for each, i in zip(bases, np.argmin(left, axis=1), strict=True)])
        return found

    @abstractmethod
    def bases(self, x: ndarray, d: int, rng: np.random.Generator) -> ndarray:
        """(numbers of samples, restarts, K, n, d), orthonormal, of x (K, N, n), whose order of clusters is not used."""


@model("molrg-denoiser", "Iterative Study", "mixture of low-rank denoisers", examples=EXAMPLES)
class Denoiser(SubspaceStudy):
    """Minimises the denoising loss (problem 14 for one cluster, 19 for several) over orthonormal bases with Adam.

    Args:
        weights: of the clusters: by the clean sample (``hard``, theorem 3), or as in the posterior mean (lemma 1).
        steps: of Adam; its rate falls to 0 linearly.
        lr: at the first step, for bases of unit columns.
        batch: noisy samples a step, drawn with replacement.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        weights: Literal["hard", "posterior"] = "hard",
        steps: PositiveInt = 500,
        lr: PositiveFloat = 0.05,
        batch: PositiveInt = 64,
        **design: Any,
    ) -> None:
        super().__init__(info, **design)
        self.weights, self.steps, self.lr, self.batch = weights, steps, lr, batch

    def bases(self, x: ndarray, d: int, rng: np.random.Generator) -> ndarray:
        draws = torch.Generator().manual_seed(int(rng.integers(2**62)))
        clean, counts = torch.from_numpy(x).float(), torch.tensor(self.counts)[:, None]
        (k, _, n), c = x.shape, len(self.counts)
        free = (torch.randn(c, self.restarts, k, n, d, generator=draws) / n**0.5).requires_grad_()
        adam = torch.optim.Adam([free], lr=self.lr)
        for step in range(self.steps):
            adam.param_groups[0]["lr"] = self.lr * (1 - step / self.steps)
            rows = (torch.rand(c, self.batch, generator=draws) * counts).long()
            x0 = clean[torch.randint(k, rows.shape, generator=draws), rows]
            sigma = noise_levels(rows.shape, draws)
            noise = torch.randn(x0.shape, generator=draws)
            loss = denoising_loss(torch.linalg.qr(free)[0], x0, noise, sigma, self.weights).mean(-1).sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
        return torch.linalg.qr(free.detach().double())[0].numpy()


def noise_levels(shape: Any, draws: Generator) -> Tensor:
    """Log-normal sigma of Karras et al. 2022 (mean -1.2, deviation 1.2), the authors' default."""
    return (1.2 * torch.randn(shape, generator=draws) - 1.2).exp()


def denoise(bases: Tensor, x0: Tensor, noisy: Tensor, sigma: Tensor, weights: str) -> Tensor:
    """(..., R, B, n): sum of w_k U_k U_k' x / (1 + sigma^2) at noisy x (..., B, n), for bases (..., R, K, n, d)."""
    s2 = sigma.square()[..., None, None, :]
    codes = noisy[..., None, None, :, :] @ bases
    if weights == "posterior":
        w = (codes.square().sum(-1) / (2 * s2 * (1 + s2))).softmax(-2)
    else:
        energy = (x0[..., None, None, :, :] @ bases.detach()).square().sum(-1)
        w = (energy == energy.amax(-2, keepdim=True)).float()
    return ((codes * (w / (1 + s2))[..., None]) @ bases.mT).sum(-3)


def denoising_loss(bases: Tensor, x0: Tensor, noise: Tensor, sigma: Tensor, weights: str) -> Tensor:
    """(..., R, B): squared errors of `denoise`, with the weight 1 / sigma^2 + 1 / 0.5^2 of Karras et al. 2022."""
    found = denoise(bases, x0, x0 + sigma[..., None] * noise, sigma, weights)
    return (1 / sigma.square() + 4)[..., None, :] * (found - x0[..., None, :, :]).square().sum(-1)


@model("k-subspaces", "Iterative Study", "PCA of clusters in turn", examples=(Example("real-vector", SMALL),))
class KSubspaces(SubspaceStudy):
    """Assigns samples to the nearest subspace and fits it by an SVD, until nothing changes (one cluster: PCA).

    Directions that samples leave open are random.
    """

    def bases(self, x: ndarray, d: int, rng: np.random.Generator) -> ndarray:
        k, _, n = x.shape
        starts = np.linalg.qr(rng.standard_normal((len(self.counts), self.restarts, k, n, d)))[0]
        samples = [x[:, :c].reshape(-1, n) for c in self.counts]
        return np.stack([[self.alternate(c, u, rng) for u in each] for c, each in zip(samples, starts, strict=True)])

    def alternate(self, x: ndarray, bases: ndarray, rng: np.random.Generator) -> ndarray:
        before = np.empty(0)
        for _ in range(100):
            labels = np.square(x @ bases).sum(-1).argmax(0)
            if np.array_equal(labels, before):
                break
            before, found = labels, []
            for k, old in enumerate(bases):
                directions = np.linalg.svd(x[labels == k], full_matrices=False)[2][: old.shape[1]].T
                random = rng.standard_normal(old.shape)
                found.append(np.linalg.qr(np.hstack([directions, random]))[0][:, : old.shape[1]])
            bases = np.stack(found)
        return bases


def outside(x: ndarray, bases: ndarray) -> float:
    """Share of the energy of x (..., n) outside of the nearest of the subspaces (K, n, d): 0 at the optimum here."""
    x = x.reshape(-1, x.shape[-1])
    return float(1 - np.square(x @ bases).sum(-1).max(0).sum() / np.square(x).sum())


def worst_error(bases: ndarray, found: ndarray) -> float:
    """Greatest Frobenius distance of projectors over clusters (K, n, d), for the best matching of clusters."""
    projectors, others = (b @ b.swapaxes(1, 2) for b in (bases, found))
    apart = np.linalg.norm(projectors[:, None] - others, axis=(2, 3))
    return float(min(apart[range(len(bases)), order].max() for order in map(list, permutations(range(len(bases))))))


def transitions(model: Any) -> ndarray:
    """(problems, cells): the number of samples at which recovery begins; each that fails moves it up to the next."""
    gaps = np.diff(model.counts, append=2 * model.counts[-1] - model.counts[-2])
    failed = [
        [[worst_error(truth[name], found) >= CLOSE for found in answer[name]] for name in model.cells]
        for truth, answer in model.answered()
    ]
    return model.counts[0] + np.array(failed) @ gaps


@metric("samples_per_dimension", "Study", "1", "lower", within=(0.0, None))
def samples_per_dimension(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Where recovery begins, samples a cluster over d: mean over cells and problems; each cell's in the details."""
    ratios = transitions(model) / np.array([d for d, _ in model.cells.values()])
    details = dict(zip(model.cells, ratios.mean(0).tolist(), strict=True))
    return MetricValue(float(ratios.mean()), None, len(ratios), details)


@metric("transition_exponent", "Study", "1", "lower", settings={"of": "intrinsic"})
def transition_exponent(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Power of the intrinsic or ambient dimension with which the mean transition grows (least squares of logs)."""
    logs = np.log(np.array(list(model.cells.values()), dtype=float))
    if min(len(set(column)) for column in logs.T) < 2:
        raise UserError("exponents are of several dimensions", where="transition_exponent", fix="give two of each")
    design = np.column_stack([logs, np.ones(len(logs))])
    powers = np.linalg.lstsq(design, np.log(transitions(model).mean(0)), rcond=None)[0]
    return MetricValue(float(powers[["intrinsic", "ambient"].index(settings["of"])]), None, model.problems)


@metric("energy_outside", "Study", "1", "lower", within=(0.0, None))
def energy_outside(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean of `outside` over cells and numbers of samples above d: what is missing to the optimum, which is 0.

    Up to d samples a cluster lie in one subspace, whatever it has to do with the truth.
    """

    def of(truth: Arrays, answer: Arrays) -> float:
        found = [
            (truth[f"x-{name}"][:, :c], b)
            for name in model.cells
            for c, b in zip(model.counts, answer[name], strict=True)
        ]
        left = [outside(x, b) for x, b in found if x.shape[1] > b.shape[-1]]
        return float(np.mean(np.maximum(left, 0.0)))

    return over_problems(model, of)
