"""Layouts of categorical codes: how many variables of how many categories, and how networks see them.

A code is one-hot (or relaxed), (..., L, C) for L variables of C categories. Two categories are a Bernoulli variable:
networks then predict one logit a variable and see its second component alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from latentbench.core.errors import UserError

MOST_STATES = 1 << 16
"""Codes are enumerated up to this many states."""


@dataclass(frozen=True)
class Layout:
    """L variables of C categories each, written ``CxL``: ``8x4`` is four variables of eight categories."""

    categories: int
    latents: int

    @classmethod
    def parse(cls, text: object) -> Layout:
        """
        Raises:
            UserError: `text` is not of the form ``CxL`` with C >= 2 and L >= 1.
        """
        found = re.fullmatch(r"(\d+)x(\d+)", text) if isinstance(text, str) else None
        if found is None or int(found[1]) < 2 or int(found[2]) < 1:
            raise UserError(f"layout is {text!r}", fix="categories x variables, such as 8x4 or 2x200")
        return cls(int(found[1]), int(found[2]))

    @property
    def width(self) -> int:
        """Numbers that a network predicts for a code, and that a network on top of it reads."""
        return self.latents if self.categories == 2 else self.latents * self.categories

    def logits(self, out: Tensor) -> Tensor:
        """A network's outputs (..., width) as logits (..., L, C)."""
        if self.categories == 2:
            return torch.stack([torch.zeros_like(out), out], -1)
        return out.unflatten(-1, (self.latents, self.categories))

    def flat(self, z: Tensor) -> Tensor:
        """A code (..., L, C) as a network reads it, (..., width)."""
        return z[..., 1] if self.categories == 2 else z.flatten(-2)

    def states(self, device: torch.device | None = None) -> Tensor:
        """All C**L codes, one-hot, (S, L, C) float32.

        Raises:
            UserError: there are more than `MOST_STATES`.
        """
        if self.categories**self.latents > MOST_STATES:
            raise UserError(
                f"{self.categories}x{self.latents} has {self.categories}**{self.latents} states",
                fix=f"enumeration is for layouts of at most {MOST_STATES}, such as 8x4",
            )
        digits = torch.cartesian_prod(*[torch.arange(self.categories, device=device)] * self.latents)
        return torch.nn.functional.one_hot(digits.reshape(-1, self.latents), self.categories).float()


def exponential(shape: tuple[int, ...], generator: Generator, like: Tensor) -> Tensor:
    """Draws from Exp(1), positive. -log of one is a Gumbel draw."""
    u = torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype)
    return (-torch.log1p(-u)).clamp_min(1e-20)


def one_hot(index: Tensor, like: Tensor) -> Tensor:
    """(..., L) integers to (..., L, C), in the dtype of `like` (..., L, C)."""
    return torch.zeros_like(like).scatter(-1, index.unsqueeze(-1), 1.0)


def draw(logits: Tensor, generator: Generator, *leading: int) -> Tensor:
    """Exact one-hot draws from softmax(logits), (*leading, *logits.shape), without gradient (Gumbel-max)."""
    logits = logits.detach().expand(*leading, *logits.shape)
    noise = exponential(tuple(logits.shape), generator, logits)
    return one_hot((logits - noise.log()).argmax(-1), logits)


def log_prob(z: Tensor, logits: Tensor) -> Tensor:
    """log q(z) of each variable, one-hot z (..., L, C), result (..., L) nats."""
    return (z * torch.log_softmax(logits, -1)).sum(-1)


def kl(logits: Tensor, prior: Tensor) -> Tensor:
    """KL(softmax(logits) || softmax(prior)) summed over the variables, (..., L, C) to (...) nats."""
    log_q = torch.log_softmax(logits, -1)
    return (log_q.exp() * (log_q - torch.log_softmax(prior, -1))).sum((-1, -2))


def expectation_gradient(logits: Tensor, costs: Tensor, states: Tensor) -> Tensor:
    """The exact gradient of E_q[cost] with respect to the logits, by enumeration.

    Args:
        logits: (N, L, C).
        costs: (S, N), the cost of every state for every datum.
        states: (S, L, C).

    Returns:
        (N, L, C): sum over states of q(s) cost(s) (s - softmax(logits)).
    """
    weights = torch.einsum("slc,nlc->sn", states, torch.log_softmax(logits, -1)).exp() * costs
    return torch.einsum("sn,slc->nlc", weights, states) - weights.sum(0)[:, None, None] * logits.softmax(-1)
