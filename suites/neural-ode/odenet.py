"""Image classifiers whose middle is a stack of residual blocks or one differential equation (Chen et al. 2018,
section 3)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.papers.neural_ode.solver import Solver
from pydantic import PositiveInt
from torch import Generator, Tensor, nn

#: The paper's solver of image features, whose tolerance is loose.
PAPER: checks.Choice = {"dopri5": {"tolerance": 1e-3}}


def norm(channels: int) -> nn.GroupNorm:
    """Over two channels together: 32 groups of the paper's 64."""
    return nn.GroupNorm(channels // 2, channels)


class ResidualBlock(nn.Module):
    """x + conv(relu(norm(conv(relu(norm(x))))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            norm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            norm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Field(nn.Module):
    """dx/dt of feature maps: two convolutions, each of which sees the time as one more channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(norm(channels) for _ in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(channels + 1, channels, 3, padding=1) for _ in range(2))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        for before, conv in zip(self.norms, self.convs):
            x = torch.relu(before(x))
            x = conv(torch.cat([t.to(x.dtype).expand(len(x), 1, *x.shape[2:]), x], 1))
        return self.norms[-1](x)


class Continuous(nn.Module):
    """The state at time 1 of the equation that starts at the input at time 0."""

    def __init__(self, channels: int, solver: checks.Choice, adjoint: bool) -> None:
        super().__init__()
        self.field = Field(channels)
        self.solve = Solver(solver, adjoint=adjoint)

    def forward(self, x: Tensor) -> Tensor:
        end: Tensor = self.solve(self.field, x, torch.tensor([0.0, 1.0], dtype=x.dtype, device=x.device))[-1]
        return end


def classification_loss(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Mean cross-entropy in nats of logits (N, classes), and `error`, the share of rows classified wrongly.

    Raises:
        UserError: the batch has no column y.
    """
    y = batch.columns.get("y")
    if y is None:
        raise UserError("classifiers learn from labels, and the data have no column y", fix="choose labelled data")
    error = (logits.detach().argmax(-1) != y).float().mean()
    return {"loss": nn.functional.cross_entropy(logits, y.long()), "error": error}


@model(
    "ode-net",
    "Trainable Classifier",
    "image classifier with an equation or residual blocks in the middle",
    examples=(
        Example("labelled", {"classes": 3, "channels": 4, "blocks": 1, "solver": {"rk4": {"steps": 2}}}),
        Example("labelled", {"classes": 3, "channels": 4, "middle": "residual", "blocks": 1}),
    ),
)
class OdeNet(nn.Module):
    """Three convolutions that halve the image twice, a middle, and a linear classifier of the mean features.

    Args:
        info: images; labels in column ``y``.
        classes: number of labels.
        channels: width of every layer, even.
        middle: ``ode`` or ``residual``.
        blocks: residual blocks of the middle; no other middle has any.
        solver: of the equation, see `Solver`.
        adjoint: gradients by the adjoint equation.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        classes: Annotated[int, Ge(2)] = 10,
        channels: Annotated[int, Ge(2)] = 64,
        middle: Literal["ode", "residual"] = "ode",
        blocks: PositiveInt = 6,
        solver: checks.Choice = PAPER,
        adjoint: bool = True,
    ) -> None:
        checks.support("OdeNet", info, "unit", "real", "binary")
        super().__init__()
        colours, height, width = checks.image_shape("OdeNet", info)
        if min(height, width) < 10:  # at least 2x2 features: normalised fields of single pixels jump, and solvers stall
            raise UserError(f"OdeNet halves images twice, and these are {height}x{width}", fix="10x10 or more")
        self.classes = checks.whole("classes", classes, 2)
        c, n = checks.whole("channels", channels, 2), checks.whole("blocks", blocks)
        if c % 2:
            raise UserError(f"channels is {c}", fix="an even number: they are normalised two by two")
        checks.one_of("middle", middle, ("ode", "residual"))
        down = [nn.Conv2d(colours, c, 3), norm(c), nn.ReLU(), nn.Conv2d(c, c, 4, 2, 1), norm(c), nn.ReLU()]
        self.down = nn.Sequential(*down, nn.Conv2d(c, c, 4, 2, 1))
        self.middle: nn.Module
        if middle == "ode":
            self.middle = Continuous(c, solver, adjoint)
        else:
            self.middle = nn.Sequential(*(ResidualBlock(c) for _ in range(n)))
        self.top = nn.Sequential(norm(c), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, self.classes))

    def classify(self, x: Tensor) -> Tensor:
        """Logits, (N, C, H, W) -> (N, classes)."""
        logits: Tensor = self.top(self.middle(self.down(x)))
        return logits

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        return classification_loss(self.classify(batch.x), batch)
