"""What a model says of all of a small space: exactly, or by importance weights that are even enough to tell.

A model with latent variables gives each point as the mean of importance weights, which is p(x) in expectation. Its
posterior has to come near for that, so it is trained a while on the small data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentbench.contracts import spaces
from latentbench.contracts.finding import NotApplicable
from latentbench.contracts.spaces import Space
from latentbench.contracts.subject import Subject, generator
from latentbench.core.errors import UserError
from latentbench.evaluation.likelihood import require_normalised

#: Rows that are evaluated at once, importance weights in all, and the least effective number of them.
BLOCK, WEIGHTS, EFFECTIVE = 4096, 50_000, 400
#: Effective share of the weights above which they have missed nothing.
EVEN = 0.2
#: Standard errors that a sum may be off, and what it may be off besides: rounding, a grid's error.
ERRORS = 5.0
SLACK = {"states": 1e-3, "grid": 1e-2, "random": 1e-2}
#: Relative standard error of a sum above which nothing is said of it.
NOISE = 0.03
#: Dimensions of real data that are integrated over as they are, where smaller ones are refused.
MOST_DIMS = 8
#: How many times as large weights are, besides as trained: the first that tells; smaller ones where nothing else does.
FACTORS = (3.0, 1.5, 0.6, 0.3, 0.1)


class Uneven(NotApplicable):
    """Importance weights do not tell a model's density, however small its own weights are made."""


@dataclass(frozen=True)
class Mass:
    """Probabilities of a space's points.

    Attributes:
        p, variance: (M,) float64, and the variance of each as an estimate.
        effective: how many equal weights the estimates are worth; infinite where there are no estimates.
        share: the same as a share of the weights.
    """

    p: Tensor
    variance: Tensor
    effective: float = math.inf
    share: float = 1.0

    def total(self, space: Space) -> tuple[float, float]:
        """Their sum and its standard error."""
        noise = self.variance.sum()
        if space.kind == "random":  # their spread holds the weights' own
            noise = len(self.p) * self.p.var()
        return float(self.p.sum()), float(noise.sqrt())


@torch.no_grad()
def exact(log_prob: Callable[[Tensor], Tensor], space: Space) -> Mass:
    """The mass that a log-density gives to a space's points."""
    log_p = torch.cat([log_prob(x).double() for x in space.x.split(BLOCK)])
    p = (log_p + space.log_volume).exp()
    if space.kind != "random":
        return Mass(p, torch.zeros_like(p))
    effective = float(p.sum().square() / p.square().sum())
    return Mass(p, torch.zeros_like(p), effective, effective / len(p))


@torch.no_grad()
def weighed(log_weights: Callable[[Tensor, int, Any], Tensor], space: Space) -> Mass:
    """The same by importance weights: from rows, a number k and a generator to (k, N) log-weights."""
    draws, first, second = generator(21), [], []
    each = max(4, WEIGHTS // len(space.x))
    for x, volume in zip(space.x.split(BLOCK), space.log_volume.split(BLOCK)):
        repeats = max(1, BLOCK // 2 // len(x))  # rows are cheaper than draws for models that draw one at a time
        k = -(-each // repeats)
        rows = x.repeat(repeats, *[1] * (x.dim() - 1))
        w = (log_weights(rows, k, draws).double().view(k * repeats, len(x)) + volume).exp()
        first.append(w.mean(0))
        second.append(w.square().mean(0))
    p, square = torch.cat(first), torch.cat(second)
    share = float(p.sum().square() / square.sum()) / len(p)
    return Mass(p, (square - p.square()).clamp_min(0.0) / (each - 1), share * each * len(p), share)


def smallest(subject: Subject) -> Subject:
    """The model on its smallest data."""
    small = subject.small()
    if small is None and subject.kind is not None and math.prod(subject.kind.shape) <= MOST_DIMS:
        small = subject
    if small is None:
        raise NotApplicable("it takes no data small enough to sum over")
    return small


def masses(subject: Subject) -> Iterator[tuple[Any, Space, Mass, str]]:
    """The model on its smallest data, trained and with larger weights, a space, and the mass that it gives to it.

    Exact likelihoods of few states are summed once more with weights drawn anew. Where importance weights are too
    uneven to tell, the weights of the model are made smaller until they do.
    """
    small = smallest(subject)
    free = any(p.numel() for p in getattr(small.trained(), "parameters", tuple)())
    known = large = False
    for factor in (1.0, *(FACTORS if free else ())):
        if factor != 1.0 and (large or known != (factor > 1.0)):
            continue
        if factor not in small.kept:
            model = small.trained() if factor == 1.0 else small.scaled(factor)
            small.kept[factor] = model, *_measured(small, model)
        model, space, mass = small.kept[factor]
        if _tells(space, mass, first=factor == 1.0, last=factor == FACTORS[-1]):
            known, large = True, factor > 1.0
            yield model, space, mass, "" if factor == 1.0 else f" with weights {factor:g} times as large"
    if free and space.kind == "states" and "ExactLikelihood" in small.can:  # a sum that hides nothing
        if "redrawn" not in small.kept:
            model = small.redrawn()
            small.kept["redrawn"] = model, *_measured(small, model)
        yield *small.kept["redrawn"], " with weights drawn anew"
    if not known:
        said = f"{WEIGHTS} importance weights are too uneven to estimate it by"
        raise Uneven(f"{said}, even with weights {FACTORS[-1]:g} times as large") if free else NotApplicable(said)


def log_prob_of(subject: Subject, model: Any) -> Callable[[Tensor], Tensor] | None:
    if "ExactLikelihood" in subject.can:
        return model.log_prob
    return None


def weights_of(model: Any) -> Callable[[Tensor, int, Any], Tensor]:
    def run(x: Tensor, k: int, draws: Any) -> Tensor:
        found: Tensor = model.log_importance_weights(x, model.posterior(x), k, draws)
        return found

    return run


def _tells(space: Space, mass: Mass, first: bool, last: bool) -> bool:
    """Whether an estimate can be held against a model.

    Uneven weights may have missed what they were to find, and then fall short, which says nothing unless they do with
    the smallest of the model's weights, too; a sum that is too large is no accident. Nothing at all is what a model as
    trained (`first`) should not have where its samples lie, while with larger weights all may lie between the points.
    """
    total, error = mass.total(space)
    if not total > 0:
        return first
    if mass.effective == math.inf:
        return True
    if not (mass.effective >= EFFECTIVE and error <= NOISE * total):
        return False
    return last or mass.share >= EVEN or total > 1.0 - ERRORS * error - SLACK[space.kind]


def _measured(subject: Subject, model: Any) -> tuple[Space, Mass]:
    """A small space and the mass that the model gives to it."""
    assert subject.kind is not None  # small subjects have one
    try:
        require_normalised(model)
    except UserError as e:
        raise NotApplicable(e.what) from e
    space = spaces.states(subject.kind)
    log_prob = log_prob_of(subject, model)
    if log_prob is None:
        if "VariationalBound" not in subject.can:
            raise NotApplicable("it has no density")
        if space is not None and len(space.x) > spaces.MOST_WEIGHED:
            space = spaces.some(space)
        space = space or spaces.real(subject, model, grid=0)
        return space, weighed(weights_of(model), space)
    space = space or spaces.real(subject, model, points=spaces.MANY)
    mass = exact(log_prob, space)
    if space.kind == "grid" and not _resolved(space, mass):
        space = spaces.real(subject, model, grid=0, points=spaces.MANY)
        mass = exact(log_prob, space)
    return space, mass


def _resolved(space: Space, mass: Mass) -> bool:
    """Whether a grid twice as coarse gives the same sum, and any."""
    dims = space.x[0].numel()
    shaped = mass.p.view(*[spaces.GRID[dims]] * dims)
    coarse = shaped[(slice(None, None, 2),) * dims].sum() * 2**dims
    return bool((coarse - mass.p.sum()).abs() < 0.25 * SLACK["grid"] * mass.p.sum())
