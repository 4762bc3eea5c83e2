"""Tiny models of the kinds that are not trained by one loss on fixed rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from latentbench.core.types import Batch, DataInfo
from torch import Generator, Tensor, nn


class Gaussians(nn.Module):
    """Independent Gaussians: what the others are made of."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.mean, self.log_std = nn.Parameter(torch.randn(dims)), nn.Parameter(torch.zeros(dims))

    def log_prob(self, x: Tensor) -> Tensor:
        each = -0.5 * ((x - self.mean) * torch.exp(-self.log_std)).square() - self.log_std - 0.5 * math.log(2 * math.pi)
        return each.sum(1)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        return {"loss": -self.log_prob(batch.x).mean()}


class Duel(Gaussians):
    """Two players: one moves the means, one the spreads; a count is kept beside them."""

    loss = None  # type: ignore[assignment]

    def __init__(self, info: DataInfo) -> None:
        super().__init__(info.dims)
        self.register_buffer("seen", torch.zeros(()))

    def players(self) -> Mapping[str, Iterable[nn.Parameter]]:
        return {"means": [self.mean], "spreads": [self.log_std]}

    def player_loss(self, player: str, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        noise = torch.randn(batch.x.shape, generator=generator)
        return {"loss": -self.log_prob(batch.x + 0.1 * noise).mean()}

    def update(self, name: str, batch: Batch, generator: Generator) -> dict[str, float]:
        self.seen += len(batch.x)
        return {"seen": float(self.seen)}


class Halved(nn.Module):
    """A scale of the rows in one stage, a density of the scaled rows in the next."""

    def __init__(self, info: DataInfo) -> None:
        super().__init__()
        self.scale, self.prior = _Scale(info.dims), Gaussians(info.dims)

    def stages(self) -> Mapping[str, nn.Module]:
        return {"scale": self.scale, "prior": self.prior}

    def encode(self, x: Tensor) -> Tensor:
        return x * torch.exp(-self.scale.log_std)

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        return self.encode(x)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.prior.log_prob(self.encode(x)) - self.scale.log_std.sum()


class _Scale(Gaussians):
    pass


class Climber(nn.Module):
    """Goes to the mean by halves, and stops when it is near."""

    def __init__(self, info: DataInfo) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(info.dims))
        self.register_buffer("off", torch.tensor(math.inf))

    def start(self, data: Batch, generator: Generator) -> None:
        self.mean.copy_(torch.randn(self.mean.shape, generator=generator))

    def advance(self, data: Batch, generator: Generator) -> dict[str, Tensor]:
        self.mean.lerp_(data.x.mean(0), 0.5)
        self.off.copy_((data.x.mean(0) - self.mean).abs().max())
        return {"loss": self.off.clone()}

    def done(self) -> bool:
        return bool(self.off < 1e-3)

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * (x - self.mean).square().sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi)


class Links(nn.Module):
    """Codes of the nodes of one graph, by which its edges are told from pairs that are none."""

    def __init__(self, info: DataInfo) -> None:
        super().__init__()
        assert info.parts["edges"].whole
        self.net = nn.Linear(info.dims, 2)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        edges = batch.parts["edges"].long()
        none = torch.randint(len(batch.x), edges.shape, generator=generator)
        z = self.net(batch.x)
        scores = [(z[pairs[:, 0]] * z[pairs[:, 1]]).sum(1) for pairs in (edges, none)]
        return {"loss": nn.functional.softplus(-scores[0]).mean() + nn.functional.softplus(scores[1]).mean()}
