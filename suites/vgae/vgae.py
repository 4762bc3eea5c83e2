"""Variational graph autoencoder (Kipf & Welling 2016, arXiv 1611.07308), and its form without noise.

    q(Z | X, A) = prod_i N(z_i | mu_i, sigma_i^2),   mu, log sigma = A~ ReLU(A~ X W0) W     (section 1, A~ normalised)
    p(A | Z) = prod_ij sigmoid(z_i . z_j)                                                    (eq. 2)
    L = E_q log p(A | Z) - KL(q || p)                                                        (eq. 3)

The sum over pairs is weighted as the authors' code does: edges by how many pairs have none for each that has one, all
by one factor, and L is divided by the number of pairs. The autoencoder takes z = mu and leaves the KL term out.
"""

from __future__ import annotations

import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models.graph_layers import GraphConvolution, normalised_adjacency
from pydantic import PositiveInt
from torch import Generator, Tensor, nn
from torch.nn import functional as F  # noqa: N812


@model(
    "vgae",
    "Trainable LinkPredictor",
    "graph convolutional (variational) autoencoder with an inner-product decoder",
    whole_batch=True,
    examples=(
        Example("graph", {"hidden": 6, "latent_dim": 3}),
        Example("graph", {"hidden": 5, "latent_dim": 4, "variational": False}),
        Example("graph", {"hidden": 6, "latent_dim": 3, "features": False}),
    ),
)
class VGAE(nn.Module):
    """Nodes of one graph; `x` (N, D) are their features, the part ``edges`` (E, 2) the training graph.

    Args:
        info: of one graph, whose nodes are the rows.
        hidden, latent_dim: widths of the two layers.
        variational: sample codes and pay their KL divergence (VGAE), or take the means (GAE).
        features: read `x`; else each node has a vector of its own in its place (the paper's starred rows).

    Raises:
        UserError: the data are no one graph.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        hidden: PositiveInt = 32,
        latent_dim: PositiveInt = 16,
        variational: bool = True,
        features: bool = True,
    ) -> None:
        super().__init__()
        if "edges" not in info.parts or not info.parts["edges"].whole:
            raise UserError(
                "a graph autoencoder needs one graph, whose nodes are the rows", fix="choose such a dataset"
            )
        self.variational, self.features = variational, features
        self.first = GraphConvolution(info.dims if features else info.n_train, hidden)
        self.mean = GraphConvolution(hidden, latent_dim)
        self.log_scale = GraphConvolution(hidden, latent_dim) if variational else None

    def encode_nodes(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Means and log standard deviations of the nodes' codes, (N, latent_dim); no deviations without noise."""
        adjacency = normalised_adjacency(batch.parts["edges"], len(batch.x))
        h = torch.relu(self.first(adjacency, batch.x if self.features else None))
        return self.mean(adjacency, h), None if self.log_scale is None else self.log_scale(adjacency, h)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Weighted cross-entropy of all pairs of nodes, and KL over the number of pairs, nats a pair."""
        z, log_scale = self.encode_nodes(batch)
        kl = z.new_zeros(())
        if log_scale is not None:
            kl = gaussian_kl(z, log_scale) / len(z) ** 2
            noise = torch.randn(z.shape, generator=generator, device=z.device, dtype=z.dtype)
            z = z + log_scale.exp() * noise
        fit = pair_cross_entropy(z, batch.parts["edges"].long())
        return {"loss": fit + kl, "cross_entropy": fit, "rate_per_pair": kl}

    def link_scores(self, batch: Batch, pairs: Tensor) -> Tensor:
        """Inner products of the codes' means: log-odds of an edge."""
        z, _ = self.encode_nodes(batch)
        return (z[pairs[:, 0]] * z[pairs[:, 1]]).sum(1)


def gaussian_kl(mean: Tensor, log_scale: Tensor) -> Tensor:
    """KL of N(mean, exp(log_scale)^2) from N(0, I), summed over everything, nats."""
    return 0.5 * (mean.square() + (2 * log_scale).exp() - 1 - 2 * log_scale).sum()


def pair_cross_entropy(z: Tensor, edges: Tensor) -> Tensor:
    """Cross-entropy of logits z z^T against the adjacency matrix with self-loops, weighted as in the authors' code.

    With S entries of the adjacency matrix that are one (without self-loops), ones weigh (N^2 - S) / S, and the mean
    over all entries is multiplied by N^2 / (2 (N^2 - S)), so that edges and pairs without one weigh one half each. All
    entries are summed as zeros at first, and the few ones put right: a third of the time of a target matrix.
    """
    n, ones = len(z), 2 * len(edges)
    weight = (n * n - ones) / ones
    edge = (z[edges[:, 0]] * z[edges[:, 1]]).sum(1)
    loop = z.square().sum(1)
    logits = torch.cat([edge, edge, loop])
    total = F.softplus(z @ z.T).sum() + (weight * F.softplus(-logits) - F.softplus(logits)).sum()
    return total / (2 * (n * n - ones))
