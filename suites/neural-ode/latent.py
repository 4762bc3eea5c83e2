"""Irregularly observed series: latent ODEs, the same with a recurrent decoder, and a recurrent predictor (Chen et al.
2018, section 5).

A series is T values on an even grid, (T, D). A column of T flags may say which of them are observed, the same number in
each row; values that are not are never looked at.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, nets
from latentbench.models.densities import HALF_LOG_2PI, normal, normal_kl
from latentbench.papers.neural_ode.solver import Solver
from pydantic import PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn


class Series(nn.Module):
    """What models of such series share: where the observations are."""

    def __init__(self, info: DataInfo, observed: str | None) -> None:
        name = type(self).__name__
        checks.support(name, info, "real", "unit")
        super().__init__()
        if len(info.shape) != 2:
            raise UserError(f"{name} needs series (T, D), and a sample has shape {tuple(info.shape)}")
        self.length, self.dims = info.shape
        if observed is not None and info.columns and info.columns.get(observed) != (self.length,):
            known = ", ".join(k for k, v in info.columns.items() if v == (self.length,)) or "none"
            raise UserError(
                f"observed is {observed!r}, which is no column of {self.length} flags", fix=f"it has {known}"
            )
        self.observed = observed

    def _seen(self, x: Tensor, columns: object) -> tuple[Tensor, Tensor]:
        """The observed values (N, n, D) in order and their places on the grid (N, n), as integers."""
        flags = columns.get(self.observed) if self.observed is not None else None  # type: ignore[attr-defined]
        if self.observed is not None and flags is None:
            raise UserError(f"the data have no column {self.observed!r}", fix="name one that says what is observed")
        if flags is None:
            return x, torch.arange(self.length, device=x.device).expand(len(x), -1)
        counts = (flags > 0).sum(1)
        if not bool((counts == counts[0]).all()) or int(counts[0]) < 1:
            raise UserError("rows with different numbers of observations", fix="as many in each, and one or more")
        places = (flags > 0).nonzero()[:, 1].view(len(x), -1)
        return x.gather(1, places[..., None].expand(-1, -1, self.dims)), places


@model(
    "latent-ode",
    "Trainable Forecaster",
    "VAE of irregular series with a latent equation or recurrence",
    examples=(
        Example("sequence", {"latent_dim": 2, "width": 5, "encoder_width": 5}),
        Example("sequence", {"latent_dim": 2, "width": 5, "encoder_width": 5, "dynamics": "rnn"}),
    ),
)
class LatentODE(Series):
    """A variational autoencoder whose code is the state at the first grid point of an equation with constant law; the
    decoder sees the state at each observation (their eqs. 11 to 13). A recurrent network that runs from the last
    observation to the first, and sees the gaps, gives q(z_0 | x).

    Args:
        info: series (T, D), see the module.
        observed: column of flags; left out, everything is observed.
        dynamics: ``ode``, or ``rnn``: one step of a recurrent network a grid point in place of the equation, the rest
            alike.
        latent_dim: dimensions of the state.
        width: of the law's hidden layers and of the decoder's.
        law_layers: hidden layers of the law.
        encoder_width: width of the recognition network.
        noise: standard deviation of the observations given the state, in units of the preprocessed data.
        solver: see `Solver`; its steps are spread over the T grid points, and as densely beyond them.
        adjoint: gradients by the adjoint equation.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        observed: str | None = None,
        dynamics: Literal["ode", "rnn"] = "ode",
        latent_dim: PositiveInt = 4,
        width: PositiveInt = 20,
        law_layers: PositiveInt = 1,
        encoder_width: PositiveInt = 25,
        noise: PositiveFloat = 0.3,
        solver: checks.Choice = "rk4",
        adjoint: bool = False,
    ) -> None:
        super().__init__(info, observed)
        d, h = checks.whole("latent_dim", latent_dim), checks.whole("width", width)
        self.log_noise = math.log(checks.number("noise", noise, above=True))
        e = checks.whole("encoder_width", encoder_width)
        self.recognise = nn.RNN(self.dims + 1, e, batch_first=True)
        self.code = nn.Linear(e, 2 * d)
        self.read = nn.Sequential(*nets.mlp(d, [h], "relu"), nn.Linear(h, self.dims))
        self.law: nn.Module
        if checks.one_of("dynamics", dynamics, ("ode", "rnn")) == "ode":
            self.law = _Law(d, [h] * checks.whole("law_layers", law_layers))
        else:
            self.law = nn.Sequential(nn.Linear(d, h), nn.Tanh(), nn.Linear(h, d))
        self.solve = Solver(solver, adjoint=adjoint)

    def _posterior(self, values: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of q(z_0 | x), each (N, latent)."""
        before = torch.cat([places.new_zeros(len(places), 1), places[:, :-1]], 1)
        gaps = (places - before).to(values.dtype)[..., None] / self.length
        last = self.recognise(torch.cat([values, gaps], -1).flip(1))[0][:, -1]
        mean, log_std = self.code(last).chunk(2, -1)
        return mean, log_std.clamp(-nets.LOG_STD_LIMIT, nets.LOG_STD_LIMIT)

    def _path(self, z: Tensor, length: int) -> Tensor:
        """States at grid points 0 .. length - 1, (N, latent) -> (N, length, latent)."""
        if isinstance(self.law, _Law):
            per = self.length - 1
            states = [z[None]]
            for start in range(0, length - 1, per):  # stretch by stretch, so that steps are no coarser further out
                path = self.solve.on_grid(self.law, states[-1][-1], 1.0, per + 1)
                states.append(path[1 : min(per, length - 1 - start) + 1])
            return torch.cat(states).transpose(0, 1)
        states = [z]
        for _ in range(length - 1):
            states.append(states[-1] + self.law(states[-1]))
        return torch.stack(states, 1)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        values, places = self._seen(batch.x, batch.columns)
        mean, log_std = self._posterior(values, places)
        draw = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        path = self._path(mean + log_std.exp() * draw, self.length)
        at = path.gather(1, places[..., None].expand(-1, -1, path.shape[-1]))
        log_p = normal(values, self.read(at), torch.full_like(values, self.log_noise)).sum(-1)
        rate = normal_kl(mean, log_std)
        return {"loss": (rate - log_p).mean(), "rate": rate.mean().detach(), "distortion": -log_p.mean().detach()}

    def forecast(self, x: Tensor, columns: object, length: int) -> Tensor:
        """The means of the `length` values that follow, from the posterior's mean, (N, length, D)."""
        mean, _ = self._posterior(*self._seen(x, columns))
        path: Tensor = self.read(self._path(mean, self.length + length)[:, self.length :])
        return path


class _Law(nn.Module):
    """dz/dt = f(z), over the time of a whole observed series."""

    def __init__(self, dims: int, hidden: list[int]) -> None:
        super().__init__()
        self.net = nn.Sequential(*nets.mlp(dims, hidden, "elu"), nn.Linear(hidden[-1], dims))

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        out: Tensor = self.net(z)
        return out


@model(
    "recurrent-predictor",
    "Trainable Forecaster",
    "recurrent network of irregular series, one ahead",
    examples=(Example("sequence", {"width": 5}),),
)
class RecurrentPredictor(Series):
    """A recurrent network that predicts each observation from those before it and the gap to it, with Gaussian errors
    of one learnt scale (their baseline of section 5.1); it goes on by reading its own predictions.

    Args:
        info: series (T, D), see the module.
        observed: column of flags; left out, everything is observed.
        width: of the network.
    """

    def __init__(self, info: DataInfo, *, observed: str | None = None, width: PositiveInt = 25) -> None:
        super().__init__(info, observed)
        h = checks.whole("width", width)
        self.net = nn.RNN(self.dims + 1, h, batch_first=True)
        self.out = nn.Linear(h, self.dims)
        self.log_std = nn.Parameter(torch.zeros(()))

    def _inputs(self, values: Tensor, gaps: Tensor) -> Tensor:
        return torch.cat([values, gaps.to(values.dtype)[..., None] / self.length], -1)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        values, places = self._seen(batch.x, batch.columns)
        if values.shape[1] < 2:
            raise UserError("series of one observation have no next one to predict", fix="two or more")
        h, _ = self.net(self._inputs(values[:, :-1], places.diff(dim=1)))
        errors = (self.out(h) - values[:, 1:]) * torch.exp(-self.log_std)
        nats = 0.5 * errors.square() + self.log_std + HALF_LOG_2PI
        return {"loss": nats.sum((1, 2)).mean()}

    def forecast(self, x: Tensor, columns: object, length: int) -> Tensor:
        """The `length` values that follow, each predicted from the last, (N, length, D)."""
        values, places = self._seen(x, columns)
        ahead = torch.cat([places.diff(dim=1), self.length - places[:, -1:]], 1)
        h, state = self.net(self._inputs(values, ahead))
        steps = [self.out(h[:, -1])]
        one = torch.ones(len(x), 1, device=x.device)
        for _ in range(length - 1):
            h, state = self.net(self._inputs(steps[-1][:, None], one), state)
            steps.append(self.out(h[:, -1]))
        return torch.stack(steps, 1)
