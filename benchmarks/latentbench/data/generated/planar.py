"""Densities on the plane, of the kinds used by Grathwohl et al. (FFJORD, 2019) and many flow papers, with our own
parameters as given below. Each comes with its exact density where it has a tractable one.

Every ``generate``-like function takes ``(n, rng, **params)`` and returns ``{"x": (n, 2) float32}``; the class of the
same kind takes the same params. Points that are drawn take sines and exponentials of `elementary`, whose bits are the
same everywhere; densities take numpy's.
"""

from __future__ import annotations

import math

import numpy as np

from latentbench.data.generated.elementary import cosine, exponential, sine
from latentbench.data.generated.oracles import Cells, PlanarMixture, along_curve
from latentbench.declare import generator, oracle

Made = dict[str, np.ndarray]


def _noisy(points: np.ndarray, noise: float, rng: np.random.Generator) -> Made:
    drawn = rng.standard_normal(points.shape, dtype=np.float32)
    drawn *= noise
    drawn += points
    return {"x": drawn}


def _column_stack(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    out = np.empty((len(u), 2), np.float32)
    out[:, 0], out[:, 1] = u, v
    return out


def _circle(k: int, radius: float) -> np.ndarray:
    angle = 2 * np.pi * np.arange(k) / k
    return radius * np.column_stack([np.cos(angle), np.sin(angle)])


@generator("eight-gaussians")
def eight_gaussians(n: int, rng: np.random.Generator, radius: float, noise: float) -> Made:
    """Eight equally weighted round Gaussians on a circle of `radius`, standard deviation `noise`."""
    centres = _circle(8, radius).astype(np.float32)
    return _noisy(centres[rng.integers(8, size=n, dtype=np.int8)], noise, rng)


@oracle("eight-gaussians")
def eight_gaussians_oracle(radius: float, noise: float) -> PlanarMixture:
    return PlanarMixture(np.full(8, 1 / 8), _circle(8, radius), noise**2 * np.eye(2))


def _moon(t: np.ndarray, second: np.ndarray | bool, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Two interleaved half circles of radius `scale`, t in [0, pi], centred on their common centre of symmetry."""
    u, v = np.cos(t) - 0.5, np.sin(t) - 0.25
    sign = np.where(second, np.float32(-scale), np.float32(scale))
    return sign * u, sign * v


@generator("two-moons")
def two_moons(n: int, rng: np.random.Generator, scale: float, noise: float) -> Made:
    """Two interleaved half circles with Gaussian noise; as scikit-learn's, centred and scaled."""
    t = rng.random(n, dtype=np.float32) * np.float32(np.pi)
    sign = np.where(rng.integers(2, size=n, dtype=np.int8) == 1, np.float32(-scale), np.float32(scale))
    return _noisy(_column_stack(sign * (cosine(t) - 0.5), sign * (sine(t) - 0.25)), noise, rng)


@oracle("two-moons")
def two_moons_oracle(scale: float, noise: float) -> PlanarMixture:
    node, weight = np.polynomial.legendre.leggauss(32 + int(2 * math.pi * scale / noise))
    t = (node + 1) * np.pi / 2
    points = np.concatenate([np.column_stack(_moon(t, second, scale)) for second in (False, True)])
    return along_curve(points, np.tile(weight, 2), noise)


def _corners(cells: int, side: float) -> np.ndarray:
    half = cells * side / 2
    return np.array(
        [(i * side - half, j * side - half) for i in range(cells) for j in range(cells) if (i + j) % 2 == 0]
    )


@generator("checkerboard")
def checkerboard(n: int, rng: np.random.Generator, cells: int, side: float) -> Made:
    """Uniform on the dark squares of a `cells` x `cells` board of squares of side `side`, centred on the origin."""
    corners = _corners(cells, side).astype(np.float32)
    x = rng.random((n, 2), dtype=np.float32) * np.float32(side)
    x += corners[rng.integers(len(corners), size=n, dtype=np.int16)]
    return {"x": x}


@oracle("checkerboard")
def checkerboard_oracle(cells: int, side: float) -> Cells:
    return Cells(_corners(cells, side), side)


def _spiral(t: np.ndarray, second: np.ndarray | bool, turns: float, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Two arms of an Archimedean spiral, t in [0, 1] along each, of `turns` turns out to `radius`."""
    r = np.where(second, np.float32(-radius), np.float32(radius)) * t
    angle = np.float32(2 * np.pi * turns) * t
    return r * np.cos(angle), r * np.sin(angle)


@generator("two-spirals")
def two_spirals(n: int, rng: np.random.Generator, turns: float, radius: float, noise: float) -> Made:
    """Two spiral arms, the place along an arm drawn as the root of a uniform, so nearly evenly in length."""
    t = np.sqrt(rng.random(n, dtype=np.float32))
    second = rng.integers(2, size=n, dtype=np.int8) == 1
    r = np.where(second, np.float32(-radius), np.float32(radius)) * t
    angle = np.float32(2 * np.pi * turns) * t
    return _noisy(_column_stack(r * cosine(angle), r * sine(angle)), noise, rng)


@oracle("two-spirals")
def two_spirals_oracle(turns: float, radius: float, noise: float) -> PlanarMixture:
    node, weight = np.polynomial.legendre.leggauss(32 + int(2 * math.pi * turns * radius / noise))
    t = (node + 1) / 2
    points = np.concatenate([np.column_stack(_spiral(t, second, turns, radius)) for second in (False, True)])
    return along_curve(points, np.tile(weight * t, 2), noise)  # t = sqrt(u) has density 2 t


@generator("rings")
def rings(n: int, rng: np.random.Generator, radii: list[float], noise: float) -> Made:
    """Concentric circles, equally weighted, with Gaussian noise."""
    angle = rng.random(n, dtype=np.float32) * np.float32(2 * np.pi)
    r = np.asarray(radii, np.float32)[rng.integers(len(radii), size=n, dtype=np.int8)]
    return _noisy(_column_stack(r * cosine(angle), r * sine(angle)), noise, rng)


@oracle("rings")
def rings_oracle(radii: list[float], noise: float) -> PlanarMixture:
    nodes = [32 + int(1.5 * 2 * math.pi * r / noise) for r in radii]  # periodic: 1.5 nodes a standard deviation do
    points = np.concatenate([_circle(k, r) for k, r in zip(nodes, radii)])
    return along_curve(points, np.concatenate([np.full(k, 1 / k) for k in nodes]), noise)


@generator("pinwheel")
def pinwheel(
    n: int, rng: np.random.Generator, arms: int, radial: float, tangential: float, rate: float, scale: float
) -> Made:
    """Gaussian blobs of standard deviations `radial`, `tangential` around (1, 0), twisted by `rate` times the
    exponential of their first coordinate and turned into `arms` arms (Johnson et al. 2016)."""
    z = rng.standard_normal((n, 2), dtype=np.float32)
    u, v = 1 + np.float32(radial) * z[:, 0], np.float32(tangential) * z[:, 1]
    arm = rng.integers(arms, size=n, dtype=np.int8)
    angle = arm * np.float32(2 * np.pi / arms) + np.float32(rate) * exponential(u)
    cos, sin = np.float32(scale) * cosine(angle), np.float32(scale) * sine(angle)
    return {"x": _column_stack(cos * u - sin * v, sin * u + cos * v)}
