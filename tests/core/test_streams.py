"""Standard streams: closed, of a narrow encoding, without a reader, on a full disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentbench.core import streams

from tests.project import PATIENCE

ENCODINGS = ("latin-1", "iso8859-15", "cp1252", "cp437", "koi8-r", "ascii", "utf-8")
streams.codecs.register_error(streams.PLAIN, streams._in_plain_characters)


@given(st.text(st.characters(exclude_categories=("Cs",))), st.sampled_from(ENCODINGS))
def test_every_text_can_be_written_in_every_encoding(text, encoding):
    written = text.encode(encoding, streams.PLAIN).decode(encoding)
    kept = [c for c in text if c.encode(encoding, "ignore")]
    assert all(c in written for c in kept)
    assert written == text or len(kept) < len(text)


def test_what_an_encoding_lacks_is_written_in_plain_characters():
    assert "Bińkowski ≈ 3 … 1 × ≥".encode("latin-1", streams.PLAIN).decode("latin-1") == "Binkowski ~ 3 ... 1 × >="
    assert "数".encode("cp1252", streams.PLAIN) == b"?"


def latentbench(*arguments: str, redirect: str = "", encoding: str | None = None) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, with a shell's redirections."""
    environment = {**os.environ, **({"PYTHONIOENCODING": encoding} if encoding else {})}
    line = f'exec "{sys.executable}" -m latentbench "$@" {redirect}'
    return subprocess.run(
        ["bash", "-c", line, "-", *arguments], capture_output=True, env=environment, timeout=PATIENCE, check=False
    )


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_commands_bear_narrow_terminals(encoding):
    for arguments in (("metric", "--list"), ("run", "--help"), ("show", "iwae")):
        done = latentbench(*arguments, encoding=encoding)
        assert (done.returncode, done.stderr) == (0, b""), arguments
        done.stdout.decode(encoding)


def test_json_means_the_same_in_every_encoding():
    narrow, wide = (
        json.loads(latentbench("list", "papers", "--format", "json", encoding=e).stdout.decode(e))
        for e in ("cp1252", "utf-8")
    )
    assert narrow == wide
    assert not str(wide).isascii(), "there is something to lose"


@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_fault(redirect):
    done = latentbench("list", "models", redirect=redirect)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_closed_streams_number_is_not_given_to_a_file(tmp_path):
    """What is opened next would be overwritten by what others print."""
    text = (
        "import os\nfrom latentbench.core.streams import steady\nsteady()\n"
        f"f = open({str(tmp_path / 'f')!r}, 'w')\nassert f.fileno() > 2\nprint('lost')\n"
        "os.system('echo lost')\nf.write('kept')\n"
    )
    subprocess.run(["bash", "-c", f'exec "{sys.executable}" -c "$0" >&- 2>&-', text], timeout=PATIENCE, check=True)
    assert (tmp_path / "f").read_text() == "kept"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_results_that_nobody_can_take_are_said_and_remarks_are_not():
    done = latentbench("list", "models", redirect="> /dev/full")
    assert done.returncode == 1, done.stderr
    assert done.stderr.decode().startswith("error: stdout: results cannot be written: No space left on device")
    assert done.stderr.count(b"\n") == 1
    assert latentbench("list", "nothing", redirect="2> /dev/full").returncode == 2


def test_a_reader_that_has_gone_is_no_fault():
    done = latentbench("list", "papers", "--format", "json", redirect="| head -1")
    assert done.stderr == b""
    gone = (
        "import os, subprocess, sys; r, w = os.pipe(); os.close(r); sys.exit(subprocess.call(sys.argv[1:], stderr=w))"
    )
    code = subprocess.run(
        [sys.executable, "-c", gone, sys.executable, "-m", "latentbench", "list", "nothing"],
        timeout=PATIENCE,
        check=False,
    ).returncode
    assert code == 2, "the remark is lost, its exit code is not"
