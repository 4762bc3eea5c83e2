"""What rank-based discovery is held against: hidden causes alone, PC, one hidden cause."""

from __future__ import annotations

import networkx as nx  # type: ignore[import-untyped]  # a requirement of torch
import numpy as np
from latentbench.declare import Example, model
from latentbench.models.study import Arrays

from .graphs import LatentGraphStudy
from .search import Ranks, ci_skeleton, discover

SMALL = (Example("real-vector", {"problems": 2, "kind": "measurement"}),)


@model("hidden-causes", "Iterative Study", examples=SMALL)
class HiddenCauses(LatentGraphStudy):
    """The same search where observed variables are leaves, as in Huang et al. (2022), arXiv 2210.01798."""

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        return {"skeleton": discover(Ranks(np.corrcoef(given["x"].T), self.rows, self.alpha), causes=False)}


@model("pc-skeleton", "Iterative Study", examples=SMALL)
class PcSkeleton(LatentGraphStudy):
    """First stage of PC on the observed variables, which is phase 1 alone."""

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        graph = ci_skeleton(Ranks(np.corrcoef(given["x"].T), self.rows, self.alpha))
        return {"skeleton": nx.to_numpy_array(graph, nodelist=sorted(graph), dtype=int)}


@model("one-hidden", "Iterative Study", examples=SMALL)
class OneHidden(LatentGraphStudy):
    """One hidden cause of all observed variables, whatever the data."""

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        p = given["x"].shape[1]
        star = np.zeros((p + 1, p + 1), int)
        star[p, :p] = star[:p, p] = 1
        return {"skeleton": star}
