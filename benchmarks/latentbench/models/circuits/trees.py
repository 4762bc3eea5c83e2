"""Chow-Liu trees (Chow & Liu 1968), and sums over the hidden states of a tree of variables."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Generator, Tensor

from latentbench.core.errors import UserError

#: Entries of one-hot rows that are counted together, and of messages that a likelihood holds at once.
CHUNK = 1 << 25
#: Most variables times levels whose pairs are counted: half a GiB of float64.
CELLS = 8192
TINY = 1e-37
"""The floor under a probability whose logarithm is taken: above float32's denormals."""


def pair_counts(x: Tensor, levels: int) -> Tensor:
    """How often each pair of values comes together, (D, levels, D, levels) float64.

    Args:
        x: (N, D) integers 0 .. levels - 1, in any dtype.

    Raises:
        UserError: the table would have more than `CELLS` squared entries.
    """
    d = x.shape[1]
    if d * levels > CELLS:
        raise UserError(f"{d} variables of {levels} values are too many to count in pairs", fix="coarser or fewer ones")
    counts = torch.zeros(d * levels, d * levels, dtype=torch.float64, device=x.device)
    for rows in x.long().split(max(1, CHUNK // (d * levels))):
        hot = torch.nn.functional.one_hot(rows, levels).flatten(1).float()
        counts += (hot.T @ hot).double()  # whole numbers below 2^24 are exact in float32
    return counts.unflatten(0, (d, levels)).unflatten(2, (d, levels))


def mutual_information(counts: Tensor, smoothing: float) -> Tensor:
    """Of each pair of variables, (D, D) nats, from `pair_counts` with `smoothing` added to every cell of a pair."""
    levels = counts.shape[1]
    total = counts[0, :, 0].sum() + smoothing * levels**2
    joint = (counts + smoothing) / total
    rows, columns = joint.sum(3, keepdim=True), joint.sum(1, keepdim=True)
    return torch.where(joint > 0, joint * (joint / (rows * columns)).log(), 0.0).sum((1, 3))


def chow_liu(x: Tensor, levels: int, smoothing: float) -> Tensor:
    """The structure of the Chow-Liu tree of rows (N, D), as `maximum_spanning_tree` gives it.

    Values of more levels than can be counted are put into bins of equal width first.
    """
    bins = max(2, min(levels, CELLS // x.shape[1]))
    coarse = x if bins == levels else (x * (bins / levels)).floor()
    return maximum_spanning_tree(mutual_information(pair_counts(coarse, bins), smoothing))


def maximum_spanning_tree(weights: Tensor) -> Tensor:
    """The tree of the largest total weight, rooted where it is least deep, as a table (2, D) of int64.

    The first row holds the variables breadth first, the second the position of each one's parent in that order (-1
    for the root).
    """
    from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

    w = weights.double().cpu().numpy()
    if len(w) == 1:
        return torch.tensor([[0], [-1]])
    cost = w.max() - w + 1.0  # positive, because the sparse routine reads zero as no edge
    np.fill_diagonal(cost, 0.0)
    tree = minimum_spanning_tree(cost)
    end = breadth_first_order(tree, 0, directed=False)[0][-1]
    order, before = breadth_first_order(tree, end, directed=False)
    path = [order[-1]]
    while before[path[-1]] >= 0:
        path.append(before[path[-1]])
    order, before = breadth_first_order(tree, path[len(path) // 2], directed=False)
    position = np.empty(len(order), dtype=np.int64)
    position[order] = np.arange(len(order))
    parents = [-1, *position[before[order[1:]]]]
    return torch.tensor(np.stack([order, parents]), dtype=torch.int64)


class Tree:
    """A rooted tree of D variables with K states each, whose levels are computed side by side.

    Args:
        table: (2, D) as `maximum_spanning_tree` gives it.
    """

    def __init__(self, table: Tensor) -> None:
        self.variables = table[0].clone()
        parents = table[1].tolist()
        depth = [0]
        for parent in parents[1:]:
            depth.append(depth[parent] + 1)
        first = [depth.index(k) for k in range(depth[-1] + 1)] + [len(depth)]
        #: First and last position of each level, and which entry of the level above each one hangs on.
        self.levels: list[tuple[int, int, Tensor]] = []
        for k, (start, stop) in enumerate(pairwise(first)):
            above = first[k - 1] if k else 0
            self.levels.append((start, stop, torch.tensor([max(p, 0) - above for p in parents[start:stop]])))

    def __len__(self) -> int:
        return len(self.variables)

    def upward(self, leaves: Tensor, weights: Tensor) -> Tensor:
        """Sums out all states but the root's: (N, K) log p(x | root state).

        Args:
            leaves: (D, N, K) log p(x_i | z_i) of the variables in the tree's order.
            weights: (D - 1, K, K) p(z_i = column | parent's state = row), of all variables but the root.
        """
        received: Tensor | float = 0.0
        for k in range(len(self.levels) - 1, 0, -1):
            start, stop, parent = self.levels[k]
            value = leaves[start:stop] + received
            top = value.detach().amax(-1, keepdim=True)
            inside = (value - top).exp() @ weights[start - 1 : stop - 1].transpose(1, 2)
            message = inside.clamp_min(TINY).log() + top
            above = self.levels[k - 1][1] - self.levels[k - 1][0]
            empty = torch.zeros((above, *message.shape[1:]), dtype=message.dtype, device=message.device)
            received = empty.index_add(0, parent.to(message.device), message)
        return (leaves[:1] + received)[0]

    def sample(self, prior: Tensor, weights: Tensor, n: int, generator: Generator) -> Tensor:
        """(D, n) states in the tree's order, drawn from the root down; prior (K,)."""
        states = [torch.multinomial(prior, n, replacement=True, generator=generator)[None]]
        for start, stop, parent in self.levels[1:]:
            above = states[-1][parent.to(prior.device)]
            rows = weights[start - 1 : stop - 1].gather(1, above[..., None].expand(*above.shape, len(prior)))
            draws = torch.multinomial(rows.flatten(0, 1), 1, replacement=True, generator=generator)
            states.append(draws.view(above.shape))
        return torch.cat(states)

    def emit(self, leaves: Tensor, states: Tensor, generator: Generator) -> Tensor:
        """(n, D) values in the data's order, drawn from `leaves` (D, K, levels) at `states` (D, n)."""
        index = torch.arange(len(self), device=states.device)[:, None]
        p = leaves[index, states]
        drawn = torch.multinomial(p.flatten(0, 1), 1, replacement=True, generator=generator).view(states.shape)
        values = torch.empty_like(drawn)
        values[self.variables.to(drawn.device)] = drawn
        return values.T.float()
