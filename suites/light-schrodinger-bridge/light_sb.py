"""Light Schrödinger bridge (Korotin, Gushchin & Burnaev 2024, arXiv 2310.01174)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.densities import HALF_LOG_2PI
from latentbench.papers.light_schrodinger_bridge.pairs import between, dimensions, moment
from pydantic import PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn

#: Rows x components that are worked on at once when drawing.
CHUNK = 1 << 19


@model(
    "light-sb",
    "Trainable Transporter",
    "light Schrödinger bridge: a mixture as adjusted potential",
    examples=(
        Example("pairs", {"components": 4}),
        Example("pairs", {"components": 3, "covariance": "full", "init": "normal"}),
    ),
)
class LightSB(nn.Module):
    """Entropic transport for ‖x - y‖² / 2 whose adjusted potential is a mixture: v(y) = Σ_k α_k N(y; r_k, ε S_k)
    (their eq. 9), so that the plan given x is one too, normalised by c(x) (their eq. 10 and proposition 3.3).

    Minimises E log c(x) - E log v(y) (their eq. 8), which is KL(π* || π) up to a constant and needs no pairs.

    Args:
        info: rows (2, D), source and target.
        epsilon: ε, in squared units of the preprocessed data.
        components: K.
        covariance: of S_k: ``diag`` or ``full``.
        scale: S_k starts as this times the identity.
        init: r_k starts at target points of the first ``data`` batch, or at standard ``normal`` draws.

    Raises:
        UserError: a parameter is out of its range, or the data are no such rows.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        epsilon: PositiveFloat = 1.0,
        components: PositiveInt = 50,
        covariance: Literal["diag", "full"] = "diag",
        scale: PositiveFloat = 1.0,
        init: Literal["data", "normal"] = "data",
    ) -> None:
        super().__init__()
        self.dims = dimensions("LightSB", info)
        self.epsilon = checks.number("epsilon", epsilon, above=True)
        self.full = checks.one_of("covariance", covariance, ("diag", "full")) == "full"
        self._placed = checks.one_of("init", init, ("data", "normal")) == "normal"
        k = checks.whole("components", components)
        log_root = 0.5 * math.log(checks.number("scale", scale, above=True))
        # log α is this over ε, so that one learning rate suits potentials, which are ε log v, of every ε
        self.potential = nn.Parameter(torch.full((k,), -self.epsilon * math.log(k)))
        self.centres = nn.Parameter(torch.randn(k, self.dims))
        self.log_root = nn.Parameter(torch.full((k, self.dims), log_root))
        self.below = nn.Parameter(torch.zeros(k, self.dims, self.dims)) if self.full else None

    def _log_alpha(self) -> Tensor:
        return self.potential / self.epsilon

    def _roots(self) -> Tensor:
        """L_k with S_k = L_k L_kᵀ, lower triangular, (K, D, D)."""
        assert self.below is not None  # of full covariances only
        return self.below.tril(-1) + torch.diag_embed(self.log_root.exp())

    def _times_root(self, x: Tensor) -> Tensor:
        """L_kᵀ x, (N, D) -> (N, K, D)."""
        if self.full:
            return torch.einsum("kij,ni->nkj", self._roots(), x)
        return x[:, None] * self.log_root.exp()

    def log_potential(self, y: Tensor) -> Tensor:
        """log v(y), (N, D) -> (N,)."""
        apart = y[:, None] - self.centres
        if self.full:
            white = torch.linalg.solve_triangular(self._roots(), apart.permute(1, 2, 0), upper=False)
            squares = white.square().sum(1).T
        else:
            squares = (apart * torch.exp(-self.log_root)).square().sum(-1)
        constant = self.dims * (HALF_LOG_2PI + 0.5 * math.log(self.epsilon)) + self.log_root.sum(-1)
        return (self._log_alpha() - constant - squares / (2 * self.epsilon)).logsumexp(-1)

    def log_weights(self, x: Tensor) -> Tensor:
        """Unnormalised log-weights of the components of the plan given x, (N, D) -> (N, K); log c(x) is their
        logsumexp."""
        quadratic = self._times_root(x).square().sum(-1)
        return self._log_alpha() + (0.5 * quadratic + x @ self.centres.T) / self.epsilon

    def log_plan(self, x: Tensor, y: Tensor) -> Tensor:
        """log π(y | x), (N, D) each -> (N,) nats: exp(xᵀ y / ε) v(y) / c(x)."""
        return (x * y).sum(-1) / self.epsilon + self.log_potential(y) - self.log_weights(x).logsumexp(-1)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        source, target = batch.x[:, 0], batch.x[:, 1]
        if batch.step == 0 and self.training and not self._placed:
            self._place(target, generator)
        return {"loss": self.log_weights(source).logsumexp(-1).mean() - self.log_potential(target).mean()}

    @torch.no_grad()
    def _place(self, target: Tensor, generator: Generator) -> None:
        k = len(self.centres)
        order = torch.randperm(len(target), generator=generator, device=target.device)
        self.centres.copy_(target[order.repeat(-(-k // len(target)))[:k]])
        self._placed = True

    def transport(self, x: Tensor, generator: Generator, time: float = 1.0) -> Tensor:
        """A draw at `time` of the bridge from each x, (N, D) -> (N, D); at 1, of the plan."""
        t = moment(time)
        y = torch.cat([self._draw(rows, generator) for rows in x.split(max(1, CHUNK // len(self.centres)))])
        return y if t == 1.0 else between(x, y, t, self.epsilon, generator)

    def _draw(self, x: Tensor, generator: Generator) -> Tensor:
        weights = self.log_weights(x).softmax(-1)
        which = torch.multinomial(weights, 1, generator=generator)[:, 0]
        noise = math.sqrt(self.epsilon) * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        if not self.full:
            root = self.log_root.exp()[which]
            return self.centres[which] + root * (root * x + noise)
        y = torch.empty_like(x)
        for k, root in enumerate(self._roots()):
            rows = which == k
            y[rows] = self.centres[k] + (x[rows] @ root + noise[rows]) @ root.T
        return y
