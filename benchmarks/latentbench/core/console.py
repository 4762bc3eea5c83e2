"""What the terminal shows: results on stdout, progress and remarks on stderr, plain where nobody watches."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, RLock, Thread
from typing import IO, TYPE_CHECKING, Any, Protocol, TextIO, cast

from latentbench.core.bounds import shortened
from latentbench.core.secrets import without_secrets

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

#: Seconds between progress lines where stderr is no terminal.
PLAIN_INTERVAL = 30.0
#: Seconds that must be seen of something before they tell how long the rest will take.
TELLING = 3.0


def out() -> Console:
    """Console for results; wide enough for tables where stdout is no terminal."""
    from rich.console import Console

    return Console(
        highlight=False,
        soft_wrap=not sys.stdout.isatty(),
        width=None if sys.stdout.isatty() or os.environ.get("COLUMNS") else 200,
    )


def err() -> Console:
    """Console for progress and remarks."""
    from rich.console import Console

    return Console(file=cast("IO[str]", _Watched(sys.stderr)), stderr=True, highlight=False, soft_wrap=True)


class _Watched(io.TextIOBase):
    """A stream of remarks: what cannot be written any more (disk full, reader gone, terminal hung up) is let go."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.flush()

    def isatty(self) -> bool:
        with suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    def fileno(self) -> int:
        if self._stream is None:
            raise OSError("there is no such stream")
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return getattr(self._stream, "errors", None)


def note(text: str) -> None:
    """One plain line on stderr; its text is not read as markup, and holds no secret."""
    line = printable(without_secrets(shortened(text)))
    print(line, file=_Watched(sys.stderr), flush=True)


def printable(text: str) -> str:
    """`text` without control characters, which could steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


class Bar(Protocol):
    """One line of progress."""

    def update(self, done: float | None, total: float | None = None, text: str | None = None) -> None:
        """Show how much is done, of how much; None where that is not counted, and `text` says all."""

    def close(self) -> None: ...


class Display(Protocol):
    """Where bars are drawn."""

    def bar(self, name: str, total: float | None = None) -> Bar: ...


@contextmanager
def display(*, quiet: bool = False) -> Iterator[Display]:
    """Progress bars on a terminal, a line now and then elsewhere, nothing if `quiet`."""
    if quiet:
        yield _Silent()
        return
    if not _Watched(sys.stderr).isatty():
        with _Plain() as plain:
            yield plain
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}", markup=False, style="dim"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=err(), transient=True, refresh_per_second=5) as progress:
        yield _Rich(progress)


class _Silent:
    def bar(self, name: str, total: float | None = None) -> Bar:
        return self

    def update(self, done: float | None, total: float | None = None, text: str | None = None) -> None:
        pass

    def close(self) -> None:
        pass


class _Plain:
    """A line now and then for each bar, also while nothing is told of it: a pipe's reader sees that it lives."""

    def __init__(self) -> None:
        self._bars: list[_PlainBar] = []
        self._ended = Event()
        self._thread = Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> _Plain:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def bar(self, name: str, total: float | None = None) -> Bar:
        bar = _PlainBar(name, total, self._bars.remove)
        self._bars.append(bar)
        return bar

    def _beat(self) -> None:
        while not self._ended.wait(max(PLAIN_INTERVAL / 4, 0.25)):
            for bar in list(self._bars):
                bar.beat(max(PLAIN_INTERVAL, 1.0))


class Pace:
    """How long the rest will take, at the speed since the first count: what came before it took no time of its own."""

    def __init__(self) -> None:
        self._since: tuple[float, float] | None = None

    def left(self, done: float, total: float | None, now: float) -> float | None:
        """Seconds; None while too little has been seen to tell.

        Args:
            done, total: how much is done, of how much.
            now: a clock in seconds.
        """
        if self._since is None or done < self._since[1]:
            self._since = now, done
        seconds, gained = now - self._since[0], done - self._since[1]
        if not total or gained <= 0 or seconds < TELLING or done > total:
            return None
        return (total - done) * seconds / gained


class _PlainBar:
    def __init__(self, name: str, total: float | None, closed: Callable[[_PlainBar], None]) -> None:
        self._name, self._total, self._pace, self._closed = name, total, Pace(), closed
        self._said = self._began = time.monotonic()
        self._last: tuple[float | None, str | None, float | None] | None = None
        self._speaking = RLock()  # between the one who tells and the heartbeat

    def update(self, done: float | None, total: float | None = None, text: str | None = None) -> None:
        with self._speaking:
            self._total = total if total is not None else self._total
            now = time.monotonic()
            if self._last is None or text != self._last[1]:
                self._began = now
            self._last = done, text, None if done is None else self._pace.left(done, self._total, now)
            if now - self._said >= PLAIN_INTERVAL:
                self._say(now)

    def beat(self, interval: float) -> None:
        """Say the last word again, and since when it holds, if nothing was said for `interval` seconds."""
        with self._speaking:
            now = time.monotonic()
            if self._last is not None and now - self._said >= interval:
                self._say(now, f", for {duration(now - self._began)}" if self._last[0] is None else "")

    def _say(self, now: float, since: str = "") -> None:
        assert self._last is not None  # both callers have seen to it
        self._said = now
        done, text, left = self._last
        if done is None:
            note(f"{self._name}: {text or 'under way'}{since}")
            return
        part = f"{done:,.0f}" if not self._total else f"{done:,.0f}/{self._total:,.0f}"
        rest = "" if left is None else f", {duration(left)} left"
        note(f"{self._name}: {part}{f' ({text})' if text else ''}{rest}")

    def close(self) -> None:
        with suppress(ValueError):
            self._closed(self)
        with self._speaking:  # a heartbeat under way ends first, and the next finds nothing to say
            self._last = None


class _Rich:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def bar(self, name: str, total: float | None = None) -> Bar:
        task = self._progress.add_task(printable(name), total=total, text="", left="")
        return _RichBar(self._progress, task, total)


class _RichBar:
    def __init__(self, progress: Progress, task: TaskID, total: float | None) -> None:
        self._progress, self._task, self._total, self._pace = progress, task, total, Pace()

    def update(self, done: float | None, total: float | None = None, text: str | None = None) -> None:
        self._total = total if total is not None else self._total
        shown: dict[str, Any] = {} if text is None else {"text": printable(text)}
        left = None if done is None else self._pace.left(done, self._total, time.monotonic())
        rest = "" if left is None else f"{duration(left)} left"
        self._progress.update(self._task, total=self._total, completed=done, left=rest, **shown)

    def close(self) -> None:
        self._progress.remove_task(self._task)


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h``: as exact as an estimate can be."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
