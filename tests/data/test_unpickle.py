"""Pickles: arrays come through, nothing is ever called."""

from __future__ import annotations

import collections
import os
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from latentbench.core.errors import UserError
from latentbench.data.unpickle import arrays


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
