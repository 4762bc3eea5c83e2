"""Generative causal representation learning of motion (Shirahmad Gale Bagi et al. 2023), and what it is held against.

A track x (T, 2) in metres is observed, its continuation y is to be forecast; z are invariant over places, s vary:

    p(x, y, z, s) = p(z) p(s) p(x | z, s) p(y | z, s),    q(z | x) q(s | x),

where p(z) is a flow to a normal, p(s) one to a mixture of normals. Encoders see displacements and a feature of each
frame, alpha (1 + curvature), whose strength alpha is the place's. Data have columns ``future`` (L, 2), without which
half of x is observed; ``curvature`` (T,) and ``alpha``, without which the feature is 0; ``y``, the place's number; and
``start``, the number of a row's first frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.view import View
from latentbench.metrics.arrays import mean_and_se
from latentbench.models import checks, nets
from latentbench.models.coupling import CouplingFlow
from latentbench.models.densities import log_mean_exp, normal, normal_draw
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn

Columns = Mapping[str, Tensor]
Settings = Mapping[str, Any]
COMPONENTS, PLACES = 5, 8  # of the mixture; there may be fewer places
FEW, WINDOW = 64, 20  # first rows, a batch of the authors', which may be adapted to; frames of a row
TINY = {"latent_dim": 2, "width": 5}


def moves(x: Tensor) -> Tensor:
    """Displacements of tracks (N, T, 2) from frame to frame, 0 in the first."""
    return torch.diff(x, dim=1, prepend=x[:, :1])


def encoder(width: int, outputs: int) -> nn.ModuleList:
    """A recurrent network of what is seen at each frame (3), and a head of its last state."""
    head = nn.Sequential(*nets.mlp(width, (32, 32), "relu"), nn.Linear(32, outputs))
    return nn.ModuleList([nn.GRU(3, width, batch_first=True), head])


class Decoder(nn.Module):
    """Displacements from a code (N, D), which is mapped to the state that a recurrent network of D units begins in."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.start = nn.Sequential(*nets.mlp(dims, (32,), "relu"), nn.Linear(32, dims))
        self.cell, self.read = nn.GRUCell(2, dims), nn.Linear(dims, 2)

    def forward(self, code: Tensor, first: Tensor, length: int, told: Tensor | None = None) -> Tensor:
        """(N, length, 2): one after the other, each from the last, or from that of `told` (N, length, 2)."""
        state, last, found = self.start(code), first, []
        for t in range(length):
            state = self.cell(last, state)
            found.append(self.read(state))
            last = found[-1] if told is None else told[:, t]
        return torch.stack(found, 1)


@model(
    "gcrl-motion",
    "Trainable Forecaster",
    "invariant and variant latents of tracks (Shirahmad Gale Bagi et al. 2023), or codes by least squares",
    examples=(
        Example("sequence", {**TINY, "draws": 3}),
        Example("sequence", {**TINY, "draws": 0}),
        Example("sequence", {**TINY, "draws": 0, "penalty": 2.0}),
    ),
)
class Motion(nn.Module):
    """Two encoders, of which one would be invariant, and decoders of both codes. With draws, what is climbed is

        log q(y | x) + E_q [p(y | z, s) / q(y | x) (log p(x | z, s) p(z) p(s) - log q(z | x) q(s | x))],

    q(y | x) = E_q p(y | z, s), both over the same draws. Without, what falls is the mean squared error of displacements
    R, of R_e in a share p_e of rows: R + penalty sum_e p_e (d R_e(w y_hat) / dw at w = 1)^2 (IRMv1; Liu et al. 2022).

    Args:
        info: tracks (T, 2), see the module.
        latent_dim, width: coordinates of z and of s; units of the encoders' recurrent networks.
        draws: of z and s; 0: codes without a distribution.
        variance: of each displacement given z and s, m^2.
        penalty: of that sum, without draws.
        blind: the feature is hidden.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: PositiveInt = 8,
        width: PositiveInt = 32,
        draws: NonNegativeInt = 10,
        variance: PositiveFloat = 0.5,
        penalty: NonNegativeFloat = 0.0,
        blind: bool = False,
    ) -> None:
        checks.support("gcrl-motion", info, "real")
        if len(info.shape) != 2 or info.shape[1] != 2 or (draws and penalty):
            raise UserError("gcrl-motion needs tracks (T, 2), and a penalty excludes draws")
        super().__init__()
        self.draws, self.variance, self.penalty, self.blind = draws, variance, penalty, blind
        self.invariant, self.variant = (encoder(width, latent_dim * (2 if draws else 1)) for _ in range(2))
        self.future = Decoder(2 * latent_dim)
        if draws:
            self.past, vector = Decoder(2 * latent_dim), DataInfo((latent_dim,), "real", 1)
            self.flow_z, self.flow_s = (CouplingFlow(vector, couplings=3, hidden=(32,)) for _ in range(2))
            self.weights = nn.Parameter(-torch.ones(COMPONENTS))

    def posterior(self, x: Tensor, columns: Columns) -> tuple[Tensor, Tensor | None]:
        """Means of z and s, side by side, and log standard deviations, each (N, 2 latent_dim), of tracks (N, T, 2)."""
        feature = x.new_zeros(x.shape[:2])
        if not self.blind and "curvature" in columns:
            feature = columns["alpha"][:, None] * (1.0 + columns["curvature"])
        inputs = torch.cat([moves(x), feature[..., None]], 2)
        z, s = (head(rnn(inputs)[1][0]) for rnn, head in (self.invariant, self.variant))
        if not self.draws:
            return torch.cat([z, s], 1), None
        mean, log_std = (torch.cat(pair, 1) for pair in zip(z.chunk(2, 1), s.chunk(2, 1)))
        return mean, log_std.clamp(-nets.LOG_STD_LIMIT, nets.LOG_STD_LIMIT)

    def forecast(self, x: Tensor, columns: Columns, length: int, draws: Generator | None = None) -> Tensor:
        """The `length` places that follow (N, length, 2), of the codes' means, or of a draw."""
        mean, log_std = self.posterior(x, columns)
        code = mean if draws is None or log_std is None else normal_draw(mean, log_std, draws)
        return x[:, -1:] + self.future(code, moves(x)[:, -1], length).cumsum(1)

    def log_p(self, code: Tensor) -> Tensor:
        """log p(z) + log p(s), (N, 2 latent_dim) to (N,): before the flow, component i = 0 .. 4 of s is N(i, i + 1)."""
        z, s = code.chunk(2, 1)
        u, log_det = self.flow_s(s)
        i = torch.arange(float(COMPONENTS), device=u.device)[:, None]
        each = normal(u[:, None], i, 0.5 * (i + 1.0).log().expand(-1, u.shape[1]))
        return self.flow_z.log_prob(z) + (self.weights.log_softmax(0) + each).logsumexp(1) + log_det

    def rate(self, x: Tensor, columns: Columns, generator: Generator) -> float:
        """Mean over rows of log q(z, s | x) - log p(z, s), nats: an estimate by one draw, 0 without any."""
        mean, log_std = self.posterior(x, columns)
        if log_std is None:
            return 0.0
        code = normal_draw(mean, log_std, generator)
        return float((normal(code, mean, log_std) - self.log_p(code)).detach().mean())

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        x, future = batch.x, batch.columns.get("future")
        if future is None:
            x, future = x.tensor_split([x.shape[1] // 2], 1)
        (mean, log_std), copies = self.posterior(x, batch.columns), max(self.draws, 1)
        seen, true = moves(x).repeat(copies, 1, 1), moves(torch.cat([x[:, -1:], future], 1))[:, 1:].repeat(copies, 1, 1)
        if log_std is None:
            found = self.future(mean, seen[:, -1], true.shape[1])
            risk, slopes = (found - true).square().sum(2).mean(), 2.0 * ((found - true) * found).sum(2).mean(1)
            if not self.penalty:
                return {"loss": risk}
            places = (batch.columns["y"][:, None] == torch.arange(PLACES, device=x.device)).to(x.dtype)
            each = slopes @ places / places.sum(0).clamp(min=1.0)
            return {"loss": risk + self.penalty * each.square() @ places.mean(0), "risk": risk.detach()}
        mean, log_std = mean.repeat(copies, 1), log_std.repeat(copies, 1)
        code = normal_draw(mean, log_std, generator)
        y, again = self.future(code, seen[:, -1], true.shape[1]), self.past(code, seen[:, 0], seen.shape[1], seen)
        scale = x.new_full((), 0.5 * math.log(self.variance))
        log_y, log_x = (normal(a, b, scale.expand_as(a)).sum(1) for a, b in ((true, y), (seen, again)))
        rest = log_x + self.log_p(code) - normal(code, mean, log_std)
        log_y, rest = (part.view(copies, -1) for part in (log_y, rest))
        fit, bound = log_mean_exp(log_y), (log_y.softmax(0) * rest).sum(0)
        return {"loss": -(fit + bound).mean(), "fit": fit.mean().detach(), "bound": bound.mean().detach()}

    def adapting(self, part: str) -> list[nn.Parameter]:
        """Parameters that move to a new place: ``all``, or, as the model's ``own``, all but those of z alone."""
        still = [self.invariant, self.flow_z] if self.draws and part == "own" else []
        fixed = {id(p) for module in still for p in module.parameters()}
        return [p for p in self.parameters() if id(p) not in fixed]


@model("constant-velocity", "Fittable Forecaster", "the last displacement again", examples=(Example("sequence"),))
class ConstantVelocity(nn.Module):
    """Forecasts of tracks from which nothing is learnt (Schoeller et al. 2020)."""

    def __init__(self, info: DataInfo) -> None:
        checks.support(type(self).__name__, info, "real")
        super().__init__()

    def fit(self, x: Tensor, generator: Generator) -> None:
        """Nothing."""

    def forecast(self, x: Tensor, columns: Columns, length: int) -> Tensor:
        """(N, length, 2)."""
        return x[:, -1:] + torch.arange(1.0, length + 1.0, device=x.device)[:, None] * moves(x)[:, -1:]


def adapted(model: Motion, few: Batch, part: str, settings: Settings, generator: Generator) -> Motion:
    """A copy after steps of Adam on the loss of `few` rows, without a penalty, see `Motion.adapting`."""
    moved = deepcopy(model).requires_grad_(True)
    moved.penalty = 0.0
    adam = torch.optim.Adam(moved.adapting(part), lr=settings["rate"])
    with torch.enable_grad():
        for _ in range(int(settings["steps"])):
            moved.zero_grad()
            moved.loss(few, generator)["loss"].backward()
            adam.step()
    return moved


@torch.no_grad()
def errors(model: Any, view: View, settings: Settings, generator: Generator, part: str = "own") -> MetricValue:
    """Mean ADE or FDE over rows, or, once the model has adapted to the first `rows`, over those that share no frame.

    The latents' rate is in the details.
    """
    n, draws = int(settings["rows"]), int(settings["draws"])
    if missing := {"future", "curvature", "alpha", "start"} - set(view.columns):
        raise UserError(f"the data have no column {min(missing)!r}", fix="choose windows of tracks")
    if n > FEW or ((n or draws > 1) and not isinstance(model, Motion)):
        raise UserError(f"{n} rows to adapt to, or a model that cannot", fix=f"{FEW} at most, and a gcrl-motion")
    batch = view.batch()
    columns = {**batch.columns, "alpha": torch.full_like(batch.columns["alpha"], settings["alpha"])}
    rows = columns["start"] >= (columns["start"][:FEW].max() + WINDOW if n else 0)
    if n:
        few = Batch(batch.x[:n], n, columns={k: v[:n] for k, v in columns.items()})
        model = adapted(model, few, part, settings, generator)
    x, future = batch.x[rows], columns.pop("future")[rows]
    columns, given = {k: v[rows] for k, v in columns.items()}, (generator,) if draws > 1 else ()
    tries = [model.forecast(x, columns, future.shape[1], *given) for _ in range(draws)]
    distances = (torch.stack(tries) - future).norm(dim=3)
    each = distances.mean(2) if settings["of"] == "average" else distances[..., -1]
    value, se = mean_and_se(each.min(0).values.double().cpu().numpy())
    details = {"rate": model.rate(x, columns, generator)} if isinstance(model, Motion) else {}
    return MetricValue(value, se, each.shape[1], details)


OF = "ADE or FDE of forecasts where a spurious feature has strength `alpha`"
SETTINGS = {"alpha": 8.0, "of": "average", "draws": 1, "rows": 0, "steps": 100, "rate": 5e-3}
EDGES = {"alpha": 0.0, "draws": 1, "rows": 0, "steps": 0, "rate": 0.0}


@metric("displacement_error", "Forecaster", "m", "lower", OF, settings=SETTINGS, lowest=EDGES, within=(0.0, None))
def displacement_error(model: Any, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Of one forecast or the best of `draws`; of all test rows, or of later ones, once the own part has adapted."""
    return errors(model, view, settings, generator)


@metric("variant_part_gain", "Forecaster", "m", "higher", settings=SETTINGS, lowest=EDGES)
def variant_part_gain(model: Any, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """By how much that error is lower than if all parameters had adapted, from the same draws."""
    state = generator.get_state()
    own = errors(model, view, settings, generator)
    generator.set_state(state)
    return MetricValue(errors(model, view, settings, generator, "all").value - own.value, None, own.n)
