"""Arrays out of pickles, for the few datasets whose official files are pickles.

Python's own reader is not used: it calls what the file names. Here each opcode of the protocol is taken by hand, what a
file names is a name and nothing else, and of the names few mean something: arrays and their dtypes, whose bytes, shapes
and numbers are checked before numpy sees them, scipy's sparse rows and pandas' tables in their parts, dictionaries.
Anything else is refused.
"""

from __future__ import annotations

import codecs
import io
import math
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from latentbench.core.errors import UserError

#: Values that a file may come to, each counted as often as it stands somewhere, and levels of nesting.
VALUES, DEPTH = 20_000_000, 50
#: Bytes of one element of an array.
ELEMENT = 4096
_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}


class Refused(ValueError):
    """The file names what is not admitted."""


class Name(NamedTuple):
    """What a pickle calls by ``module.name``; it stays a name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Parts:
    """Stands in for an object of a class that is not loaded: keeps its arguments and its state, and does nothing."""

    args: tuple[Any, ...] = ()
    state: Any = None

    def __init__(self, *args: Any) -> None:
        self.args = args


class Sparse(Parts):
    """A scipy sparse matrix in its parts; `dense` puts a compressed-row matrix together."""

    def dense(self) -> np.ndarray:
        """(rows, columns) of the stored dtype.

        Raises:
            ValueError: the parts are no such matrix.
        """
        state = self.state
        if not isinstance(state, dict) or not {"data", "indices", "indptr"} <= state.keys():
            raise ValueError("a sparse matrix without its parts")
        return dense_rows(state["data"], state["indices"], state["indptr"], state.get("_shape", state.get("shape")))


class Frame(Parts):
    """A pandas object in its parts."""


class _Dtype(Parts):
    """A dtype under construction: its code, and its byte order once its state is known."""

    def made(self) -> np.dtype[Any]:
        code = self.args[0] if self.args else None
        code = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?([bBiufcSUV?]\d{0,4}|O8?)", code):
            raise Refused(f"dtype {str(code)[:40]!r} is not admitted")
        if "O" in code:
            raise Refused("arrays of objects are not admitted")
        if "V" in code:
            raise Refused("arrays of records are not admitted")
        try:
            dtype = np.dtype(code)
        except TypeError as e:
            raise Refused(str(e)) from None
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "="
        order = order.decode("latin1") if isinstance(order, bytes) else order
        if order not in ("<", ">", "|", "=") or not 0 < dtype.itemsize <= ELEMENT:
            raise Refused(f"dtype {code!r} is not admitted")
        return {"<": dtype.newbyteorder("<"), ">": dtype.newbyteorder(">")}.get(order, dtype)

    @property
    def of_objects(self) -> bool:
        return bool(self.args) and self.args[0] in ("O", "O8", b"O", b"O8")


class _Array(Parts):
    """An array before its state; `value` is what it becomes."""

    value: Any = None


def dense_rows(data: Any, indices: Any, indptr: Any, shape: Any) -> np.ndarray:
    """The matrix (rows, columns) of a compressed-row form, whose numbers are checked: scipy writes where they point.

    Args:
        data: (nnz,) values.
        indices: (nnz,) integers, the column of each.
        indptr: (rows + 1,) integers, where each row begins.
        shape: rows and columns.

    Raises:
        ValueError: the parts do not fit together, or the matrix would take more than 2 GiB.
    """
    from scipy.sparse import csr_matrix

    data, indices, indptr = np.asarray(data), np.asarray(indices), np.asarray(indptr)
    rows, columns = (int(n) for n in shape)
    whole = all(a.ndim == 1 and a.dtype.kind in "iu" for a in (indices, indptr))
    if not whole or data.ndim != 1 or data.dtype.kind not in "biufc":
        raise ValueError("the parts of a sparse matrix are not rows of numbers")
    if min(rows, columns) < 0 or rows * columns * data.itemsize > 1 << 31:
        raise ValueError(f"a sparse matrix of {rows} x {columns}")
    fits = len(indptr) == rows + 1 and indptr[0] == 0 and indptr[-1] == len(indices) == len(data)
    if not fits or (np.diff(indptr.astype(np.int64)) < 0).any():
        raise ValueError("the rows of a sparse matrix do not follow each other")
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < columns:
        raise ValueError("a sparse matrix has columns outside of its shape")
    parts = (data.astype(data.dtype.newbyteorder("=")), indices.astype(np.int64), indptr.astype(np.int64))
    made: np.ndarray = csr_matrix(parts, shape=(rows, columns)).toarray()
    return made


def _filled(raw: Any, dtype: Any, shape: Any, fortran: Any) -> np.ndarray:
    """An array of the bytes of a file, which are as many as its shape needs."""
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    if not isinstance(dtype, _Dtype):
        raise ValueError("an array without dtype")
    kind = dtype.made()
    if not isinstance(raw, bytes | bytearray):
        raise ValueError("an array without bytes")
    if not isinstance(shape, tuple) or len(shape) > 8 or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ValueError(f"an array of shape {str(shape)[:60]}")
    if math.prod(shape) * kind.itemsize != len(raw):
        raise ValueError(f"{len(raw)} bytes for an array of shape {shape}")
    return np.frombuffer(raw, dtype=kind).reshape(shape, order="F" if fortran else "C")


def _names(values: Any, shape: Any) -> list[Any]:
    """The column names of a table, which pandas keeps as an array of objects: plain values in a row."""
    plain = isinstance(values, list) and all(isinstance(v, str | bytes | int | float) for v in values)
    if not plain or shape != (len(values),):
        raise Refused("arrays of objects are not admitted")
    return list(values)


class _Reader:
    """A stack machine for the opcodes of pickles."""

    def __init__(self, raw: bytes, frames: bool) -> None:
        self._file, self._frames = io.BytesIO(raw), frames
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        while (opcode := _OPCODES.get(self._file.read(1).decode("latin1"))) is not None:
            argument = self._argument(opcode)
            if opcode.name == "STOP":
                return self._plain(self._take())
            if opcode.name in _VALUES:
                self._stack.append(_VALUES[opcode.name](argument))
            elif (step := getattr(self, f"_{opcode.name.lower()}", None)) is not None:
                step(argument)
            else:
                self._refuse(opcode, argument)
        raise ValueError("it ends before its end, or is no pickle")

    def _argument(self, opcode: Any) -> Any:
        if opcode.name == "STRING":  # of Python 2: 8-bit text with escapes, in quotation marks
            line = self._file.readline().strip()
            if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"'\"":
                raise ValueError("a text without quotation marks")
            return codecs.escape_decode(line[1:-1])[0].decode("latin1")
        return opcode.arg.reader(self._file) if opcode.arg is not None else None

    def _refuse(self, opcode: Any, argument: Any) -> None:
        if opcode.name in ("PERSID", "BINPERSID"):
            raise Refused(f"persistent id {str(argument)[:40]!r} is not admitted")
        raise Refused(f"opcode {opcode.name} is not admitted")

    def _take(self) -> Any:
        return self._stack.pop()

    def _marked(self) -> list[Any]:
        """What was put down since the last mark."""
        found, self._stack = self._stack, self._marks.pop()
        return found

    def _proto(self, version: int) -> None:
        if version > 5:
            raise ValueError(f"protocol {version}")

    def _frame(self, _: int) -> None:
        """Only how the file is cut for reading."""

    def _mark(self, _: None) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _pop(self, _: None) -> None:
        self._stack.pop()

    def _pop_mark(self, _: None) -> None:
        self._marked()

    def _dup(self, _: None) -> None:
        self._stack.append(self._stack[-1])

    def _put(self, at: int) -> None:
        self._memo[at] = self._stack[-1]

    _binput = _long_binput = _put

    def _memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, at: int) -> None:
        self._stack.append(self._memo[at])

    _binget = _long_binget = _get

    def _tuple(self, _: None) -> None:
        items = tuple(self._marked())
        self._stack.append(items)

    def _list(self, _: None) -> None:
        items = self._marked()
        self._stack.append(items)

    def _dict(self, _: None) -> None:
        items = self._marked()
        self._stack.append(self._pairs({}, items))

    def _frozenset(self, _: None) -> None:
        raise Refused("sets are not admitted")

    def _tuple1(self, _: None) -> None:
        self._stack[-1:] = [tuple(self._last(1))]

    def _tuple2(self, _: None) -> None:
        self._stack[-2:] = [tuple(self._last(2))]

    def _tuple3(self, _: None) -> None:
        self._stack[-3:] = [tuple(self._last(3))]

    def _last(self, n: int) -> list[Any]:
        if len(self._stack) < n:
            raise IndexError("too little on the stack")
        return self._stack[-n:]

    def _append(self, _: None) -> None:
        item = self._take()
        self._of(list).append(item)

    def _appends(self, _: None) -> None:
        items = self._marked()
        self._of(list).extend(items)

    def _setitem(self, _: None) -> None:
        value, key = self._take(), self._take()
        self._pairs(self._of(dict), [key, value])

    def _setitems(self, _: None) -> None:
        items = self._marked()
        self._pairs(self._of(dict), items)

    def _of(self, kind: type) -> Any:
        if type(self._stack[-1]) is not kind:
            raise TypeError(f"items for what is no {kind.__name__}")
        return self._stack[-1]

    def _pairs(self, into: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
        if len(items) % 2 or not all(isinstance(k, str | bytes | int | float | np.generic) for k in items[::2]):
            raise TypeError("keys that are no plain values")
        into.update(zip(items[::2], items[1::2], strict=True))
        return into

    def _global(self, said: str) -> None:
        module, _, name = said.partition(" ")
        self._stack.append(self._admitted(Name(module, name)))

    def _stack_global(self, _: None) -> None:
        name, module = self._take(), self._take()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("a name that is no text")
        self._stack.append(self._admitted(Name(module, name)))

    def _admitted(self, name: Name) -> Name:
        if name in _ADMITTED or (self._frames and (name in _FRAME or name.module.split(".")[0] == "pandas")):
            return name
        raise Refused(f"{name} is not admitted")

    def _reduce(self, _: None) -> None:
        args, name = self._take(), self._take()
        self._stack.append(self._made(name, args))

    def _newobj(self, _: None) -> None:
        args, name = self._take(), self._take()
        self._stack.append(self._made(name, args))

    def _made(self, name: Any, args: Any) -> Any:
        """What a call of a name stands for."""
        if not isinstance(name, Name) or not isinstance(args, tuple):
            raise Refused(f"a call of {type(name).__name__} is not admitted")
        if name in _ADMITTED:
            return _ADMITTED[name](*args)
        if name in _FRAME:
            return slice(*(n if isinstance(n, int) else None for n in args[:3]))
        if name.name == "_new_Index":
            made = Frame()
            made.state = args[1]
            return made
        return Frame(*args)

    def _build(self, _: None) -> None:
        state, thing = self._take(), self._stack[-1]
        if isinstance(thing, _Array):
            _, shape, dtype, fortran, content = state if len(state) == 5 else (None, *state)
            objects = self._frames and isinstance(dtype, _Dtype) and dtype.of_objects
            thing.value = _names(content, shape) if objects else _filled(content, dtype, shape, fortran)
        elif isinstance(thing, Parts):
            thing.state = state
        else:
            raise Refused(f"a state of {type(thing).__name__} is not admitted")

    def _plain(self, found: Any) -> Any:
        """`found` with arrays in their places.

        Raises:
            ValueError: it holds itself, is nested too deeply, or comes to too much, each part counted where it stands.
        """
        done: dict[int, tuple[Any, int]] = {}
        within: set[int] = set()

        def settle(value: Any, depth: int) -> tuple[Any, int]:
            if isinstance(value, Name) and not self._frames:
                raise Refused(f"{value} in place of a value is not admitted")
            if isinstance(value, _Dtype) and not self._frames:
                return value.made(), 1
            if isinstance(value, Name | _Dtype) or not isinstance(value, list | tuple | dict | Parts):
                return value, 1
            if id(value) in done:
                return done[id(value)]
            if id(value) in within or depth > DEPTH:
                raise ValueError("it is nested too deeply")
            within.add(id(value))
            size = 1

            def each(inner: Any) -> Any:
                nonlocal size
                found, n = settle(inner, depth + 1)
                size += n
                if size > VALUES:
                    raise ValueError(f"it comes to more than {VALUES} values")
                return found

            new: Any
            if isinstance(value, _Array):
                if value.value is None:
                    raise ValueError("an array without its content")
                new = value.value
            elif isinstance(value, Parts):
                value.args, value.state = tuple(each(a) for a in value.args), each(value.state)
                new = value
            elif isinstance(value, dict):
                new = {k: each(v) for k, v in value.items()}
            else:
                new = type(value)([each(v) for v in value])
            within.discard(id(value))
            done[id(value)] = new, size
            return new, size

        return settle(found, 0)[0]


def _dictionary(_factory: Any = None, *args: Any) -> dict[Any, Any]:
    """A defaultdict, without its factory."""
    if args and not isinstance(args[0], dict):
        raise Refused("a dictionary of something else is not admitted")
    return dict(args[0]) if args else {}


def _latin_bytes(text: Any = "", encoding: Any = "latin1") -> bytes:
    """What Python 3 writes for bytes under protocol 2: a call of ``_codecs.encode``."""
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
        raise Refused(f"codec {str(encoding)[:40]!r} is not admitted")
    return text.encode("latin1")


def _old_object(cls: Any = None, *_: Any) -> Parts:
    """How protocols 0 and 1 make an object."""
    if cls in _SPARSE:
        return Sparse()
    raise Refused(f"an object of {cls} is not admitted")


def _scalar(dtype: Any = None, raw: Any = b"") -> Any:
    """A numpy scalar from its bytes."""
    return _filled(raw, dtype, (), False)[()]


def _from_buffer(raw: Any = b"", dtype: Any = None, shape: Any = (), order: Any = "C") -> _Array:
    """How protocol 5 makes an array."""
    made = _Array()
    made.value = _filled(raw, dtype, shape, order == "F")
    return made


def _named(*_: Any) -> Any:
    raise Refused("a call of a class is not admitted")


_SPARSE = {Name(m, "csr_matrix") for m in ("scipy.sparse.csr", "scipy.sparse._csr", "scipy.sparse")}
#: What a name means when the file calls it: ours, with the file's arguments, which it checks.
_ADMITTED: dict[Name, Callable[..., Any]] = {
    Name("numpy", "dtype"): _Dtype,
    Name("numpy", "ndarray"): _named,
    Name("_codecs", "encode"): _latin_bytes,
    Name("collections", "defaultdict"): _dictionary,
    Name("copy_reg", "_reconstructor"): _old_object,
    Name("copyreg", "_reconstructor"): _old_object,
    **{Name(m, n): _named for m in ("builtins", "__builtin__") for n in ("object", "list")},
    **{Name(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{Name(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{Name(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    **dict.fromkeys(_SPARSE, Sparse),
}
_FRAME = {Name(m, "slice") for m in ("builtins", "__builtin__")}


def _itself(value: Any) -> Any:
    return value


#: Opcodes that put a plain value down as it stands, and those that make one.
_STANDING = """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING
    BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8
"""
_VALUES: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_STANDING.split(), _itself),
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_LIST": lambda _: [],
    "EMPTY_TUPLE": lambda _: (),
    "EMPTY_DICT": lambda _: {},
}


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
        return _Reader(raw, frames).load()
    except Refused as e:
        raise UserError(f"refused to unpickle: {e}", where=where, fix="only arrays are read from pickles") from e
    except (EOFError, AttributeError, ValueError, TypeError, LookupError, OverflowError, MemoryError) as e:
        raise UserError(f"damaged pickle: {type(e).__name__}: {e}", where=where) from e
    except RecursionError:
        raise UserError("damaged pickle: nested too deeply", where=where) from None
