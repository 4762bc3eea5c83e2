"""Subjective learning: episodes of domains that are not told go to the model that fits them best (arXiv 2108.12113).

An episode has a few samples of one domain, and domains disagree on the targets of the same inputs. With L_k the mean
loss of model k on an episode, rules of training are

    min-loss  min_k L_k: the subjective function, a hard allocation of whole episodes (one model: a global one)
    soft      -log mean_k exp(-sum of losses): responsibilities of EM for whole episodes
    gated     -log sum_k g_k(x) exp(-loss), a sample at a time: mixture of experts (Jacobs et al. 1991, equation 1.3)
    oracle    L_d of the domain d

Of the paper the abstracts and the beginnings of section 1 could be read, so all of these are our reading.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo, MetricValue
from latentbench.declare import Example, generator, metric, model
from latentbench.evaluation.view import View
from latentbench.models import checks
from latentbench.models.nets import mlp
from pydantic import NonNegativeInt, PositiveInt
from torch import Generator, Tensor, nn

SMALL = {"models": 2, "shots": 2, "hidden": (6,), "classes": 2}


@generator("conflicting-functions")
def conflicting_functions(n: int, rng: np.random.Generator, noise: float) -> dict[str, np.ndarray]:
    """Inputs x (n, 1) uniform on [-2, 2], targets y (n, 3) of a line, a parabola and a sine of mean 0 and variance 1,
    with normal noise of standard deviation `noise`."""
    x = rng.uniform(-2, 2, (n, 1))
    y = np.hstack([np.sqrt(3 / 4) * x, np.sqrt(45 / 64) * (x**2 - 4 / 3), np.sqrt(2) * np.sin(np.pi * x)])
    return {"x": x.astype(np.float32), "y": (y + noise * rng.standard_normal(y.shape)).astype(np.float32)}


@model(
    "subjective-learner",
    "Trainable",
    "several models of conflicting domains, to which a rule allocates unlabelled episodes",
    whole_batch=True,
    examples=(
        Example("labelled", SMALL),
        Example("labelled", {**SMALL, "rule": "soft"}),
        Example("labelled", {**SMALL, "rule": "gated", "classes": 0}),
        Example("labelled", {**SMALL, "rule": "oracle"}),
    ),
)
class SubjectiveLearner(nn.Module):
    """Models of the same form, and which of them learns of which episode.

    Args:
        info: of inputs with a column ``y``.
        models: how many.
        rule: of training, see above.
        shots: samples of an episode in training, and of those that choose a model for a test episode.
        hidden: widths of ReLU layers of each model, and of the gate.
        classes: 0 where ``y`` (R,) has a real target for each of R domains; else ``y`` () is one of so many labels of
            a grey image in [0, 1], which is given one of as many hues, and the two domains ask for label and hue.

    Raises:
        UserError: there is no column ``y``, it has not the form told, or the oracle has fewer models than domains.
    """

    hues: Tensor

    def __init__(
        self,
        info: DataInfo,
        *,
        models: PositiveInt = 3,
        rule: Literal["min-loss", "soft", "gated", "oracle"] = "min-loss",
        shots: PositiveInt = 10,
        hidden: Sequence[int] = (64, 64),
        classes: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        if "y" not in info.columns:
            raise UserError("the data have no column y to predict", fix="choose labelled data")
        width = int(np.prod(info.columns["y"]))
        if classes and width != 1:
            raise UserError(f"{width} columns of y are no label", where="classes", fix="0, for real targets")
        self.domains = 2 if classes else width
        if rule == "oracle" and models < self.domains:
            raise UserError(f"{self.domains} domains need as many models", where="models", fix=f"{self.domains}")
        self.rule, self.shots, self.classes = rule, shots, classes
        hidden, inputs = checks.wholes("hidden", hidden), info.dims * (3 if classes else 1)

        def net(outputs: int) -> nn.Module:
            return mlp(inputs, (*hidden, outputs), "relu")[:-1]  # no activation of the outputs

        self.nets = nn.ModuleList(net(classes or 1) for _ in range(models))
        self.gate = net(models) if rule == "gated" else None
        noisy = rule in ("soft", "gated") and not classes
        self.log_std = nn.Parameter(torch.zeros(())) if noisy else None
        hues = torch.tensor([colorsys.hsv_to_rgb(k / classes, 1, 1) for k in range(classes)])
        self.register_buffer("hues", hues, persistent=False)

    def episodes(self, batch: Batch, size: int, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs (E, S, D), targets (E, S) and domains (E,) of a batch's rows in their order, `size` an episode (all,
        if there are fewer), the rest left out. A domain is drawn for each episode, a hue for each row."""
        n, device, size = len(batch.x), batch.x.device, min(size, len(batch.x))
        domain = torch.randint(self.domains, (n // size,), generator=generator, device=device)
        x, y = batch.x.flatten(1), batch.columns["y"].reshape(n, -1)
        if self.classes:
            hue = torch.randint(self.classes, (n,), generator=generator, device=device)
            x, y = (x[:, None] * self.hues[hue][:, :, None]).flatten(1), torch.stack([y[:, 0].long(), hue], 1)
        else:
            y = y.to(x)
        x, y = (a[: n // size * size].unflatten(0, (-1, size)) for a in (x, y))
        return x, y.gather(2, domain[:, None, None].expand(-1, size, 1))[:, :, 0], domain

    def forward(self, x: Tensor) -> Tensor:
        """Predictions (E, S, K) of x (E, S, D), or log-probabilities (E, S, K, classes)."""
        found = torch.stack([net(x) for net in self.nets], 2)
        return found.log_softmax(-1) if self.classes else found[..., 0]

    def candidates(self, x: Tensor) -> Tensor:
        """What a test episode may choose from: `forward`, and after all models their mixture by the gate, if any."""
        found = self(x)
        if self.gate is None:
            return found
        log_gate = self.gate(x).log_softmax(-1)
        mixed = (found + log_gate[..., None]).logsumexp(2) if self.classes else (found * log_gate.exp()).sum(2)
        return torch.cat([found, mixed[:, :, None]], 2)

    def losses(self, found: Tensor, y: Tensor) -> Tensor:
        """Squared errors, or cross-entropies in nats, of predictions at targets y (E, S): (E, S, K)."""
        if not self.classes:
            return (found - y[:, :, None]).square()
        return -found.gather(3, y[:, :, None, None].expand(*found.shape[:3], 1))[..., 0]

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """By the rule, a sample."""
        x, y, domain = self.episodes(batch, self.shots, generator)
        losses = self.losses(self(x), y)
        if self.log_std is not None:
            losses = losses / 2 * (-2 * self.log_std).exp() + self.log_std
        if self.rule == "min-loss":
            found = losses.mean(1).min(1).values
        elif self.rule == "oracle":
            found = losses.mean(1).gather(1, domain[:, None])
        elif self.gate is None:
            found = -((-losses.sum(1)).logsumexp(1) - np.log(len(self.nets))) / x.shape[1]
        else:
            found = -(self.gate(x).log_softmax(-1) - losses).logsumexp(2)
        return {"loss": found.mean()}


def judged(model: Any, view: View, generator: Generator) -> tuple[Tensor, Tensor]:
    """Of test episodes: mean squared error, or share of wrong labels, (E,) on one half by the candidate of the lowest
    mean loss on the other, and how many of each domain chose each candidate, (K, domains).

    Raises:
        UserError: the model allocates no episodes, or there are fewer than two of them.
    """
    if not isinstance(model, SubjectiveLearner):
        raise UserError(f"{type(model).__name__} allocates no episodes", fix="measure subjective-learner")
    rows, size = view.batch(), 2 * model.shots
    if len(rows.x) < 2 * size:
        raise UserError(f"two test episodes take at least {2 * size} rows", fix="more rows, or fewer shots")
    with torch.no_grad():
        x, y, domain = model.episodes(rows, size, generator)
        found = model.candidates(x)
        losses = model.losses(found, y)
        errors = found.argmax(-1) != y[:, :, None] if model.classes else losses
        choice = losses[:, : model.shots].mean(1).argmin(1)
        counts = torch.zeros(found.shape[2], model.domains, dtype=torch.long, device=y.device)
        counts.index_put_((choice, domain), torch.ones_like(domain), accumulate=True)
        return errors[:, model.shots :].double().mean(1).gather(1, choice[:, None])[:, 0], counts


@metric("assigned_error", "Trainable", "1", "lower", "error of the model that fits an episode best", within=(0.0, None))
def assigned_error(model: Any, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """Mean of `judged`, with standard error."""
    errors = judged(model, view, generator)[0]
    return MetricValue(errors.mean().item(), errors.std().item() / len(errors) ** 0.5, len(errors))


@metric("allocation_purity", "Trainable", "1", "higher", "share of each model's commonest domain", within=(0.0, 1.0))
def allocation_purity(model: Any, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """Share of episodes whose domain is the commonest among those that chose the same candidate, with the counts."""
    counts = judged(model, view, generator)[1]
    total = int(counts.sum())
    return MetricValue(counts.max(1).values.sum().item() / total, None, total, {"counts": counts.tolist()})
