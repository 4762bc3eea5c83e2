"""Hidden Chow-Liu trees (Liu & Van den Broeck 2021, arXiv 2106.02264): each variable hangs on a hidden one of K states,
and the hidden ones form the Chow-Liu tree of the data. The sum over all states is exact.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from pydantic import NonNegativeFloat
from torch import Generator, Tensor, nn

from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.models import checks
from latentbench.models.circuits.em import Tables
from latentbench.models.circuits.trees import CHUNK, TINY, Tree, chow_liu


class LatentTree(nn.Module):
    """What circuits over a hidden Chow-Liu tree share; subclasses say where the probabilities come from.

    log p(x) = log sum_z p(z_root) prod_i p(z_i | z_parent(i)) p(x_i | z_i)

    Args:
        info: binary or discrete data.
        states: number of states K of each hidden variable.
        smoothing: added to each count behind the tree's mutual information.
    """

    structure: Tensor

    def __init__(self, info: DataInfo, *, states: Annotated[int, Ge(2)], smoothing: NonNegativeFloat) -> None:
        super().__init__()
        checks.support(type(self).__name__, info, "binary", "discrete")
        self.shape, self.dims = tuple(info.shape), info.dims
        self.levels = 2 if info.support == "binary" else info.levels or 0
        self.states = checks.whole("states", states, 2)
        self.smoothing = checks.number("smoothing", smoothing)
        self.register_buffer("structure", torch.full((2, self.dims), -1))
        self.tree: Tree | None = None
        self.register_load_state_dict_post_hook(lambda module, _: module._grow())

    def _grow(self) -> None:
        self.tree = None if bool((self.structure[0] < 0).any()) else Tree(self.structure.cpu())

    def prepare(self, x: Tensor, generator: Generator) -> None:
        """Learns the tree from the whole training set (N, *shape)."""
        self.structure.copy_(chow_liu(self._rows(x), self.levels, self.smoothing))
        self._grow()

    def tables(self) -> Tables:
        """Probabilities, each normalised over its last axis: prior (K,), weights (D - 1, K, K), leaves (D, K, levels).

        Rows of `weights` are the parent's states. Variables stand in the tree's order.
        """
        raise NotImplementedError

    def _rows(self, x: Tensor) -> Tensor:
        if tuple(x.shape[1:]) != self.shape:
            raise UserError(f"samples of shape {tuple(x.shape[1:])} for a model of {self.shape}")
        return x.flatten(1)

    def _known(self) -> Tree:
        if self.tree is None:
            raise UserError(f"{type(self).__name__} has no tree yet", fix="call prepare(x) with the training set first")
        return self.tree

    def evaluate(self, rows: Tensor, tables: Tables) -> Tensor:
        """(N,) nats of rows (N, D)."""
        tree = self._known()
        log_leaves = tables["leaves"].clamp_min(TINY).log()
        values = rows.T[tree.variables.to(rows.device)]
        if self.levels == 2:
            off, on = log_leaves[:, None, :, 0], log_leaves[:, None, :, 1]
            leaves = off + values[..., None] * (on - off)
        else:
            index = torch.arange(len(tree), device=rows.device)[:, None]
            leaves = log_leaves.transpose(1, 2)[index, values.long()]
        root = tree.upward(leaves, tables["weights"])
        return (root + tables["prior"].clamp_min(TINY).log()).logsumexp(-1)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The negative log-likelihood, nats per sample."""
        return {"loss": -self.evaluate(self._rows(batch.x), self.tables()).mean()}

    def log_prob(self, x: Tensor) -> Tensor:
        rows, tables = self._rows(x), self.tables()
        size = max(1, CHUNK // (self.dims * self.states))
        return torch.cat([self.evaluate(part, tables) for part in rows.split(size)])

    def sample(self, n: int, generator: Generator) -> Tensor:
        tree, tables = self._known(), self.tables()
        states = tree.sample(tables["prior"], tables["weights"], n, generator)
        return tree.emit(tables["leaves"], states, generator).reshape(n, *self.shape)


def simplex(*shape: int) -> Tensor:
    """Uniform draws from the simplex along the last axis, from torch's global generator."""
    e = torch.empty(shape).exponential_().clamp_min(1e-6)
    return e / e.sum(-1, keepdim=True)
