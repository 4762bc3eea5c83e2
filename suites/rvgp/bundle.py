"""A point cloud's tangent bundle: neighbours, tangent frames, connections and the spectra of two Laplacians."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy import ndarray
from scipy import sparse
from scipy.sparse.linalg import eigsh
from scipy.spatial import cKDTree

Spectrum = tuple[ndarray, ndarray]


class Bundle:
    """Of points in space on a surface (section 4, equations 9 to 12).

    Args:
        points: (n, d), n > 15.
        pairs: eigenpairs of each Laplacian, fewer than n.
        neighbours: k of the graph; i and j are joined where either is among the other's k nearest.
        dimension: m of the manifold.

    Attributes:
        frames: (n, d, m), orthonormal columns.
        connection, graph: eigenvalues, rising, and orthonormal eigenvectors (n m, pairs), (n, pairs) of the Laplacians.
    """

    def __init__(self, points: ndarray, pairs: int, neighbours: int = 10, dimension: int = 2) -> None:
        n, m = len(points), dimension
        around = cKDTree(points).query(points, 1 + (3 * neighbours) // 2)[1]
        cloud = points[around] - points[around].mean(1, keepdims=True)
        self.frames = np.linalg.svd(cloud)[2][:, :m].transpose(0, 2, 1)
        rows, columns = np.repeat(np.arange(n), neighbours), around[:, 1 : neighbours + 1].ravel()
        joined = sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), (n, n)).tocsr()
        joined = joined.maximum(joined.T).tocoo()
        left, _, right = np.linalg.svd(np.einsum("edm,edk->emk", self.frames[joined.row], self.frames[joined.col]))
        transports = left @ right  # Procrustes: coordinates at columns into those at rows
        degrees = np.bincount(joined.row, minlength=n).astype(float)
        self.laplacian = sparse.diags(degrees) - joined
        block = np.arange(m)
        at = (m * joined.row[:, None, None] + block[:, None], m * joined.col[:, None, None] + block)
        flat = [np.broadcast_to(index, transports.shape).ravel() for index in at]
        moved = sparse.coo_matrix((transports.ravel(), flat), (n * m, n * m))
        self.connection_laplacian = sparse.diags(np.repeat(degrees, m)) - moved
        self.pairs = pairs

    @cached_property
    def connection(self) -> Spectrum:
        return lowest(self.connection_laplacian, self.pairs)

    @cached_property
    def graph(self) -> Spectrum:
        return lowest(self.laplacian, self.pairs)

    def local(self, vectors: ndarray) -> ndarray:
        """Coordinates (n, m) in the frames of the tangent parts of vectors (n, d)."""
        return np.einsum("ndm,nd->nm", self.frames, vectors)

    def ambient(self, local: ndarray) -> ndarray:
        """(n, m, ...) to (n, d, ...)."""
        return np.einsum("ndm,nm...->nd...", self.frames, local)


def lowest(matrix: sparse.spmatrix, pairs: int) -> Spectrum:
    """Smallest eigenvalues, rising, and eigenvectors of a symmetric matrix without negative eigenvalues."""
    start = np.random.default_rng(0).standard_normal(matrix.shape[0])
    values, vectors = eigsh(matrix.tocsc(), k=pairs, sigma=-1e-3, v0=start)
    order = np.argsort(values)
    return values[order], vectors[:, order]
