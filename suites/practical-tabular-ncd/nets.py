"""Encoders of tables, E of them trained side by side: PBN (section 3.4), and TabularNCD, its rival of pairs.

Copies differ in what is hidden from them, rates, dropout, latent dimensions and weights of losses; none sees another.
A label is -1 where it is hidden or novel; `shut` says which classes or clusters a copy does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

Settings = Mapping[str, Tensor]  # (E,) each


class Layers(nn.Module):
    """(E, n, sizes[0]) to (E, n, sizes[-1]): linear maps, between them ReLU, batch norm and dropout.

    The start is that of `nn.Linear`; of the inputs a copy uses `inputs` (E,), all if none are given.
    """

    def __init__(self, copies: int, sizes: tuple[int, ...], draws: Generator, inputs: Tensor | None = None) -> None:
        super().__init__()
        bounds = [torch.full((copies, 1, 1), a**-0.5) for a in sizes[:-1]]
        bounds[0] = bounds[0] if inputs is None else inputs.float()[:, None, None] ** -0.5
        self.weights, self.biases, self.gains, self.shifts = (nn.ParameterList() for _ in range(4))
        for i, (bound, a, b) in enumerate(zip(bounds, sizes, sizes[1:], strict=False)):
            self.weights.append(nn.Parameter(bound * (2 * torch.rand(copies, a, b, generator=draws) - 1)))
            self.biases.append(nn.Parameter(bound * (2 * torch.rand(copies, 1, b, generator=draws) - 1)))
            if i < len(sizes) - 2:
                self.gains.append(nn.Parameter(torch.ones(copies, b)))
                self.shifts.append(nn.Parameter(torch.zeros(copies, b)))
        self.running = [(torch.zeros(copies * b), torch.ones(copies * b)) for b in sizes[1:-1]]

    def forward(self, x: Tensor, dropout: Tensor, draws: Generator | None = None) -> Tensor:
        """With `draws` as in training: statistics of these rows, and dropout with probabilities (E, 1, 1)."""
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if i < len(self.gains):
                rows, scales = x.relu().mT.flatten(0, 1)[None], (self.gains[i].flatten(), self.shifts[i].flatten())
                rows = functional.batch_norm(rows, *self.running[i], *scales, draws is not None)
                x = rows[0].unflatten(0, (len(x), -1)).mT
                if draws is not None:
                    x = x * (torch.rand(x.shape[1:], generator=draws) >= dropout) / (1 - dropout)
        return x


class Nets(nn.Module):
    """Encoders with hidden layers of 3/4 and 1/2 of the d columns, and `heads` (the sizes of their layers) on latents.

    Of the settings, ``latent`` whole numbers of latents and ``dropout`` are used.
    """

    def __init__(self, d: int, s: Settings, heads: Mapping[str, tuple[int, ...]], draws: Generator) -> None:
        super().__init__()
        copies, largest = len(s["latent"]), int(s["latent"].max())
        self.dropout, self.used = s["dropout"][:, None, None], (torch.arange(largest) < s["latent"][:, None])[:, None]
        self.encoder = Layers(copies, (d, *hidden_sizes(d), largest), draws)
        self.heads = nn.ModuleDict({k: Layers(copies, (largest, *b), draws, s["latent"]) for k, b in heads.items()})

    def encode(self, x: Tensor, draws: Generator | None = None) -> Tensor:
        """(n, d) or (E, n, d) to (E, n, L), zeros beyond a copy's own latents."""
        return self.encoder(x.expand(len(self.used), *x.shape[-2:]), self.dropout, draws) * self.used

    def head(self, name: str, z: Tensor, draws: Generator | None = None) -> Tensor:
        return self.heads[name](z, self.dropout, draws)


def hidden_sizes(d: int) -> tuple[int, int]:
    return max(1, 3 * d // 4), max(1, d // 2)


Losses = Callable[[Tensor], Tensor]


def train(net: nn.Module, rates: Tensor, losses: Losses, n: int, epochs: int, batch: int, draws: Generator) -> None:
    """AdamW on `losses`, of rows' numbers among n, (E,), each copy at its own rate (E,)."""
    parameters, top = list(net.parameters()), float(rates.max())
    adam = torch.optim.AdamW(parameters, lr=top)
    shares = [(rates / top).reshape(-1, *[1] * (p.dim() - 1)) for p in parameters]
    for _ in range(epochs):
        for rows in torch.randperm(n, generator=draws).split(batch):
            if len(rows) > 1:
                adam.zero_grad()
                losses(rows).sum().backward()
                before = [p.detach().clone() for p in parameters]
                adam.step()
                with torch.no_grad():  # a step is linear in the rate
                    for p, old, share in zip(parameters, before, shares, strict=True):
                        p.copy_(old + share * (p - old))


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """(E,) means over rows with a label, of logits (E, n, C) and labels (E, n); 0 where none has one."""
    each = functional.cross_entropy(logits.mT, labels, ignore_index=-1, reduction="none")
    return each.sum(1) / (labels >= 0).sum(1).clamp(min=1)


def pbn_losses(net: Nets, x: Tensor, labels: Tensor, shut: Tensor, w: Tensor, draws: Generator | None) -> Tensor:
    """(E,) w CE + (1 - w) MSE: of labelled rows and of all rows of x (n, d), through latents of length 1.

    The MSE is summed over columns. Heads are ``classes`` and ``decoder``; labels are (E, n), shut is (E, 1, C).
    """
    z = functional.normalize(net.encode(x, draws), dim=2)
    logits = net.head("classes", z, draws).masked_fill(shut, -torch.inf)
    errors = ((net.head("decoder", z, draws) - x) ** 2).sum(2).mean(1)
    return w * cross_entropies(logits, labels) + (1 - w) * errors


def alike(z: Tensor, free: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Pseudo labels of pairs (E, n, n), and which pairs there are: of two different `free` (E, n) rows.

    A pair is alike if one is of the other's nearest by cosine: a `share` (E,) of the free rows, at least 1.
    """
    pairs = free[:, :, None] & free[:, None] & ~torch.eye(free.shape[1], dtype=torch.bool)
    unit = functional.normalize(z.detach(), dim=2)
    cosines = (unit @ unit.mT).masked_fill(~pairs, -torch.inf)
    counts = (share * free.sum(1)).long().clamp(min=1, max=free.shape[1] - 1)
    nearest = cosines.topk(int(counts.max()), dim=2).values
    near = (cosines >= nearest.gather(2, (counts - 1)[:, None, None].expand(-1, free.shape[1], 1))) & pairs
    return near | near.mT, pairs


def pair_losses(logits: Tensor, same: Tensor, pairs: Tensor, eps: float = 1e-7) -> Tensor:
    """(E,) mean over pairs of the cross-entropy of p_i' p_j, the probability that both are in one cluster."""
    p = logits.softmax(2)
    together = p @ p.mT
    each = torch.where(same, together + eps, 1 - together + eps).log()
    return -(each * pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)


def tabular_losses(
    net: Nets, x: Tensor, moved: Tensor, labels: Tensor, shut: Settings, s: Settings, draws: Generator | None
) -> Tensor:
    """(E,) w1 CE + (1 - w1) MSE of ``classes``, novel rows being one more, and w2 BCE + (1 - w2) MSE of ``clusters``.

    The MSE is that of logits of rows x (n, d) and of `moved` (E, n, d) ones; w1, w2 are settings ``w1``, ``w2``.
    """
    free = labels < 0
    z, other = net.encode(x, draws), net.encode(moved, draws)
    losses = torch.zeros(len(z))
    for name, weight, rows in ("classes", s["w1"], torch.ones_like(free)), ("clusters", s["w2"], free):
        logits, again = (net.head(name, code, draws) for code in (z, other))
        apart = ((logits - again) ** 2).masked_fill(shut[name], 0.0).sum(2) / (~shut[name]).sum(2)
        logits = logits.masked_fill(shut[name], -torch.inf)
        if name == "classes":
            loss = cross_entropies(logits, torch.where(free, logits.shape[2] - 1, labels))
        else:
            loss = pair_losses(logits, *alike(z, free, s["share"]))
        losses = losses + weight * loss + (1 - weight) * (apart * rows).sum(1) / rows.sum(1).clamp(min=1)
    return losses


def neighbours(x: Tensor, free: Tensor, most: int = 100) -> Tensor:
    """(n, m) numbers of the rows nearest to each of x (n, d) by cosine, among those that are `free` (n,) as it is."""
    unit = functional.normalize(x, dim=1)
    cosines = (unit @ unit.T).masked_fill((free[:, None] != free) | torch.eye(len(x), dtype=torch.bool), -torch.inf)
    return cosines.topk(min(most, int(free.sum()) - 1, int((~free).sum()) - 1), dim=1).indices
