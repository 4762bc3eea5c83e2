"""Random structural causal models and stochastic block models, with the structure that made them."""

from __future__ import annotations

import math

import numpy as np

from latentbench.data.columns import Ragged
from latentbench.declare import generator, oracle

Made = dict[str, np.ndarray | Ragged]


@oracle("causal-model")
class CausalModel:
    """Additive-noise model on a random acyclic graph: x_j = f_j(parents) + noise_j * e_j, e ~ N(0, 1).

    f_j is linear, or the sum over parents of w * tanh(x) with `nonlinear`. Variables stand in an order in which causes
    come first. Serves as the oracle: the map from noise to x is triangular with unit diagonal, so the entropy is that
    of the noise, whatever f.

    Attributes:
        weights: (variables, variables); weights[j, i] is that of cause i in effect j, 0 without an edge.
        noise: (variables,) standard deviations.
    """

    def __init__(self, variables: int, degree: float, nonlinear: bool, structure_seed: int) -> None:
        rng = np.random.default_rng(structure_seed)
        lower = np.tril(np.ones((variables, variables)), -1)
        present = (rng.random((variables, variables)) < min(1.0, degree / max(variables - 1, 1))) * lower
        strength = rng.uniform(0.5, 1.5, (variables, variables)) * rng.choice([-1, 1], (variables, variables))
        self.weights = present * strength
        self.noise = rng.uniform(0.5, 1.0, variables)
        self.nonlinear = nonlinear

    @property
    def entropy(self) -> float:
        return float(np.log(self.noise).sum()) + len(self.noise) / 2 * (1 + math.log(2 * math.pi))

    def _mean(self, x: np.ndarray, j: int) -> np.ndarray:
        causes = x[:, :j]
        mean: np.ndarray = (np.tanh(causes) if self.nonlinear else causes) @ self.weights[j, :j]
        return mean

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """(n, variables) float64."""
        x = rng.standard_normal((n, len(self.noise))) * self.noise
        for j in range(1, len(self.noise)):
            x[:, j] += self._mean(x, j)
        return x

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """(N, variables) -> (N,) nats."""
        x = np.asarray(x, float)
        total = np.zeros(len(x))
        for j, noise in enumerate(self.noise):
            residual = (x[:, j] - self._mean(x, j)) / noise
            total -= 0.5 * residual**2 + math.log(noise) + 0.5 * math.log(2 * math.pi)
        return total


@generator("causal-model")
def causal(
    n: int,
    rng: np.random.Generator,
    variables: int,
    degree: float,
    nonlinear: bool,
    structure_seed: int,
    structure: bool = False,
) -> Made:
    """{"x": (n, variables) float32}; with `structure` {"weights": (n, variables) float32}, a row an effect."""
    model = CausalModel(variables, degree, nonlinear, structure_seed)
    if structure:
        return {"weights": model.weights[:n].astype(np.float32)}
    return {"x": model.sample(n, rng).astype(np.float32)}


@generator("block-graphs")
def block_graphs(n: int, rng: np.random.Generator, nodes: int, blocks: int, within: float, between: float) -> Made:
    """n graphs of `nodes` nodes in `blocks` communities (Holland et al. 1983): an edge within a block has probability
    `within`, one between blocks `between`.

    {"edges": ragged (E, 2) int32 with the lower node first, "block": (n, nodes) int64}.
    """
    low, high = np.triu_indices(nodes, 1)
    block = rng.integers(blocks, size=(n, nodes))
    graphs = []
    for members in block:
        chance = np.where(members[low] == members[high], within, between)
        drawn = rng.random(len(low)) < chance
        graphs.append(np.column_stack([low[drawn], high[drawn]]))
    return {"edges": Ragged.of(graphs, np.int32, (2,)), "block": block.astype(np.int64)}
