"""Contract tests of probabilities: they sum to one, samples follow them, and bounds bound them.

Small data of the model's own kind are summed over state by state or integrated, for the trained model and for the same
with weights three times as large (`masses`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from latentbench.contracts import spaces
from latentbench.contracts.finding import NotApplicable
from latentbench.contracts.masses import (
    BLOCK,
    EFFECTIVE,
    ERRORS,
    FACTORS,
    MOST_DIMS,
    NOISE,
    SLACK,
    WEIGHTS,
    Mass,
    Uneven,
    exact,
    log_prob_of,
    masses,
    weighed,
    weights_of,
)
from latentbench.contracts.spaces import Space
from latentbench.contracts.subject import Subject, generator, require

#: Steps of training on small data, where a bound must come near.
LEARNT = 100
#: Samples whose law is tested; chance of a fault being seen where there is none.
SAMPLES, CHANCE = 20_000, 1e-7
#: Standard errors that estimated masses may sum short of one; beyond, they have missed some of what they estimate.
MISSED = 3.0
#: Draws of a bound for each state; rows, copies of each and seeds by which an identity between means is measured.
DRAWS, ROWS, REPEATS, SEEDS = 64, 8, 50, 4
#: Points of a grid a dimension over which a bound is integrated.
BOUND_GRID = 25
#: States that are drawn where there are many, and the variance of a mean bound above which its exponential says little.
BOUND_STATES, UNSURE = 1000, 0.2


def normalised(subject: Subject) -> str | None:
    """Probabilities sum to one.

    With small weights posterior and prior nearly agree, so importance weights that are uneven even then are not those
    of the model's draws.
    """
    _require_density(subject)
    try:
        for _, space, mass, when in masses(subject):
            total, error = mass.total(space)
            if abs(total - 1.0) > ERRORS * error + SLACK[space.kind]:
                return f"over {space.said} they sum to {total:.5g} ({error:.2g} s.e.){when}"
    except Uneven as e:
        return str(e)
    return None


def samples(subject: Subject) -> str | None:
    """Samples follow the density, and the codes' prior where that is known: weights may tell little of a prior."""
    require(subject, "Sampler")
    _require_density(subject)
    if {"CodePrior", "CodeLikelihood", "Encoder"} <= subject.can and (said := _decoded(subject)):
        return said
    for model, space, mass, when in masses(subject):
        total, error = mass.total(space)
        if mass.effective < math.inf and abs(total - 1.0) > MISSED * error + SLACK[space.kind]:
            continue
        with torch.no_grad():
            drawn = model.sample(SAMPLES, generator(31))
            for name, at, found in _statistics(space, drawn, mass, log_prob_of(subject, model)):
                if said := _chi_square(at, mass, space, found):
                    return f"the law of {name} over {SAMPLES} samples is not the density's: {said}{when}"
    return _of_many_coordinates(subject)


@torch.no_grad()
def _of_many_coordinates(subject: Subject) -> str | None:
    """More real coordinates than can be integrated over: for any density g the mean of g(x) / p(x) over samples of p is
    one, here for a Gaussian narrower than they lie."""
    if not {"Sampler", "ExactLikelihood"} <= subject.can or subject.rows.info.support != "real":
        return None
    model = subject.trained()
    drawn = model.sample(SAMPLES, generator(33))
    x = drawn.flatten(1).double()
    if not 2 < x.shape[1] <= MOST_DIMS:
        return None
    root, flat = torch.linalg.cholesky_ex(0.5 * torch.cov(x.T))
    if flat or not bool(root.isfinite().all()):  # they fill no volume
        return None
    near = torch.distributions.MultivariateNormal(x.mean(0), scale_tril=root)
    ratio = (near.log_prob(x) - model.log_prob(drawn).double()).exp()
    total, error = float(ratio.mean()), float(ratio.std()) / len(x) ** 0.5
    if error <= NOISE * total and abs(total - 1.0) > ERRORS * error + SLACK["random"]:
        times = f"{1.0 / total:.5g} times that of its samples ({error / total:.2g} of it s.e.)"
        return f"of {x.shape[1]} coordinates the density is {times}"
    return None


@torch.no_grad()
def _decoded(subject: Subject) -> str | None:
    """Samples against the sum over codes of p(z) p(x | z), whatever the posterior; with larger weights, in which a
    prior is far from the one that training starts at, twice, as a flow may hardly move where noise makes it weak."""
    small = subject.small()
    space = spaces.states(small.kind) if small is not None and small.kind is not None else None
    if small is None or space is None or len(space.x) > spaces.MOST_WEIGHED:
        return None
    for factor, seed in ((1.0, 0), (FACTORS[0], 5), (FACTORS[0], 6), (FACTORS[1], 5)):
        model = small.trained() if factor == 1.0 else small.scaled(factor, seed)
        found = _codes(model, small.x, WEIGHTS, 2.0)
        if found is None:
            return None
        z, ratio = found
        effective = float(ratio.sum().square() / ratio.square().sum())
        if effective < EFFECTIVE or abs(float(ratio.mean()) - 1.0) > NOISE:  # some of the prior lies elsewhere
            continue
        n = WEIGHTS // len(space.x)  # of these codes, as many as there is time to decode, as the prior has them
        z = z[torch.multinomial(ratio, n, replacement=True, generator=generator(52))]
        each = torch.stack([model.log_likelihood(x.expand(n, *x.shape), z).double().exp() for x in space.x])
        spread = each.var(1).clamp_min(1.0 / n)  # n codes do not tell a state that one in n has
        mass = Mass(each.mean(1), spread * (1.0 / n + 1.0 / effective))
        for name, at, states in _statistics(space, model.sample(SAMPLES, generator(32)), mass, None):
            if said := _chi_square(at, mass, space, states):
                when = "" if factor == 1.0 else f" with weights {factor:g} times as large"
                return f"the law of {name} over {SAMPLES} samples is not that of p(z) p(x | z): {said}{when}"
    return None


def _codes(model: Any, x: Tensor, n: int, width: float) -> tuple[Tensor, Tensor] | None:
    """n codes of a normal of that width, and their prior over its density, float64; None in many dimensions."""
    dims = model.encode(x[:1]).shape[1]
    if dims > MOST_DIMS:
        return None
    z = width * torch.randn(n, dims, generator=generator(51))
    log_r = -0.5 * (z / width).square().sum(-1) - dims * math.log(width * math.sqrt(2.0 * math.pi))
    return z, (model.log_prior(z) - log_r).double().exp()


def _require_density(subject: Subject) -> None:
    if not {"ExactLikelihood", "VariationalBound"} & subject.can:
        raise NotApplicable("it has no density")


def _statistics(
    space: Space, drawn: Tensor, mass: Mass, log_prob: Callable[[Tensor], Tensor] | None
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Cells (M,) of a space's points and (n,) of samples, by the state itself or by numbers that are functions of x."""
    own = mass.p.log() - space.log_volume
    if space.kind == "grid":
        at = spaces.nearest(space, drawn)
        drawn, of_drawn = space.x[at], own[at]
    elif log_prob is not None:
        of_drawn = log_prob(drawn).double()
    x, y = space.x.flatten(1).double(), drawn.flatten(1).double()
    if space.kind == "states" and len(x) <= SAMPLES // 5:
        index = {tuple(row): i for i, row in enumerate(x.tolist())}
        found = torch.tensor([index.get(tuple(row), len(index)) for row in y.tolist()])
        yield "states", torch.arange(len(x)), found
        return
    numbers: list[tuple[str, Tensor, Tensor]] = [
        (f"coordinate {i}", x[:, i], y[:, i]) for i in range(min(4, x.shape[1]))
    ]
    numbers += [("the sum", x.sum(1), y.sum(1)), ("the norm", x.norm(dim=1), y.norm(dim=1))]
    numbers += [("the difference of ends", x[:, 0] - x[:, -1], y[:, 0] - y[:, -1])]
    if log_prob is not None:
        numbers.append(("log_prob", own, of_drawn))
    for name, a, b in numbers:
        edges = b.quantile(torch.linspace(0, 1, 11, dtype=torch.float64))[1:-1].unique()
        yield name, torch.bucketize(a.contiguous(), edges), torch.bucketize(b.contiguous(), edges)


def _chi_square(at: Tensor, mass: Mass, space: Space, found: Tensor) -> str | None:
    """What is wrong with the counts of cells, given each point's mass."""
    from scipy.stats import chi2

    cells = int(max(at.max(), found.max())) + 1
    total = mass.p.sum()
    p = torch.zeros(cells).double().index_add_(0, at, mass.p) / total
    noise = mass.variance if space.kind != "random" else mass.p.square()
    variance = torch.zeros(cells).double().index_add_(0, at, noise) / total.square()
    if space.kind == "grid":  # a grid point's mass is its cell's up to the density's curvature
        variance = variance + (0.01 * p).square()
    n = len(found)
    counts = torch.bincount(found, minlength=cells).double()
    rare = n * p < 5.0
    p, variance, counts = (torch.cat([v[~rare], v[rare].sum()[None]]) for v in (p, variance, counts))
    spread = n * p + n**2 * variance + 1e-3
    value = float(((counts - n * p).square() / spread).sum())
    if chi2.sf(value, max(1, len(p) - 1)) >= CHANCE:
        return None
    worst = int(((counts - n * p).square() / spread).argmax())
    return (
        f"{int(counts[worst])} where {n * float(p[worst]):.1f} are expected (chi-square {value:.4g} of {len(p)} cells)"
    )


def weights(subject: Subject) -> str | None:
    """Log importance weights average to the bound, and weights to the exact likelihood."""
    require(subject, "VariationalBound")
    x = subject.x[:ROWS].repeat(REPEATS, *[1] * (subject.x.dim() - 1))
    for model, when in ((subject.trained(), ""), (subject.scaled(), " with weights 3 times as large")):
        with torch.no_grad():
            found = torch.stack([_gap(model, x, seed) for seed in range(SEEDS)])
        gap = found[:, 0].reshape(SEEDS * REPEATS, -1)
        rounding = 1e-6 * float(found[:, 1].abs().mean())
        mean, error = float(gap.mean()), float((gap.var(0) / len(gap)).sum().sqrt()) / gap.shape[1]
        if abs(mean) > ERRORS * error + 1e-4 * (1.0 + float(gap.abs().mean())) + rounding:
            return f"the bound is {mean:+.4g} nats from the mean log-weight ({error:.2g} s.e.){when}"
    if "ExactLikelihood" not in subject.can:
        return None
    for model, space, mass, when in masses(subject):
        estimate = weighed(weights_of(model), space)
        if estimate.effective < WEIGHTS / 20:
            continue
        ratio = estimate.p.sum() / mass.p.sum()
        error = float(estimate.variance.sum().sqrt() / mass.p.sum())
        if abs(float(ratio) - 1.0) > ERRORS * error + SLACK["grid"]:
            return f"weights average to {float(ratio):.4g} times the exact likelihood{when}"
    return None


def _gap(model: Any, x: Tensor, seed: int) -> Tensor:
    """The bound less a log-weight, each at one draw, and that log-weight, (2, N) float64.

    Where both make the same draws, most noise cancels.
    """
    log_weight = model.log_importance_weights(x, model.posterior(x), 1, generator(seed))[0].double()
    return torch.stack([model.elbo(x, generator(seed)).value.double() - log_weight, log_weight])


def bound(subject: Subject) -> str | None:
    """A bound's probabilities sum to no more than one, and it lies below an exact likelihood."""
    require(subject, "BoundTerms")
    small = subject.small()
    if small is None or small.kind is None:
        raise NotApplicable("it takes no data small enough to sum over")
    model = small.prepared()
    small.train(model, LEARNT)
    space = spaces.states(small.kind)
    if space is not None and len(space.x) > spaces.MOST_WEIGHED:
        space = spaces.some(space, BOUND_STATES)
    space = space or spaces.real(small, model, grid=BOUND_GRID)
    p, variance = _bounded(model, space)
    total, error = Mass(p, variance).total(space)
    if float((variance / p.clamp_min(1e-300)).sum()) > UNSURE * total:  # the mean of p's variance, weighed by p
        raise NotApplicable("a draw of its bound is too noisy to say")
    if total > 1.0 + ERRORS * error + SLACK[space.kind]:
        return f"over {space.said} its exponentials sum to {total:.5g} ({error:.2g} s.e.), more than one"
    return None


@torch.no_grad()
def _bounded(model: Any, space: Space) -> tuple[Tensor, Tensor]:
    """exp(-bound) of each point and the variance of that."""
    draws, means, spreads = generator(41), [], []
    repeats = max(4, min(DRAWS, WEIGHTS // len(space.x)))
    for x in space.x.split(BLOCK):
        found = [torch.stack(list(model.bound_terms(x, draws).values())).sum(0).double() for _ in range(repeats)]
        each = torch.stack(found)
        means.append(each.mean(0))
        spreads.append(each.var(0) / repeats)
    noise = torch.cat(spreads)
    p = (space.log_volume - torch.cat(means) - 0.5 * noise).exp()  # less what noise adds to an exponential's mean
    return p, noise * p.square()


def parts(subject: Subject) -> str | None:
    """Conditional and known distributions sum to one: p(x | z), p(z), p(part | rest), and a target."""
    said = _target(subject) if "KnownTarget" in subject.can else None
    said = said or (_prior(subject) if {"CodePrior", "Encoder"} <= subject.can else None)
    small = subject.small()
    states = spaces.states(small.kind) if small is not None and small.kind is not None else None
    wanted = {"CodeLikelihood", "ConditionalBound"} & subject.can
    if wanted and small is not None and states is not None and len(states.x) <= spaces.MOST_WEIGHED:
        for model, when in ((small.trained(), ""), (small.scaled(), " with weights three times as large")):
            if "CodeLikelihood" in wanted and not said:
                said = _given_code(small, model, states)
            if "ConditionalBound" in wanted and not said:
                said = _given_rest(model, states)
            if said:
                return said + when
        return None
    if not {"KnownTarget", "CodePrior"} & subject.can:
        raise NotApplicable("it has no conditional distribution that can be summed over")
    return said


@torch.no_grad()
def _target(subject: Subject) -> str | None:
    model = subject.trained()
    states, log_p = model.target()
    totals = {"target": log_p.double().exp().sum(), "log_model": model.log_model(states).double().exp().sum()}
    wrong = [f"{name} sums to {float(t):.5g}" for name, t in totals.items() if abs(float(t) - 1.0) > SLACK["states"]]
    return ", ".join(wrong) or None


@torch.no_grad()
def _prior(subject: Subject) -> str | None:
    """p(z) integrated over points of a wider normal, about codes of few dimensions."""
    for model, when in ((subject.trained(), ""), (subject.scaled(0.3), " with weights 0.3 times as large")):
        if (found := _codes(model, subject.x, spaces.POINTS, 1.3)) is None:
            return None
        p = found[1]
        total, error = float(p.mean()), float(p.std()) / len(p) ** 0.5
        if error <= NOISE * total and abs(total - 1.0) > ERRORS * error + SLACK["random"]:
            return f"the prior of codes integrates to {total:.5g} ({error:.2g} s.e.){when}"
    return None


@torch.no_grad()
def _given_code(subject: Subject, model: Any, space: Space) -> str | None:
    for z in model.encode_sample(subject.x[:3], generator()):
        mass = exact(lambda x, z=z: model.log_likelihood(x, z.expand(len(x), -1)), space)  # type: ignore[misc]
        if abs(float(mass.p.sum()) - 1.0) > SLACK["states"]:
            return f"over {space.said} p(x | z) sums to {float(mass.p.sum()):.5g}"
    return None


@torch.no_grad()
def _given_rest(model: Any, space: Space) -> str | None:
    half = space.x.shape[1] // 2
    same = (space.x[:, :half] == space.x[-1, :half]).all(1)
    part = Space(space.x[same], space.log_volume[same], space.kind, space.said)
    mass = weighed(model.log_conditional_weights, part)
    total, error = mass.total(part)
    if abs(total - 1.0) <= ERRORS * error + SLACK["states"]:
        return None
    return f"given the first half of the coordinates, p of the rest sums to {total:.5g} ({error:.2g} s.e.)"
