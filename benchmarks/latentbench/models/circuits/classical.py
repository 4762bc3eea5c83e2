"""The classical rows of density estimation on binary data: the Chow-Liu tree and a LearnSPN-style circuit."""

from __future__ import annotations

import torch
from pydantic import PositiveFloat
from torch import Generator, Tensor

from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.baselines import Fitted
from latentbench.models.circuits.trees import maximum_spanning_tree, mutual_information, pair_counts


@model(
    "chow-liu-tree",
    "Fittable ExactLikelihood Sampler",
    "the tree-shaped distribution nearest to binary or discrete data",
    examples=(Example("discrete-vector"),),
)
class ChowLiuTree(Fitted):
    """The tree-shaped distribution nearest to the data's (Chow & Liu 1968), for binary or discrete data.

    Args:
        smoothing: added to each count of a pair of values.
    """

    structure: Tensor
    log_p: Tensor

    def __init__(self, info: DataInfo, *, smoothing: PositiveFloat = 0.01) -> None:
        checks.support("ChowLiuTree", info, "binary", "discrete")
        super().__init__(info)
        self.smoothing = checks.number("smoothing", smoothing, above=True)
        self.levels = 2 if info.support == "binary" else info.levels or 0
        self.register_buffer("structure", torch.zeros(2, self.dims, dtype=torch.int64))
        self._buffer("log_p", self.dims, self.levels, self.levels)  # of the tree's order: parent's value, own value

    def fit(self, x: Tensor, generator: Generator) -> None:
        counts = pair_counts(self._rows(x), self.levels)
        self.structure.copy_(maximum_spanning_tree(mutual_information(counts, self.smoothing)))
        variables, parents = self.structure
        pairs = counts[variables[parents.clamp_min(0)], :, variables] + self.smoothing
        pairs[0] = pairs[0].sum(0)  # the root has no parent: every row holds its marginal
        self.log_p.copy_((pairs / pairs.sum(-1, keepdim=True)).log())
        self.fitted.fill_(True)

    def log_prob(self, x: Tensor) -> Tensor:
        variables, parents = self.structure
        own = self._rows(x).long()[:, variables]
        above = own[:, parents.clamp_min(0)]
        return self._answered(self.log_p[torch.arange(self.dims, device=own.device), above, own].sum(-1))

    def sample(self, n: int, generator: Generator) -> Tensor:
        variables, parents = self.structure
        own = torch.zeros(n, self.dims, dtype=torch.int64, device=self.log_p.device)
        for i, parent in enumerate(parents.tolist()):
            rows = self.log_p[i].exp()[own[:, max(parent, 0)]]
            own[:, i] = torch.multinomial(rows, 1, generator=generator)[:, 0]
        out = torch.empty_like(own)
        out[:, variables] = own
        return self._shaped(out.double())
