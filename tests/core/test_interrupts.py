"""Requests to stop: at once, or at the next safe moment, but never lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import pytest
from latentbench.core import interrupts

from tests.project import PATIENCE


@pytest.fixture(autouse=True)
def handlers():
    before = signal.getsignal(signal.SIGTERM)
    interrupts.install(signal.SIGTERM)
    yield
    interrupts.install()
    signal.signal(signal.SIGTERM, before)


def ask() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_at_once_where_nothing_can_be_torn():
    with pytest.raises(KeyboardInterrupt):
        ask()


def reach(*acts) -> list[object]:
    """What `acts` gave, one after another, before the process stopped in or after a deferred block."""
    reached: list[object] = []

    def block() -> None:
        with interrupts.deferred():
            for act in acts:
                reached.append(act())

    with pytest.raises(KeyboardInterrupt):
        block()
    return reached


def nested() -> None:
    with interrupts.deferred():
        ask()


def fail() -> None:
    raise ValueError


def test_a_torn_state_is_waited_for():
    assert reach(ask, interrupts.stopping) == [None, True]


def test_nested_blocks_wait_for_the_outermost():
    assert reach(nested, interrupts.stopping) == [None, True]


def test_the_second_request_does_not_wait():
    assert reach(ask, interrupts.stopping, ask, interrupts.stopping) == [None, True]


def test_an_error_in_the_block_does_not_lose_the_request():
    assert reach(ask, fail) == [None]


def test_an_error_alone_passes():
    with pytest.raises(ValueError, match="mine"), interrupts.deferred():
        raise ValueError("mine")


def test_a_request_that_a_library_swallows_is_obeyed_later():
    with contextlib.suppress(KeyboardInterrupt):
        ask()
    assert interrupts.stopping()
    with pytest.raises(KeyboardInterrupt):
        interrupts.check()
    interrupts.install(signal.SIGTERM)
    interrupts.check()


def test_a_program_may_ask_like_a_signal():
    with pytest.raises(KeyboardInterrupt):
        interrupts.ask()
    interrupts.install(signal.SIGTERM)
    assert reach(interrupts.ask, interrupts.ask, interrupts.stopping) == [None, None, True], "asking twice is no hurry"


def test_nothing_asked_nothing_done():
    with interrupts.deferred():
        interrupts.check()
    assert not interrupts.stopping()


def test_of_a_request_that_a_destructor_swallows_nothing_is_said(monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: said.append(told.exc_type))
    interrupts.install(signal.SIGTERM)

    class Late:
        def __init__(self, act) -> None:
            self.act = act

        def __del__(self) -> None:
            self.act()

    Late(fail)
    Late(ask)
    assert said == [ValueError]
    assert interrupts.stopping()


#: A process whose last acts are shown: what `ask` does comes by a signal to itself.
PROCESS = """
import atexit, os, signal, sys
from latentbench.core import interrupts

def ask():
    os.kill(os.getpid(), signal.{signal})

interrupts.install(signal.SIGTERM, signal.SIGINT)
if {last}:
    atexit.register(interrupts.last_act, signal.SIGTERM, signal.SIGINT)
atexit.register(print, "others' acts", flush=True)
print("done")
{acts}
interrupts.leave({code})
sys.exit({code})
"""


def end(acts: str, code: int = 0, name: str = "SIGINT", *, last: bool = True) -> tuple[int, str]:
    """Exit code and stdout of a process that does this; nothing is on its stderr."""
    text = PROCESS.format(signal=name, acts=acts, code=code, last=last)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("code", [0, 130])
def test_on_the_way_out_a_request_ends_the_process_at_once(name, code):
    assert end("atexit.register(ask)", code, name) == (130, "done\n"), "what was written is not lost"


def test_who_was_asked_twice_waits_for_nobodys_acts():
    acts = "for _ in range({}):\n    try: ask()\n    except KeyboardInterrupt: pass"
    assert end(acts.format(2), 130) == (130, "done\n")
    assert end(acts.format(1), 130) == (130, "done\nothers' acts\n")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_request_as_the_interpreter_ends_does_not_kill_it(name):
    """Python gives the signals back to the system before it takes its modules apart."""
    kill = f"def __del__(self, kill=os.kill, me=os.getpid(), it=signal.{name}): kill(me, it)"
    acts = f"class Late:\n    {kill}\nlate = Late()"
    assert end(acts, 0, name) == (0, "done\nothers' acts\n")
    assert end(acts, 0, name, last=False)[0] == -getattr(signal, name), "it would"


def test_a_request_in_an_import_does_not_make_the_interpreter_kill_itself():
    acts = "try: exec('ask()')\nexcept KeyboardInterrupt: pass"
    assert end(acts, 130) == (130, "done\nothers' acts\n")


HANGUP = """
import os, signal, sys
from latentbench.core import interrupts

signal.signal(signal.SIGHUP, signal.SIG_IGN if {ignored} else signal.SIG_DFL)  # whatever the tests run under
interrupts.install(*interrupts.REQUESTS)
try:
    with interrupts.deferred():
        for _ in range(2):
            os.kill(os.getpid(), signal.{name})
        print("saved", flush=True)
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.parametrize(
    ("name", "ignored", "said"),
    [
        ("SIGHUP", False, "saved\nstopped\n"),  # from the terminal, and from the shell in it
        ("SIGHUP", True, "saved\n"),  # nohup
        ("SIGTERM", False, "stopped\n"),
        ("SIGUSR1", False, "stopped\n"),
        ("SIGXCPU", False, "stopped\n"),
    ],
)
def test_terminals_and_batch_systems_ask_to_stop(name, ignored, said):
    """A state is saved first, unless somebody insists."""
    text = HANGUP.format(name=name, ignored=ignored)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.stdout, done.stderr) == (said, "")


def test_a_child_leaves_to_its_parent_what_the_group_gets():
    text = "from latentbench.core.interrupts import leave_to_parent as l; import os, signal; l(); " + "; ".join(
        f"os.kill(os.getpid(), signal.{s.name})" for s in interrupts.OF_THE_GROUP
    )
    assert subprocess.run([sys.executable, "-c", text], timeout=PATIENCE, check=False).returncode == 0
