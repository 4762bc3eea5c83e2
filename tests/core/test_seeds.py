"""Seeds by named axes: stable, apart from each other, and used by generators as they are."""

from __future__ import annotations

from itertools import product
from typing import get_args

import torch
from hypothesis import given
from hypothesis import strategies as st
from latentbench.core.seeds import Axis, derive, generator

AXES = get_args(Axis)


def test_values_are_stable():
    """A change here changes every result ever recorded."""
    assert derive(0, "init") == 1996534378498829477
    assert derive(0, "order", 3) == 1359719059083342724
    assert derive(7, "evaluation", "nll_iw") == 7874775149866040622
    assert derive(12, "preprocess", "test", 0) == 2797479340505471934


def test_no_collisions_between_seeds_axes_and_contexts():
    contexts = [(), (0,), (1,), (0, 0), ("test",), ("train",), ("test", 0), ("test", 1), ("test", 1, 0)]
    found = [derive(seed, axis, *context) for seed, axis, context in product(range(100), AXES, contexts)]
    assert len(set(found)) == len(found)
    assert all(0 <= value < 2**63 for value in found)


part = st.one_of(st.text(max_size=6), st.text("/%ab", max_size=4), st.integers(0, 10**6))
stream = st.tuples(st.integers(0, 2**40), st.sampled_from(AXES), st.lists(part, max_size=3))


@given(stream, stream)
def test_different_streams_differ(one, other):
    def name(s):
        seed, axis, context = s
        return seed, axis, tuple(map(str, context))  # 1 and "1" are the same name on purpose

    same = derive(one[0], one[1], *one[2]) == derive(other[0], other[1], *other[2])
    assert same == (name(one) == name(other))


def test_a_slash_in_a_name_is_no_separator():
    assert derive(0, "evaluation", "a/b") != derive(0, "evaluation", "a", "b")


def test_generators_draw_from_their_own_stream():
    def draws(*args):
        return torch.rand(5, generator=generator(*args)).tolist()

    assert draws(3, "noise") == draws(3, "noise")
    assert len({tuple(draws(3, axis)) for axis in AXES}) == len(AXES)
    assert draws(3, "noise", "a") != draws(4, "noise", "a")
    before = torch.get_rng_state()
    draws(0, "order")
    assert torch.equal(torch.get_rng_state(), before), "the global stream is left alone"
