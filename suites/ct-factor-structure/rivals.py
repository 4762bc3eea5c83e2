"""What thresholding is held against: exploratory factor analysis, and clusters of variables."""

from __future__ import annotations

import numpy as np
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models.study import Arrays
from pydantic import PositiveFloat, PositiveInt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from .factors import FactorStudy, Violation

SMALL = (Example("real-vector", {"problems": 2}),)


def rows_of(s: np.ndarray) -> np.ndarray:
    """(2p, p) rows of mean zero whose covariance is `s`: what a fit by covariances needs of any number of rows."""
    root = np.sqrt(len(s)) * np.linalg.cholesky(s).T
    return np.concatenate([root, -root])


@model("efa", "Iterative Study", examples=SMALL)
class ExploratoryFactors(FactorStudy):
    """Loadings by maximum likelihood, of the number of factors with the best BIC; quartimin rotation; and a cut.

    The number rises from 1 until the criterion has got worse three times in a row.

    Args:
        info, factors, rows, violation, problems: of the problems.
        cut: loadings of a smaller size are none.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        factors: PositiveInt = 4,
        rows: PositiveInt = 500,
        violation: Violation = "none",
        problems: PositiveInt = 10,
        cut: PositiveFloat = 0.3,
    ) -> None:
        super().__init__(info, factors=factors, rows=rows, violation=violation, problems=problems)
        self.cut = cut

    def loadings(self, x: np.ndarray) -> np.ndarray:
        """(p, K) unrotated loadings of standardised variables."""
        from sklearn.decomposition import FactorAnalysis

        s, n = np.corrcoef(x.T), len(x)
        p, stand_in = len(s), rows_of(s)
        best, kept, worse = np.inf, np.zeros((p, 1)), 0
        for k in range(1, p // 2 + 1):
            found = FactorAnalysis(k, svd_method="lapack", tol=1e-3, max_iter=300).fit(stand_in)
            free = p * (k + 1) - k * (k - 1) / 2
            value = -2 * n * found.score(stand_in) + free * np.log(n)
            best, kept, worse = (value, found.components_.T, 0) if value < best else (best, kept, worse + 1)
            if worse == 3:
                break
        return kept

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        from statsmodels.multivariate.factor_rotation import rotate_factors

        loadings = self.loadings(given["x"])
        if loadings.shape[1] > 1:
            loadings = np.asarray(rotate_factors(loadings, "quartimin", algorithm="gpa")[0])
        return {"support": (np.abs(loadings) > self.cut).astype(float)}


@model("variable-clusters", "Iterative Study", examples=SMALL)
class VariableClusters(FactorStudy):
    """Average linkage of variables by 1 - |correlation|, cut where the mean silhouette is largest; a factor each."""

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        from sklearn.metrics import silhouette_score

        distances = 1 - np.abs(np.corrcoef(given["x"].T))
        np.fill_diagonal(distances, 0.0)
        tree = linkage(squareform(distances, checks=False), "average")
        cuts = [fcluster(tree, k, "maxclust") for k in range(2, len(distances) // 2 + 1)]
        labels = max(cuts, key=lambda cut: silhouette_score(distances, cut, metric="precomputed"))
        return {"support": (labels[:, None] == np.unique(labels)).astype(float)}
