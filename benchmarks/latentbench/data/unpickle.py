"""Arrays out of pickles, for the few datasets whose official files are pickles: nothing in them is ever called.

Only plain Python values, numeric numpy arrays, scipy sparse matrices (as their parts) and dictionaries of lists come
through; any other class or function that a pickle names is refused before it is looked up.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from latentbench.core.errors import UserError


class Parts:
    """Stands in for an object of a class that is not loaded: keeps its state and does nothing."""

    args: tuple[Any, ...] = ()
    state: Any = None

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Sparse(Parts):
    """A scipy sparse matrix in its parts; `dense` puts a compressed-row matrix together."""

    def dense(self) -> np.ndarray:
        """(rows, columns) of the stored dtype."""
        from scipy.sparse import csr_matrix

        state = self.state
        shape = state.get("_shape", state.get("shape"))
        made: np.ndarray = csr_matrix((state["data"], state["indices"], state["indptr"]), shape=shape).toarray()
        return made


class Frame(Parts):
    """A pandas object in its parts."""


def _new_index(_cls: Any, given: dict[str, Any]) -> Frame:
    made = Frame()
    made.state = given
    return made


def _unpickle_block(values: Any, placement: Any, ndim: int) -> Frame:
    return Frame(values, placement, ndim)


def _latin_bytes(text: str, encoding: str = "latin1") -> bytes:
    """What Python 3 writes for bytes under protocol 2: a call of ``_codecs.encode``."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"codec {encoding!r} is not admitted")
    return text.encode("latin1")


def _dictionary(_factory: Any = None, *args: Any) -> dict[Any, Any]:
    """A defaultdict, without its factory."""
    return dict(*args)


def _numeric_dtype(*args: Any) -> np.dtype[Any]:
    made = np.dtype(*args)
    if made.hasobject:
        raise pickle.UnpicklingError("arrays of objects are not admitted")
    return made


def _reconstructor(cls: Any, _base: Any, _state: Any) -> Parts:
    """How protocols 0 and 1 make an object."""
    if not (isinstance(cls, type) and issubclass(cls, Parts)):
        raise pickle.UnpicklingError(f"an object of {cls!r} is not admitted")
    return cls()


def _from_buffer(buffer: Any, dtype: np.dtype[Any], shape: tuple[int, ...], order: str) -> np.ndarray:
    """How protocol 5 makes an array."""
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: np.dtype[Any], raw: bytes | str) -> Any:
    """A numpy scalar from its bytes."""
    return np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, dtype=dtype, count=1)[0]


def _reconstruct(_kind: Any, shape: tuple[int, ...], code: Any) -> np.ndarray:
    """An empty array that the pickle then fills through ``ndarray.__setstate__``."""
    return np.ndarray.__new__(np.ndarray, shape, code)


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _numeric_dtype,
    ("_codecs", "encode"): _latin_bytes,
    ("collections", "defaultdict"): _dictionary,
    ("copy_reg", "_reconstructor"): _reconstructor,
    ("copyreg", "_reconstructor"): _reconstructor,
    ("builtins", "object"): Parts,
    ("__builtin__", "object"): Parts,
    ("builtins", "list"): list,
    ("__builtin__", "list"): list,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    **{(m, "csr_matrix"): Sparse for m in ("scipy.sparse.csr", "scipy.sparse._csr", "scipy.sparse")},
}
_FRAME: dict[tuple[str, str], Any] = {
    ("builtins", "slice"): slice,
    ("__builtin__", "slice"): slice,
    ("numpy", "dtype"): np.dtype,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, frames: bool) -> None:
        super().__init__(file, encoding="latin1")
        self._frames = frames

    def find_class(self, module: str, name: str) -> Any:
        if self._frames:
            if (module, name) in _FRAME:
                return _FRAME[module, name]
            if module.split(".")[0] == "pandas":
                return {"_new_Index": _new_index, "_unpickle_block": _unpickle_block}.get(name, Frame)
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name} is not admitted")
        return _ADMITTED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError(f"persistent id {pid!r} is not admitted")


def arrays(raw: bytes, where: Path | str, *, frames: bool = False) -> Any:
    """The plain values and arrays of a pickle.

    Args:
        raw: its bytes.
        where: the file, for messages.
        frames: also take pandas objects apart into `Frame` stand-ins, and admit their arrays of column names.

    Raises:
        UserError: it names anything that is not admitted, or is damaged.
    """
    try:
        return _Unpickler(io.BytesIO(raw), frames).load()
    except pickle.UnpicklingError as e:
        raise UserError(f"refused to unpickle: {e}", where=where, fix="only arrays are read from pickles") from e
    except (EOFError, AttributeError, ValueError, TypeError, IndexError, KeyError, ImportError, MemoryError) as e:
        raise UserError(f"damaged pickle: {type(e).__name__}: {e}", where=where) from e
