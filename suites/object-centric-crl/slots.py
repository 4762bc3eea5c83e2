"""Slot attention whose attention is a transport plan (SA-MESH, Zhang et al. 2023), as an autoencoder of pictures."""

from __future__ import annotations

import torch
from latentbench.models.nets import mlp
from torch import Generator, Tensor, nn
from torch.nn import functional

from .scenes import SIZE, grid

WIDTH, ROUNDS, PATCH = 32, 3, 2  # features of tokens and slots; rounds of attention; pixels of a token's side
DESCENTS, SCALINGS, STRIDE, NOISE = 2, 3, 5.0, 1e-3  # of the plan


def scaled(cost: Tensor, rows: Tensor, columns: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Sinkhorn's scalings, begun at u (n, K) and v (n, T): of the plan e^(u + v - cost) for log marginals of its sides.

    The rows' marginals (n, K) are met last, and exactly.
    """
    for _ in range(SCALINGS):
        v = columns - torch.logsumexp(u[:, :, None] - cost, 1)
        u = rows - torch.logsumexp(v[:, None] - cost, 2)
    return u, v


def transport(cost: Tensor, rows: Tensor, columns: Tensor, draws: Generator) -> Tensor:
    """(n, K, T): the plan for a cost that moves down the slope of the plan's entropy, from noise that parts ties.

    Gradients pass through the last scalings alone.
    """
    moved = cost.detach() + NOISE * torch.randn(cost.shape, generator=draws)
    u, v = torch.zeros_like(rows), torch.zeros_like(columns)
    for _ in range(DESCENTS):
        with torch.enable_grad():
            moved.requires_grad_()
            u, v = scaled(moved, rows.detach(), columns.detach(), u.detach(), v.detach())
            plan = (u[:, :, None] + v[:, None] - moved).exp()
            (slope,) = torch.autograd.grad(torch.special.entr(plan.clamp(1e-20, 1.0)).sum(), moved)
        moved = moved.detach() - STRIDE * functional.normalize(slope.flatten(1), dim=1).unflatten(1, slope.shape[1:])
    cost = cost + (moved - cost).detach()
    u, v = scaled(cost, rows, columns, u.detach(), v.detach())
    return (u[:, :, None] + v[:, None] - cost).exp()


class SlotAutoencoder(nn.Module):
    """K slots of a picture, which add up to it under masks, and d codes of each slot, by heads that slots share."""

    def __init__(self, slots: int, codes: int) -> None:
        super().__init__()
        self.count, d = slots, WIDTH
        self.see, self.place = nn.Conv2d(3, d, PATCH + 4, PATCH, 2), nn.Linear(4, d)
        self.token = nn.Sequential(nn.ReLU(), nn.LayerNorm(d), *mlp(d, (d,), "relu"), nn.Linear(d, d), nn.LayerNorm(d))
        self.query, self.key, self.value = (nn.Linear(d, d, bias=False) for _ in range(3))
        self.of_tokens, self.of_slots = nn.Linear(d, 1), nn.Linear(d, 1)  # marginals of the plan
        self.norm, self.update = nn.LayerNorm(d), nn.GRUCell(d, d)
        self.refine = nn.Sequential(nn.LayerNorm(d), *mlp(d, (2 * d,), "relu"), nn.Linear(2 * d, d))
        self.mean, self.log_std = nn.Parameter(d**-0.5 * torch.randn(d)), nn.Parameter(torch.zeros(d))
        self.spread, self.spot = nn.Linear(d, d), nn.Linear(4, d)
        self.paint = nn.Sequential(nn.ReLU(), *mlp(d, (d,), "relu"), nn.Linear(d, 4 * PATCH**2))
        self.heads = nn.ModuleList(nn.Sequential(*mlp(d, (d,), "relu"), nn.Linear(d, 1)) for _ in range(codes))
        at = grid(SIZE // PATCH)
        self.register_buffer("at", torch.cat([at, 1.0 - at], 1))

    def start(self, n: int, draws: Generator) -> Tensor:
        """(n, K, width): slots before they have seen anything."""
        return self.mean + self.log_std.exp() * torch.randn(n, self.count, WIDTH, generator=draws)

    def forward(self, x: Tensor, slots: Tensor, draws: Generator) -> Tensor:
        """Slots (n, K, width) of pictures (n, 3, side, side), found from slots to start with."""
        tokens = self.token(self.see(x).flatten(2).mT + self.place(self.at))
        key, value = self.key(tokens), self.value(tokens)
        columns = functional.log_softmax(self.of_tokens(tokens)[..., 0], 1)
        for _ in range(ROUNDS):
            seen = self.norm(slots)
            rows = functional.log_softmax(self.of_slots(seen)[..., 0], 1)
            plan = self.count * transport(torch.cdist(self.query(seen), key), rows, columns, draws)
            slots = self.update((plan @ value).flatten(0, 1), slots.flatten(0, 1)).view_as(slots)
            slots = slots + self.refine(slots)
        return slots

    def decode(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (n, 3, side, side) and masks (n, K, pixels), which add up to 1 over slots."""
        painted = self.paint(self.spread(slots)[:, :, None] + self.spot(self.at)).flatten(0, 1)
        layers = functional.fold(painted.mT, SIZE, PATCH, stride=PATCH).unflatten(0, slots.shape[:2])
        masks = layers[:, :, 3:].softmax(1)
        return (layers[:, :, :3] * masks).sum(1), masks.flatten(2)

    def codes(self, slots: Tensor) -> Tensor:
        """(n, K, d)"""
        return torch.cat([head(slots) for head in self.heads], 2)
