"""The paper's baselines: node embeddings that know the graph alone, scored by inner products like its own.

Spectral embedding (Tang & Liu 2011) is scikit-learn's; DeepWalk (Perozzi et al. 2014, arXiv 1403.6652) is gensim's
skip-gram on random walks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models.node_embeddings import random_walks
from pydantic import PositiveInt
from scipy.sparse import csr_matrix
from torch import Generator, Tensor, nn


class NodeEmbedding(nn.Module, ABC):
    """A vector a node, made at once from the training graph by `embed`."""

    codes: Tensor

    def __init__(self, info: DataInfo, *, dim: PositiveInt = 128) -> None:
        super().__init__()
        self.dim, self.made = dim, False
        self.register_buffer("codes", torch.zeros(info.n_train, dim))

    def start(self, data: Batch, generator: Generator) -> None:
        self.made = False

    def advance(self, data: Batch, generator: Generator) -> Mapping[str, Tensor | float]:
        pairs = data.parts["edges"].cpu().numpy()
        both = np.concatenate([pairs, pairs[:, ::-1]]).T
        graph = csr_matrix((np.ones(len(both[0])), (both[0], both[1])), shape=(len(data.x), len(data.x)))
        self.codes = torch.from_numpy(self.embed(graph, generator)).float()
        self.made = True
        return {}

    def done(self) -> bool:
        return self.made

    @abstractmethod
    def embed(self, graph: csr_matrix, generator: Generator) -> np.ndarray:
        """(N, dim) for the symmetric adjacency matrix `graph`."""

    def link_scores(self, batch: Batch, pairs: Tensor) -> Tensor:
        """Inner products of the two nodes' vectors."""
        codes = self.codes.to(pairs.device)
        return (codes[pairs[:, 0]] * codes[pairs[:, 1]]).sum(1)


@model("spectral-embedding", "Iterative LinkPredictor", examples=(Example("graph", {"dim": 4}),))
class Spectral(NodeEmbedding):
    """Eigenvectors of the graph's normalised Laplacian.

    With hundreds of components an eigenvalue is that often repeated, and ARPACK may never reach machine precision.
    """

    def embed(self, graph: csr_matrix, generator: Generator) -> np.ndarray:
        from sklearn.manifold import SpectralEmbedding

        seed = int(torch.randint(0, 2**31 - 1, (1,), generator=generator))
        made = SpectralEmbedding(self.dim, affinity="precomputed", random_state=seed, eigen_tol=1e-9)
        return np.asarray(made.fit_transform(graph), np.float32)


@model("deepwalk", "Iterative LinkPredictor", examples=(Example("graph", {"dim": 4, "walks": 2, "length": 6}),))
class DeepWalk(NodeEmbedding):
    """Skip-gram vectors of nodes, whose sentences are random walks.

    Args:
        info: of one graph.
        dim: coordinates of a vector.
        walks, length: walks from each node, and nodes of a walk.
        window: nodes on either side that a node predicts.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        dim: PositiveInt = 128,
        walks: PositiveInt = 10,
        length: PositiveInt = 80,
        window: PositiveInt = 10,
    ) -> None:
        super().__init__(info, dim=dim)
        self.walks, self.length, self.window = walks, length, window

    def embed(self, graph: csr_matrix, generator: Generator) -> np.ndarray:
        try:
            from gensim.models import Word2Vec
        except ImportError:
            raise UserError("DeepWalk needs gensim", fix="pip install 'latentbench[graphs]'") from None
        rng = np.random.default_rng(int(torch.randint(0, 2**63 - 1, (1,), generator=generator)))
        walks = random_walks(graph, self.walks, self.length, rng)
        seed = int(rng.integers(2**31 - 1))
        words = [[str(node) for node in walk] for walk in walks]
        made = Word2Vec(
            words, vector_size=self.dim, window=self.window, min_count=0, sg=1, workers=1, epochs=1, seed=seed
        )
        return np.stack([made.wv[str(node)] for node in range(graph.shape[0])])
