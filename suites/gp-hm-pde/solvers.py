"""GP-HM (Fang et al. 2024), Gaussian processes with a mixture spectrum on a grid; networks for the same equations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models.study import Arrays
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from .problems import Name, WaveStudy, mesh

JITTER = 1e-6
Parameters = dict[str, Tensor]


@model(
    "gp-hm",
    "Iterative Study",
    "Gaussian process solver with a Student-t or Gaussian mixture spectrum",
    examples=(
        Example("real-vector", {"points": 9, "components": 3, "iterations": 4}),
        Example("real-vector", {"points": 6, "wave": "plane", "components": 3, "iterations": 4, "newton": False}),
    ),
)
class GPHM(WaveStudy):
    """Maximises the joint density of values on the grid, boundary and equation (as the authors' code has it).

    Values u of a process with a product kernel, whose factor for dimension j is
    sum_q w_qj rho(d, scale_qj) cos(2 pi d mu_qj): rho is Matern 5/2 (a Student-t mixture as spectrum) or squared
    exponential (a Gaussian mixture). With one component at frequency zero it is the plain kernel.

    Args:
        info, wave, drawn, points: as in `WaveStudy`.
        spectrum: of the components.
        components, top: Q, and the largest of their evenly spaced frequencies at the start, in Hz.
        scale: inverse length scale at the start; exp(-scale d^2) where Gaussian.
        logarithms: whether weights are learned in the log domain; else as they are, kept from falling below zero.
        newton: whether the values on the grid are put at their optimum in each iteration (by least squares; a
            Gauss-Newton step where the equation is not linear); else Adam moves them with all else, as the authors do.
        iterations, rate: of Adam.
        emphasis: lambda_b, the weight of the boundary's log-density.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        spectrum: Literal["student", "gaussian"] = "student",
        components: PositiveInt = 30,
        top: NonNegativeFloat = 20.0,
        scale: PositiveFloat = 1.0,
        logarithms: bool = True,
        newton: bool = True,
        iterations: NonNegativeInt = 400,
        rate: PositiveFloat = 0.01,
        emphasis: PositiveFloat = 200.0,
        wave: Name = "sine",
        drawn: bool = True,
        points: PositiveInt = 64,
    ) -> None:
        super().__init__(info, wave=wave, drawn=drawn, points=points)
        self.spectrum, self.components, self.top, self.scale = spectrum, components, top, scale
        self.logarithms, self.newton, self.iterations, self.rate = logarithms, newton, iterations, rate
        self.emphasis = emphasis
        self.lags, self.outer = torch.from_numpy(self.grid), torch.from_numpy(self.edge())

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        at = mesh(self.grid, self.dims)
        source, walls = torch.from_numpy(given["source"](at)), torch.from_numpy(given["boundary"](at)[self.edge()])
        p = self.initial()
        moved = [value.requires_grad_() for name, value in p.items() if name != "u" or not self.newton]
        optimiser = torch.optim.Adam(moved, self.rate)
        with torch.enable_grad():
            for _ in range(self.iterations):
                self.settle(p, source, walls)
                optimiser.zero_grad()
                self.objective(p, source, walls).backward()
                optimiser.step()
                if not self.logarithms:
                    p["weights"].data.clamp_(min=1e-12)
        with torch.no_grad():
            self.settle(p, source, walls)
            found = {"prediction": self.predict(p), "weights": self.weights(p), "frequencies": p["frequencies"]}
            return {name: value.detach() for name, value in found.items()}

    def initial(self) -> Parameters:
        """Even weights that sum to one, frequencies on a grid from 0, values zero (as in the authors' code)."""
        shape, double = (self.dims, self.components), torch.float64
        weights = torch.full(shape, 1.0 / self.components, dtype=double)
        return {
            "weights": weights.log() if self.logarithms else weights,
            "scales": torch.full(shape, self.scale, dtype=double).log(),
            "frequencies": torch.linspace(0.0, self.top, self.components, dtype=double).repeat(self.dims, 1),
            "tau": torch.zeros(2, dtype=double),  # log-precisions of boundary and equation
            "u": torch.zeros(self.points**self.dims, dtype=double),
        }

    def weights(self, p: Parameters) -> Tensor:
        return p["weights"].exp() if self.logarithms else p["weights"]

    def kernel(self, p: Parameters, lags: Tensor) -> tuple[Tensor, Tensor]:
        """Each dimension's factor at lags (n,) >= 0 and its second derivative, both (d, n)."""
        d, scale = lags[:, None], p["scales"].exp()[:, None]  # (n, 1), (d, 1, Q)
        if self.spectrum == "gaussian":
            rho = torch.exp(-scale * d**2)
            first, second = -2.0 * scale * d * rho, (4.0 * (scale * d) ** 2 - 2.0 * scale) * rho
        else:
            rate = 5**0.5 * scale
            decay, r = torch.exp(-rate * d), rate * d
            rho, first = (1.0 + r + r**2 / 3.0) * decay, -(rate**2) / 3.0 * d * (1.0 + r) * decay
            second = -(rate**2) / 3.0 * (1.0 + r - r**2) * decay
        omega = 2.0 * np.pi * p["frequencies"][:, None]
        cosine, sine, w = torch.cos(omega * d), torch.sin(omega * d), self.weights(p)[:, None]
        curved = second * cosine - 2.0 * omega * first * sine - omega**2 * rho * cosine
        return (w * rho * cosine).sum(2), (w * curved).sum(2)

    def matrices(self, p: Parameters) -> tuple[Tensor, Tensor]:
        """Cholesky factors of each dimension's covariance of values, and cov(u'', u): both (d, n, n)."""
        k, curved = self.kernel(p, self.lags)
        eye = torch.eye(self.points, dtype=k.dtype)
        return torch.linalg.cholesky(toeplitz(k) + JITTER * eye), toeplitz(curved)

    def settle(self, p: Parameters, source: Tensor, walls: Tensor) -> None:
        """Put u where `objective` is least, all else fixed: least squares in z, u = L z, about the present u."""
        if not self.newton:
            return
        with torch.no_grad():
            chol, curved = self.matrices(p)
            root = reduce(torch.kron, chol.contiguous())
            ends = torch.linalg.solve_triangular(chol, curved, upper=False).mT  # cov(u'', u) L^-T
            factors = [[*chol[:j], ends[j], *chol[j + 1 :]] for j in range(self.dims)]
            bent = sum(reduce(torch.kron, [f.contiguous() for f in each]) for each in factors)
            slope = self.reacts * (3.0 * p["u"] ** 2 - 1.0)
            equation, wall = (0.5 * p["tau"][1]).exp(), (0.5 * p["tau"][0]).exp() * self.emphasis**0.5
            eye = torch.eye(len(root), dtype=root.dtype)
            rows = torch.cat([eye, equation * (bent + slope[:, None] * root), wall * root[self.outer]])
            right = torch.cat([0.0 * source, equation * (source + self.reacts * 2.0 * p["u"] ** 3), wall * walls])
            p["u"] = root @ torch.linalg.lstsq(rows, right).solution

    def objective(self, p: Parameters, source: Tensor, walls: Tensor) -> Tensor:
        """Negative log-density, up to a constant."""
        chol, curved = self.matrices(p)
        u = p["u"].view((self.points,) * self.dims)
        solved = [torch.cholesky_solve(torch.eye(self.points, dtype=u.dtype), factor) for factor in chol]
        laplacian = sum(along(curved[j] @ solved[j], u, j) for j in range(self.dims))
        prior = reduce(lambda v, j: along(solved[j], v, j), range(self.dims), u)
        logdet = 2.0 * u.numel() / self.points * chol.diagonal(dim1=1, dim2=2).log().sum()
        misfit = ((p["u"][self.outer] - walls) ** 2).sum()
        residual = ((laplacian + self.reacts * u * (u**2 - 1.0)).flatten() - source) ** 2
        wall = 0.5 * (len(walls) * p["tau"][0] - p["tau"][0].exp() * misfit)
        equation = 0.5 * (u.numel() * p["tau"][1] - p["tau"][1].exp() * residual.sum())
        return 0.5 * logdet + 0.5 * (u * prior).sum() - self.emphasis * wall - equation

    def predict(self, p: Parameters) -> Tensor:
        """Posterior means on the test grid."""
        chol, tests = self.matrices(p)[0], torch.from_numpy(self.tests)
        between = self.kernel(p, (tests[:, None] - self.lags).abs().flatten())[0].view(self.dims, len(tests), -1)
        u = p["u"].view((self.points,) * self.dims)
        return reduce(lambda v, j: along(torch.cholesky_solve(between[j].T, chol[j]).T, v, j), range(self.dims), u)


def toeplitz(first: Tensor) -> Tensor:
    """Symmetric Toeplitz matrices (d, n, n) of their first rows (d, n)."""
    d, n = first.shape
    rows = torch.cat([first.flip(1), first[:, 1:]], 1).repeat(1, n)  # read with a stride of one less, they shift
    return rows[:, n - 1 : n - 1 + n * (2 * n - 2)].view(d, n, 2 * n - 2)[:, :, :n]


def along(matrix: Tensor, values: Tensor, j: int) -> Tensor:
    """Product with a matrix (m, n) along dimension j of values on a grid."""
    return torch.tensordot(matrix, values, ([1], [j])).movedim(0, j)


@model(
    "pinn",
    "Iterative Study",
    "physics-informed network, with random Fourier features or without",
    examples=(
        Example("real-vector", {"points": 9, "width": 4, "iterations": 4}),
        Example("real-vector", {"points": 6, "wave": "plane", "width": 4, "iterations": 4, "deviations": (1.0, 5.0)}),
    ),
)
class PINN(WaveStudy):
    """A tanh network, fitted to the boundary at the grid's points and to the equation at as many drawn anew each time.

    Args:
        info, wave, drawn, points: as in `WaveStudy`.
        width, layers: of the hidden units.
        deviations: of random Fourier features' frequencies, in Hz, each for its share of `width` features; none: the
            coordinates, from -1 to 1.
        iterations, rate: of Adam; the rate falls to zero along a cosine.
        emphasis: weight of the boundary's mean squared error beside the equation's, which is relative to the source's
            mean square.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        width: PositiveInt = 64,
        layers: PositiveInt = 3,
        deviations: tuple[PositiveFloat, ...] = (),
        iterations: NonNegativeInt = 2000,
        rate: PositiveFloat = 1e-2,
        emphasis: PositiveFloat = 1.0,
        wave: Name = "sine",
        drawn: bool = True,
        points: PositiveInt = 64,
    ) -> None:
        super().__init__(info, wave=wave, drawn=drawn, points=points)
        self.width, self.layers, self.deviations = width, layers, deviations
        self.iterations, self.rate, self.emphasis = iterations, rate, emphasis

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        edge = mesh(self.grid, self.dims)[self.edge()]
        walls = torch.from_numpy(given["boundary"](edge))
        bases, net = self.initial(rng)
        optimiser = torch.optim.Adam([w.requires_grad_() for layer in net for w in layer], self.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, self.iterations))
        with torch.enable_grad():
            for _ in range(self.iterations):
                at = self.grid[-1] * rng.random((self.points**self.dims, self.dims))
                source = torch.from_numpy(given["source"](at))
                u, laplacian = self.forward(torch.from_numpy(np.concatenate([at, edge])), bases, net)
                inner, outer = u[: len(at)], u[len(at) :]
                residual = laplacian[: len(at)] + self.reacts * inner * (inner**2 - 1.0) - source
                loss = (residual**2).mean() / (source**2).mean() + self.emphasis * ((outer - walls) ** 2).mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
        with torch.no_grad():
            return {"prediction": self.forward(torch.from_numpy(mesh(self.tests, self.dims)), bases, net)[0]}

    def initial(self, rng: np.random.Generator) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Features' angular frequencies (d, width), and layers of weights (in, out), Glorot's, and offsets, zero."""
        each = np.resize(np.asarray(self.deviations or (0.0,)), self.width)
        bases = 2.0 * np.pi * each * rng.standard_normal((self.dims, self.width))
        sizes = [2 * self.width if self.deviations else self.dims, *[self.width] * self.layers, 1]
        net = []
        for n_in, n_out in pairwise(sizes):
            weights = rng.standard_normal((n_in, n_out)) * (2.0 / (n_in + n_out)) ** 0.5
            net.append((torch.from_numpy(weights), torch.zeros(n_out, dtype=torch.float64)))
        return torch.from_numpy(bases), net

    def forward(self, x: Tensor, bases: Tensor, net: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Values and Laplacians, (rows,), at x (rows, d): first and second derivatives go through layer by layer."""
        half = self.grid[-1] / 2.0
        h, first = x / half - 1.0, torch.eye(self.dims, dtype=x.dtype)[:, None].expand(-1, len(x), -1) / half
        second = torch.zeros_like(first)  # (d, rows, width)
        if self.deviations:
            turn, pace = x @ bases, bases[:, None]
            cosine, sine = torch.cos(turn), torch.sin(turn)
            h, first = torch.cat([cosine, sine], 1), torch.cat([-sine * pace, cosine * pace], 2)
            second = torch.cat([-cosine * pace**2, -sine * pace**2], 2)
        for i, (weights, offset) in enumerate(net):
            h, first, second = h @ weights + offset, first @ weights, second @ weights
            if i < len(net) - 1:
                h = torch.tanh(h)
                slope = 1.0 - h**2
                first, second = slope * first, slope * second - 2.0 * h * slope * first**2
        return h[:, 0], second[:, :, 0].sum(0)
