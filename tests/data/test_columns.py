"""Ragged columns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentbench.data.columns import Ragged, concatenate

rows = st.lists(st.lists(st.integers(0, 255), max_size=6), max_size=8)


@given(rows, st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([1, 2, -1]))
def test_behaves_as_a_list_of_rows(content, low, high, step):
    ragged = Ragged.of([np.array(r, np.uint8) for r in content], np.uint8)
    assert len(ragged) == len(content)
    assert [r.tolist() for r in ragged] == content
    assert [r.tolist() for r in ragged[low:high:step]] == content[low:high:step]
    assert ragged.lengths.tolist() == [len(r) for r in content]
    both = concatenate([ragged, ragged[1:]])
    assert [r.tolist() for r in both] == content + content[1:]


def test_slices_share_memory_and_index_errors():
    ragged = Ragged.of([np.arange(3), np.arange(2)], np.int32)
    assert np.shares_memory(ragged[:1].values, ragged.values)
    assert ragged[-1].tolist() == [0, 1]
    assert [r.tolist() for r in ragged[np.array([1, 0, 1])]] == [[0, 1], [0, 1, 2], [0, 1]]
    with pytest.raises(IndexError):
        ragged[2]


@given(st.lists(st.text()))
def test_text(lines):
    assert Ragged.of_text(lines).texts() == lines


def test_items_with_a_shape():
    ragged = Ragged.of([np.ones((2, 3)), np.zeros((0, 3))], np.float32, (3,))
    assert ragged.item_shape == (3,)
    assert ragged[0].shape == (2, 3)
    assert ragged[1].shape == (0, 3)
