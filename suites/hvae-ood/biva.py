"""The bidirectional-inference VAE (BIVA) of Maaløe et al. 2019 (arXiv 1902.02102), the deeper of the two models whose
LLR>k Havtorn et al. 2021 report.

Every layer below the top has two variables, z_i = (z_i^BU, z_i^TD), which inference reaches from two sides:

    p(x, z) = p(z_L) prod_{i < L} p(z_i^BU | z_>i) p(z_i^TD | z_>i) p(x | z),
    q(z | x) = prod_{i < L} q(z_i^BU | z_<i^BU, x) q(z_L | z_<L^BU, x) prod_{i < L} q(z_i^TD | z_<i^BU, z_>i, x).

First all z^BU are drawn from below, then z_L, then all z^TD from above, where q reads the features of the generative
model (which are those of its prior, too) beside those of a second deterministic path up from x. The bound is,
each q and p given what it hangs on, log p(x | z) less

    sum_{i < L} [log q(z_i^BU) - log p(z_i^BU) + KL(q(z_i^TD) || p(z_i^TD))] + KL(q(z_L) || p(z_L)).

The KL is in closed form where all that q and p hang on is drawn before the variable. That of z_i^BU is not, since its
prior hangs on z_>i, which is drawn given z_i^BU: its term is that of the draw. L>k draws both variables of the lowest k
layers from their conditional prior, and has no term of theirs.

Read in the code of either paper (models/biva.py of larsmaaloee/BIVA; BivaIntermediateStage and BivaTopStage in
oodd/layers/stages.py of JakobHavtorn/hvae-oodd).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from latentbench.core.capabilities import Elbo
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, densities, nets
from latentbench.papers.hvae_ood.maps import Head, ResBlock, Spread
from latentbench.papers.hvae_ood.skip_hvae import SkipHVAE
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Generator, Tensor, nn

#: Mean and log standard deviation.
Normal = tuple[Tensor, Tensor]


@model(
    "biva",
    "Trainable VariationalBound Sampler OutlierScorer LikelihoodHead",
    "hierarchical VAE with bottom-up and top-down variables at each layer (BIVA); outlier scores as skip-hvae",
    examples=(
        Example(
            "binary-image",
            {"latents": (2, 3, 2), "channels": 4, "kernels": (3, 3, 3), "strides": (2, 1, 2), "blocks": 1, "maps": 1},
            "elbo",
        ),
        Example(
            "discrete-image",
            {"latents": (2, 3), "channels": 4, "kernels": (3, 3), "strides": (2, 1), "blocks": 2, "patch": 2},
        ),
    ),
)
class BIVA(SkipHVAE):
    """SkipHVAE's generative model, whose codes below the top are twice as wide, with bidirectional inference.

    Args:
        latents: width of each variable, bottom layer first; below the top there are two of it.
        blocks: residual blocks of a layer, in each of the two paths up and in the one down.
        free_nats: nats of each variable, whole, that cost nothing (layers/_loss.py of BIVA's authors).
        info, maps, patch, channels, kernels, strides, activation, weight_norm, likelihood, warmup, free_share: as of
            SkipHVAE.

    Raises:
        UserError: a parameter is out of its range, or the likelihood does not fit the data.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latents: Sequence[PositiveInt] = (4, 4, 8, 8),
        maps: NonNegativeInt = 2,
        patch: PositiveInt = 1,
        channels: PositiveInt = 64,
        kernels: Sequence[PositiveInt] = (5, 3, 3, 3),
        strides: Sequence[PositiveInt] = (2, 1, 2, 1),
        blocks: PositiveInt = 3,
        activation: str = "relu",
        weight_norm: bool = True,
        likelihood: checks.Choice | None = None,
        warmup: Annotated[float, Ge(0), Le(1)] = 0.0,
        free_nats: NonNegativeFloat = 0.0,
        free_share: Annotated[float, Ge(0), Le(1)] = 0.4,
    ) -> None:
        widths = checks.wholes("latents", latents)
        super().__init__(
            info,
            latents=[2 * width for width in widths[:-1]] + list(widths[-1:]),
            maps=maps,
            patch=patch,
            channels=channels,
            kernels=kernels,
            strides=strides,
            blocks=blocks,
            activation=activation,
            weight_norm=weight_norm,
            likelihood=likelihood,
            warmup=warmup,
            free_nats=free_nats,
            free_share=free_share,
        )
        for name in ("q", "zq", "join_q"):  # of inference from below alone; `up` is the bottom-up path here, too
            del self.parts[name]
        act, (h, w) = nets.ACTIVATIONS[activation], (side // patch for side in self.shape[1:])
        names = ("q_bu", "q_td", "beside", "join_beside", "merge", "z_bu", "join_up")
        parts: dict[str, list[nn.Module]] = {name: [] for name in names}
        for i, (width, kernel, stride) in enumerate(zip(widths, kernels, strides, strict=True)):
            h, w = -(-h // stride), -(-w // stride)
            place, c = (channels, h, w), channels
            path = [ResBlock(c, kernel, stride if b + 1 == blocks else 1, act) for b in range(blocks)]
            parts["beside"].append(nn.Sequential(*path))
            parts["join_beside"].append(nn.Conv2d(2 * c, c, 1))
            parts["merge"].append(nn.Sequential(nn.Conv2d(2 * c, c, 1), ResBlock(c, kernel, 1, act)))
            parts["q_td"].append(Head(place, width, i < maps, act))
            if i + 1 < len(widths):
                parts["q_bu"].append(Head(place, width, i < maps, act))
                parts["z_bu"].append(Spread(place, width, i < maps))
                parts["join_up"].append(nn.Conv2d(3 * c, c, 1))
        self.inference: Any = nn.ModuleDict({name: nn.ModuleList(modules) for name, modules in parts.items()})
        if weight_norm:
            for module in self.inference.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    nn.utils.parametrizations.weight_norm(module)

    def posterior(self, x: Tensor) -> Tensor:
        """The first layer's features of both paths up, (N, 2 channels, h, w): all of q that does not hang on a draw."""
        pixels = self.stem(x)
        up: Tensor = self.parts["up"][0](pixels)
        return torch.cat([up, self._beside(0, pixels, up)], 1)

    def _beside(self, i: int, d: Tensor, up: Tensor) -> Tensor:
        """One layer of the path up that q of the top-down variables starts from; it sees the bottom-up path's."""
        joined: Tensor = self.inference["join_beside"][i](torch.cat([self.inference["beside"][i](d), up], 1))
        return joined

    def _paths(
        self, features: Tensor, generator: Generator, mode: int
    ) -> tuple[list[Tensor], list[Normal], list[Tensor], Tensor]:
        """Every z^BU (the mean in the lowest `mode`), its q, features beside, all bottom first, and `up` at the top."""
        up, beside = features.chunk(2, 1)
        zs: list[Tensor] = []
        qs: list[Normal] = []
        besides = [beside]
        for i, head in enumerate(self.inference["q_bu"]):
            qs.append(head(up))
            zs.append(qs[i][0] if i < mode else densities.normal_draw(*qs[i], generator))
            below = torch.cat([self.inference["z_bu"][i](zs[i]), up, besides[i]], 1)
            up = self.parts["up"][i + 1](self.inference["join_up"][i](below))
            besides.append(self._beside(i + 1, besides[i], up))
        return zs, qs, besides, up

    def _terms(
        self, x: Tensor, d: Tensor, generator: Generator, skip: int = 0, below: str = "sample"
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """log p(x | z) and log q(z) - log p(z) at one draw, each (M,), and each variable's term of the bound, (M,), in
        the order z_1^BU, z_1^TD, z_2^BU, ..., z_L; of the lowest `skip` layers, drawn from the prior, no term."""
        bottom, q_bottom, besides, up = self._paths(d, generator, skip if below == "mode" else 0)
        rate, terms = x.new_zeros(x.shape[0]), []
        e: Tensor | None = None
        for i in reversed(range(len(besides))):
            prior: Normal | None = self.parts["p"][i](e) if e is not None else None
            if prior is not None and i < skip:
                z = prior[0] if below == "mode" else densities.normal_draw(*prior, generator)
            else:
                above = torch.cat([besides[i], up if e is None else e], 1)
                q: Normal = self.inference["q_td"][i](self.inference["merge"][i](above))
                z = densities.normal_draw(*q, generator)
                p = (torch.zeros_like(z), torch.zeros_like(z))
                if prior is not None:
                    (mean_bu, mean), (log_std_bu, log_std) = (t.chunk(2, 1) for t in prior)
                    p = mean, log_std
                rate = rate + _log_ratio(z, q, p)
                terms.append(_kl(q, p))
                if prior is not None:
                    terms.append(_log_ratio(bottom[i], q_bottom[i], (mean_bu, log_std_bu)))
                    rate = rate + terms[-1]
                    z = torch.cat([bottom[i], z], 1)
            e = self._down(i, z, e)
        assert e is not None  # there is at least one layer
        return self.likelihood.log_prob(x.flatten(1), self.last(e)), rate, terms[::-1]

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The negative ELBO with warm-up and free nats; `rate`, `distortion`, and each variable's term (`kl_1` of
        z_1^BU, `kl_2` of z_1^TD, and so on up to z_L)."""
        log_px, _, found = self._terms(batch.x, self.posterior(batch.x), generator)
        weight = min(batch.progress / self.warmup, 1.0) if self.warmup else 1.0
        share = batch.progress / self.free_share if self.free_share else 1.0
        free = self.free_nats * min(max(2.0 - 2.0 * share, 0.0), 1.0)
        terms = torch.stack(found)
        cost = (terms.clamp_min(free) if free > 0 else terms).sum(0).mean()  # a draw's term may be below zero
        rates, distortion = terms.detach().mean(1), -log_px.mean()
        return {
            "loss": distortion + weight * cost,
            "rate": rates.sum(),
            "distortion": distortion.detach(),
            **{f"kl_{i + 1}": rate for i, rate in enumerate(rates)},
        }

    def elbo(self, x: Tensor, generator: Generator) -> Elbo:
        """One-sample distortion, and the sum of the variables' terms at that sample."""
        log_px, _, terms = self._terms(x, self.posterior(x), generator)
        return Elbo(rate=torch.stack(terms).sum(0), distortion=-log_px)


def _log_ratio(z: Tensor, q: Normal, p: Normal) -> Tensor:
    """log q(z) - log p(z) of diagonal Gaussians, (M, ...) to (M,)."""
    from_q, from_p = ((z - mean) * torch.exp(-log_std) for mean, log_std in (q, p))
    return (0.5 * (from_p * from_p - from_q * from_q) + p[1] - q[1]).flatten(1).sum(1)


def _kl(q: Normal, p: Normal) -> Tensor:
    """KL between diagonal Gaussians, (M, ...) to (M,): the mean of `_log_ratio` over q."""
    d, ratio = (q[0] - p[0]) * torch.exp(-p[1]), q[1] - p[1]
    return (0.5 * (d * d + torch.exp(2.0 * ratio) - 1.0) - ratio).flatten(1).sum(1)
