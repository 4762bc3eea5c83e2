"""Random walks on a graph, and skip-gram vectors of what they meet."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.sparse import csr_matrix

from latentbench.core.errors import UserError


def adjacency(edges: np.ndarray, nodes: int) -> csr_matrix:
    """(nodes, nodes) symmetric, of ones, for edges (E, 2) that are each given once."""
    both = np.concatenate([edges, edges[:, ::-1]]).T
    return csr_matrix((np.ones(len(both[0])), (both[0], both[1])), shape=(nodes, nodes))


def random_walks(graph: csr_matrix, walks: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """(walks * N, length) node numbers: uniform steps along edges from each node, in a fresh order each time.

    A walk stays where a node has no neighbour.
    """
    degree = np.diff(graph.indptr)
    nodes = graph.shape[0]
    out = np.empty((walks * nodes, length), np.int64)
    out[:, 0] = np.concatenate([rng.permutation(nodes) for _ in range(walks)])
    for step in range(1, length):
        here = out[:, step - 1]
        chosen = graph.indptr[here] + np.floor(rng.random(len(here)) * degree[here]).astype(np.int64)
        out[:, step] = np.where(degree[here] > 0, graph.indices[np.minimum(chosen, len(graph.indices) - 1)], here)
    return out


def skip_gram(
    walks: np.ndarray,
    *,
    dim: int,
    window: int,
    output: Literal["hierarchical", "negative"],
    rng: np.random.Generator,
) -> np.ndarray:
    """Vectors of nodes that predict their neighbours on walks, by gensim in one thread and one pass.

    Args:
        walks: (W, L) node numbers, in which each node from 0 to the largest occurs.
        dim: coordinates of a vector.
        window: nodes on either side that a node predicts; as in word2vec, the width is drawn anew for each.
        output: hierarchical softmax over a Huffman tree (Morin & Bengio 2005), or five negative samples.
        rng: draws gensim's seed.

    Returns:
        (N, dim) float32.

    Raises:
        UserError: gensim is not installed.
    """
    try:
        from gensim.models import Word2Vec
    except ImportError:
        raise UserError("skip-gram needs gensim", fix="pip install 'latentbench[graphs]'") from None
    names = np.array([str(node) for node in range(int(walks.max()) + 1)], dtype=object)
    made = Word2Vec(
        names[walks].tolist(),
        vector_size=dim,
        window=window,
        min_count=0,
        sg=1,
        hs=int(output == "hierarchical"),
        negative=0 if output == "hierarchical" else 5,
        workers=1,
        epochs=1,
        seed=int(rng.integers(2**31 - 1)),
    )
    return np.stack([made.wv[name] for name in names])
