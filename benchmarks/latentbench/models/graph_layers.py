"""Layers on one graph, by sparse products."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def normalised_adjacency(edges: Tensor, nodes: int) -> Tensor:
    """D^-1/2 (A + I) D^-1/2 of an undirected graph (Kipf & Welling 2017, arXiv 1609.02907, eq. 2 and section 2.2).

    Args:
        edges: (E, 2) integers, each edge once, without self-loops.
        nodes: number of nodes.

    Returns:
        (nodes, nodes) sparse float32; D counts the self-loop.
    """
    loops = torch.arange(nodes, device=edges.device).repeat(2, 1)
    both = torch.cat([edges.T.long(), edges.T.long().flip(0), loops], dim=1)
    root = torch.bincount(both[0], minlength=nodes).float().rsqrt()
    return torch.sparse_coo_tensor(
        both, root[both[0]] * root[both[1]], (nodes, nodes), check_invariants=False
    ).coalesce()


class GraphConvolution(nn.Module):
    """h -> A h W without bias, where A is a normalised adjacency; W (inputs, outputs) starts Glorot-uniform."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(inputs, outputs)))

    def forward(self, adjacency: Tensor, h: Tensor | None) -> Tensor:
        """(nodes, inputs) -> (nodes, outputs); None stands for the identity, one input a node."""
        mixed: Tensor = torch.sparse.mm(adjacency, self.weight if h is None else h @ self.weight)
        return mixed
