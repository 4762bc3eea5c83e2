"""Use of the code by the decoder, on models whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.core.seeds import generator
from latentbench.evaluation.usage import code_use

from tests.evaluation.views import view_of

RNG = np.random.default_rng(0)


class Deaf:
    """An encoder that writes all of x into the code, beside a decoder that reads none of it."""

    def encode_sample(self, x, generator):
        return x

    def log_likelihood(self, x, z):
        return -0.5 * x.square().sum(-1)


class Copying(Deaf):
    """A Gaussian of unit variance around the code."""

    def log_likelihood(self, x, z):
        return -0.5 * (x - z).square().sum(-1)


def measure(model, n=1500):
    view = view_of(RNG.normal(size=(n, 3)).astype(np.float32))
    return view, code_use(model, view, {}, generator(0, "evaluation"))


def test_a_code_that_is_not_read_is_not_used():
    assert measure(Deaf())[1].value == 0.0


def test_the_gain_is_half_the_squared_distance_of_neighbours():
    view, found = measure(Copying())
    expected = 0.5 * np.square(view.raw[:] - np.roll(view.raw[:], 1, 0)).sum(1).mean()
    assert found.value == pytest.approx(float(expected), rel=1e-5)
    assert found.value == pytest.approx(3.0, abs=0.3)  # E |x - x'|^2 / 2 of two standard normal vectors
    assert found.n == 1500


def test_one_row_is_refused():
    with pytest.raises(UserError, match="one another"):
        measure(Copying(), 1)
