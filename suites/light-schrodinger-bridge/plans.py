"""Pairs of distributions whose entropic transport plan is known, after Gushchin et al. 2023 (mixtures).

The source is a standard normal, and the plan's adjusted potential is a mixture of Gaussians, so that the plan given a
point of the source is a mixture too. The target is whatever the plan pushes the source to: its samples are exact, its
density has no closed form. Transport is for the cost ‖x - y‖² / 2 with regularisation ε.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from latentbench.core.errors import UserError
from latentbench.declare import generator, oracle

Made = dict[str, np.ndarray]


@oracle("bridge")
class EntropicPlan:
    """π(y | x) = Σ_k w_k(x) N(y; r_k + S_k x, ε S_k), w_k(x) ∝ exp((xᵀ S_k x + 2 r_kᵀ x) / (2 ε)): Korotin et al. 2024,
    proposition 3.3, with equal weights α_k. It is optimal between its own marginals by the form of its density.

    Args:
        dims: D, of either side.
        components: K.
        epsilon: ε, in squared data units.
        radius: length of every r_k, whose directions are random.
        scales: least and greatest eigenvalue of S_k, drawn log-uniformly.
        rotated: turn each S_k at random; otherwise they are diagonal.
        structure_seed: of r and S.

    Attributes:
        centres: r, (K, D).
        matrices: S, (K, D, D).
    """

    entropy: float | None = None  # of the target: no closed form

    def __init__(
        self,
        dims: int,
        components: int,
        epsilon: float,
        radius: float,
        scales: tuple[float, float],
        rotated: bool,
        structure_seed: int,
    ) -> None:
        rng = np.random.default_rng(structure_seed)
        directions = rng.standard_normal((components, dims))
        self.epsilon = float(epsilon)
        self.centres = radius * directions / np.linalg.norm(directions, axis=1, keepdims=True)
        values = scales[0] * (scales[1] / scales[0]) ** rng.random((components, dims))
        turns = np.linalg.qr(rng.standard_normal((components, dims, dims)))[0] if rotated else np.eye(dims)
        self.matrices = (turns * values[:, None, :]) @ np.swapaxes(turns, -1, -2)
        self._factors = np.linalg.cholesky(self.matrices)

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        raise UserError("the target's density has no closed form", fix="measure conditional_bw2_uvp")

    def log_weights(self, x: np.ndarray) -> np.ndarray:
        """log w_k(x), (N, D) -> (N, K)."""
        quadratic = np.stack([((x @ s) * x).sum(1) for s in self.matrices], 1)
        raw = (quadratic / 2 + x @ self.centres.T) / self.epsilon
        raw -= raw.max(1, keepdims=True)
        return raw - np.log(np.exp(raw).sum(1, keepdims=True))

    def _means(self, x: np.ndarray) -> np.ndarray:
        """r_k + S_k x, (N, K, D)."""
        return self.centres + np.einsum("kij,nj->nki", self.matrices, x)

    def log_conditional(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """log π(y | x), (N, D) each -> (N,) nats."""
        x, y = np.asarray(x, float), np.asarray(y, float)
        white = np.linalg.solve(self._factors, np.moveaxis(y[:, None] - self._means(x), 0, -1))  # (K, D, N)
        log_det = np.log(np.diagonal(self._factors, axis1=1, axis2=2)).sum(1)
        dims = x.shape[1]
        log_n = -0.5 * (white**2).sum(1) / self.epsilon - log_det[:, None] - dims / 2 * np.log(2 * np.pi * self.epsilon)
        terms = self.log_weights(x) + log_n.T
        top = terms.max(1)
        return top + np.log(np.exp(terms - top[:, None]).sum(1))

    def conditional_moments(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (N, D) and covariance (N, D, D) of π(y | x)."""
        x = np.asarray(x, float)
        weights, means = np.exp(self.log_weights(x)), self._means(x)
        mean = np.einsum("nk,nki->ni", weights, means)
        apart = means - mean[:, None]
        within = self.epsilon * np.einsum("nk,kij->nij", weights, self.matrices)
        return mean, within + np.einsum("nk,nki,nkj->nij", weights, apart, apart, optimize=True)

    def sample_conditional(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One draw of π(y | x) a row, (N, D) -> (N, D) float64."""
        x = np.asarray(x, float)
        ladder = np.exp(self.log_weights(x)).cumsum(1)
        which = (rng.random((len(x), 1)) * ladder[:, -1:] > ladder).sum(1)
        noise = np.sqrt(self.epsilon) * rng.standard_normal(x.shape)
        y = np.empty_like(x)
        for k in np.unique(which):
            rows = which == k
            y[rows] = self.centres[k] + x[rows] @ self.matrices[k] + noise[rows] @ self._factors[k].T
        return y

    @cached_property
    def target_moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (D,) and covariance (D, D) of the target, from the conditional moments at 100,000 fixed draws of the
        source: a standard error of less than 1/200 of a standard deviation."""
        x = np.random.default_rng(0).standard_normal((100_000, self.centres.shape[1]))
        weights = np.exp(self.log_weights(x))
        second = self.epsilon * np.einsum("k,kij->ij", weights.mean(0), self.matrices)
        mean = np.zeros(x.shape[1])
        for k, (centre, matrix) in enumerate(zip(self.centres, self.matrices)):
            y = centre + x @ matrix
            mean += weights[:, k] @ y / len(x)
            second += (y * weights[:, k : k + 1]).T @ y / len(x)
        return mean, second - np.outer(mean, mean)


@generator("bridge")
def pairs(n: int, rng: np.random.Generator, dims: int, epsilon: float, **params: object) -> Made:
    """{"x": (n, 2, dims) float32}: x[:, 0] of the source and x[:, 1] of the target, drawn independently."""
    plan = EntropicPlan(dims=dims, epsilon=epsilon, **params)  # type: ignore[arg-type]
    source, other = rng.standard_normal((n, dims)), rng.standard_normal((n, dims))
    return {"x": np.stack([source, plan.sample_conditional(other, rng)], 1).astype(np.float32)}
