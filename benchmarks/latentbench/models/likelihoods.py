"""Likelihood heads: p(x | outputs of a decoder), coordinates independent given the outputs.

A decoder gives (..., outputs * D) numbers for D coordinates, as `outputs` consecutive blocks of D. Heads work on
samples as vectors (N, D), in the space of the preprocessed data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn

from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.models import checks, densities
from latentbench.models.nets import LOG_STD_LIMIT


class Likelihood(nn.Module):
    """What heads have in common.

    Attributes:
        outputs: decoder outputs for one coordinate.
        normalised: whether `log_prob` is a log-density (real data) or log-probability (binary, discrete) of x; where
            it is not, bits per dimension mean nothing.
    """

    outputs: int = 1
    normalised: bool = True

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """log p(x | out) in nats: x (N, D), out (..., N, outputs * D), result (..., N)."""
        raise NotImplementedError

    def mean(self, out: Tensor) -> Tensor:
        """E[x | out], (..., outputs * D) to (..., D)."""
        raise NotImplementedError

    def sample(self, out: Tensor, generator: Generator) -> Tensor:
        """A draw from p(x | out), (..., outputs * D) to (..., D)."""
        raise NotImplementedError

    def output_bias(self, mean: Tensor) -> Tensor:
        """Bias (outputs * D) of a decoder's last layer that centres p(x | out) on `mean` (D) where weights are zero."""
        raise NotImplementedError


class Bernoulli(Likelihood):
    """Bernoulli pixels; on `unit` data the cross-entropy with grey values, which is no normalised density."""

    def __init__(self, info: DataInfo) -> None:
        checks.support("likelihood bernoulli", info, "binary", "unit")
        super().__init__()
        self.normalised = info.support == "binary"

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        return densities.bernoulli(x, out) if self.normalised else densities.bernoulli_cross_entropy(x, out)

    def mean(self, out: Tensor) -> Tensor:
        return torch.sigmoid(out)

    def sample(self, out: Tensor, generator: Generator) -> Tensor:
        return torch.bernoulli(torch.sigmoid(out), generator=generator)

    def output_bias(self, mean: Tensor) -> Tensor:
        # The clipping of Burda et al.'s code: a pixel that is always off would get an infinite bias.
        return torch.logit(mean.clamp(0.001, 0.999))


class Gaussian(Likelihood):
    """Independent Gaussians: a density, in nats per sample in the data's own units.

    Args:
        scale: ``learned`` (predicted for every coordinate and sample), ``shared`` (one learned number), or a
            fixed standard deviation.
    """

    def __init__(self, info: DataInfo, *, scale: str | float = "learned") -> None:
        checks.support("likelihood gaussian", info, "real", "unit")
        super().__init__()
        if isinstance(scale, str):
            checks.one_of("likelihood.gaussian.scale", scale, ("learned", "shared"))
        self.outputs = 2 if scale == "learned" else 1
        if scale == "shared":
            self.log_std = nn.Parameter(torch.zeros(()))
        elif not isinstance(scale, str):
            fixed = math.log(checks.number("likelihood.gaussian.scale", scale, above=True))
            self.register_buffer("log_std", torch.tensor(fixed), persistent=False)

    def _split(self, out: Tensor) -> tuple[Tensor, Tensor]:
        if self.outputs == 1:
            return out, self.log_std
        mean, log_std = out.chunk(2, -1)
        return mean, log_std.clamp(-LOG_STD_LIMIT, LOG_STD_LIMIT)

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        return densities.normal(x, *self._split(out))

    def mean(self, out: Tensor) -> Tensor:
        return self._split(out)[0]

    def sample(self, out: Tensor, generator: Generator) -> Tensor:
        mean, log_std = self._split(out)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return mean + torch.exp(log_std) * noise

    def output_bias(self, mean: Tensor) -> Tensor:
        return torch.cat([mean, torch.zeros_like(mean)]) if self.outputs == 2 else mean


class DiscretisedLogistic(Likelihood):
    """A logistic density integrated over each level's bin: a probability of the discrete levels."""

    outputs = 2

    def __init__(self, info: DataInfo) -> None:
        checks.support("likelihood discretised_logistic", info, "discrete")
        super().__init__()
        self.levels = info.levels or 0

    def _split(self, out: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = out.chunk(2, -1)
        # Below exp(-7) of half the range even 256 levels see a point mass; above exp(7), a uniform distribution.
        return mean, log_scale.clamp(-7.0, 7.0)

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        return densities.discretised_logistic(x, *self._split(out), self.levels)

    def mean(self, out: Tensor) -> Tensor:
        location, log_scale = self._split(out)
        inverse = torch.exp(-log_scale)
        half = 1.0 / (self.levels - 1)
        total = torch.zeros_like(location)
        for level in range(1, self.levels):  # E[x] = sum over levels of P(x >= level)
            total += torch.sigmoid((location - ((2 * level - 1) * half - 1.0)) * inverse)
        return total

    def sample(self, out: Tensor, generator: Generator) -> Tensor:
        mean, log_scale = self._split(out)
        u = torch.rand(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        y = mean + torch.exp(log_scale) * torch.logit(u.clamp(1e-7, 1.0 - 1e-7))
        return torch.round((y + 1.0) * (0.5 * (self.levels - 1))).clamp(0.0, self.levels - 1.0)

    def output_bias(self, mean: Tensor) -> Tensor:
        location = mean * (2.0 / (self.levels - 1)) - 1.0
        return torch.cat([location, torch.full_like(location, -2.0)])


class Categorical(Likelihood):
    """A probability for each level of each coordinate, with no notion of order."""

    def __init__(self, info: DataInfo) -> None:
        checks.support("likelihood categorical", info, "discrete")
        super().__init__()
        self.levels = self.outputs = info.levels or 0

    def _logits(self, out: Tensor) -> Tensor:
        return out.unflatten(-1, (self.levels, -1))

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        return densities.categorical(x, self._logits(out))

    def mean(self, out: Tensor) -> Tensor:
        values = torch.arange(self.levels, device=out.device, dtype=out.dtype)
        return torch.einsum("...ld,l->...d", self._logits(out).softmax(-2), values)

    def sample(self, out: Tensor, generator: Generator) -> Tensor:
        logits = self._logits(out).log_softmax(-2)
        # Gumbel-max, with an exponential draw in place of -log of a uniform one.
        gumbel = -torch.empty_like(logits).exponential_(generator=generator).log()
        return (logits + gumbel).argmax(-2).to(out.dtype)

    def output_bias(self, mean: Tensor) -> Tensor:
        raise UserError("bias_from_mean with likelihood categorical", fix="a mean does not fix a level's probability")


LIKELIHOODS: Mapping[str, Callable[..., Any]] = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "discretised_logistic": DiscretisedLogistic,
    "categorical": Categorical,
}
NATURAL = {"binary": "bernoulli", "real": "gaussian", "discrete": "discretised_logistic"}


def build_likelihood(choice: checks.Choice | None, info: DataInfo) -> Likelihood:
    """`choice` is a name or ``{name: {parameter: value}}``; None takes the support's natural head.

    `unit` data have no natural head: the choice between a cross-entropy (bernoulli) and a density (gaussian) decides
    what the numbers mean.
    """
    if choice is None:
        if info.support not in NATURAL:
            raise UserError(f"no likelihood is set for {info.support} data", fix="likelihood: bernoulli or gaussian")
        choice = NATURAL[info.support]
    name, parameters = checks.chosen("likelihood", choice, LIKELIHOODS)
    head: Likelihood = LIKELIHOODS[name](info, **parameters)
    return head
