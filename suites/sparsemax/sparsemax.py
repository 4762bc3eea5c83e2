"""Sparsemax and its loss (Martins & Astudillo 2016, arXiv 1602.02068), in numpy.

sparsemax(z) is the point of the simplex that is nearest to z: max(z - tau, 0), where tau makes it sum to 1.
Its loss is that whose gradient is sparsemax(z) - q, as that of the logistic loss is softmax(z) - q.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: Scores (N, K) and target proportions (N, K) to losses (N,) and predicted proportions (N, K).
Loss = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def threshold(z: np.ndarray) -> np.ndarray:
    """tau(z), (N, 1) for scores (N, K)."""
    ordered = -np.sort(-z, axis=1)
    excess = np.cumsum(ordered, axis=1) - 1
    support = (ordered * np.arange(1, z.shape[1] + 1) > excess).sum(1, keepdims=True)
    tau: np.ndarray = np.take_along_axis(excess, support - 1, axis=1) / support
    return tau


def sparsemax(z: np.ndarray) -> np.ndarray:
    """The nearest points of the simplex, (N, K)."""
    return np.maximum(z - threshold(z), 0.0)


def softmax(z: np.ndarray) -> np.ndarray:
    """(N, K)."""
    e = np.exp(z - z.max(1, keepdims=True))
    out: np.ndarray = e / e.sum(1, keepdims=True)
    return out


def sparsemax_loss(z: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-q.z + 1/2 sum_{j in S(z)} (z_j^2 - tau^2) + 1/2 |q|^2, not negative, 0 where sparsemax(z) = q."""
    tau = threshold(z)
    inside = np.where(z > tau, z**2 - tau**2, 0.0).sum(1)
    return -(q * z).sum(1) + 0.5 * inside + 0.5 * (q**2).sum(1), np.maximum(z - tau, 0.0)


def logistic_loss(z: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """KL(q || softmax(z)) without the entropy of q: -q.z + log sum exp z."""
    top = z.max(1)
    return -(q * z).sum(1) + top + np.log(np.exp(z - top[:, None]).sum(1)), softmax(z)


def fitted(x: np.ndarray, q: np.ndarray, loss: Loss, decay: float) -> np.ndarray:
    """Weights (D + 1, K), the intercepts first, of the least mean loss + decay / 2 times their squares, by L-BFGS.

    Args:
        x, q: (N, D) features and (N, K) proportions.
        loss: of scores.
        decay: weight of the squares, of which the intercepts' are none.
    """
    from scipy.optimize import minimize

    inputs = np.column_stack([np.ones(len(x)), x])
    shape = (inputs.shape[1], q.shape[1])
    free = (np.arange(shape[0]) > 0)[:, None]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(shape)
        losses, predicted = loss(inputs @ weights, q)
        gradient = inputs.T @ (predicted - q) / len(x) + decay * free * weights
        return float(losses.mean() + 0.5 * decay * np.square(free * weights).sum()), gradient.ravel()

    options = {"maxiter": 1000, "maxfun": 2000, "ftol": 1e-10, "gtol": 1e-7}
    found: np.ndarray = minimize(objective, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=options).x
    return found.reshape(shape)
