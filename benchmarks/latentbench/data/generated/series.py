"""Generated time series: a hidden Markov chain, the Lorenz system, a pendulum, spike trains. All seeded, x first."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from latentbench.declare import generator, oracle

Made = dict[str, np.ndarray]


@oracle("hidden-markov")
class HiddenMarkov:
    """A chain on a ring of `states`: it stays with probability `stay`, else steps to either neighbour; in state k it
    emits a point of the plane around place k of a circle of `radius`, with standard deviation `noise`.

    Serves as the oracle of sequences (N, length, 2).
    """

    entropy: float | None = None  # has no closed form

    def __init__(self, length: int, states: int, stay: float, radius: float, noise: float) -> None:
        angle = 2 * np.pi * np.arange(states) / states
        self.length, self.noise = length, noise
        self.places = radius * np.column_stack([np.cos(angle), np.sin(angle)])
        ring = np.eye(states)
        self.transition = stay * ring + (1 - stay) / 2 * (np.roll(ring, 1, 1) + np.roll(ring, -1, 1))
        self.start = np.full(states, 1 / states)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """x (n, length, 2) float64 and states (n, length) int64."""
        path = np.empty((n, self.length), np.int64)
        path[:, 0] = rng.integers(len(self.start), size=n)
        ladder = self.transition.cumsum(axis=1)
        for t in range(1, self.length):
            path[:, t] = (rng.random(n)[:, None] > ladder[path[:, t - 1]]).sum(axis=1)
        return self.places[path] + self.noise * rng.standard_normal((n, self.length, 2)), path

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """(N, length, 2) -> (N,) nats, by the forward recursion (Rabiner 1989, section III.A)."""
        x = np.asarray(x, float)
        squares = ((x[:, :, None] - self.places) ** 2).sum(-1)
        emission = -0.5 * squares / self.noise**2 - math.log(2 * math.pi * self.noise**2)
        total = np.zeros(len(x))
        belief = np.broadcast_to(self.start, (len(x), len(self.start)))
        for t in range(x.shape[1]):
            top = emission[:, t].max(axis=1)
            joint = belief * np.exp(emission[:, t] - top[:, None])
            scale = joint.sum(axis=1)
            total += top + np.log(scale)
            belief = (joint / scale[:, None]) @ self.transition
        return total


@generator("hidden-markov")
def hidden_markov(
    n: int, rng: np.random.Generator, length: int, states: int, stay: float, radius: float, noise: float
) -> Made:
    """{"x": (n, length, 2) float32, "states": (n, length) int64}."""
    x, path = HiddenMarkov(length, states, stay, radius, noise).sample(n, rng)
    return {"x": x.astype(np.float32), "states": path}


def _runge_kutta(
    slope: Callable[[np.ndarray], np.ndarray], start: np.ndarray, length: int, dt: float, inner: int
) -> np.ndarray:
    """(N, D) start -> (N, length, D): the classical fourth-order rule, `inner` steps between samples `dt` apart."""
    out = np.empty((len(start), length, start.shape[1]))
    state, h = start, dt / inner
    for t in range(length):
        out[:, t] = state
        for _ in range(inner):
            a = slope(state)
            b = slope(state + h / 2 * a)
            c = slope(state + h / 2 * b)
            d = slope(state + h * c)
            state = state + h / 6 * (a + 2 * b + 2 * c + d)
    return out


def _lorenz_slope(s: np.ndarray) -> np.ndarray:
    """Lorenz (1963) with sigma 10, rho 28, beta 8/3."""
    x, y, z = s.T
    return np.column_stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])


@generator("lorenz")
def lorenz(n: int, rng: np.random.Generator, length: int, dt: float, noise: float) -> Made:
    """{"x": (n, length, 3) float32 noisy, "clean": without noise}; starts lie on the attractor (10 time units in)."""
    start = np.array([0.0, 1.0, 25.0]) + rng.standard_normal((n, 3))
    start = _runge_kutta(_lorenz_slope, start, 2, 10.0, 1000)[:, 1]
    clean = _runge_kutta(_lorenz_slope, start, length, dt, max(1, round(dt / 0.01)))
    return {
        "x": (clean + noise * rng.standard_normal(clean.shape)).astype(np.float32),
        "clean": clean.astype(np.float32),
    }


@generator("pendulum")
def pendulum(n: int, rng: np.random.Generator, length: int, dt: float, damping: float, noise: float) -> Made:
    """A pendulum of unit frequency, started at up to 3/4 of a half turn with up to unit speed.

    {"x": (n, length, 2) float32 noisy (sin, cos) of the angle, "state": (n, length, 2) angle and its rate}.
    """

    def slope(s: np.ndarray) -> np.ndarray:
        return np.column_stack([s[:, 1], -np.sin(s[:, 0]) - damping * s[:, 1]])

    start = np.column_stack([rng.uniform(-0.75, 0.75, n) * np.pi, rng.uniform(-1, 1, n)])
    state = _runge_kutta(slope, start, length, dt, max(1, round(dt / 0.02)))
    seen = np.stack([np.sin(state[..., 0]), np.cos(state[..., 0])], axis=-1)
    return {"x": (seen + noise * rng.standard_normal(seen.shape)).astype(np.float32), "state": state.astype(np.float32)}


@generator("spikes")
def spikes(
    n: int, rng: np.random.Generator, length: int, neurons: int, rate: float, depth: float, structure_seed: int
) -> Made:
    """Poisson spike counts of neurons driven by a rotation in the plane whose phase and speed differ from trial to
    trial: log-rates are log(`rate`) plus `depth` times the projection of the latent onto each neuron's direction.

    {"x": (n, length, neurons) uint8 counts, "rates": their means, "z": (n, length, 2) the latent}.
    """
    angle = np.random.default_rng(structure_seed).uniform(0, 2 * np.pi, neurons)
    phase, speed = rng.uniform(0, 2 * np.pi, n), rng.uniform(1, 3, n)
    turn = phase[:, None] + speed[:, None] * 2 * np.pi * np.arange(length) / length
    z = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    rates = rate * np.exp(depth * z @ np.stack([np.cos(angle), np.sin(angle)]))
    counts = np.minimum(rng.poisson(rates), 255).astype(np.uint8)
    return {"x": counts, "rates": rates.astype(np.float32), "z": z.astype(np.float32)}
