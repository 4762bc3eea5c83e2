"""Contract tests of how a model trains: losses, gradients, learning, and the objective that it states."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Generator, Tensor, nn

from latentbench.contracts.finding import NotApplicable
from latentbench.contracts.subject import Subject, generator, require_trainable
from latentbench.core.capabilities import PROPERTIES, capabilities_of
from latentbench.core.types import Batch

#: Shares of training at which a schedule may have other parts of the loss switched on.
PROGRESS = (0.0, 0.5, 0.99)
#: Starts over which each parameter must get a gradient.
STARTS = 8
#: Steps after which a loss must be lower.
LEARNING = 15
#: How often as many steps are taken until a likelihood rises.
PATIENCE = 4
#: Draws of a stated objective, the standard errors that it may be off, and the relative error of its gradient.
REPEATS, ERRORS, GRADIENT = 40, 6.0, 2e-3
#: Share of a gradient's entries that may differ beside another seed, where rectifiers stand at their kinks.
KINKS = 0.01
#: And the least share of its length by which it differs, since rounding before a kink moves single elements, too.
UNLIKE = 0.02
#: Length of the step by which a gradient is measured.
STEP = 1e-6


def capabilities(subject: Subject) -> str | None:
    found = capabilities_of(subject.fresh())
    declared = subject.declared - PROPERTIES.keys()
    if lacks := sorted(declared - found):
        return f"it lacks {', '.join(lacks)}"
    more = sorted(found - declared)
    return f"it also implements {', '.join(more)}: declare them" if more else None


def loss(subject: Subject) -> str | None:
    model = subject.prepared()
    require_trainable(model)
    for progress in PROGRESS:
        terms = model.loss(subject.batch(progress=progress), generator())
        if "loss" not in terms:
            return "no key `loss`"
        wrong = [k for k, v in terms.items() if tuple(v.shape) != () or not bool(v.isfinite())]
        if wrong:
            return f"no finite scalars: {', '.join(wrong)}"
    return None


def gradients(subject: Subject) -> str | None:
    require_trainable(subject.trained())
    silent = {name for name, _ in subject.trained().named_parameters()}
    for start in range(STARTS):  # which expert of several learns may hang on the first weights
        model = subject.prepared(start) if start else subject.copy()  # zero starting values may block a first gradient
        model.train()
        model.zero_grad()
        for step, progress in enumerate(PROGRESS):  # a unit may be silent on one batch, a term at one time
            model.loss(subject.batch(step, progress), generator(step + 10 * start))["loss"].backward()
        wanted = {n: p for n, p in model.named_parameters() if p.requires_grad}
        if without := [n for n, p in wanted.items() if p.grad is None]:
            return f"none for {', '.join(without[:5])}"
        if broken := [n for n, p in wanted.items() if not p.grad.isfinite().all()]:
            return f"not finite for {', '.join(broken[:5])}"
        # the gradient of a weight-normalised direction is orthogonal to it: zero where it has one entry
        silent &= {n for n, p in wanted.items() if (p.numel() > 1 or p.dim() < 2) and not p.grad.any()}
        if not silent:
            return None
    return f"zero for {', '.join(sorted(silent)[:5])}"


@torch.no_grad()
def _own_objective(subject: Subject, model: Any) -> float | None:
    """What training is to lower where the model can say it exactly."""
    if "ExpectedCost" in subject.can:
        return float(model.expected_cost())
    if "KnownTarget" in subject.can:
        states, log_target = model.target()
        log_model = model.log_model(states)
        return float((log_model.exp() * (log_model - log_target)).sum())
    return None


def learning(subject: Subject) -> str | None:
    model = subject.prepared()
    require_trainable(model)
    start = _own_objective(subject, model)
    losses = subject.train(model, LEARNING, seed=0)
    first, last = (losses[0], losses[-1]) if start is None else (start, _own_objective(subject, model))
    assert last is not None
    if {"ExpectedCost", "EstimatedGradient"} <= subject.can:  # an estimate of a gradient may be biased the wrong way
        return None if last != first else f"{first:.6g} before and after {LEARNING} steps of Adam"
    return None if last < first else f"{first:.6g} before, {last:.6g} after {LEARNING} steps of Adam on the same rows"


@torch.no_grad()
def _fit(subject: Subject, model: Any) -> float:
    """Mean log-likelihood of the rows, or its bound, nats; always with the same draws."""
    if "ExactLikelihood" in subject.can:
        return float(model.log_prob(subject.x).mean())
    if "BoundTerms" in subject.can:
        terms = [torch.stack(list(model.bound_terms(subject.x, generator(i)).values())).sum(0) for i in range(10)]
        return -float(torch.stack(terms).mean())
    return float(torch.stack([model.elbo(subject.x, generator(i)).value for i in range(10)]).mean())


def likelihood(subject: Subject) -> str | None:
    if not {"ExactLikelihood", "VariationalBound", "BoundTerms"} & subject.can:
        raise NotApplicable("it has neither")
    if subject.objective:
        raise NotApplicable("its loss is that")
    said = ""
    for progress in (0.99, 0.0):  # the whole objective, or else the part that training begins with
        model = subject.prepared()
        require_trainable(model)
        model.eval()
        before = _fit(subject, model)
        for _ in range(PATIENCE):  # at first, what is learnt need not be the likelihood
            subject.train(model, LEARNING, progress)
            after = _fit(subject, model)
            if after > before:
                return None
        said = said or f"{before:.6g} nats before, {after:.6g} after {PATIENCE * LEARNING} steps of Adam"
    return said


def objective(subject: Subject) -> str | None:
    """The loss is what its example says, in value and, at fixed draws, in gradient."""
    if not subject.objective:
        raise NotApplicable("its example states no objective")
    needs = {"likelihood": "ExactLikelihood", "elbo": "VariationalBound", "bound": "BoundTerms"}
    if needs.get(subject.objective) not in subject.can:
        return f"it states {subject.objective!r}, and has no such quantity"
    for model in (subject.copy(), copy.deepcopy(subject.scaled(2.0))):
        require_trainable(model)
        model = model.double().eval()
        batch = subject.batch(progress=0.99)
        batch.x = batch.x.double()
        gap = _value_gap(subject, model, batch) or _slope_gap(model, batch)
        if gap:
            return gap
    return None


@torch.no_grad()
def _value_gap(subject: Subject, model: Any, batch: Batch) -> str | None:
    stated = torch.stack([_stated(subject, model, batch.x, generator(i)) for i in range(REPEATS)])
    # from the same seed: where both make the same draws, most noise cancels
    gaps = torch.stack([model.loss(batch, generator(i))["loss"] for i in range(REPEATS)]) - stated
    gap, error = float(gaps.mean()), float(gaps.std()) / REPEATS**0.5
    if abs(gap) <= ERRORS * error + 1e-4 * (1.0 + abs(float(stated.mean()))):
        return None
    return f"it is {gap:+.4g} nats from the {subject.objective} that it states ({error:.2g} s.e.)"


def _stated(subject: Subject, model: Any, x: Tensor, draws: Generator) -> Tensor:
    """The objective's negative, a scalar estimate in nats."""
    if subject.objective == "likelihood":
        return -model.log_prob(x).mean()
    if subject.objective == "elbo":
        return -model.elbo(x, draws).value.mean()
    return torch.stack([term.mean() for term in model.bound_terms(x, draws).values()]).sum()


def _slope_gap(model: Any, batch: Batch) -> str | None:
    """Along a random direction, the loss at fixed draws changes as its gradient says."""
    weights = [p for p in model.parameters() if p.requires_grad]
    draws = generator(7)
    way = [torch.randn(p.shape, generator=draws, dtype=p.dtype) for p in weights]
    found = torch.autograd.grad(model.loss(batch, generator())["loss"], weights, allow_unused=True)
    slope = float(sum((g * w).sum() for g, w in zip(found, way) if g is not None))
    ends = []
    with torch.no_grad():
        for h in (STEP, -STEP):
            for p, w in zip(weights, way):
                p.add_(h * w)
            ends.append(float(model.loss(batch, generator())["loss"]))
            for p, w in zip(weights, way):
                p.sub_(h * w)
    measured = (ends[0] - ends[1]) / (2 * STEP)
    if abs(measured - slope) <= GRADIENT * (1.0 + abs(measured)):
        return None
    return f"its gradient along a direction is {slope:.6g}, and the loss changes by {measured:.6g}"


class _Loss(nn.Module):
    def __init__(self, model: Any, batch: Batch) -> None:
        super().__init__()
        self.model, self.batch = model, batch

    def forward(self, x: Tensor, draws: Generator) -> Tensor:
        loss: Tensor = self.model.loss(Batch(x, self.batch.n_train, columns=self.batch.columns), draws)["loss"]
        return loss


def stacking(subject: Subject) -> str | None:
    """Losses and gradients of two seeds side by side, under `torch.func.vmap`, are those of each alone."""
    models = []
    for seed in (0, 1):
        model = subject.prepared(seed)
        require_trainable(model)
        subject.train(
            model, 2, rate=1e-2
        )  # off the kinks of rectifiers, where biases start and a derivative may be either
        models.append(_Loss(model.train(), subject.batch()))
        models[-1].zero_grad()
    x = torch.stack([subject.x, subject.x.flip(0)])
    weights, buffers = torch.func.stack_module_state(models)

    def run(weights: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        # the same draws for both, so that each alone can be compared
        out: Tensor = torch.func.functional_call(models[0], (weights, buffers), (x, generator()))
        return out

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says which of its operations it loops over
            together = torch.func.vmap(torch.func.grad_and_value(run), randomness="same")
            slopes, losses = together(weights, copy.deepcopy(buffers), x)
    except RuntimeError as e:
        raise NotApplicable(f"its seeds train one after another: {' '.join(str(e).split())[:120]}") from e
    for i, model in enumerate(models):
        alone = model(x[i], generator())
        alone.backward()
        if not torch.allclose(losses[i], alone.detach(), rtol=1e-4, atol=1e-4):
            return f"a loss is {float(alone.detach()):.6g} alone and {float(losses[i].detach()):.6g} beside another"
        for name, p in model.named_parameters():
            grad = torch.zeros_like(p) if p.grad is None else p.grad.detach()
            off = ~torch.isclose(slopes[name][i], grad, rtol=2e-3, atol=1e-3)
            whole = float((slopes[name][i].detach() - grad).norm()) > UNLIKE * float(grad.norm()) + 1e-3
            if whole and float(off.float().mean()) > KINKS:
                return f"the gradient of {name} differs beside another seed"
    return None
