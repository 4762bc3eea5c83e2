"""What reaches a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.core import console
from benchmarks.core.console import display, note, printable


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
        bar.close()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("runs: 5/10 (vae), ")
    assert said.err.endswith(" s left\n")


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
