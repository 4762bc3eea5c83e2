"""Hierarchical latent trees (Tian et al. 2020, section 6): a binary variable at the root, and leaves that are seen.

A child equals its parent with probability (1 + rho) / 2, where rho is the polarity of the link; polarities have sizes
uniform on [lowest, 1] and fair signs, as in the authors' `simCLR_hltm.py`. Two views of a datum share the root and
nothing else: all other variables are drawn anew, which is the augmentation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from latentbench.declare import generator

Made = dict[str, np.ndarray]


@dataclass(frozen=True)
class Tree:
    """A complete tree.

    Attributes:
        polarities: of the links into each level, from below the root to the leaves; (nodes,) each.
        children: nodes below each node.
    """

    polarities: list[np.ndarray]
    children: int

    def draw(self, root: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        """Values of all levels for the given ones (N,) of the root, itself the first; (N, nodes) each, 0 or 1."""
        levels = [root[:, None]]
        for polarity in self.polarities:
            parent = np.repeat(levels[-1], self.children, axis=1)
            equal = rng.random(parent.shape) < (1 + polarity) / 2
            levels.append(np.where(equal, parent, 1 - parent))
        return levels

    def log_odds(self, leaves: np.ndarray) -> np.ndarray:
        """log P(root = 1 | leaves) - log P(root = 0 | leaves), (N,), of leaves (N, leaves), exactly.

        Upwards: with L the log-likelihood ratio of what is below a child, a link of polarity rho tells its parent
        2 artanh(rho tanh(L / 2)); what the children tell adds up, and the root is fair.
        """
        told = (2 * np.asarray(leaves, float) - 1) * self.polarities[-1]  # a leaf that is seen: tanh(L / 2) = +-1
        for polarity in self.polarities[-2::-1]:
            told = polarity * np.tanh(self._gathered(told) / 2)
        return self._gathered(told)[:, 0]

    def _gathered(self, told: np.ndarray) -> np.ndarray:
        """Log-likelihood ratios at the parents, (N, nodes / children), of what nodes (N, nodes) tell."""
        ratio = 2 * np.arctanh(np.clip(told, -1 + 1e-12, 1 - 1e-12))
        return ratio.reshape(len(ratio), -1, self.children).sum(2)


def make_tree(depth: int, children: int, lowest: float, structure_seed: int) -> Tree:
    """A tree of `depth` levels below its root, whose polarities come from `structure_seed` alone."""
    rng = np.random.default_rng(structure_seed)
    counts = [children**level for level in range(1, depth + 1)]
    return Tree([rng.uniform(lowest, 1.0, n) * rng.choice([-1.0, 1.0], n) for n in counts], children)


@generator("latent-tree")
def latent_tree(
    n: int, rng: np.random.Generator, depth: int, children: int, lowest: float, structure_seed: int
) -> Made:
    """x (n, 2, leaves) float32, two views of 0 and 1; factors (n, 1) int64, the root; latents (n, inner) int64.

    `latents` has the variables behind the first view that are no leaves, from the root downwards.
    """
    tree = make_tree(depth, children, lowest, structure_seed)
    root = rng.integers(0, 2, n)
    first, second = tree.draw(root, rng), tree.draw(root, rng)
    x = np.stack([first[-1], second[-1]], 1).astype(np.float32)
    return {"x": x, "factors": root[:, None].astype(np.int64), "latents": np.hstack(first[:-1]).astype(np.int64)}
