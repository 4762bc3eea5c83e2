"""Worker processes: each does one run at a time, and its death costs no other run."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from latentbench.acceleration.processes import exit_description, without_interrupts
from latentbench.planning.plan import RunSpec
from latentbench.running.observer import ProgressReport
from latentbench.running.settings import Settings

#: Seconds that a worker has for saving its state when it is asked to stop; then it is killed.
GRACE = 10.0


@dataclass(frozen=True)
class Died:
    """A worker process ended without an answer."""

    how: str
    killed: bool = False


class Worker:
    """A worker process, started when it is first needed and again when it has died.

    Attributes:
        spec: the run that it is doing, or None.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: Any = None
        self._pipe: Connection | None = None
        self.spec: RunSpec | None = None

    def start(self, spec: RunSpec) -> None:
        """Have it do `spec`."""
        if self._process is None or not self._process.is_alive():
            self._start()
        assert self._pipe is not None
        self.spec = spec
        with suppress(OSError):  # it has died since: `receive` will say so
            self._pipe.send(spec)

    def receive(self) -> Any:
        """What the process sends: `ProgressReport`; or (record, cached), an exception or `Died`, which end its run."""
        assert self._pipe is not None
        try:
            message = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            message = Died(exit_description(code), killed=code == -signal.SIGKILL)
            self._process = None
        if not isinstance(message, ProgressReport):
            self.spec = None
        return message

    def stop(self) -> None:
        """Ask the process to save its state and end."""
        if self._process is not None:
            self._process.terminate()

    def close(self, deadline: float) -> None:
        """End the process; what it does at `deadline`, in `time.monotonic` seconds, is cut off."""
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.join(max(0.0, deadline - time.monotonic()))
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
            self._process = None

    @property
    def pipe(self) -> Connection:
        assert self._pipe is not None
        return self._pipe

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, self._settings))
        with without_interrupts():
            self._process.start()
        theirs.close()


def ready_workers(workers: Sequence[Worker], timeout: float = 0.5) -> list[Worker]:
    """Those that have sent something or died."""
    ready = wait([worker.pipe for worker in workers], timeout)
    return [worker for worker in workers if worker.pipe in ready]


def _work(pipe: Connection, settings: Settings) -> None:
    """A worker's life: runs come in, records go out. An interrupt is the parent's business; SIGTERM saves and ends."""
    from latentbench.core.interrupts import ask, install, leave_to_parent, watch_parent

    leave_to_parent()
    from latentbench.running.one import Busy
    from latentbench.scheduling.sparing import sparing
    from latentbench.scheduling.task import perform

    install(signal.SIGTERM)
    watch_parent()

    def tell(what: ProgressReport) -> None:
        try:
            pipe.send(what)
        except OSError:  # nobody listens any more
            ask()

    try:
        while True:
            spec = pipe.recv()
            try:
                answer: Any = perform(spec, settings, sparing(tell, 0.1), wait=False)
            except Busy as busy:
                answer = busy
            except Exception as error:  # what no run can do without: the parent ends the sweep with it
                answer = error
            pipe.send(answer)
    except (EOFError, OSError, KeyboardInterrupt):
        return  # the parent has closed the pipe, has died, or asks to stop
