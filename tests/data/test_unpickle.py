"""Pickles: arrays come through, nothing is ever called."""

from __future__ import annotations

import collections
import contextlib
import os
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.data.unpickle import Sparse, arrays


@pytest.mark.parametrize("protocol", range(6))
def test_what_is_admitted(protocol):
    graph = collections.defaultdict(list, {0: [1, 2], 1: [0]})
    content = {
        "data": np.arange(24, dtype=np.uint8).reshape(4, 6),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "labels": [1, 2, 3],
        b"name": b"batch\xff",
        "number": np.float64(2.5),
        "text": "grün",
        "sparse": sp.csr_matrix(np.diag([1.0, 0, 3])),
        "graph": graph,
    }
    found = arrays(pickle.dumps(content, protocol), "f")
    for key in ("data", "fortran", "big"):
        assert (found[key] == content[key]).all()
        assert found[key].dtype.newbyteorder("=") == content[key].dtype.newbyteorder("=")
    assert found["labels"] == [1, 2, 3]
    assert found["number"] == 2.5
    assert found["text"] == "grün"
    assert found["graph"] == graph
    assert (found["sparse"].dense() == np.diag([1.0, 0, 3])).all()


def test_python_2_bytes():
    """Protocol 2 of Python 2 writes 8-bit strings: dictionary keys and array buffers."""
    raw = b"\x80\x02}q\x00(U\x04dataq\x01U\x03\x00\x80\xffq\x02u."
    assert arrays(raw, "f") == {"data": "\x00\x80\xff"}


class Evil:
    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "attack",
    [
        lambda p: Evil(os.system, f"touch {p}"),
        lambda p: Evil(eval, f"open({p!r}, 'w')"),
        lambda p: Evil(open, p, "w"),
        lambda p: Evil(getattr, p, "upper"),
        lambda p: Evil(np.load, p),
        lambda p: {"data": [Evil(os.mkdir, p)]},
    ],
)
def test_nothing_is_called(tmp_path, attack, protocol):
    target = str(tmp_path / "owned")
    raw = pickle.dumps(attack(target), protocol)
    for frames in (False, True):
        with pytest.raises(UserError, match="refused to unpickle"):
            arrays(raw, "f", frames=frames)
    assert not os.path.exists(target)


def test_arrays_of_objects_are_refused(tmp_path):
    inner = np.array([Evil(os.mkdir, str(tmp_path / "owned"))], dtype=object)
    with pytest.raises(UserError):
        arrays(pickle.dumps(inner), "f")
    with pytest.raises(UserError, match="objects"):
        arrays(pickle.dumps(np.array(["a", None], dtype=object), 4), "f")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("raw", [b"", b"\x80", b"\x80\x05\x95", b"not a pickle", b"\x80\x04K\x01"])
def test_damaged(raw):
    with pytest.raises(UserError, match="f: "):
        arrays(raw, "f")


def test_persistent_ids_are_refused():
    with pytest.raises(UserError, match="persistent"):
        arrays(b"Pabc\n.", "f")


def reduced(function, *args):
    return pickle.dumps(Evil(function, *args))


def test_an_array_of_an_address_that_the_file_chose():
    """A call of numpy.ndarray with a buffer, or a dtype of objects over the file's own bytes."""
    buffer = b"A" * 64
    for raw in (
        reduced(np.ndarray, (8,), np.dtype("O"), buffer),
        reduced(np.ndarray, (8,), "O", buffer),
        reduced(np.ndarray, (8,), "u1", buffer),
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I1\ntS'O'\ntR.",
    ):
        for frames in (False, True):
            with pytest.raises(UserError, match="f: "):
                arrays(raw, "f", frames=frames)


def test_a_dtype_of_records_is_refused():
    with pytest.raises(UserError, match="records"):
        arrays(b"cnumpy\ndtype\n(S'V8'\nI0\nI1\ntR(I3\nS'|'\nN(S'a'\ntNI8\nI1\nI27\ntb.", "f")


def array(shape, dtype, content, order=False):
    """An array of these parts, as a pickle has it."""
    stub = type(
        "stub",
        (),
        {
            "__reduce__": lambda self: (
                np._core.multiarray._reconstruct,
                (np.ndarray, (0,), b"b"),
                (1, shape, dtype, order, content),
            )
        },
    )
    return pickle.dumps(stub(), 2)


@pytest.mark.parametrize(
    ("shape", "dtype", "content"),
    [
        ((3,), np.dtype("f8"), b"x" * 23),
        ((1 << 40,), np.dtype("u1"), b"x"),
        ((-1,), np.dtype("u1"), b"x"),
        ((2, -2), np.dtype("u1"), b"x" * 4),
        ((1.5,), np.dtype("u1"), b"x"),
        ((0,) * 9, np.dtype("u1"), b""),
        ([2], np.dtype("u1"), b"xx"),
        ((2,), np.dtype([("a", "u1")]), b"xx"),
        ((2,), np.dtype("M8[s]"), b"x" * 16),
        ((1,), "f8", b"x" * 8),
        ((1,), np.dtype("u1"), [1]),
    ],
)
def test_shapes_dtypes_and_bytes_are_checked(shape, dtype, content):
    with pytest.raises(UserError, match="f: "):
        arrays(array(shape, dtype, content), "f")
    assert arrays(array((2, 3), np.dtype(">i2"), bytes(range(12))), "f").tolist() == [
        [1, 515, 1029],
        [1543, 2057, 2571],
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.indices.__setitem__(0, 10**6),
        lambda m: m.indices.__setitem__(0, -5),
        lambda m: m.indptr.__setitem__(1, 10**6),
        lambda m: m.indptr.__setitem__(2, -1),
        lambda m: setattr(m, "_shape", (10**9, 10**9)),
        lambda m: setattr(m, "_shape", (3,)),
        lambda m: setattr(m, "data", np.zeros(1)),
        lambda m: setattr(m, "indices", np.zeros(3)),
    ],
)
def test_the_numbers_of_a_sparse_matrix_are_checked(change):
    matrix = sp.csr_matrix(np.diag([1.0, 2, 3]))
    change(matrix)
    found = arrays(pickle.dumps(matrix), "f")
    with pytest.raises((ValueError, TypeError)):
        found.dense()


def test_what_holds_itself_or_grows_is_refused():
    loop: list = []
    loop.append(loop)
    wide: list = [0] * 10
    for _ in range(12):
        wide = [wide] * 10
    deep: list = []
    for _ in range(200):
        deep = [deep]
    for value in (loop, wide, deep, {"a": loop}):
        with pytest.raises(UserError, match="f: "):
            arrays(pickle.dumps(value), "f")


def test_a_text_of_python_2():
    """Protocol 0 of Python 2 writes the bytes of an array as text with escapes."""
    raw = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I3\nt"
    raw += b"cnumpy\ndtype\n(S'u1'\nI0\nI1\n"
    raw += rb"""tR(I3
S'|'
NNNI-1
I-1
I0
tbI00
S"\x00\xff'"
tb."""
    assert arrays(raw, "f").tolist() == [0, 255, 39]


@given(st.data())
def test_mutated(data):
    """Whatever is made of a sound pickle, it is read or refused."""
    content = {
        "data": np.arange(12.0).reshape(3, 4),
        "labels": [1, 2],
        "s": sp.csr_matrix(np.eye(3)),
        "n": np.float64(2),
    }
    raw = bytearray(pickle.dumps(content, data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UserError):
        found = arrays(bytes(raw), "f", frames=data.draw(st.booleans()))
        if isinstance(found, dict) and isinstance(found.get("s"), Sparse):
            with contextlib.suppress(ValueError, TypeError):
                found["s"].dense()
