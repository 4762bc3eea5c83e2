"""Pictures of balls, and pairs of them between which one property of one ball has shifted (arXiv 2310.19054)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

SIZE, EDGE = 16, 3.0  # pixels a side; steepness of a ball's edge, per pixel
LOW, HIGH = (0.16, 0.16, 0.08), (0.84, 0.84, 0.15)  # of x, y and radius, where the picture's side is 1
SHIFTS, GAP = (0.2, 0.2, 0.035), 0.04  # of x, y and radius; the least distance of two balls
PALETTE = ((0.9, 0.3, 0.2), (0.2, 0.8, 0.3), (0.25, 0.35, 0.95), (0.85, 0.8, 0.2))  # red, green and blue; on black


def grid(side: int) -> Tensor:
    """(side^2, 2): x and y of the pixels' centres, row by row."""
    y, x = torch.meshgrid(*[(torch.arange(side) + 0.5) / side] * 2, indexing="ij")
    return torch.stack([x, y], 2).flatten(0, 1)


def pairs(n: int, balls: int, perturbed: int, draws: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Properties x, y, radius before and after, and the sign of what shifted in between, 0 elsewhere: (n, balls, 3).

    Uniform among those without overlaps and within bounds, both times. One of the first `perturbed` balls is shifted.
    """
    low, high, found, m = torch.tensor(LOW), torch.tensor(HIGH), [torch.zeros(3, 0, balls, 3)], 4 * n
    while sum(one.shape[1] for one in found) < n:
        z, sign = low + (high - low) * torch.rand(m, balls, 3, generator=draws), torch.zeros(m, balls, 3)
        ball, of = torch.randint(perturbed, (m,), generator=draws), torch.randint(3, (m,), generator=draws)
        sign[torch.arange(m), ball, of] = 2.0 * torch.randint(2, (m,), generator=draws) - 1.0
        later = z + sign * torch.tensor(SHIFTS)
        kept = apart(z) & apart(later) & ((later >= low) & (later <= high)).flatten(1).all(1)
        found.append(torch.stack([z[kept], later[kept], sign[kept]]))
    z, later, sign = torch.cat(found, 1)[:, :n]
    return z, later, sign


def apart(z: Tensor) -> Tensor:
    """(n,): whether balls (n, balls, 3) all leave a gap between them."""
    distances = (z[:, :, None, :2] - z[:, None, :, :2]).norm(dim=3) - z[:, :, None, 2] - z[:, None, :, 2]
    return (distances + torch.eye(z.shape[1]) * 9.0 > GAP).flatten(1).all(1)


def cover(z: Tensor) -> Tensor:
    """(n, balls, pixels): how much of each pixel each of the balls (n, balls, 3) covers, 0 to 1."""
    distance = (z[:, :, None, :2] - grid(SIZE)).norm(dim=3)
    return torch.sigmoid(EDGE * SIZE * (z[:, :, 2:] - distance))


def render(z: Tensor, named: bool) -> Tensor:
    """(n, 3, side, side) of balls (n, balls, 3): all of one colour, or if `named` each of its own."""
    colours = torch.tensor(PALETTE)[: z.shape[1]] if named else torch.tensor(PALETTE)[:1].expand(z.shape[1], 3)
    return functional.fold((cover(z).mT @ colours).mT, SIZE, 1)
