"""A LearnSPN-style circuit: a classical row of density estimation on binary data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.baselines import Fitted
from latentbench.models.circuits.trees import mutual_information, pair_counts
from latentbench.models.mixtures import seed_from
from pydantic import PositiveFloat
from torch import Generator, Tensor, nn

SUM, PRODUCT, LEAF = 0, 1, 2


@model(
    "learnspn",
    "Fittable ExactLikelihood Sampler",
    "sum-product network grown by independence tests and clustering, for binary data",
    examples=(Example("binary-vector", {"min_rows": 5}),),
)
class LearnSPN(Fitted):
    """A sum-product network grown top down, after Gens & Domingos 2013 ("LearnSPN"), for binary data.

    A block of rows and variables is split into groups of variables that a pairwise G-test finds independent (a
    product), else into two clusters of rows by k-means (a sum); blocks of few rows become independent Bernoullis. The
    paper clusters by EM of a naive Bayes mixture with a penalty on clusters; k-means with two clusters at a time stands
    in for it here.

    Args:
        significance: p-value below which two variables count as dependent.
        min_rows: blocks with fewer rows are not split further.
        smoothing: pseudo-count of each value of a Bernoulli.
    """

    parents: Tensor
    kinds: Tensor
    log_weights: Tensor
    logits: Tensor
    scopes: Tensor

    def __init__(
        self,
        info: DataInfo,
        *,
        significance: Annotated[float, Gt(0), Le(0.5)] = 0.001,
        min_rows: Annotated[int, Ge(2)] = 100,
        smoothing: PositiveFloat = 0.1,
    ) -> None:
        checks.support("LearnSPN", info, "binary")
        super().__init__(info)
        self.significance = checks.number("significance", significance, above=True, most=0.5)
        self.min_rows = checks.whole("min_rows", min_rows, 2)
        self.smoothing = checks.number("smoothing", smoothing, above=True)
        self.register_buffer("parents", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("kinds", torch.zeros(0, dtype=torch.int64))
        self._buffer("log_weights", 0)
        self._buffer("logits", 0, self.dims)  # of the leaves, in the order of their nodes
        self._buffer("scopes", 0, self.dims)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name, buffer in self.named_buffers():  # the network has as many nodes as the data asked for
            setattr(self, name, buffer.new_empty(state_dict.get(prefix + name, buffer).shape))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def fit(self, x: Tensor, generator: Generator) -> None:
        """Grows the network on the CPU; the G-test's threshold is that of a chi-square with one degree of freedom."""
        from scipy.stats import chi2

        rows = self._rows(x).float().cpu()
        threshold = float(chi2.isf(self.significance, 1))
        seed = seed_from(generator)
        parents: list[int] = []
        kinds: list[int] = []
        log_weights: list[float] = []
        logits: list[Tensor] = []
        scopes: list[Tensor] = []
        waiting = [(-1, 0.0, rows, torch.arange(self.dims))]
        while waiting:
            parent, log_weight, block, scope = waiting.pop()
            here, n = len(parents), len(block)
            parents.append(parent)
            log_weights.append(log_weight)
            groups = [scope] if n < self.min_rows else self._independent(block, scope, threshold)
            halves = None if len(groups) > 1 or n < self.min_rows or len(scope) == 1 else _halves(block[:, scope], seed)
            if len(groups) > 1:
                kinds.append(PRODUCT)
                waiting += [(here, 0.0, block, group) for group in groups]
            elif halves is not None:
                kinds.append(SUM)
                for half in halves:
                    share = torch.tensor(len(half) / n, dtype=torch.float64).log().item()
                    waiting.append((here, share, block[half], scope))
            else:
                kinds.append(LEAF)
                p = (block[:, scope].double().sum(0) + self.smoothing) / (n + 2.0 * self.smoothing)
                row, inside = torch.zeros(self.dims, dtype=torch.float64), torch.zeros(self.dims, dtype=torch.float64)
                row[scope], inside[scope] = torch.logit(p), 1.0
                logits.append(row)
                scopes.append(inside)
        found = {"parents": torch.tensor(parents), "kinds": torch.tensor(kinds)}
        found["log_weights"] = torch.tensor(log_weights, dtype=torch.float64)
        found |= {"logits": torch.stack(logits), "scopes": torch.stack(scopes)}
        for name, value in found.items():
            setattr(self, name, value.to(self.fitted.device))
        self.fitted.fill_(True)

    def _independent(self, block: Tensor, scope: Tensor, threshold: float) -> list[Tensor]:
        """Groups of `scope` between which no pair of variables is found dependent."""
        from scipy.sparse.csgraph import connected_components

        g = 2.0 * len(block) * mutual_information(pair_counts(block[:, scope], 2), 0.0)
        number, label = connected_components((g > threshold).numpy(), directed=False)
        labels = torch.from_numpy(label)
        return [scope[labels == k] for k in range(number)]

    def log_prob(self, x: Tensor) -> Tensor:
        rows = self._rows(x)
        self._answered(rows)
        off = nn.functional.softplus(self.logits).mul(self.scopes).sum(-1)
        leaves = iter((rows @ self.logits.T - off).T)
        values: list[Tensor] = []
        for kind in self.kinds.tolist():
            values.append(next(leaves) if kind == LEAF else rows.new_zeros(len(rows)))
        children: dict[int, list[int]] = {}
        for node, parent in enumerate(self.parents.tolist()):
            children.setdefault(parent, []).append(node)
        for node, kind in reversed(list(enumerate(self.kinds.tolist()))):  # children come after their parent
            if kind == PRODUCT:
                values[node] = torch.stack([values[c] for c in children[node]]).sum(0)
            elif kind == SUM:
                values[node] = torch.stack([values[c] + self.log_weights[c] for c in children[node]]).logsumexp(0)
        return self._answered(values[0])

    def sample(self, n: int, generator: Generator) -> Tensor:
        out = torch.zeros(n, self.dims, dtype=torch.float64, device=self.logits.device)
        kinds, leaf = self.kinds.tolist(), (self.kinds == LEAF).cumsum(0) - 1
        children: dict[int, list[int]] = {}
        for node, parent in enumerate(self.parents.tolist()):
            children.setdefault(parent, []).append(node)
        waiting = [(0, torch.arange(n, device=out.device))] if kinds else []
        while waiting:
            node, mine = waiting.pop()
            if not len(mine):
                continue
            if kinds[node] == PRODUCT:
                waiting += [(c, mine) for c in children[node]]
            elif kinds[node] == SUM:
                weights = self.log_weights[children[node]].exp()
                which = torch.multinomial(weights, len(mine), replacement=True, generator=generator)
                waiting += [(c, mine[which == k]) for k, c in enumerate(children[node])]
            else:
                p = torch.sigmoid(self.logits[leaf[node]]) * self.scopes[leaf[node]]
                out[mine] += torch.bernoulli(p.expand(len(mine), -1), generator=generator)
        return self._shaped(out)


def _halves(block: Tensor, seed: int) -> list[Tensor] | None:
    """Rows in two clusters by k-means, or None where they are all alike."""
    from sklearn.cluster import KMeans

    if bool((block == block[0]).all()):
        return None
    label = torch.from_numpy(KMeans(2, n_init=1, random_state=seed).fit(block.numpy()).labels_)
    halves = [torch.nonzero(label == k)[:, 0] for k in (0, 1)]
    return halves if all(len(h) for h in halves) else None
