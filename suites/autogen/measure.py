"""How faithfully sequences of tokens are reconstructed, and how much like sentences what is sampled reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from latentbench.core.capabilities import Reconstructor, Sampler, VariationalBound
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.likelihood import ROWS
from latentbench.evaluation.view import View
from latentbench.metrics.arrays import mean_and_se
from torch import Generator, Tensor

Settings = Mapping[str, Any]


@metric(
    "token_accuracy",
    "Reconstructor",
    "1",
    "higher",
    "share of tokens that the reconstruction has at the same place, up to the end mark",
    settings={"end": 0},
    lowest={"end": -1},
    within=(0.0, 1.0),
)
def token_accuracy(model: Reconstructor, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Share of a sequence's tokens that its reconstruction has at the same place, averaged over the sequences.

    Tokens are counted up to the first token `end`, that one included, all of them where it is missing; -1 counts the
    whole row. Details: `exact`, the share of sequences without a fault.
    """
    end, shares = int(settings["end"]), []
    for rows in view.blocks(ROWS):
        x = view.x[rows].flatten(1)
        right = model.reconstruct(view.x[rows]).flatten(1) == x
        ends = x == end
        counted = ends.long().cumsum(1) - ends.long() == 0
        shares.append((right & counted).sum(1) / counted.sum(1))
    every = torch.cat(shares).cpu().numpy()
    value, se = mean_and_se(every)
    return MetricValue(value, se, len(every), {"exact": float((every == 1.0).mean())})


@metric(
    "reconstruction_nll",
    "VariationalBound",
    "nats",
    "lower",
    "what a row costs given a draw of its own code",
)
def reconstruction_nll(model: VariationalBound, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """-E_q(z|x) log p(x|z), nats a row: the distortion of the bound, without what the code costs."""
    distortions = [model.elbo(view.x[rows], generator).distortion for rows in view.blocks(ROWS)]
    every = torch.cat(distortions).cpu().numpy()
    value, se = mean_and_se(every)
    return MetricValue(value, se, len(every))


class Bigrams:
    """Words given the word before, by counts: (1 - share) of what follows that word, share of all words together.

    Both are smoothed by one count spread over all words. A row counts up to its first token `end`, that one included;
    `end` also stands before its first word.
    """

    def __init__(self, rows: Tensor, words: int, end: int, share: float) -> None:
        self.end, self.share = end, share
        before, after = pairs(rows, end)
        self.alone = (torch.bincount(after, minlength=words).double() + 1 / words) / (len(after) + 1)
        counts = torch.bincount(before * words + after, minlength=words * words).double().view(words, words)
        self.given = (counts + self.alone) / (counts.sum(1, keepdim=True) + 1)

    def nats(self, rows: Tensor) -> float:
        """Mean negative log-probability of a word of `rows` (N, T), nats."""
        before, after = pairs(rows, self.end)
        mixed = (1 - self.share) * self.given[before, after] + self.share * self.alone[after]
        return -float(mixed.log().mean())

    def nats_without_order(self, rows: Tensor) -> float:
        """The same, expected, if every word were drawn by how common it is in `rows`, whatever stands before."""
        _, after = pairs(rows, self.end)
        common = torch.bincount(after, minlength=len(self.alone)).double() / len(after)
        mixed = (1 - self.share) * self.given + self.share * self.alone
        return -float(common @ mixed.log() @ common)


def pairs(rows: Tensor, end: int) -> tuple[Tensor, Tensor]:
    """All neighbours (word before, word) of rows (N, T) of whole numbers, up to the first `end` of each."""
    ends = (rows == end).long()
    counted = ends.cumsum(1) - ends == 0
    before = torch.nn.functional.pad(rows[:, :-1], (1, 0), value=end)
    return before[counted], rows[counted]


@metric(
    "sample_fluency",
    "Sampler",
    "1",
    "higher",
    "cost of sampled words under the bigrams of the training split: 1 that of real rows, 0 that of words without order",
    settings={"samples": 2000, "end": 0, "share": 0.25},
    data=("words",),
    lowest={"samples": 1, "end": 0, "share": 0.0},
)
def sample_fluency(model: Sampler, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """(floor - c) / (floor - ceiling) with c the mean nats of a sampled word given the one before, under `Bigrams`.

    The ceiling is that of the rows of the split, the floor that of their words in no order. Sampling likelier words
    than real ones are passes 1, so it is a measure of how rows read and not of whether all are there. Details: `nats`,
    `real`, `unordered`, in nats a word, and `words`, the mean number a row.
    """
    end, words = int(settings["end"]), view.info.levels or 0
    bigrams = Bigrams(view.train.x.flatten(1).long(), words, end, float(settings["share"]))
    sampled = model.sample(int(settings["samples"]), generator).flatten(1).long()
    real = view.x.flatten(1).long()
    nats, ceiling, floor = bigrams.nats(sampled), bigrams.nats(real), bigrams.nats_without_order(real)
    per_row = len(pairs(sampled, end)[0]) / len(sampled)
    details = {"nats": nats, "real": ceiling, "unordered": floor, "words": per_row}
    return MetricValue((floor - nats) / (floor - ceiling), None, len(sampled), details)
