"""Helper processes of one run, and what became of the first that was lost."""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

from latentbench.acceleration.processes import exit_description, without_interrupts
from latentbench.core.errors import Diverged, UserError
from latentbench.core.interrupts import check
from latentbench.core.secrets import without_secrets

Kind = Literal["diverged", "out-of-memory", "interrupted", "wrong input", "failed"]


@dataclass(frozen=True)
class Lost:
    """A helper that did not do its part.

    Attributes:
        kind: what happened.
        text: the same in a line.
        trace: where, if it could say so.
        at: when, in `time.monotonic` seconds, which the processes of a machine share.
    """

    kind: Kind
    text: str
    trace: str
    at: float

    @classmethod
    def to(cls, rank: int, error: BaseException) -> Lost:
        """What `error` made of the helper of device `rank`."""
        import torch

        said = " ".join(str(error).split())[:400]
        kind: Kind = "failed"
        match error:
            case Diverged():
                kind = "diverged"
            case KeyboardInterrupt():
                kind = "interrupted"
            case MemoryError() | torch.OutOfMemoryError():
                kind = "out-of-memory"
            case RuntimeError() if "not enough memory" in said:
                kind = "out-of-memory"
            case UserError():
                kind = "wrong input"
        name = "" if kind != "failed" else f"{type(error).__name__}: "
        text = f"device {rank}: {name}{said or kind}"
        return cls(kind, text, without_secrets("".join(traceback.format_exception(error))), time.monotonic())

    def as_error(self) -> BaseException:
        """The error for the leader to raise."""
        kinds: dict[Kind, type[BaseException]] = {
            "diverged": Diverged,
            "interrupted": KeyboardInterrupt,
            "out-of-memory": MemoryError,
            "wrong input": UserError,
            "failed": RuntimeError,
        }
        error = kinds[self.kind](self.text)
        if self.trace:
            error.add_note(self.trace)
        return error


class Helper:
    """A process that does its part of a run and then ends.

    Args:
        rank: of its device.
        part: called there with its end of a pipe, a stack for what is to be undone after it, and `arguments`; it says
            when it is ready, and waits to be let go.
    """

    def __init__(self, rank: int, part: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self.rank, self._ready = rank, False
        self._lost: Lost | None = None
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_live, args=(theirs, rank, part, arguments))
        with without_interrupts():
            self._process.start()
        theirs.close()

    def await_ready(self) -> None:
        """Wait until it can be let go.

        Raises:
            BaseException: what it was lost to instead; KeyboardInterrupt too if this process is asked to stop.
        """
        while not self._ready:
            check()
            if (lost := self.lost(0.2)) is not None:
                raise lost.as_error()

    def go(self) -> None:
        with suppress(OSError):  # it has died since: the others will notice
            self._pipe.send(None)

    def lost(self, patience: float) -> Lost | None:
        """What it was lost to, if it is; waits `patience` seconds for news."""
        deadline = time.monotonic() + patience
        while self._lost is None and wait([self._pipe], max(0.0, deadline - time.monotonic())):
            try:
                self._lost = self._pipe.recv()
            except (EOFError, OSError):
                self._process.join()
                if self._process.exitcode == 0 and self._ready:
                    return None
                how = f"device {self.rank}: its process died ({exit_description(self._process.exitcode)})"
                self._lost = Lost("failed", how, "", time.monotonic())
            else:
                if self._lost is None:
                    self._ready = True
                    return None
        return self._lost

    @property
    def pipe(self) -> Connection:
        return self._pipe

    def end(self, deadline: float) -> None:
        """See it gone: by itself, or at `deadline` (`time.monotonic` seconds) by force."""
        self._pipe.close()
        self._process.join(max(0.0, deadline - time.monotonic()))
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def first_lost(helpers: Sequence[Helper], patience: float) -> Lost | None:
    """The first that was lost, if one is; waits `patience` seconds for one to say so."""
    wait([h.pipe for h in helpers], patience)
    found = [lost for h in helpers if (lost := h.lost(0.0)) is not None]
    return min(found, key=lambda lost: lost.at, default=None)


def _live(pipe: Connection, rank: int, part: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """A helper's life. An interrupt is the leader's business; SIGTERM asks all to stop, as the leader's death does."""
    from latentbench.core.interrupts import install, leave_to_parent, watch_parent

    leave_to_parent()
    install(signal.SIGTERM)
    watch_parent()
    with ExitStack() as after:
        try:
            part(pipe, after, *arguments)
        except BaseException as error:  # whatever it is, the leader must learn of it, and before anything is undone
            with suppress(OSError):
                pipe.send(Lost.to(rank, error))
