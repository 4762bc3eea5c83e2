"""The network of PBN (Troisemaine et al. 2023, section 3.4): encoder, decoder and a classifier of known classes."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


def layers(sizes: tuple[int, ...], dropout: float) -> nn.Sequential:
    """Linear maps of these sizes; between them ReLU, batch norm and dropout, in this order."""
    parts: list[nn.Module] = [nn.Linear(sizes[0], sizes[1])]
    for a, b in pairwise(sizes[1:]):
        parts += [nn.ReLU(), nn.BatchNorm1d(a), nn.Dropout(dropout), nn.Linear(a, b)]
    return nn.Sequential(*parts)


class PbnNet(nn.Module):
    """Of d columns; hidden layers have 3/4 and 1/2 of them."""

    def __init__(self, d: int, classes: int, latent: int, dropout: float) -> None:
        super().__init__()
        hidden = max(1, 3 * d // 4), max(1, d // 2)
        self.encoder = layers((d, *hidden, latent), dropout)
        self.decoder = layers((latent, *hidden[::-1], d), dropout)
        self.classifier = nn.Linear(latent, classes)

    def unit(self, x: Tensor) -> Tensor:
        """Latents (n, L) of x (n, d), of length 1, as both heads see them."""
        return functional.normalize(self.encoder(x))

    def loss(self, x: Tensor, labels: Tensor, w: float) -> Tensor:
        """w CE + (1 - w) SE: cross-entropy where there is a label (not -1), squared error of all columns."""
        z = self.unit(x)
        each = functional.cross_entropy(self.classifier(z), labels, ignore_index=-1, reduction="sum")
        errors = (self.decoder(z) - x).square().sum(1).mean()
        return w * each / (labels >= 0).sum().clamp(min=1) + (1 - w) * errors


@torch.enable_grad()
def train(net: PbnNet, x: Tensor, labels: Tensor, w: float, rate: float, epochs: int, batch: int) -> None:
    """AdamW on batches of x (n, d) and labels (n,), or with w = 1 of rows with a label; no batch is a single row."""
    if w == 1:
        x, labels = x[labels >= 0], labels[labels >= 0]
    adam = torch.optim.AdamW(net.parameters(), lr=rate, fused=True)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(batch):
            if len(rows) > 1:
                adam.zero_grad()
                net.loss(x[rows], labels[rows], w).backward()
                adam.step()
    net.eval()
