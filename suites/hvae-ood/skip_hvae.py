"""A convolutional VAE with several stochastic layers and deterministic skip connections, which scores outliers by how
much of the bound its lowest layers bear: LLR>k of Havtorn et al. 2021 (arXiv 2102.08248).

    q(z | x) = q(z_1 | x) q(z_2 | z_1, x) ... q(z_L | z_<L, x),   p(x, z) = p(z_L) p(z_{L-1} | z_L) ... p(x | z_1..z_L)

Replacing q by the conditional prior in the lowest k layers gives another lower bound (eq. 5),

    L>k = E_{p(z_<=k | z_>k) q(z_>k | x)} [ log p(x | z) + log p(z_>k) - log q(z_>k | x) ],   LLR>k = L - L>k   (eq. 7),

high where the upper, semantic layers alone do not explain x, however well low-level features do. One network gives all
scores: which, and k, are settings of the metrics in `scores`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from latentbench.core.capabilities import Elbo
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, densities, likelihoods, nets
from latentbench.papers.hvae_ood.compressed import png_nats
from latentbench.papers.hvae_ood.maps import Head, ResBlock, Spread
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Generator, Tensor, nn

#: What `outlier_score` can be.
SCORES = ("likelihood", "above", "llr", "complexity")


@model(
    "skip-hvae",
    "Trainable VariationalBound Sampler OutlierScorer LikelihoodHead",
    "convolutional hierarchical VAE with skip connections; outlier scores by likelihood, L>k, LLR>k or complexity",
    examples=(
        Example(
            "binary-image",
            {"latents": (2, 3), "channels": 4, "kernels": (3, 3), "strides": (2, 2), "blocks": 1},
            "elbo",
        ),
        Example(
            "discrete-image",
            {
                "latents": (2, 3),
                "channels": 4,
                "kernels": (3, 3),
                "strides": (2, 1),
                "blocks": 2,
                "maps": 2,
                "patch": 2,
            },
        ),
    ),
)
class SkipHVAE(nn.Module):
    """A hierarchical VAE of images with skip connections in both directions.

    Args:
        info: the data; images.
        latents: width of each stochastic layer, bottom first; channels where it is a map.
        maps: how many of them, from the bottom, are maps at their layer's resolution; the others are vectors.
        patch: side of the squares of pixels that the convolutions take as one place; 1 is the paper's network.
        channels, activation, weight_norm: of every convolution.
        kernels, strides: of each layer's residual blocks, bottom first; the last block of a layer strides.
        blocks: residual blocks of a layer, in each direction.
        likelihood: the head of p(x | z), see `likelihoods`.
        warmup: share of training over which the weight of the KL terms rises from 0 to 1.
        free_nats: nats of each layer's KL (of each place of a map) that cost nothing, spread over its dimensions.
        free_share: share of training with them; over its second half they fall linearly to none.

    Raises:
        UserError: a parameter is out of its range, or the likelihood does not fit the data.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latents: Sequence[PositiveInt] = (8, 16, 8),
        maps: NonNegativeInt = 1,
        patch: PositiveInt = 1,
        channels: PositiveInt = 64,
        kernels: Sequence[PositiveInt] = (5, 3, 3),
        strides: Sequence[PositiveInt] = (2, 2, 1),
        blocks: PositiveInt = 3,
        activation: str = "relu",
        weight_norm: bool = True,
        likelihood: checks.Choice | None = None,
        warmup: Annotated[float, Ge(0), Le(1)] = 0.0,
        free_nats: NonNegativeFloat = 0.0,
        free_share: Annotated[float, Ge(0), Le(1)] = 0.4,
    ) -> None:
        super().__init__()
        self.shape = checks.image_shape("SkipHVAE", info)
        self.latents = checks.wholes("latents", latents)
        n = len(self.latents)
        kernels, strides = checks.wholes("kernels", kernels), checks.wholes("strides", strides)
        if n == 0 or len(kernels) != n or len(strides) != n:
            raise UserError(f"latents, kernels, strides have {n}, {len(kernels)}, {len(strides)} entries", fix="equal")
        if any(k % 2 == 0 for k in kernels) or max(strides) > 2:
            raise UserError(f"kernels {kernels}, strides {strides}", fix="odd kernels, strides of 1 or 2")
        self.warmup = checks.number("warmup", warmup, most=1.0)
        self.free_nats = checks.number("free_nats", free_nats)
        self.free_share = checks.number("free_share", free_share, most=1.0)
        maps, blocks = checks.whole("maps", maps, 0), checks.whole("blocks", blocks)
        act = nets.ACTIVATIONS[checks.one_of("activation", activation, nets.ACTIVATIONS)]
        self.likelihood = likelihoods.build_likelihood(likelihood, info)
        self.levels = info.levels or 2
        patch, (h, w) = checks.whole("patch", patch), self.shape[1:]
        if h % patch or w % patch:
            raise UserError(f"patch is {patch} for images of {h}x{w}", fix="a divisor of both")
        c, depth, (h, w) = checks.whole("channels", channels), self.shape[0] * patch**2, (h // patch, w // patch)
        centre = [nets.Centre(info.levels)] if info.support == "discrete" and info.levels else []
        self.stem = nn.Sequential(*centre, nn.PixelUnshuffle(patch), nn.Conv2d(depth, c, 3, 1, 1))
        parts: dict[str, list[nn.Module]] = {
            name: [] for name in ("up", "q", "p", "zq", "zp", "join_q", "join_p", "down")
        }
        for i, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
            before, (h, w) = (h, w), (-(-h // stride), -(-w // stride))
            place = (c, h, w)
            up = [ResBlock(c, kernel, stride if b + 1 == blocks else 1, act) for b in range(blocks)]
            down = [
                ResBlock(c, kernel, stride if b == 0 else 1, act, before if b == 0 else None) for b in range(blocks)
            ]
            parts["up"].append(nn.Sequential(*up))
            parts["down"].append(nn.Sequential(*down))
            parts["q"].append(Head(place, self.latents[i], i < maps, act))
            parts["zp"].append(Spread(place, self.latents[i], i < maps))
            if i + 1 < n:
                parts["p"].append(Head(place, self.latents[i], i < maps, act))
                parts["zq"].append(Spread(place, self.latents[i], i < maps))
                parts["join_q"].append(nn.Conv2d(2 * c, c, 1))
                parts["join_p"].append(nn.Conv2d(2 * c, c, 1))
        self.parts: Any = nn.ModuleDict({name: nn.ModuleList(modules) for name, modules in parts.items()})
        outputs = depth * self.likelihood.outputs
        self.last = nn.Sequential(act(), nn.Conv2d(c, outputs, 3, 1, 1), nn.PixelShuffle(patch), nn.Flatten())
        if checks.flag("weight_norm", weight_norm):
            for module in self.modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                    nn.utils.parametrizations.weight_norm(module)

    def _up(self, d: Tensor, generator: Generator, mode: int) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Codes and q's parameters, bottom first, from the first layer's features; its means in the lowest `mode`."""
        zs: list[Tensor] = []
        qs: list[tuple[Tensor, Tensor]] = []
        for i, head in enumerate(self.parts["q"]):
            if i:
                below = self.parts["zq"][i - 1](zs[-1])
                d = self.parts["up"][i](self.parts["join_q"][i - 1](torch.cat([below, d], 1)))
            mean, log_std = head(d)
            qs.append((mean, log_std))
            zs.append(mean if i < mode else _draw(mean, log_std, generator))
        return zs, qs

    def _terms(
        self, x: Tensor, d: Tensor, generator: Generator, skip: int = 0, below: str = "sample"
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """log p(x | z) and log q(z) - log p(z) at one draw, each (M,), and each layer's closed-form KL given the layers
        around it, (M, ...), bottom first; of the lowest `skip` layers, drawn from the conditional prior, no term."""
        zs, qs = self._up(d, generator, skip if below == "mode" else 0)
        rate, kls = x.new_zeros(x.shape[0]), []
        e: Tensor | None = None
        for i in reversed(range(len(zs))):
            z = zs[i]
            prior = self.parts["p"][i](e) if e is not None else (torch.zeros_like(z), torch.zeros_like(z))
            if i < skip:
                z = prior[0] if below == "mode" else _draw(prior[0], prior[1], generator)
            else:
                rate = rate + densities.normal(z.flatten(1), *(t.flatten(1) for t in qs[i]))
                rate = rate - densities.normal(z.flatten(1), *(t.flatten(1) for t in prior))
                kls.append(_kl(qs[i], prior))
            e = self._down(i, z, e)
        assert e is not None  # there is at least one layer
        return self.likelihood.log_prob(x.flatten(1), self.last(e)), rate, kls[::-1]

    def _down(self, i: int, z: Tensor, e: Tensor | None) -> Tensor:
        u = self.parts["zp"][i](z)
        out: Tensor = self.parts["down"][i](u if e is None else self.parts["join_p"][i](torch.cat([u, e], 1)))
        return out

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The negative ELBO with warm-up and free nats; `rate`, `distortion`, and the true KL of each layer."""
        log_px, _, kls = self._terms(batch.x, self.posterior(batch.x), generator)
        weight = min(batch.progress / self.warmup, 1.0) if self.warmup else 1.0
        share = batch.progress / self.free_share if self.free_share else 1.0
        free = self.free_nats * min(max(2.0 - 2.0 * share, 0.0), 1.0)
        cost = sum(kl.clamp_min(free / kl.shape[1]).flatten(1).sum(1).mean() for kl in kls)
        rates = [kl.detach().flatten(1).sum(1).mean() for kl in kls]
        distortion = -log_px.mean()
        return {
            "loss": distortion + weight * cost,
            "rate": torch.stack(rates).sum(),
            "distortion": distortion.detach(),
            **{f"kl_{i + 1}": rate for i, rate in enumerate(rates)},
        }

    def elbo(self, x: Tensor, generator: Generator) -> Elbo:
        """One-sample distortion, and the sum of the layers' closed-form KL at that sample."""
        log_px, _, kls = self._terms(x, self.posterior(x), generator)
        return Elbo(rate=torch.stack([kl.flatten(1).sum(1) for kl in kls]).sum(0), distortion=-log_px)

    def posterior(self, x: Tensor) -> Tensor:
        """The first layer's features, (N, channels, h, w): all of q that does not hang on a draw."""
        features: Tensor = self.parts["up"][0](self.stem(x))
        return features

    def log_importance_weights(self, x: Tensor, posterior: Tensor, k: int, generator: Generator) -> Tensor:
        """log p(x, z_i) - log q(z_i | x) for k fresh draws, (k, N) nats; memory grows with k * N."""
        return self.log_weights_above(x, posterior, 0, k, generator)

    def log_weights_above(
        self, x: Tensor, posterior: Tensor, skip: int, k: int, generator: Generator, below: str = "sample"
    ) -> Tensor:
        """The same with the lowest `skip` layers drawn from the conditional prior (the summand of L>k), (k, N) nats."""
        rows, features = (t.repeat(k, *[1] * (t.dim() - 1)) for t in (x, posterior))
        log_px, rate, _ = self._terms(rows, features, generator, skip, below)
        return (log_px - rate).unflatten(0, (k, x.shape[0]))

    def outlier_score(
        self,
        x: Tensor,
        generator: Generator,
        *,
        score: str = "llr",
        skip: int = 1,
        samples: int = 1,
        samples_above: int = 1,
        below: str = "mode",
    ) -> Tensor:
        """(N,) nats, high for outliers. Images more than 64 at a time are taken in turn.

        Args:
            x: (N, *shape).
            generator: source of the draws.
            score: ``llr``; the negative bound, whole (``likelihood``) or L>k alone (``above``); or the negative whole
                bound less the length of the image as PNG (``complexity``, Serra et al. 2020).
            skip: k of L>k and LLR>k, less than the number of layers.
            samples, samples_above: importance samples of the whole bound and of L>k (1 gives the ELBO).
            below: how the lowest k layers are drawn in L>k: ``sample`` (eq. 5), or ``mode``, the prior's means and q's.

        Raises:
            UserError: a setting is out of its range.
        """
        checks.one_of("score", score, SCORES)
        checks.one_of("below", below, ("mode", "sample"))
        whole, above = checks.whole("samples", samples), checks.whole("samples_above", samples_above)
        if checks.whole("skip", skip, 0) >= len(self.latents):
            raise UserError(f"skip is {skip} with {len(self.latents)} layers", fix="the topmost layer must stay")
        blocks = []
        for rows in x.split(64):
            features = self.posterior(rows)
            if score == "above":
                found = -self._bound(rows, features, skip, above, below, generator)
            else:
                found = -self._bound(rows, features, 0, whole, below, generator)
            if score == "llr":
                found = -found - self._bound(rows, features, skip, above, below, generator)
            elif score == "complexity":
                found = found - png_nats(rows, self.levels)
            blocks.append(found)
        return torch.cat(blocks)

    def _bound(self, x: Tensor, features: Tensor, skip: int, samples: int, below: str, generator: Generator) -> Tensor:
        """L>skip with importance samples, 16 at a time, (N,) nats."""
        chunks = [min(16, samples - done) for done in range(0, samples, 16)]
        weights = [self.log_weights_above(x, features, skip, k, generator, below) for k in chunks]
        return densities.log_mean_exp(torch.cat(weights))

    def sample(self, n: int, generator: Generator) -> Tensor:
        """(n, *shape) draws of x, every layer sampled."""
        like = next(self.parameters())
        e: Tensor | None = None
        for i in reversed(range(len(self.latents))):
            if e is None:
                shape = self.parts["zp"][i].code
                z = torch.randn((n, *shape), generator=generator, device=like.device, dtype=like.dtype)
            else:
                mean, log_std = self.parts["p"][i](e)
                z = _draw(mean, log_std, generator)
            e = self._down(i, z, e)
        assert e is not None
        return self.likelihood.sample(self.last(e), generator).unflatten(1, self.shape)


def _draw(mean: Tensor, log_std: Tensor, generator: Generator) -> Tensor:
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return torch.addcmul(mean, torch.exp(log_std), noise)


def _kl(q: tuple[Tensor, Tensor], p: tuple[Tensor, Tensor]) -> Tensor:
    """KL between diagonal Gaussians, elementwise."""
    d = (q[0] - p[0]) * torch.exp(-p[1])
    ratio = q[1] - p[1]
    return 0.5 * (d * d + torch.exp(2.0 * ratio) - 1.0) - ratio
