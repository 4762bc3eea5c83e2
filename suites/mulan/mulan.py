"""Diffusion with learned adaptive noise: a schedule for each coordinate, given a latent variable drawn from the data.

Sahoo et al. 2024, "MuLAN" (arXiv 2312.13236), section 3: c is a set of k of n binary units, drawn from logits of x by
perturb-and-choose; the polynomial schedule's coefficients are a network of c, and the denoiser sees c.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.diffusion.bound import Diffusion
from latentbench.models.diffusion.denoisers import build_network
from latentbench.models.diffusion.schedules import Polynomial
from pydantic import PositiveInt
from torch import Generator, Tensor, nn
from torch.nn import functional


@model(
    "mulan",
    "Trainable BoundTerms Sampler PathSampler",
    "diffusion whose multivariate noise schedule depends on a latent variable drawn from the datum",
    examples=(
        Example(
            "real-vector",
            {
                "gamma": [-2.0, 4.0],
                "sampling_steps": 2,
                "network": {"mlp": {"width": 16, "layers": 2}},
                "encoder": {"mlp": {"width": 16, "layers": 2}},
                "latents": 5,
                "chosen": 2,
                "schedule_width": 8,
            },
        ),
    ),
)
class MuLAN(Diffusion):
    """A diffusion model whose noise adapts to the datum through a latent variable that both directions know.

    Args:
        info, network, gamma, sampling_steps: as for `Diffusion`.
        encoder: the network that gives the logits of q(c | x), through one map of the data's shape.
        latents, chosen: n and k.
        schedule_width: width of both hidden layers of the schedule's network.

    Noise is Gumbel, so that c is the set of the first k of a Plackett-Luce order, and the cost counted is the KL of the
    ordered draw, chained over its k choices: an upper bound on the KL of the set. (The authors' code counts the first
    choice alone, which is no bound on the KL of k, and perturbs by sums of gamma variables, for which none is known.)
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        network: checks.Choice = "mlp",
        encoder: checks.Choice = "mlp",
        latents: Annotated[int, Ge(2)] = 50,
        chosen: PositiveInt = 15,
        schedule_width: PositiveInt = 64,
        gamma: tuple[float, float] | list[float] = (-13.3, 5.0),
        sampling_steps: int = 100,
    ) -> None:
        if checks.whole("chosen", chosen) >= checks.whole("latents", latents, 2):
            raise UserError(f"chosen is {chosen} of {latents} latents", fix="choose fewer than there are")
        super().__init__(info, network, gamma, sampling_steps, context=latents)
        self.latents, self.chosen = latents, chosen
        self.encoder = build_network(encoder, info)
        self.logits = nn.Linear(info.dims, latents)
        self.schedule = Polynomial(
            self.low, self.high, info.dims, latents, checks.whole("schedule_width", schedule_width)
        )

    def draw_context(self, x: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        logits = self.logits(functional.silu(self.encoder(x, x.new_zeros(len(x)))).flatten(1))
        perturbed = logits + gumbel(logits, generator)
        order = perturbed.detach().argsort(1, descending=True)
        return straight_through(perturbed, order[:, : self.chosen]), ordered_kl(logits.gather(1, order), self.chosen)

    def prior_context(self, n: int, generator: Generator, like: Tensor) -> Tensor:
        score = torch.rand((n, self.latents), generator=generator, device=like.device, dtype=like.dtype)
        return members(score.argsort(1)[:, : self.chosen], score)


def gumbel(like: Tensor, generator: Generator) -> Tensor:
    """Standard Gumbel noise of the shape of `like`."""
    u = torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype)
    return -torch.log(-torch.log(u.clamp(1e-7, 1.0 - 1e-7)))


def members(index: Tensor, like: Tensor) -> Tensor:
    """The set of `index` (N, k) as zeros and ones (N, n)."""
    return torch.zeros_like(like).scatter(1, index, 1.0)


def straight_through(perturbed: Tensor, index: Tensor) -> Tensor:
    """The chosen set, with the gradient of the centred and normalised scores (Sahoo et al. 2023, arXiv 2205.15213)."""
    centred = perturbed - perturbed.mean(1, keepdim=True)
    soft = centred / centred.norm(dim=1, keepdim=True).clamp(min=1e-6)
    return members(index, perturbed.detach()) - soft.detach() + soft


def ordered_kl(logits: Tensor, k: int) -> Tensor:
    """sum_j KL(softmax of the logits that are left || uniform over them), (N,) nats, for j = 1 .. k choices.

    Given the first choices, the next is a categorical draw from those left, under q and under the uniform prior; the
    mean over draws is KL(ordered k of n under q || under the prior), no less than the KL of the unordered sets.

    Args:
        logits: (N, n), in the order in which they were drawn.
        k: choices, less than n.
    """
    n = logits.shape[1]
    position = torch.arange(n, device=logits.device)
    taken = position < position[:k, None]  # (k, n): those drawn before choice j
    left = torch.log_softmax(logits[:, None, :].masked_fill(taken, -1e9), -1)
    log_uniform = -torch.log((n - position[:k]).to(logits.dtype))
    return (left.exp() * (left - log_uniform[:, None])).sum((1, 2))
