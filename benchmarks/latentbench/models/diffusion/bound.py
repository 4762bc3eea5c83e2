"""The continuous-time variational bound of Gaussian diffusion, whatever its noise schedule.

Kingma et al. 2021, "VDM" (arXiv 2107.00630), eq. 11 to 19; Sahoo et al. 2024, "MuLAN" (2312.13236), for schedules of
one gamma a coordinate and for context. With q(z_t | x, c) = N(alpha x, sigma^2), sigma^2 = sigmoid(gamma(t, c)),
alpha^2 = sigmoid(-gamma(t, c)), and c ~ q(c | x) with prior p(c),

    -log p(x) <= KL(q(c | x) || p(c)) + KL(q(z_1 | x) || N(0, I)) + E[-log p(x | z_0)]
                 + 1/2 E_t[ sum_d gamma_d'(t, c) (eps - eps_hat(z_t, t, c))_d^2 ].
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.models import checks
from latentbench.models.diffusion import schedules
from latentbench.models.diffusion.denoisers import build_network
from latentbench.models.diffusion.ends import Ends, prior_kl, stratified
from latentbench.models.diffusion.paths import euler


class Diffusion(nn.Module):
    """Bound, samplers and training of a diffusion; heirs set `schedule`, and the context where they have one.

    Args:
        info: the data: binary, discrete (the bound is then one on the probability of the levels) or real.
        network: the denoiser: ``mlp`` or ``unet`` with its parameters. It predicts v = alpha eps - sigma x (MuLAN,
            supplement 11.1.2) from z_t, the mean of gamma over coordinates, and the context.
        gamma: its values at t = 0 and t = 1.
        sampling_steps: ancestral steps of `sample`.
        context: width of the context.

    Raises:
        UserError: a parameter is out of its range, or data of support ``unit``.
    """

    schedule: nn.Module
    #: Train the schedule to the least variance of the bound's estimate, not on the bound (schedules that are shared).
    least_variance = False

    def __init__(
        self, info: DataInfo, network: checks.Choice, gamma: object, sampling_steps: int, context: int = 0
    ) -> None:
        super().__init__()
        if not isinstance(gamma, list | tuple) or len(gamma) != 2:
            raise UserError(f"gamma is {gamma!r}", fix="its values at t = 0 and t = 1, such as [-13.3, 5]")
        self.low = checks.number("gamma[0]", gamma[0], least=-20.0, most=20.0)
        self.high = checks.number("gamma[1]", gamma[1], least=self.low, most=20.0, above=True)
        self.ends = Ends(info, self.low)
        self.shape, self.dims = tuple(info.shape), info.dims
        self.steps = checks.whole("sampling_steps", sampling_steps)
        self.network = build_network(network, info, context=context)

    def draw_context(self, x: Tensor, generator: Generator) -> tuple[Tensor | None, Tensor | None]:
        """Context (N, K) of scaled data and its cost KL(q(c | x) || p(c)), (N,) nats; nothing where there is none."""
        return None, None

    def prior_context(self, n: int, generator: Generator, like: Tensor) -> Tensor | None:
        """n draws of the context's prior."""
        return None

    def noise(self, t: Tensor, context: Tensor | None = None) -> schedules.Noise:
        """The schedule at times (N,), each part shaped to multiply (N, *shape)."""
        return schedules.Noise(*(self._broad(part) for part in self.schedule(t, context)))

    def predict(self, z: Tensor, gamma: Tensor, context: Tensor | None = None) -> Tensor:
        """v_hat (N, *shape) from z_t and gamma as `noise` gives it."""
        s = (gamma.flatten(1).mean(1) - self.low) / (self.high - self.low)
        out: Tensor = self.network(z, s, context)
        return out[:, 0]

    def bound_terms(self, x: Tensor, generator: Generator) -> dict[str, Tensor]:
        """Parts of a one-draw estimate of an upper bound on -log p(x), each (N,) nats; times are spread over rows."""
        return self._terms(x, generator)[0]

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The bound's mean in nats per sample, with its parts."""
        terms, noise, error = self._terms(batch.x, generator)
        means = {name: term.mean() for name, term in terms.items()}
        total = torch.stack(list(means.values())).sum()
        if self.least_variance:
            spread = schedules.least_variance(noise, error)
            total = total + spread - spread.detach()
        return {"loss": total, **{name: mean.detach() for name, mean in means.items()}}

    def _terms(self, x: Tensor, generator: Generator) -> tuple[dict[str, Tensor], schedules.Noise, Tensor]:
        """The parts, the schedule where it was taken, and |eps - eps_hat|^2 (N,)."""
        t = stratified(len(x), generator, x)
        eps = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        y = self.ends.scale(x)
        context, cost = self.draw_context(y, generator)
        noise = self.noise(t, context)
        # A shared schedule cannot change the bound: what gradient it got from there would be noise.
        gamma, rate = (p.detach() if self.least_variance else p for p in (noise.gamma, noise.rate))
        alpha, sigma = amplitudes(gamma)
        v = alpha * eps - sigma * y
        error = (alpha * (v - self.predict(alpha * y + sigma * eps, gamma, context))).square()  # (eps - eps_hat)^2
        last = torch.full_like(y, self.high)
        terms = {
            "prior": prior_kl(amplitudes(last)[0] * y, functional.logsigmoid(last)),
            "reconstruction": self.ends.reconstruction(x),
            "diffusion": 0.5 * (rate * error).flatten(1).sum(1),
        }
        return terms | ({} if cost is None else {"latent": cost}), noise, error.flatten(1).sum(1)

    def sample(self, n: int, generator: Generator) -> Tensor:
        """(n, *shape) by ancestral steps (VDM, appendix A.4)."""
        z, context = self._start(n, generator)
        times = torch.linspace(1.0, 0.0, self.steps + 1, device=z.device)
        for t, s in pairwise(times):
            g_t, g_s = (self.noise(at.expand(n), context).gamma for at in (t, s))
            (alpha, sigma), alpha_s = amplitudes(g_t), amplitudes(g_s)[0]
            eps_hat = sigma * z + alpha * self.predict(z, g_t, context)
            c = -torch.expm1(g_s - g_t)
            fresh = torch.randn(z.shape, generator=generator, device=z.device)
            z = alpha_s / alpha * (z - sigma * c * eps_hat) + torch.sqrt(torch.sigmoid(g_s) * c) * fresh
        return self.ends.decode(z / amplitudes(torch.full_like(z, self.low))[0], generator)

    def sample_path(self, n: int, steps: int, generator: Generator) -> Tensor:
        """(steps + 1, n, *shape): Euler steps of the probability-flow equation from noise to data, in data units."""
        z, context = self._start(n, generator)

        def drift(t: Tensor, z: Tensor) -> Tensor:
            noise = self.noise(t.repeat(n), context)
            alpha, sigma = amplitudes(noise.gamma)
            return 0.5 * noise.rate * sigma * alpha * self.predict(z, noise.gamma, context)

        return self.ends.unscale(euler(drift, z, steps))

    def _start(self, n: int, generator: Generator) -> tuple[Tensor, Tensor | None]:
        like = next(self.network.parameters())
        z = torch.randn((n, *self.shape), generator=generator, device=like.device)
        return z, self.prior_context(n, generator, like)

    def _broad(self, part: Tensor) -> Tensor:
        shared = part.shape[1] == 1
        return part.view(len(part), *[1] * len(self.shape)) if shared else part.view(len(part), *self.shape)


def amplitudes(gamma: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma, alpha^2 + sigma^2 = 1."""
    return torch.sqrt(torch.sigmoid(-gamma)), torch.sqrt(torch.sigmoid(gamma))
