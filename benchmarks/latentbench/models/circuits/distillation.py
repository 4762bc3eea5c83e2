"""What latent variable distillation needs besides a circuit: a teacher's features, and their clusters."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from latentbench.core.types import Batch
from latentbench.models.mixtures import seed_from
from latentbench.models.vae import VAE

#: Rows of the teacher's minibatches, and of those that it encodes at once.
BATCH, ENCODED = 128, 1024
#: Rows that k-means sees.
FITTED = 100_000


def kmeans(features: Tensor, clusters: int, generator: Generator) -> Tensor:
    """Labels (N,) int64 of rows (N, F), by scikit-learn's minibatch k-means on at most `FITTED` of them."""
    from sklearn.cluster import MiniBatchKMeans

    if clusters == 1:
        return torch.zeros(len(features), dtype=torch.int64, device=features.device)
    model = MiniBatchKMeans(clusters, n_init=3, batch_size=4096, random_state=seed_from(generator))
    rows = features.float().cpu()
    some = torch.randperm(len(rows), generator=generator, device=generator.device)[:FITTED].cpu()
    model.fit(rows[some].numpy())
    return torch.from_numpy(model.predict(rows.numpy())).long().to(features.device)


def train(teacher: nn.Module, x: Tensor, steps: int, generator: Generator) -> None:
    """Adam with learning rate 1e-3 on a teacher's own loss."""
    optimiser = torch.optim.Adam(teacher.parameters(), 1e-3)
    teacher.train()
    for step in range(steps):
        index = torch.randint(len(x), (min(BATCH, len(x)),), generator=generator, device=x.device)
        loss = teacher.loss(Batch(x[index], len(x), step, step / steps), generator)["loss"]  # type: ignore[operator]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    teacher.eval()


def train_teacher(teacher: VAE, x: Tensor, steps: int, generator: Generator) -> Tensor:
    """Trains a convolutional VAE on images; its features of each place, (N, P, channels).

    The features are what its last convolution gives, before the fully connected layers: one vector a patch.
    """
    train(teacher, x, steps, generator)
    layers = list(teacher.q[0].body.children())  # type: ignore[union-attr]
    end = next(i for i, m in enumerate(layers) if isinstance(m, nn.Flatten))
    net = nn.Sequential(*layers[:end])
    with torch.no_grad():
        return torch.cat([net(part).flatten(2).transpose(1, 2) for part in x.split(ENCODED)])
