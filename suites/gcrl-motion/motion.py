"""Generative causal representation learning of motion (Shirahmad Gale Bagi et al. 2023), and what it is held against.

A track x (T, 2) in metres is observed, its continuation y is to be forecast; z are invariant over places, s vary:

    p(x, y, z, s) = p(z) p(s) p(x | z, s) p(y | z, s),    q(z | x) q(s | x).

Encoders see displacements and a feature of each frame, alpha (1 + curvature), whose strength is the place's. Columns of
the data are those of `windows`; without ``future`` half of x is observed, without ``curvature`` the feature is 0.
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
COMPONENTS, PLACES = 5, 8  # of the mixture; at most
FEW, WINDOW = 64, 20  # first rows, a batch of the authors', which may be adapted to; frames of a row


def moves(x: Tensor) -> Tensor:
    """Displacements of tracks (N, T, 2) from frame to frame, 0 in the first."""
    return torch.diff(x, dim=1, prepend=x[:, :1])


def encoder(outputs: int) -> nn.ModuleList:
    """A recurrent network of what is seen at each frame (3), and a head of its last state."""
    head = nn.Sequential(*nets.mlp(32, (32, 32), "relu"), nn.Linear(32, outputs))
    return nn.ModuleList([nn.GRU(3, 32, batch_first=True), head])


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
        Example("sequence", {"latent_dim": 2, "draws": 3}),
        Example("sequence", {"latent_dim": 2, "draws": 0, "penalty": 2.0}),
    ),
)
class Motion(nn.Module):
    """Two encoders, of which one would be invariant, and decoders of both codes. With draws, what is climbed is

        log q(y | x) + E_q [p(y | z, s) / q(y | x) (log p(x | z, s) p(z) p(s) - log q(z | x) q(s | x))],

    q(y | x) = E_q p(y | z, s), both over the same draws. Without, what falls is the mean squared error of displacements
    R, of R_e in a share p_e of rows: R + penalty sum_e p_e (d R_e(w y_hat) / dw at w = 1)^2 (IRMv1; Liu et al. 2022).

    Args:
        latent_dim, draws: coordinates of z and of s; draws of them, 0 for codes without a distribution.
        variance, penalty: of each displacement given z and s, m^2; of that sum, without draws.
        blind: the feature is hidden.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: PositiveInt = 8,
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
        self.invariant, self.variant = (encoder(latent_dim * (2 if draws else 1)) for _ in range(2))
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
        """log p(z) and log p(s), (N, 2 latent_dim) to (2, N): flows to N(0, I), and to a mixture of N(i, i + 1)."""
        z, s = code.chunk(2, 1)
        u, log_det = self.flow_s(s)
        i = torch.arange(float(COMPONENTS), device=u.device)[:, None]
        each = normal(u[:, None], i, 0.5 * (i + 1.0).log().expand(-1, u.shape[1]))
        return torch.stack([self.flow_z.log_prob(z), (self.weights.log_softmax(0) + each).logsumexp(1) + log_det])

    def rates(self, x: Tensor, columns: Columns, generator: Generator) -> dict[str, float]:
        """Mean over rows of log q(z | x) - log p(z), and of that of s, nats: estimates by one draw, none without."""
        mean, log_std = self.posterior(x, columns)
        if log_std is None:
            return {}
        code = normal_draw(mean, log_std, generator)
        log_q = [normal(*parts) for parts in zip(*(v.chunk(2, 1) for v in (code, mean, log_std)))]
        return dict(zip(("rate_z", "rate_s"), (torch.stack(log_q) - self.log_p(code)).detach().mean(1).tolist()))

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        x, future = batch.x, batch.columns.get("future")
        if future is None:
            x, future = x.tensor_split([x.shape[1] // 2], 1)
        seen, true = moves(x), torch.diff(torch.cat([x[:, -1:], future], 1), dim=1)
        mean, log_std = self.posterior(x, batch.columns)
        if log_std is None:
            found = self.future(mean, seen[:, -1], true.shape[1])
            risk, slopes = (found - true).square().sum(2).mean(), 2.0 * ((found - true) * found).sum(2).mean(1)
            places = (batch.columns["y"][:, None] == torch.arange(PLACES, device=x.device)).to(x.dtype)
            each = slopes @ places / places.sum(0).clamp(min=1.0)
            return {"loss": risk + self.penalty * each.square() @ places.mean(0)}
        mean, log_std, seen, true = (torch.cat([v] * self.draws) for v in (mean, log_std, seen, true))
        code = normal_draw(mean, log_std, generator)
        y, again = self.future(code, seen[:, -1], true.shape[1]), self.past(code, seen[:, 0], seen.shape[1], seen)
        scale = x.new_full((), 0.5 * math.log(self.variance))
        log_y, log_x = (normal(a, b, scale.expand_as(a)).sum(1) for a, b in ((true, y), (seen, again)))
        rest = log_x + self.log_p(code).sum(0) - normal(code, mean, log_std)
        log_y, rest = (part.view(self.draws, -1) for part in (log_y, rest))
        return {"loss": -(log_mean_exp(log_y) + (log_y.softmax(0) * rest).sum(0)).mean()}


@model("constant-velocity", "Fittable Forecaster", "the last displacement again", examples=(Example("sequence"),))
class ConstantVelocity(nn.Module):
    """Forecasts of tracks from which nothing is learnt (Schoeller et al. 2020)."""

    def __init__(self, info: DataInfo) -> None:
        checks.support(type(self).__name__, info, "real")
        super().__init__()

    def fit(self, x: Tensor, generator: Generator) -> None:
        """Nothing."""

    def forecast(self, x: Tensor, columns: Columns, length: int) -> Tensor:
        return x[:, -1:] + torch.arange(1.0, length + 1.0, device=x.device)[:, None] * moves(x)[:, -1:]


OF = "ADE or FDE of forecasts where a spurious feature has strength `alpha`"
SETTINGS = {"alpha": 8.0, "of": "average", "draws": 1, "steps": 0, "rate": 5e-3}
EDGES = {"alpha": 0.0, "draws": 1, "steps": 0, "rate": 0.0}


@metric("displacement_error", "Forecaster", "m", "lower", OF, settings=SETTINGS, lowest=EDGES, within=(0.0, None))
@torch.no_grad()
def displacement_error(model: Any, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Of one forecast or the best of `draws`, over rows that share no frame with the first 64, and the rates there.

    With steps, a copy has adapted to those 64, by Adam on its loss without a penalty, GCRL without what is of z alone.
    """
    draws, steps = int(settings["draws"]), int(settings["steps"])
    if missing := {"future", "curvature", "alpha", "start"} - set(view.columns):
        raise UserError(f"the data have no column {min(missing)!r}", fix="choose windows of tracks")
    if (steps or draws > 1) and not isinstance(model, Motion):
        raise UserError("the model cannot draw or adapt", fix="choose a gcrl-motion")
    batch = view.batch()
    columns = {**batch.columns, "alpha": torch.full_like(batch.columns["alpha"], settings["alpha"])}
    if steps:
        model, few = deepcopy(model).requires_grad_(True), {k: v[:FEW] for k, v in columns.items()}
        still = ("invariant", "flow_z") if model.draws else ()
        free = [p for name, p in model.named_parameters() if not name.startswith(still)]
        model.penalty, adam = 0.0, torch.optim.Adam(free, lr=settings["rate"])
        for _ in range(steps):
            model.zero_grad()
            with torch.enable_grad():
                model.loss(Batch(batch.x[:FEW], FEW, columns=few), generator)["loss"].backward()
            adam.step()
    rows = columns["start"] >= columns["start"][:FEW].max() + WINDOW
    x, columns = batch.x[rows], {k: v[rows] for k, v in columns.items()}
    future, given = columns.pop("future"), (generator,) if draws > 1 else ()
    tries = [model.forecast(x, columns, future.shape[1], *given) for _ in range(draws)]
    distances = (torch.stack(tries) - future).norm(dim=3)
    each = distances.mean(2) if settings["of"] == "average" else distances[..., -1]
    value, se = mean_and_se(each.min(0).values.double().cpu().numpy())
    return MetricValue(value, se, len(x), model.rates(x, columns, generator) if isinstance(model, Motion) else {})
