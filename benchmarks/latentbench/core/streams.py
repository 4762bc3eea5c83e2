"""Standard streams that bear what may befall them: closed, of a narrow encoding, without a reader, on a full disk."""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata
from contextlib import suppress
from typing import Any, TextIO

from latentbench.core.errors import LatentbenchError

#: Name of the error handler that writes plain characters for those that an encoding lacks.
PLAIN = "latentbench.plain"
#: Characters of our own output without a decomposition into ASCII.
_PLAINER = {
    "≈": "~",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "→": "->",
    "←": "<-",
    "↔": "<->",
    "×": "x",
    "·": ".",
    "•": "*",
    "±": "+/-",
    "−": "-",
    "–": "-",
    "—": "-",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "‖": "||",
    "★": "*",
    "☆": "*",
    "✓": "+",
    "✗": "x",
    "ß": "ss",
    "ø": "o",
    "Ø": "O",
    "ł": "l",
    "Ł": "L",
    "đ": "d",
    "æ": "ae",
    "œ": "oe",
    "ı": "i",
    "│": "|",
    "─": "-",
}


class Unwritable(LatentbenchError):
    """Results could not be written to stdout: a full disk, a device that is gone."""


class ReaderGone(LatentbenchError):
    """Nobody reads the pipe that stdout is any more, as in ``latentbench … | head``: no failure, though click takes a
    BrokenPipeError for one."""


def steady() -> None:
    """Make this process's streams bear what may befall them. For the start of a command, once.

    A closed stream takes what is written and drops it. What its encoding lacks is written in plain characters. Remarks
    on stderr are lost where nobody can take them; results that stdout cannot take are an `Unwritable`, or `ReaderGone`.
    """
    _open_closed()
    codecs.register_error(PLAIN, _in_plain_characters)
    sys.stdout = _over(sys.stdout, _Results)
    sys.stderr = _over(sys.stderr, _Remarks)


def holds(text: str, stream: TextIO | None = None) -> bool:
    """Whether a stream (stdout) can take every character of `text` as it is."""
    try:
        text.encode(getattr(stream or sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _open_closed() -> None:
    """Stand-ins for closed descriptors 0, 1 and 2: the next file to be opened would take their number, and their text.

    Those of children are inherited.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        os.set_inheritable(number, True)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115 (for good)


def _in_plain_characters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = "".join(map(_plain, error.object[error.start : error.end]))
    return text, error.end


def _plain(char: str) -> str:
    if char in _PLAINER:
        return _PLAINER[char]
    parts = unicodedata.normalize("NFKD", char)
    return "".join(_PLAINER.get(c, c) for c in parts).encode("ascii", "ignore").decode() or "?"


class _Results(io.TextIOWrapper):
    _lost: Exception | None = None

    def write(self, text: str) -> int:
        if text == "":  # click asks so whether it is for text or for bytes
            return 0
        if self._lost is not None:
            raise self._lost
        try:
            return super().write(text)
        except OSError as e:
            raise self._loses(e) from None

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as e:
            raise self._loses(e) from None

    def _loses(self, error: OSError) -> Exception:
        """What to raise; what is still buffered goes nowhere, so that Python does not try again at its end."""
        with suppress(OSError, ValueError):
            void = os.open(os.devnull, os.O_WRONLY)
            os.dup2(void, self.fileno())
            os.close(void)
        why = f"stdout: results cannot be written: {error.strerror or error} (send them elsewhere, and repeat)"
        self._lost = ReaderGone(why) if isinstance(error, BrokenPipeError) else Unwritable(why)
        return self._lost


class _Remarks(io.TextIOWrapper):
    def write(self, text: str) -> int:
        if text == "":
            return 0
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def _over(stream: Any, kind: type[io.TextIOWrapper]) -> Any:
    """The same stream, of another kind; one that is none of Python's own (a notebook's, a test's) stays as it is."""
    if type(stream) is not io.TextIOWrapper:
        return stream
    line_buffering, write_through, encoding = stream.line_buffering, stream.write_through, stream.encoding
    buffer = stream.detach()
    return kind(buffer, encoding, PLAIN, line_buffering=line_buffering, write_through=write_through)
