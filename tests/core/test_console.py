"""What reaches a terminal."""

from __future__ import annotations

import io
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentbench.core import console
from latentbench.core.console import display, note, printable

from tests.project import PATIENCE


@given(st.text())
def test_printable_lets_no_control_character_through(text):
    shown = printable(text)
    assert len(shown) == len(text)
    assert all(c.isprintable() or c in "\n\t" for c in shown)
    assert all(a == b for a, b in zip(text, shown) if a.isprintable())


def test_notes_go_to_stderr_without_escape_sequences(capsys):
    note("[bold]hello\x1b[2J\x07")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "[bold]hello\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}\n"


def test_quiet_says_nothing(capsys, monkeypatch):
    monkeypatch.setattr(console, "PLAIN_INTERVAL", 0.0)
    with display(quiet=True) as screen:
        screen.bar("runs", 10).update(3, text="x")
    assert capsys.readouterr() == ("", "")


def test_away_from_a_terminal_progress_is_plain_lines(capsys, monkeypatch):
    monkeypatch.setattr(console, "PLAIN_INTERVAL", 0.0)
    with display() as screen:
        bar = screen.bar("runs", 10)
        bar.update(5, text="vae")
        bar.update(None, text="evaluating nll")
        bar.close()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "runs: 5/10 (vae)\nruns: evaluating nll\n", "what counts no steps shows none"


def test_a_plain_line_says_how_long_the_rest_takes(capsys, monkeypatch):
    monkeypatch.setattr(console, "PLAIN_INTERVAL", 0.0)
    clock = iter([0.0, 100.0, 110.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with display() as screen:
        bar = screen.bar("runs", 100)
        bar.update(50)
        bar.update(60)
    assert capsys.readouterr().err == "runs: 50/100\nruns: 60/100, 40 s left\n"


def test_pace_tells_only_what_it_has_seen():
    pace = console.Pace()
    assert pace.left(500, 1000, 60.0) is None, "what a checkpoint brought was not seen"
    assert pace.left(501, 1000, 61.0) is None, "a second is too little"
    assert pace.left(510, 1000, 70.0) == pytest.approx(490.0)
    assert pace.left(510, None, 80.0) is None
    assert pace.left(0, 1000, 90.0) is None, "it begins again"
    assert pace.left(100, 1000, 100.0) == pytest.approx(90.0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h")]
)
def test_durations(seconds, text):
    assert console.duration(seconds) == text


def test_plain_lines_come_rarely(capsys):
    with display() as screen:
        bar = screen.bar("runs", 10)
        for i in range(10):
            bar.update(i)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_bars_are_drawn(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with display() as screen:
        bar = screen.bar("[red]my runs", 10)
        bar.update(5, text="100 samples/s")
    said = capsys.readouterr()
    assert said.out == ""
    assert "[red]my runs" in said.err, "a name is text, not markup"


@pytest.mark.parametrize("make", [console.out, console.err])
def test_consoles_write_where_they_should(make, capsys):
    make().print("word")
    said = capsys.readouterr()
    assert (said.out.strip(), said.err.strip()) == (("word", "") if make is console.out else ("", "word"))


class Broken(io.StringIO):
    """A stream on a full disk, or whose reader is gone."""

    def __init__(self, error):
        super().__init__()
        self._error = error

    def write(self, text):
        raise self._error

    def flush(self):
        raise self._error


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("error", [OSError(28, "full"), BrokenPipeError(), OSError(5, "hung up"), ValueError("closed")])
def test_what_cannot_be_said_ends_nothing(monkeypatch, error, terminal):
    stream = Broken(error)
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(console, "PLAIN_INTERVAL", 0.0)
    note("something")
    with display() as screen:
        bar = screen.bar("runs", 3)
        bar.update(1, 3, "x")
        bar.close()


def test_a_closed_stderr_ends_nothing(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    note("something")
    with display() as screen:
        screen.bar("runs", 3).update(1)


def test_a_note_is_bounded(capsys):
    note("x" * 10_000_000)
    assert len(capsys.readouterr().err) < 2100


def test_a_pipe_sees_that_a_silent_run_lives(monkeypatch, capsys):
    """An evaluation that says nothing for minutes: the last word is said again, with since when."""
    monkeypatch.setattr(console, "PLAIN_INTERVAL", 0.3)
    monkeypatch.setattr(console, "max", lambda *_: 0.05, raising=False)
    with console.display() as screen:
        bar = screen.bar("run-0")
        began, said = time.monotonic(), ""
        bar.update(None, text="evaluating nll (1 of 2)")
        while not said.endswith("\n") and time.monotonic() < began + PATIENCE:
            time.sleep(0.05)
            said += capsys.readouterr().err
        bar.close()
        said += capsys.readouterr().err
        since = range(int(time.monotonic() - began) + 2)  # it is rounded
        time.sleep(0.5)
    assert said
    assert set(said.splitlines()) <= {f"run-0: evaluating nll (1 of 2), for {seconds} s" for seconds in since}
    assert capsys.readouterr().err == "", "a closed bar says no more"
