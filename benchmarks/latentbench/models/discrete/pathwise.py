"""Estimators that send the cost's gradient through the sample: straight-through, Gumbel-Softmax and their kin.

J(p) = diag(p) - p p' is the Jacobian of a softmax with output p, g = f'(z) the cost's gradient at the code.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from latentbench.models import checks
from latentbench.models.discrete.estimator import Hints, Pathwise, carry
from latentbench.models.discrete.layout import draw, exponential, log_prob, one_hot


class StraightThrough(Pathwise):
    """Bengio et al. 2013: a hard sample forward, the softmax backward; J(p_t) g / t with p_t = softmax(logits / t).

    Args:
        temperature: t, of the backward pass alone.
    """

    def __init__(self, features: int, *, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = checks.number("estimator.temperature", temperature, above=True)

    def code(self, logits: Tensor, generator: Generator, hints: Hints) -> Tensor:
        return carry(draw(logits, generator), torch.softmax(logits / self.temperature, -1))


class SlopeAnnealed(StraightThrough):
    """Slope-annealed straight-through (Chung et al. 2017, section 3.2): the units' activation steepens in training.

    The slope multiplies the logits of the unit itself, so that what is sampled, its exact terms and the backward pass
    all see it; what remains at the end of training is part of the model.

    Args:
        slope: reached at the end of training, linearly from one.
    """

    reached: Tensor

    def __init__(self, features: int, *, slope: float = 5.0) -> None:
        super().__init__(features)
        self.slope = checks.number("estimator.slope", slope, least=1.0)
        self.register_buffer("reached", torch.ones(()))

    def sharpened(self, logits: Tensor, progress: float | None = None) -> Tensor:
        if progress is not None and self.training:
            self.reached.fill_(1.0 + (self.slope - 1.0) * progress)
        return logits * self.reached


class GumbelSoftmax(Pathwise):
    """Jang et al. 2017, eq. 2: y = softmax((logits + Gumbel noise) / t).

    Args:
        temperature: t at the first step.
        rate, every, least: with `rate` r above 0, t = max(least, temperature * exp(-r s)), where s is the step, held
            for `every` steps (their section 4.2).
    """

    hard = False

    def __init__(
        self,
        features: int,
        *,
        temperature: float = 1.0,
        rate: float = 0.0,
        every: int = 1000,
        least: float = 0.5,
    ) -> None:
        super().__init__()
        self.temperature = checks.number("estimator.temperature", temperature, above=True)
        self.rate = checks.number("estimator.rate", rate)
        self.every = checks.whole("estimator.every", every)
        self.least = checks.number("estimator.least", least, above=True)

    def temperature_at(self, step: int) -> float:
        if self.rate == 0.0:
            return self.temperature
        held = step // self.every * self.every
        return max(self.least, self.temperature * math.exp(-self.rate * held))

    def code(self, logits: Tensor, generator: Generator, hints: Hints) -> Tensor:
        perturbed = logits - exponential(tuple(logits.shape), generator, logits).log()
        y = torch.softmax(perturbed / self.temperature_at(hints.step), -1)
        return carry(one_hot(perturbed.detach().argmax(-1), logits), y) if self.hard else y


class StraightThroughGumbel(GumbelSoftmax):
    """Its straight-through form: the arg max of y forward, y backward (section 2.2)."""

    hard = True


class GumbelRao(Pathwise):
    """Paulus et al. 2021: the straight-through Gumbel gradient averaged over `draws` noises that give the same sample.

    Args:
        temperature: of the relaxation.
        draws: K; memory grows with it.
    """

    def __init__(self, features: int, *, temperature: float = 0.5, draws: int = 100) -> None:
        super().__init__()
        self.temperature = checks.number("estimator.temperature", temperature, above=True)
        self.draws = checks.whole("estimator.draws", draws)

    def perturbed(self, z: Tensor, logits: Tensor, generator: Generator) -> Tensor:
        """Draws of logits + Gumbel noise given that their arg max is z, (K, ..., L, C).

        In exponentials: the winner's perturbed logit is log Z - log e_w, another's
        -log(e_i exp(-logit_i) + e_w / Z) (their section 3.2), Z the sum of exp(logits).
        """
        log_e = exponential((self.draws, *logits.shape), generator, logits).log()
        winner = (log_e * z).sum(-1, keepdim=True) - logits.logsumexp(-1, keepdim=True)
        return -torch.where(z > 0.0, winner, torch.logaddexp(log_e - logits, winner))

    def code(self, logits: Tensor, generator: Generator, hints: Hints) -> Tensor:
        z = draw(logits, generator)
        fixed = logits.detach()
        shift = self.perturbed(z, fixed, generator) - fixed
        return carry(z, torch.softmax((logits + shift) / self.temperature, -1).mean(0))


class GappedStraightThrough(Pathwise):
    """Fan et al. 2022, section 4: backwards a softmax of logits that were moved to agree with the sample.

    The sampled category's logit is raised to the largest one, and the others are lowered to at least `gap` below it; as
    little of both as is needed.

    Args:
        temperature: of the softmax.
        gap: between the sampled category's logit and each of the others.
    """

    def __init__(self, features: int, *, temperature: float = 1.0, gap: float = 1.0) -> None:
        super().__init__()
        self.temperature = checks.number("estimator.temperature", temperature, above=True)
        self.gap = checks.number("estimator.gap", gap)

    def moved(self, z: Tensor, logits: Tensor) -> Tensor:
        """The logits (..., L, C) that agree with the one-hot z."""
        largest = logits.amax(-1, keepdim=True)
        return torch.where(z > 0.0, largest, torch.minimum(logits, largest - self.gap))

    def code(self, logits: Tensor, generator: Generator, hints: Hints) -> Tensor:
        z, fixed = draw(logits, generator), logits.detach()
        return carry(z, torch.softmax((logits + self.moved(z, fixed) - fixed) / self.temperature, -1))


class ReinMax(Pathwise):
    """Liu et al. 2023, algorithm 2: 2 J((p_t + z) / 2) g - J(p) g / 2, with p_t = softmax(logits / t).

    At t = 1 its mean is the gradient in which every difference f(I_i) - f(I_j) is the trapezoidal (Heun) one,
    (f'(I_i) + f'(I_j)) (I_i - I_j) / 2: exact for costs that are quadratic in each variable, where straight-through
    takes f'(I_j) (I_i - I_j) (theorems 3.1 and 4.1).

    Args:
        temperature: t, at least one by the authors' advice.
    """

    def __init__(self, features: int, *, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = checks.number("estimator.temperature", temperature, above=True)

    def code(self, logits: Tensor, generator: Generator, hints: Hints) -> Tensor:
        z, fixed = draw(logits, generator), logits.detach()
        middle = 0.5 * (torch.softmax(fixed / self.temperature, -1) + z)
        heun = torch.softmax(middle.clamp_min(1e-30).log() - fixed + logits, -1)  # its value is `middle`
        return carry(z, 2.0 * heun, -0.5 * torch.softmax(logits, -1))


class Darn(Pathwise):
    """Gregor et al. 2014, appendix: a Taylor baseline around the sample, f(z) - b(z) = g . (z - 1/C) for each variable.

    The estimate is g . (z - 1/C) grad log q(z). It ignores the baseline's own mean, so it is biased beyond quadratic
    costs. For two categories it is ReinMax at t = 1, draw for draw; for more it is biased for quadratics too.
    """

    def __init__(self, features: int) -> None:
        super().__init__()

    def code(self, logits: Tensor, generator: Generator, hints: Hints) -> Tensor:
        z = draw(logits, generator)
        return carry(z, (z - 1.0 / logits.shape[-1]) * log_prob(z, logits).unsqueeze(-1))
