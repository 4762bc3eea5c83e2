"""Neural flow diffusion: a learned Gaussian forward process, trained with its reversal on one variational bound.

Bartosh, Vetrov & Naesseth 2024, "NFDM" (arXiv 2404.12940). The forward map z_t = F(eps, t, x) = mu(x, t) +
sigma(x, t) eps follows, at fixed x and eps, an equation of drift f(z, t, x) = mu' + (sigma' / sigma)(z - mu). For any
volatility g(t) the process reversed in time has drift f - g^2 / 2 grad log q(z | x); the model takes it at a prediction
x_hat(z, t), and

    -log p(x) <= E[-log p(x | z_0)] + E_t[ |drift(z_t, t, x) - drift(z_t, t, x_hat)|^2 / (2 g(t)^2) ]

(the prior term is zero: z_1 = eps). With mu = alpha x, sigma of a variance-preserving schedule it is the bound of VDM.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
from annotated_types import Gt, Le
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.diffusion.denoisers import build_network
from latentbench.models.diffusion.ends import Ends, stratified
from latentbench.models.diffusion.paths import euler
from pydantic import NonNegativeFloat, PositiveInt
from torch import Generator, Tensor, nn

REACH = 3.0
"""Learned log standard deviations stay within +-3 t (1 - t) of the geometric path between the ends."""


class Map(NamedTuple):
    """mu, log sigma and their derivatives in time at (x, t), each (N, *shape)."""

    mean: Tensor
    log_std: Tensor
    mean_rate: Tensor
    log_std_rate: Tensor

    def flow(self, z: Tensor) -> Tensor:
        """f(z, t, x), the drift of the map itself."""
        return self.mean_rate + self.log_std_rate * (z - self.mean)

    def score(self, z: Tensor) -> Tensor:
        """grad log q(z | x)."""
        return (self.mean - z) * torch.exp(-2.0 * self.log_std)


@model(
    "nfdm",
    "Trainable BoundTerms Sampler PathSampler",
    "diffusion with a learned Gaussian forward map, and straight paths if wanted",
    examples=(
        Example(
            "discrete-vector",
            {
                "network": {"mlp": {"width": 16, "layers": 2}},
                "forward_network": {"mlp": {"width": 16, "layers": 2}},
                "delta": 0.3,
                "sampling_steps": 2,
            },
            "bound",
        ),
        Example(
            "real-vector",
            {
                "network": {"mlp": {"width": 16, "layers": 2}},
                "forward_network": {"mlp": {"width": 16, "layers": 2}},
                "delta": 0.3,
                "curvature": 0.01,
                "sampling_steps": 3,
            },
        ),
    ),
)
class NFDM(nn.Module):
    """A diffusion model that learns both directions.

    Args:
        info: the data: binary, discrete or real.
        network: the network of x_hat, ``mlp`` or ``unet`` with its parameters.
        forward_network: that of the forward map's mean and scale; it starts at the map (1 - t) x + delta^(1-t) eps.
        delta: standard deviation of z_0 about x, on the diffusion's scale.
        curvature: weight of E|d/dt f(z, t, x_hat)|^2 along the deterministic paths (NFDM-OT, section 5.1).
        sampling_steps: Euler-Maruyama steps of `sample`.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        network: checks.Choice = "mlp",
        forward_network: checks.Choice = "mlp",
        delta: Annotated[float, Gt(0), Le(0.5)] = 0.01,
        curvature: NonNegativeFloat = 0.0,
        sampling_steps: PositiveInt = 100,
    ) -> None:
        super().__init__()
        self.log_delta = math.log(checks.number("delta", delta, above=True, most=0.5))
        self.curvature = checks.number("curvature", curvature)
        self.steps = checks.whole("sampling_steps", sampling_steps)
        self.shape = tuple(info.shape)
        self.ends = Ends(info, 2.0 * self.log_delta)
        self.network = build_network(network, info)
        self.forward_network = build_network(forward_network, info, outputs=2)
        last = nn.Linear(32, 1)
        nn.init.zeros_(last.weight)
        # near the best value where nothing is learned yet: g^2 = sigma^2 d/dt log(sigma^2 / mu^2)
        nn.init.constant_(last.bias, 0.5 * math.log(2.0 * (1.0 - self.log_delta)))
        self.volatility = nn.Sequential(nn.Linear(1, 32), nn.SiLU(), last)

    def map(self, x: Tensor, t: Tensor) -> Map:
        """The forward map at scaled data x (N, *shape) and times (N,).

        mu = (1 - t) x + t (1 - t) m(x, t) and sigma = delta^(1 - t) s(x, t)^(t (1 - t)).
        """

        def raw(at: Tensor) -> Tensor:
            out: Tensor = self.forward_network(x, at)
            return out

        out, rate = torch.func.jvp(raw, (t,), (torch.ones_like(t),))[:2]
        m, m_rate = out[:, 0], rate[:, 0]
        s = REACH * torch.tanh(out[:, 1] / REACH)
        s_rate = (1.0 - (s / REACH).square()) * rate[:, 1]
        t = self._broad(t)
        hump, hump_rate = t * (1.0 - t), 1.0 - 2.0 * t
        return Map(
            (1.0 - t) * x + hump * m,
            (1.0 - t) * self.log_delta + hump * s,
            -x + hump_rate * m + hump * m_rate,
            -self.log_delta + hump_rate * s + hump * s_rate,
        )

    def squared_volatility(self, t: Tensor) -> Tensor:
        """g(t)^2 at times (N,), shaped to multiply (N, *shape)."""
        log_g: Tensor = self._broad((1.0 - t) * self.log_delta + self.volatility(t[:, None])[:, 0])
        return torch.exp(2.0 * log_g)

    def predict(self, z: Tensor, t: Tensor) -> Tensor:
        """x_hat (N, *shape): the network corrects the projection of z on the path that the map starts from."""
        at = self._broad(t)
        alpha, sigma = 1.0 - at, torch.exp((1.0 - at) * self.log_delta)
        return (alpha * z - sigma * self.network(z, t)[:, 0]) / (alpha.square() + sigma.square())

    def bound_terms(self, x: Tensor, generator: Generator) -> dict[str, Tensor]:
        """Parts of a one-draw estimate of an upper bound on -log p(x), each (N,) nats; times are spread over rows."""
        return self._terms(x, generator)[0]

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The bound's mean in nats per sample with its parts; the curvature comes on top."""
        terms, z, t = self._terms(batch.x, generator)
        means = {name: term.mean() for name, term in terms.items()}
        total = torch.stack(list(means.values())).sum()
        logged = {name: mean.detach() for name, mean in means.items()}
        if self.curvature:
            bend = self.bending(z, t).mean()
            total, logged["curvature"] = total + self.curvature * bend, bend.detach()
        return {"loss": total, **logged}

    def _terms(self, x: Tensor, generator: Generator) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        t = stratified(len(x), generator, x)
        eps = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        y = self.ends.scale(x)
        true = self.map(y, t)
        z = true.mean + torch.exp(true.log_std) * eps
        ours = self.map(self.predict(z, t), t)
        half = 0.5 * self.squared_volatility(t)
        # the true map's own drift and score, in terms of eps, which lose no digits
        drift = true.mean_rate + (true.log_std_rate * torch.exp(true.log_std) + half * torch.exp(-true.log_std)) * eps
        gap = drift - (ours.flow(z) - half * ours.score(z))
        diffusion = (gap.square() / (4.0 * half)).flatten(1).sum(1)
        return {"reconstruction": self.ends.reconstruction(x), "diffusion": diffusion}, z, t

    def bending(self, z: Tensor, t: Tensor) -> Tensor:
        """|d/dt f(z(t), t, x_hat(z(t), t))|^2 along the deterministic path through z (N, *shape) at t (N,), (N,)."""
        still = self.flow(z, t)
        change: Tensor = torch.func.jvp(self.flow, (z, t), (still, torch.ones_like(t)))[1]
        return change.square().flatten(1).sum(1)

    def flow(self, z: Tensor, t: Tensor) -> Tensor:
        """The deterministic generative drift f(z, t, x_hat(z, t)) at times (N,)."""
        return self.map(self.predict(z, t), t).flow(z)

    def sample(self, n: int, generator: Generator) -> Tensor:
        """(n, *shape) by Euler-Maruyama steps of the generative equation that the bound belongs to."""
        z = self._start(n, generator)
        h = 1.0 / self.steps
        for i in range(self.steps, 0, -1):
            t = z.new_full((n,), i * h)
            ours, g2 = self.map(self.predict(z, t), t), self.squared_volatility(t)
            fresh = torch.randn(z.shape, generator=generator, device=z.device)
            z = z - h * (ours.flow(z) - 0.5 * g2 * ours.score(z)) + torch.sqrt(h * g2) * fresh
        return self.ends.decode(z, generator)

    def sample_path(self, n: int, steps: int, generator: Generator) -> Tensor:
        """(steps + 1, n, *shape): Euler steps of the deterministic equation from noise to data, in data units."""
        drift: Callable[[Tensor, Tensor], Tensor] = lambda t, z: self.flow(z, t.repeat(n))  # noqa: E731
        return self.ends.unscale(euler(drift, self._start(n, generator), steps))

    def _start(self, n: int, generator: Generator) -> Tensor:
        device = next(self.network.parameters()).device
        return torch.randn((n, *self.shape), generator=generator, device=device)

    def _broad(self, t: Tensor) -> Tensor:
        return t.view(len(t), *[1] * len(self.shape))
