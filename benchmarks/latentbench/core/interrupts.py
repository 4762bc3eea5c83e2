"""How a process is asked to stop: at once, or, while a state must not be torn, at its next safe moment."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from latentbench.core.errors import LatentbenchError

#: Exit code of a process that was asked to stop.
INTERRUPTED = 130

#: Signals that ask a command to stop, as far as this system has them: of a terminal that closes, of a batch system that
#: warns (``sbatch --signal``, ``qsub -notify``), of a limit on processor time, and those for everybody.
REQUESTS = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if hasattr(signal, name)
)
#: Of these, what a whole group of processes gets at once: to the children they are their parent's business.
OF_THE_GROUP = tuple(one for one in REQUESTS if one.name in ("SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"))
#: Those that whoever starts a process may have it ignore, as `nohup` does.
_WAIVED = {"SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"}

_asked = False
_again = False
_leaving: int | None = None
_deferred = 0
_say_of_others = sys.unraisablehook
_parent: int | None = None


def install(*signals: signal.Signals) -> None:
    """Treat `signals` as requests to stop. The second one is obeyed at once, whatever is going on.

    A hang-up or a batch system's warning that this process was started to ignore stays ignored.

    A request lasts: a library that swallows the KeyboardInterrupt, or makes another exception of it, only delays the
    stop until `check` or the next safe moment. So does Python itself, in a destructor or the like; what it says of that
    is left out. Installing again forgets the request.
    """
    global _asked, _again, _leaving, _say_of_others
    _asked = _again = False
    _leaving = None
    for one in signals:
        if not (one.name in _WAIVED and signal.getsignal(one) is signal.SIG_IGN):
            signal.signal(one, _handle)
    if sys.unraisablehook is not _say_of_swallowed:
        _say_of_others, sys.unraisablehook = sys.unraisablehook, _say_of_swallowed


def leave(code: int) -> None:
    """Say that this process has done its work and ends with `code`: what signal comes now ends it at once.

    What is left are the last acts of the interpreter and its libraries, which take a while once torch is there. A
    KeyboardInterrupt raised in them stops nothing, and is printed. A process that was asked twice to stop ends here.
    """
    global _leaving
    _flush()
    _leaving = code
    if _again:
        os._exit(INTERRUPTED)


def leave_to_parent() -> None:
    """In a child that was started under `without_interrupts`: what the whole group gets is the parent's business."""
    for one in OF_THE_GROUP:
        signal.signal(one, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OF_THE_GROUP)


def last_act(*signals: signal.Signals) -> None:
    """For `atexit`, registered before all others and so called after them: nothing changes the exit code any more.

    From here on the interpreter would let `signals` kill the process. And it kills itself by SIGINT where an exec has
    passed a KeyboardInterrupt on (those of imports do), whoever caught it then.
    """
    for one in signals:
        signal.signal(one, signal.SIG_IGN)
    if _leaving == INTERRUPTED:
        _flush()
        os._exit(INTERRUPTED)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except (OSError, ValueError, LatentbenchError):
            # nobody reads it any more, and the interpreter would complain of that at its end
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def watch_parent() -> None:
    """Take the death of the parent process for a request to stop."""
    global _parent
    _parent = os.getppid()


def stopping() -> bool:
    """Whether this process has been asked to stop."""
    return _asked or (_parent is not None and os.getppid() != _parent)


def ask() -> None:
    """Ask this process to stop, as a signal does; inside `deferred` it is noted."""
    global _asked
    _asked = True
    check()


def check() -> None:
    """Stop here if that has been asked for; inside `deferred` nothing happens.

    Raises:
        KeyboardInterrupt: it has.
    """
    if not _deferred and stopping():
        raise KeyboardInterrupt


@contextmanager
def deferred() -> Iterator[None]:
    """Requests inside the block are noted, and obeyed when it asks `stopping` or at its end, however it ends.

    Raises:
        KeyboardInterrupt: at the end, if there was a request.
    """
    global _deferred
    _deferred += 1
    try:
        yield
    finally:
        _deferred -= 1
        check()


def _handle(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
    global _asked, _again
    if _leaving is not None:
        os._exit(INTERRUPTED)
    if _asked and signal.Signals(signum).name == "SIGHUP":  # the terminal and the shell in it each send one
        return
    first, _asked = not _asked, True
    _again = not first
    if not (_deferred and first):
        raise KeyboardInterrupt


def _say_of_swallowed(swallowed: sys.UnraisableHookArgs) -> None:
    """As Python does of an exception that nothing can catch, unless it is a request, which lasts."""
    if not issubclass(swallowed.exc_type, KeyboardInterrupt):
        _say_of_others(swallowed)
