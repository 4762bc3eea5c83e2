"""Estimators by the score function, (f(z) - b) grad log q(z), with their baselines; and the exact gradient."""

from __future__ import annotations

from typing import cast

import torch
from torch import Generator, Tensor, nn

from latentbench.core.errors import UserError
from latentbench.models import checks
from latentbench.models.discrete.estimator import Cost, Estimator, Hints, carry
from latentbench.models.discrete.layout import Layout, draw, log_prob


class RunningSignal(nn.Module):
    """Moving averages of a learning signal's mean and variance over the batches of training, for centring and scaling.

    Args:
        decay: of the averages.
        scale: divide by max(1, standard deviation), the variance normalisation of Mnih & Gregor 2014.
    """

    def __init__(self, decay: float, scale: bool) -> None:
        super().__init__()
        self.decay, self.scale = decay, scale
        for name in ("mean", "variance", "weight"):
            self.register_buffer(name, torch.zeros(()))

    def centred(self, signal: Tensor) -> Tensor:
        """The signal less its running mean; before the first batch, less its own."""
        weight = cast(Tensor, self.weight)
        known = cast(Tensor, self.mean) / weight.clamp_min(1e-12)
        return signal - torch.where(weight > 0.0, known, signal.mean())

    def divisor(self) -> Tensor:
        """Scalar: max(1, standard deviation); 1 without `scale`, and for the first batch."""
        weight = cast(Tensor, self.weight)
        if not self.scale:
            return torch.ones_like(weight)
        return (cast(Tensor, self.variance) / weight.clamp_min(1e-12)).clamp_min(1.0).sqrt()

    def balanced(self, logits: Tensor) -> Tensor:
        """`logits`, with their gradient divided as the next signal will be.

        Mnih & Gregor 2014 have the terms of q and the prior in the signal; kept outside it, they are divided with it.
        """
        return logits.detach() + (logits - logits.detach()) / self.divisor() if self.scale else logits

    def update(self, signal: Tensor) -> None:
        """Takes a batch into the averages, in training mode only."""
        if not self.training:
            return
        for name, value in (("mean", signal.mean()), ("variance", signal.var(correction=0))):
            cast(Tensor, getattr(self, name)).mul_(self.decay).add_((1.0 - self.decay) * value)
        cast(Tensor, self.weight).mul_(self.decay).add_(1.0 - self.decay)


class Reinforce(Estimator):
    """Williams 1992: the score function with a running mean of the cost as baseline.

    Args:
        baseline: ``mean`` or ``none``.
        normalise: variance normalisation (rescales the gradient of the logits alone).
        decay: of the running averages.
    """

    def __init__(
        self,
        features: int,
        *,
        baseline: str = "mean",
        normalise: bool = False,
        decay: float = 0.9,
    ) -> None:
        super().__init__()
        self.centre = checks.one_of("estimator.baseline", baseline, ("mean", "none")) == "mean"
        decay = checks.number("estimator.decay", decay, most=0.999)
        self.running = RunningSignal(decay, checks.flag("estimator.normalise", normalise))

    def forward(self, logits: Tensor, cost: Cost, generator: Generator, hints: Hints) -> Tensor:
        z = draw(logits, generator)
        f = cost(z)
        fitted = self._fitted(hints)
        left = f.detach() if fitted is None else f.detach() - fitted.detach()
        signal = self.running.centred(left) if self.centre else left
        signal = signal / self.running.divisor()
        self.running.update(left)
        score = signal * log_prob(z, logits).sum(-1)
        # A learned baseline follows the scaled signal too (Mnih & Gregor 2014, algorithm 1).
        return carry(f, score) if fitted is None else carry(f, score, -signal * fitted)

    def balanced(self, logits: Tensor) -> Tensor:
        return self.running.balanced(logits)

    def _fitted(self, hints: Hints) -> Tensor | None:
        """A baseline that is learned, (N,)."""
        return None


class Nvil(Reinforce):
    """Mnih & Gregor 2014: running mean, a baseline that sees the datum, and variance normalisation.

    Args:
        hidden: tanh units of the baseline network.
        normalise, decay: as for `Reinforce`.
    """

    def __init__(self, features: int, *, hidden: int = 100, normalise: bool = True, decay: float = 0.9) -> None:
        super().__init__(features, normalise=normalise, decay=decay)
        hidden = checks.whole("estimator.hidden", hidden)
        self.network = nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def _fitted(self, hints: Hints) -> Tensor:
        if hints.features is None:
            raise UserError("nvil has nothing to see", where="estimator", fix="choose reinforce for this model")
        fitted: Tensor = self.network(hints.features).squeeze(-1)
        return fitted


class MuProp(Estimator):
    """Gu et al. 2016, eq. 5: the score function with a first-order Taylor expansion around the mean field as baseline,

    (f(z) - f(m) - f'(m)(z - m)) grad log q(z) + f'(m) grad m, with m = softmax(logits): unbiased.

    Args:
        normalise, decay: as for `Reinforce`; the signal that is left is centred by its running mean.
    """

    def __init__(self, features: int, *, normalise: bool = False, decay: float = 0.9) -> None:
        super().__init__()
        decay = checks.number("estimator.decay", decay, most=0.999)
        self.running = RunningSignal(decay, checks.flag("estimator.normalise", normalise))

    def forward(self, logits: Tensor, cost: Cost, generator: Generator, hints: Hints) -> Tensor:
        z, mean = draw(logits, generator), torch.softmax(logits, -1)
        field = mean.detach()

        def total(code: Tensor) -> tuple[Tensor, Tensor]:
            each = (hints.mean_cost or cost)(code)
            return each.sum(), each

        slope, height = (t.detach() for t in torch.func.grad(total, has_aux=True)(field))
        f = cost(z)
        left = f.detach() - height - (slope * (z - field)).sum((-1, -2))
        signal = self.running.centred(left)
        divisor = self.running.divisor()
        self.running.update(left)
        both = signal * log_prob(z, logits).sum(-1) + (slope * mean).sum((-1, -2))
        return carry(f, both / divisor)

    def balanced(self, logits: Tensor) -> Tensor:
        return self.running.balanced(logits)


class Enumerate(Estimator):
    """The expectation itself, over all C**L states: exact gradients without noise, at C**L times the cost.

    For one variable it is the marginalisation over classes of Kingma et al. 2014.
    """

    def __init__(self, features: int) -> None:
        super().__init__()

    def forward(self, logits: Tensor, cost: Cost, generator: Generator, hints: Hints) -> Tensor:
        states = Layout(logits.shape[-1], logits.shape[-2]).states(logits.device).to(logits.dtype)
        z = states.reshape(-1, *[1] * (logits.dim() - 2), *states.shape[1:]).expand(-1, *logits.shape)
        return (log_prob(z, logits).sum(-1).exp() * cost(z)).sum(0)
