"""Latents, causal order and mixing matrix from joint cumulants (Cai et al. 2023, arXiv 2305.19582).

Where x and z share one latent l of variance one, x = a l + ..., z = c l + ..., their joint cumulants are
cum(x, z) = a c, cum(x, z, z, z) = a c^3 k and cum(x, x, z, z) = a^2 c^2 k, with k the latent's fourth cumulant, so that
c^2 = cum(x, z) cum(x, z, z, z) / cum(x, x, z, z). A combination of x and y without l is independent of z if and only
if z shares nothing but l with them, which tests the one-latent-component condition. z then stands in for l, which is
removed, and the same is asked of what is left: this finds further latents and the order of variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, permutations
from typing import Any

import numpy as np
from latentbench.core.capabilities import Study as Answered
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.papers.onelc_cumulants.designs import ConfoundedStudy
from pydantic import PositiveFloat
from scipy.stats import gamma
from torch import Generator

SMALL = (Example("real-vector", {"rows": 60, "problems": 2}),)
#: Quadrature of the normal law, whose characteristic function is the kernel exp(-d^2 / 2).
NODES, WEIGHTS = (a[8:] for a in np.polynomial.hermite_e.hermegauss(16))


def cumulant(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> float:
    """Joint cumulant of fourth order of four samples (N,)."""
    a, b, c, d = (v - v.mean() for v in (a, b, c, d))
    pairs = (a * b).mean() * (c * d).mean() + (a * c).mean() * (b * d).mean() + (a * d).mean() * (b * c).mean()
    return float((a * b * c * d).mean() - pairs)


def features(x: np.ndarray) -> np.ndarray:
    """Centred (N, 16), whose products are the centred Gaussian kernel of width one of the standardised sample (N,)."""
    angles = np.outer((x - x.mean()) / (x.std() or 1.0), NODES)
    phi = np.hstack([np.cos(angles), np.sin(angles)]) * np.tile((WEIGHTS / WEIGHTS.sum()) ** 0.5, 2)
    return phi - phi.mean(0)


def independence(f: np.ndarray, g: np.ndarray) -> float:
    """p-value that two samples, of which these are the features (N, 16), are independent.

    HSIC, whose law under independence is taken for a gamma law of the same mean and variance (Zhang et al. 2011,
    section 3).
    """
    mean = (f**2).sum() * (g**2).sum() / len(f)
    variance = 2.0 * ((f.T @ f) ** 2).sum() * ((g.T @ g) ** 2).sum() / len(f) ** 2
    return float(gamma.sf(((f.T @ g) ** 2).sum(), mean**2 / variance, scale=variance / mean))


class Search:
    """What is found of samples x (N, p).

    Components 0 ... p - 1 are the variables' own noises, further ones the latents in the order in which they are found.

    Attributes:
        loadings: (p, components) of x on components of variance one; zero where nothing is known.
        proxies: the variable that stands in for each component; that of a noise is its own variable.
        open: pairs (i, j), i < j, whose dependence is not explained yet.
    """

    def __init__(self, x: np.ndarray, level: float) -> None:
        self.x, self.level, self.p = x - x.mean(0), level, x.shape[1]
        self.features = [features(v) for v in self.x.T]
        self.covariance = self.x.T @ self.x / len(x)
        self.loadings = np.zeros((self.p, self.p))
        self.proxies = list(range(self.p))
        self.open = set(combinations(range(self.p), 2))
        while self.remove() or self.orient() or self.latent():
            pass

    def answer(self) -> dict[str, np.ndarray]:
        """Graph, effects (p, p), mixing matrix (p, latents + p) and the number of pairs that nothing explains."""
        noises = self.loadings[:, : self.p].copy()
        unknown = np.flatnonzero(np.diag(noises) == 0)
        noises[unknown, unknown] = 1.0
        effects = noises / np.diag(noises) - np.eye(self.p)
        mixing = np.hstack([self.loadings[:, self.p :], noises])
        graph = (effects != 0).T.astype(int)
        return {"graph": graph, "effects": effects, "mixing": mixing, "undecided": np.array(len(self.open))}

    def shared(self, *variables: int) -> list[int]:
        """Components on which two at least of the variables are known to load."""
        return [int(k) for k in np.flatnonzero((self.loadings[list(variables)] != 0).sum(0) > 1)]

    def without(self, components: list[int], loadings: np.ndarray, targets: list[int], common: list[int]) -> np.ndarray:
        """Combination (N,) of targets and of the common components' proxies that does not load on `components`."""
        those = targets + [self.proxies[k] for k in common if self.proxies[k] not in targets]
        weights = np.linalg.svd(loadings[np.ix_(those, components)].T)[2][-1] if components else np.ones(1)
        return self.x[:, those] @ (weights / weights[0] if abs(weights[0]) > 1e-12 else weights)

    def fits(self, combined: np.ndarray, other: int) -> float:
        """p-value that a combination (N,) is independent of a variable."""
        return independence(features(combined), self.features[other])

    def remove(self) -> bool:
        """Close pairs that are independent without what they share; whether there are any."""
        found = set()
        for i, j in self.open:
            common = self.shared(i, j)
            if self.fits(self.without(common, self.loadings, [i], common), j) >= self.level:
                found.add((i, j))
        self.open -= found
        return bool(found)

    def orient(self) -> bool:
        """Give an effect to the pair for which it fits best, of those that share a component; whether one fits."""
        best, found = self.level, None
        for i, j in (ordered for pair in self.open for ordered in permutations(pair)):
            common = self.shared(i, j)
            own = self.covariance[i, i] - (self.loadings[i, common] ** 2).sum()
            if self.loadings[i, i]:
                own = self.loadings[i, i] ** 2
            if common and own > 0:
                trial = self.loadings.copy()
                both = self.covariance[i, j] - self.loadings[i, common] @ self.loadings[j, common]
                trial[[i, j], i] = own**0.5, both / own**0.5
                p = self.fits(self.without([*common, i], trial, [j], [*common, i]), i)
                if p >= best:
                    best, found = p, (i, j, trial)
        if found:
            i, j, self.loadings = found
            self.open.discard((min(i, j), max(i, j)))
        return found is not None

    def latent(self) -> bool:
        """Add the latent that fits best, with all that share it with its proxy; whether one fits."""
        best, found = self.level, None
        for x, y in self.open:
            for z in set(range(self.p)) - {x, y}:
                if self.unexplained(x, z) or self.unexplained(y, z):
                    p, trial = self.one_latent(x, y, z)
                    if p >= best:
                        best, found = p, (x, y, z, trial)
        if found is None:
            return False
        x, y, z, kept = found
        children = [x, y]
        for w in set(range(self.p)) - {x, y, z}:
            if self.unexplained(w, z):
                p, trial = self.one_latent(x, w, z, kept[z, -1])
                if p >= self.level:
                    kept[w, -1] = trial[w, -1]
                    children.append(w)
        self.loadings = kept
        self.proxies.append(z)
        self.open -= {(min(w, z), max(w, z)) for w in children}
        return True

    def unexplained(self, i: int, j: int) -> bool:
        return (min(i, j), max(i, j)) in self.open

    def one_latent(self, x: int, y: int, z: int, loading: float | None = None) -> tuple[float, np.ndarray]:
        """p-value that x and y share one more latent with z, and nothing else, and loadings with that latent.

        Args:
            x, y, z: variables.
            loading: of z on the latent, where it is known.
        """
        common = self.shared(x, y, z)
        rest = self.without(common, self.loadings, [z], common)
        if loading is None:
            a = self.x[:, x]
            ratio = cumulant(a, rest, rest, rest) / cumulant(a, a, rest, rest)
            loading = abs((a * rest).mean() * ratio) ** 0.5
        trial = np.hstack([self.loadings, np.zeros((self.p, 1))])
        trial[z, -1] = loading
        trial[[x, y], -1] = self.x[:, [x, y]].T @ rest / len(rest) / loading
        combined = self.without([*common, trial.shape[1] - 1], trial, [x, y], common)
        return self.fits(combined, z), trial


@model("olc-cumulants", "Iterative Study StructureLearner", examples=SMALL)
class OLC(ConfoundedStudy):
    """Latents and effects by the one-latent-component condition.

    Args:
        info: not used.
        level: of p, below which independence is rejected.
        **design: of `ConfoundedStudy`.
    """

    def __init__(self, info: DataInfo, *, level: PositiveFloat = 0.01, **design: Any) -> None:
        super().__init__(info, **design)
        self.level = level

    def answer(self, given: Mapping[str, Any], rng: np.random.Generator) -> Mapping[str, Any]:
        return Search(given["x"], self.level).answer()


@metric("undecided_pairs", "Study", "pairs", "lower", within=(0.0, None))
def undecided_pairs(model: Answered, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """Mean number of dependent pairs for which no effect and no latents fit."""
    return over_problems(model, lambda _, answer: float(answer["undecided"]))
