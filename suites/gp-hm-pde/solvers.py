"""GP-HM (Fang et al. 2024, arXiv 2311.04465), a Gaussian process with a mixture spectrum, and networks.

Values u (n,) on the grid, kernel parameters and noise precisions maximise the joint density (the authors' poster and
model_GP_solver_1d.py; the paper's numbering is not known to us)

    log N(u | 0, K) + lambda_b log N(walls | u_b, 1 / tau_1) + log N(source | K'' K^-1 u + r u (u^2 - 1), 1 / tau_2)

with k(d) = sum_q w_q rho(scale_q d) cos(2 pi mu_q d), K'' = cov(u'', u): by the process's conditional mean, K'' K^-1 u
is the second derivative of the solution.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models.study import Arrays
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from .problems import Name, WaveStudy

JITTER = 1e-6
Parameters = dict[str, Tensor]


@model(
    "gp-hm",
    "Iterative Study",
    "Gaussian process solver with a Student-t or Gaussian mixture spectrum",
    examples=(
        Example("real-vector", {"points": 9, "components": 3, "iterations": 4, "scales": (1.0, 5.0), "trial": 2}),
        Example("real-vector", {"points": 6, "wave": "product", "components": 3, "iterations": 4, "newton": False}),
    ),
)
class GPHM(WaveStudy):
    """Maximises the joint density above; with one component at frequency zero it is a plain kernel's solver.

    Args:
        info, wave, drawn, points: as in `WaveStudy`.
        spectrum: rho is Matern 5/2 (a Student-t mixture as spectrum) or squared exponential (a Gaussian mixture).
        components, top: Q, and the largest of their evenly spaced frequencies at the start, in Hz.
        scales, variances: inverse length scales (exp(-scale d^2) where Gaussian) and sums of weights to start from.
            Where there are several, each pair is trained for `trial` iterations; that of the highest density goes on.
        newton: whether u is put at its optimum in each iteration (by least squares; a Gauss-Newton step where the
            equation is not linear); else Adam moves it with all else, as the authors do.
        iterations, rate: of Adam.
        emphasis: lambda_b.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        spectrum: Literal["student", "gaussian"] = "student",
        components: PositiveInt = 30,
        top: NonNegativeFloat = 20.0,
        scales: tuple[PositiveFloat, ...] = (1.0,),
        variances: tuple[PositiveFloat, ...] = (1.0,),
        trial: NonNegativeInt = 40,
        newton: bool = True,
        iterations: NonNegativeInt = 800,
        rate: PositiveFloat = 0.01,
        emphasis: PositiveFloat = 200.0,
        wave: Name = "sine",
        drawn: bool = True,
        points: PositiveInt = 64,
    ) -> None:
        super().__init__(info, wave=wave, drawn=drawn, points=points)
        self.spectrum, self.components, self.top = spectrum, components, top
        self.scales, self.variances, self.trial = scales, variances, trial
        self.newton, self.iterations, self.rate, self.emphasis = newton, iterations, rate, emphasis
        self.lags = torch.from_numpy(self.grid)
        self.apart = (torch.arange(points)[:, None] - torch.arange(points)).abs()

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        source, walls = torch.from_numpy(given["source"](self.grid)), torch.from_numpy(given["walls"])
        starts = [self.initial(scale, variance) for scale in self.scales for variance in self.variances]
        if len(starts) > 1:
            losses = [float(self.train(p, source, walls, self.trial)) for p in starts]
            starts = [starts[int(np.argmin(losses))]]
        p = starts[0]
        self.train(p, source, walls, self.iterations)
        with torch.no_grad():
            return {"prediction": self.predict(p), "weights": p["weights"].exp(), "frequencies": p["frequencies"]}

    def train(self, p: Parameters, source: Tensor, walls: Tensor, iterations: int) -> Tensor:
        """Move parameters, in place, and return the objective where they end."""
        moved = [value.requires_grad_() for name, value in p.items() if name != "u" or not self.newton]
        optimiser = torch.optim.Adam(moved, self.rate, foreach=False)
        with torch.enable_grad():
            for _ in range(iterations):
                self.settle(p, source, walls)
                optimiser.zero_grad()
                self.objective(p, source, walls).backward()
                optimiser.step()
        for value in p.values():
            value.requires_grad_(False)
        self.settle(p, source, walls)
        return self.objective(p, source, walls)

    def initial(self, scale: float = 1.0, variance: float = 1.0) -> Parameters:
        """Even weights, frequencies on a grid from 0, values zero (as in the authors' code, where the sum is 1)."""
        q, double = self.components, torch.float64
        return {
            "weights": torch.full((q,), np.log(variance / q), dtype=double),  # logarithms, as are scales and tau
            "scales": torch.full((q,), np.log(scale), dtype=double),
            "frequencies": torch.linspace(0.0, self.top, q, dtype=double),
            "tau": torch.zeros(2, dtype=double),  # of boundary and equation
            "u": torch.zeros(self.points, dtype=double),
        }

    def kernel(self, p: Parameters, lags: Tensor) -> tuple[Tensor, Tensor]:
        """k and its second derivative at lags (n,) >= 0, both (n,)."""
        d, scale = lags[:, None], p["scales"].exp()  # (n, 1), (Q,)
        if self.spectrum == "gaussian":
            rho = torch.exp(-scale * d**2)
            first, second = -2.0 * scale * d * rho, (4.0 * (scale * d) ** 2 - 2.0 * scale) * rho
        else:
            rate = 5**0.5 * scale
            decay, r = torch.exp(-rate * d), rate * d
            rho, first = (1.0 + r + r**2 / 3.0) * decay, -(rate**2) / 3.0 * d * (1.0 + r) * decay
            second = -(rate**2) / 3.0 * (1.0 + r - r**2) * decay
        omega = 2.0 * np.pi * p["frequencies"]
        cosine, sine, w = torch.cos(omega * d), torch.sin(omega * d), p["weights"].exp()
        curved = second * cosine - 2.0 * omega * first * sine - omega**2 * rho * cosine
        return (w * rho * cosine).sum(1), (w * curved).sum(1)

    def matrices(self, p: Parameters) -> tuple[Tensor, Tensor]:
        """Cholesky factor of K, and K'', both (n, n)."""
        k, curved = self.kernel(p, self.lags)
        return torch.linalg.cholesky(k[self.apart] + JITTER * torch.eye(self.points, dtype=k.dtype)), curved[self.apart]

    def settle(self, p: Parameters, source: Tensor, walls: Tensor) -> None:
        """Put u where `objective` is least, all else fixed: least squares in z, u = L z, about the present u."""
        if not self.newton:
            return
        with torch.no_grad():
            chol, curved = self.matrices(p)
            bent = torch.linalg.solve_triangular(chol, curved, upper=False).mT  # K'' L^-T
            slope = self.reacts * (3.0 * p["u"] ** 2 - 1.0)
            equation, wall = (0.5 * p["tau"][1]).exp(), (0.5 * p["tau"][0]).exp() * self.emphasis**0.5
            eye = torch.eye(self.points, dtype=chol.dtype)
            rows = torch.cat([eye, equation * (bent + slope[:, None] * chol), wall * chol[[0, -1]]])
            right = torch.cat([0.0 * source, equation * (source + self.reacts * 2.0 * p["u"] ** 3), wall * walls])
            # rows have full rank by their identity; the default driver's pivots would not give the same bits twice
            p["u"] = chol @ torch.linalg.lstsq(rows, right, driver="gels").solution

    def objective(self, p: Parameters, source: Tensor, walls: Tensor) -> Tensor:
        """Negative logarithm of the joint density, up to a constant."""
        (chol, curved), u = self.matrices(p), p["u"]
        solved = torch.cholesky_solve(u[:, None], chol)[:, 0]
        prior = chol.diagonal().log().sum() + 0.5 * (u @ solved)
        residual = curved @ solved + self.reacts * u * (u**2 - 1.0) - source
        wall = 0.5 * (2.0 * p["tau"][0] - p["tau"][0].exp() * ((u[[0, -1]] - walls) ** 2).sum())
        equation = 0.5 * (len(u) * p["tau"][1] - p["tau"][1].exp() * (residual**2).sum())
        return prior - self.emphasis * wall - equation

    def predict(self, p: Parameters) -> Tensor:
        """Conditional means at the test points."""
        between = self.kernel(p, (torch.from_numpy(self.tests)[:, None] - self.lags).abs().flatten())[0]
        return between.view(-1, self.points) @ torch.cholesky_solve(p["u"][:, None], self.matrices(p)[0])[:, 0]


@model(
    "pinn",
    "Iterative Study",
    "physics-informed network, with random Fourier features or without",
    examples=(
        Example("real-vector", {"points": 9, "width": 4, "iterations": 4}),
        Example("real-vector", {"points": 6, "wave": "product", "width": 4, "iterations": 4, "deviations": (1.0, 5.0)}),
    ),
)
class PINN(WaveStudy):
    """A tanh network, fitted to the values at both ends and to the equation at n points drawn anew each time.

    Args:
        info, wave, drawn, points: as in `WaveStudy`.
        width, layers: of the hidden units.
        deviations: of random Fourier features' frequencies, in Hz, each for its share of `width` features; none: the
            coordinate, from -1 to 1.
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
        ends, walls = self.grid[[0, -1]], torch.from_numpy(given["walls"])
        bases, net = self.initial(rng)
        optimiser = torch.optim.Adam([w.requires_grad_() for layer in net for w in layer], self.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, self.iterations))
        with torch.enable_grad():
            for _ in range(self.iterations):
                at = self.grid[-1] * rng.random(self.points)
                source = torch.from_numpy(given["source"](at))
                u, curved = self.forward(torch.from_numpy(np.concatenate([at, ends])), bases, net)
                inner, outer = u[:-2], u[-2:]
                residual = curved[:-2] + self.reacts * inner * (inner**2 - 1.0) - source
                loss = (residual**2).mean() / (source**2).mean() + self.emphasis * ((outer - walls) ** 2).mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
        with torch.no_grad():
            return {"prediction": self.forward(torch.from_numpy(self.tests), bases, net)[0]}

    def initial(self, rng: np.random.Generator) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Features' angular frequencies (width,), and layers of weights (in, out), Glorot's, and offsets, zero."""
        each = np.resize(np.asarray(self.deviations or (0.0,)), self.width)
        bases = 2.0 * np.pi * each * rng.standard_normal(self.width)
        sizes = [2 * self.width if self.deviations else 1, *[self.width] * self.layers, 1]
        net = []
        for n_in, n_out in pairwise(sizes):
            weights = rng.standard_normal((n_in, n_out)) * (2.0 / (n_in + n_out)) ** 0.5
            net.append((torch.from_numpy(weights), torch.zeros(n_out, dtype=torch.float64)))
        return torch.from_numpy(bases), net

    def forward(self, x: Tensor, bases: Tensor, net: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """u and u'', (rows,), at x (rows,): first and second derivatives go through layer by layer."""
        half = self.grid[-1] / 2.0
        h, first = x[:, None] / half - 1.0, torch.full((len(x), 1), 1.0 / half, dtype=x.dtype)
        second = torch.zeros_like(first)  # (rows, width)
        if self.deviations:
            cosine, sine = torch.cos(x[:, None] * bases), torch.sin(x[:, None] * bases)
            h, first = torch.cat([cosine, sine], 1), torch.cat([-sine * bases, cosine * bases], 1)
            second = torch.cat([-cosine * bases**2, -sine * bases**2], 1)
        for i, (weights, offset) in enumerate(net):
            h, first, second = h @ weights + offset, first @ weights, second @ weights
            if i < len(net) - 1:
                h = torch.tanh(h)
                slope = 1.0 - h**2
                first, second = slope * first, slope * second - 2.0 * h * slope * first**2
        return h[:, 0], second[:, 0]
