"""Accuracy of reconstructed tokens, their cost, and the fluency of samples, on rows that are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from latentbench.core.capabilities import Elbo
from latentbench.core.seeds import generator
from latentbench.papers.autogen.measure import Bigrams, reconstruction_nll, sample_fluency, token_accuracy

from tests.evaluation.views import view_of


class Fixed:
    def __init__(self, rows) -> None:
        self.rows = torch.as_tensor(rows, dtype=torch.float32)

    def reconstruct(self, x):
        return self.rows[: len(x)]


ROWS = np.array([[1, 2, 0, 0], [2, 2, 2, 2], [1, 0, 0, 0]], dtype=np.int32)


def measure(rows, end=0):
    return token_accuracy(Fixed(rows), view_of(ROWS, levels=3), {"end": end}, generator(0, "evaluation"))


def test_tokens_up_to_the_end_mark_count():
    assert measure(ROWS).value == 1.0
    assert measure(ROWS).details["exact"] == 1.0
    other = [[1, 1, 0, 2], [2, 2, 2, 1], [1, 0, 1, 1]]
    assert measure(other).value == pytest.approx((2 / 3 + 3 / 4 + 1) / 3)
    assert measure(other).details["exact"] == pytest.approx(1 / 3)
    assert measure(other, end=-1).value == pytest.approx((2 / 4 + 3 / 4 + 2 / 4) / 3)


def test_reconstruction_is_the_distortion_without_the_rate():
    class Known:
        def elbo(self, x, generator):
            return Elbo(rate=torch.full((len(x),), 100.0), distortion=x.flatten(1).sum(1))

    measured = reconstruction_nll(Known(), view_of(ROWS, levels=3), {}, generator(0, "evaluation"))
    assert measured.value == pytest.approx(ROWS.sum() / 3)
    assert measured.n == 3


def bigrams(share):
    return Bigrams(torch.tensor([[1, 2, 0, 2], [1, 0, 1, 1]]), 3, 0, share)


def test_bigrams_by_hand():
    """The pairs are 0 1, 1 2, 2 0, 0 1, 1 0: what follows a first end mark does not count."""
    alone = [(2 + 1 / 3) / 6, (2 + 1 / 3) / 6, (1 + 1 / 3) / 6]
    assert bigrams(0.25).alone.tolist() == pytest.approx(alone)
    after_1 = [(1 + alone[0]) / 3, alone[1] / 3, (1 + alone[2]) / 3]
    assert bigrams(0.25).given[1].tolist() == pytest.approx(after_1)
    assert bigrams(0.25).given.sum(1).tolist() == pytest.approx([1.0] * 3)
    rows = torch.tensor([[2, 1, 1, 1]])
    given = bigrams(0.25).given.tolist()
    steps = [(0, 2), (2, 1), (1, 1), (1, 1)]
    expected = [-math.log(0.75 * given[a][b] + 0.25 * alone[b]) for a, b in steps]
    assert bigrams(0.25).nats(rows) == pytest.approx(sum(expected) / 4)


def test_order_does_not_matter_where_words_are_taken_as_independent():
    rows = torch.tensor([[2, 1, 1, 1], [1, 2, 0, 0]])
    assert bigrams(1.0).nats(rows) == pytest.approx(bigrams(1.0).nats_without_order(rows))
    assert bigrams(0.1).nats(rows) != pytest.approx(bigrams(0.1).nats_without_order(rows), rel=1e-3)


def test_fluency_is_1_for_real_rows_and_0_for_their_words_in_no_order():
    g = torch.Generator().manual_seed(0)
    steps = torch.tensor([[0.0, 0.9, 0.1], [0.2, 0.0, 0.8], [0.7, 0.2, 0.1]])

    def walk(n):
        rows = [torch.multinomial(steps[0], n, replacement=True, generator=g)]
        for _ in range(7):
            rows.append(torch.multinomial(steps[rows[-1]], 1, generator=g)[:, 0])
        return torch.stack(rows, 1).int().numpy()

    view = replace(view_of(walk(2000), levels=3), _train=view_of(walk(2000), levels=3))

    class Fluent:
        def sample(self, n, generator):
            return torch.from_numpy(walk(n)).float()

    class Unordered:
        """Whole rows of words by how common they are, end marks among them."""

        def sample(self, n, generator):
            rows = view.x.long()
            ends = (rows == 0).long()
            words = rows[ends.cumsum(1) - ends == 0]
            return words[torch.randint(len(words), (n, 8), generator=generator)].float()

    settings = {"samples": 4000, "end": 0, "share": 0.25}
    assert sample_fluency(Fluent(), view, settings, generator(0, "evaluation")).value == pytest.approx(1.0, abs=0.05)
    # Rows of 8 words at most are cut, so their first words, which follow an end mark, are a little too many.
    assert sample_fluency(Unordered(), view, settings, generator(0, "evaluation")).value == pytest.approx(0.0, abs=0.2)
