"""Hidden Markov models by EM, from a random start or distilled from a transformer.

Liu, Zhang & Van den Broeck 2023, LVD (arXiv 2210.04398), section 2: a transformer's hidden states are clustered, the
labels stand in for the chain's states, the tables are estimated from the labelled sequences, and EM fine-tunes them.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.circuits.distillation import ENCODED, kmeans, train
from latentbench.models.circuits.em import Tables, em_loss, normalised
from latentbench.models.circuits.latent_tree import simplex
from latentbench.models.circuits.trees import CHUNK, TINY
from pydantic import PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn

STARTS = ("random", "distilled")


def _sequence(model: str, info: DataInfo) -> tuple[int, int]:
    checks.support(model, info, "binary", "discrete")
    return checks.vector_length(model, info), 2 if info.support == "binary" else info.levels or 0


@model(
    "sequence-transformer",
    "Trainable ExactLikelihood Sampler",
    "small causal transformer over discrete sequences",
    examples=(Example("discrete-vector", {"width": 8, "layers": 1, "heads": 2}, "likelihood"),),
)
class SequenceTransformer(nn.Module):
    """A causal transformer over sequences of discrete values, with learned positions: a teacher, and a row of its own.

    Args:
        width, layers, heads: of the encoder stack (pre-norm, feed-forward of four times the width, no dropout).
    """

    def __init__(
        self, info: DataInfo, *, width: Annotated[int, Ge(2)] = 64, layers: PositiveInt = 2, heads: PositiveInt = 4
    ) -> None:
        super().__init__()
        self.length, self.levels = _sequence("SequenceTransformer", info)
        width, heads = checks.whole("width", width, 2), checks.whole("heads", heads)
        if width % heads:
            raise UserError(f"width is {width} with {heads} heads", fix="a multiple of heads")
        self.embedding = nn.Embedding(self.levels + 1, width)  # the last one opens a sequence
        self.position = nn.Parameter(0.02 * torch.randn(self.length + 1, width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, batch_first=True, norm_first=True)
        self.stack = nn.TransformerEncoder(layer, checks.whole("layers", layers), enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, self.levels)

    def hidden(self, x: Tensor) -> Tensor:
        """(N, T + 1, width): entry t has read the opening and the first t values."""
        if tuple(x.shape[1:]) != (self.length,):
            raise UserError(f"samples of shape {tuple(x.shape[1:])} for a model of ({self.length},)")
        opened = nn.functional.pad(x.long(), (1, 0), value=self.levels)
        n = self.length + 1
        future = torch.ones(n, n, dtype=torch.bool, device=x.device).triu(1)
        out: Tensor = self.norm(self.stack(self.embedding(opened) + self.position, mask=future))
        return out

    def log_prob(self, x: Tensor) -> Tensor:
        logits = self.head(self.hidden(x)[:, :-1]).log_softmax(-1)
        return logits.gather(-1, x.long()[..., None]).sum((1, 2))

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The negative log-likelihood, nats per sequence."""
        return {"loss": -self.log_prob(batch.x).mean()}

    def sample(self, n: int, generator: Generator) -> Tensor:
        x = torch.zeros(n, self.length, device=self.position.device)
        for t in range(self.length):
            p = self.head(self.hidden(x)[:, t]).softmax(-1)
            x[:, t] = torch.multinomial(p, 1, generator=generator)[:, 0].float()
        return x


@model(
    "hmm",
    "Trainable Preparable ExactLikelihood Sampler",
    "hidden Markov model of discrete sequences by EM, from a random start or distilled from a transformer",
    whole_batch=True,
    examples=(
        Example("discrete-vector", {"states": 3}),
        Example(
            "binary-vector",
            {"states": 3, "start": "distilled", "teacher_steps": 3, "width": 8, "layers": 1, "heads": 2},
        ),
    ),
)
class HMM(nn.Module):
    """A homogeneous hidden Markov chain that emits discrete values, trained by EM (plain ``sgd``, see `em`).

    Args:
        states: states of the chain.
        start: ``random``, or ``distilled`` from a transformer that is trained first.
        teacher_steps: Adam steps of that transformer, in batches of 128 sequences with learning rate 1e-3.
        width, layers, heads: of that transformer.
        pseudocount: added by EM to the expected counts of each row of a table in a batch, and to those of labels.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        states: Annotated[int, Ge(2)] = 64,
        start: str = "random",
        teacher_steps: PositiveInt = 500,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        pseudocount: PositiveFloat = 0.1,
    ) -> None:
        super().__init__()
        self.length, self.levels = _sequence("HMM", info)
        self.states = checks.whole("states", states, 2)
        self.start = checks.one_of("start", start, STARTS)
        self.teacher_steps = checks.whole("teacher_steps", teacher_steps)
        self.pseudocount = checks.number("pseudocount", pseudocount, above=True)
        k = self.states
        shapes = {"prior": (k,), "transitions": (k, k), "emissions": (k, self.levels)}
        self.free = nn.ParameterDict({name: simplex(*shape) for name, shape in shapes.items()})
        #: Not a submodule: it is gone once its hidden states are clustered.
        self._teacher: list[SequenceTransformer] = []
        if self.start == "distilled":
            self._teacher = [SequenceTransformer(info, width=width, layers=layers, heads=heads)]

    def prepare(self, x: Tensor, generator: Generator) -> None:
        """For ``distilled``: the tables from the clusters of a transformer's hidden states after each value."""
        if self.start == "random":
            return
        teacher = self._teacher[0].to(x.device)
        train(teacher, x, self.teacher_steps, generator)
        with torch.no_grad():
            hidden = torch.cat([teacher.hidden(part)[:, 1:] for part in x.split(ENCODED)])
        label = kmeans(hidden.flatten(0, 1), self.states, generator).view(x.shape)
        self.count(x.long(), label)
        self._teacher.clear()

    @torch.no_grad()
    def count(self, x: Tensor, label: Tensor) -> None:
        """The tables of largest p(x, z) at z = `label` (both (N, T) int64), with the pseudo-count added."""
        k = self.states
        found = {
            "prior": torch.bincount(label[:, 0], minlength=k),
            "transitions": torch.bincount((label[:, :-1] * k + label[:, 1:]).flatten(), minlength=k * k).view(k, k),
            "emissions": torch.bincount((label * self.levels + x).flatten(), minlength=k * self.levels).view(k, -1),
        }
        for name, counts in found.items():
            p = counts.float() + self.pseudocount / counts.shape[-1]
            self.free[name].copy_(p / p.sum(-1, keepdim=True))

    def evaluate(self, x: Tensor, tables: Tables) -> Tensor:
        """(N,) nats by the forward algorithm, rescaled at each value."""
        if tuple(x.shape[1:]) != (self.length,):
            raise UserError(f"samples of shape {tuple(x.shape[1:])} for a model of ({self.length},)")
        emitted = tables["emissions"].T[x.long()]
        ahead = tables["prior"].expand(len(x), -1)
        total: Tensor | float = 0.0
        for t in range(self.length):
            alpha = ahead * emitted[:, t]
            scale = alpha.sum(-1, keepdim=True).clamp_min(TINY)
            total = total + scale.log()
            ahead = (alpha / scale) @ tables["transitions"]
        assert isinstance(total, Tensor)  # sequences have at least one value
        return total[:, 0]

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The negative log-likelihood in nats per sequence, with the gradient of an EM step."""
        return {"loss": em_loss(lambda t: self.evaluate(batch.x, t), dict(self.free.items()), self.pseudocount)}

    def log_prob(self, x: Tensor) -> Tensor:
        tables = normalised(self.free)
        size = max(1, CHUNK // (self.length * self.states))
        return torch.cat([self.evaluate(part, tables) for part in x.split(size)])

    def sample(self, n: int, generator: Generator) -> Tensor:
        tables, out = normalised(self.free), []
        state = torch.multinomial(tables["prior"], n, replacement=True, generator=generator)
        for _ in range(self.length):
            out.append(torch.multinomial(tables["emissions"][state], 1, generator=generator)[:, 0])
            state = torch.multinomial(tables["transitions"][state], 1, generator=generator)[:, 0]
        return torch.stack(out, 1).float()
