"""Folders of runs on other machines: each for itself, and none left over for long."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from latentbench.scheduling.scratch import PREFIX, scratch_folder

from tests.project import PATIENCE

HOLDER = """\
from latentbench.scheduling.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "weights").mkdir()
    (folder / "weights/part").write_text("half")
    print(folder, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def holder() -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_folder_goes_with_its_block(place):
    with suppress(RuntimeError), scratch_folder() as folder:
        assert folder.parent == place
        (folder / "some").write_text("thing")
        raise RuntimeError
    assert not list(place.iterdir())


@pytest.mark.slow
def test_what_a_killed_process_left_is_removed_and_a_living_ones_stays(place):
    killed, left = holder()
    living, used = holder()
    try:
        assert left.is_dir(), "its owner lives"
        killed.kill()
        killed.wait()
        assert (left / "weights/part").is_file()
        with scratch_folder() as own:
            assert not left.exists()
            assert {p.name for p in place.iterdir()} == {used.name, own.name}
            with scratch_folder() as other:
                assert {own, other, used} <= set(place.iterdir()), "one process may have several"
        living.communicate("\n", timeout=PATIENCE)
    finally:
        for process in (killed, living):
            process.kill()
            process.communicate()
    assert not list(place.iterdir())


def test_what_only_bears_the_name_stays(place):
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("dear")
    (place / f"{PREFIX}link").symlink_to(elsewhere)
    (place / f"{PREFIX}file").write_text("no folder")
    with scratch_folder():
        pass
    assert (elsewhere / "kept").is_file()
    assert (place / f"{PREFIX}link").is_symlink()
    assert (place / f"{PREFIX}file").is_file()


@pytest.mark.slow
def test_a_folder_for_good_is_gone_with_its_process_however_that_ends(tmp_path):
    """Ended by itself it removes the folder; killed, the next one does."""
    code = (
        "import os, signal, sys\n"
        "from latentbench.scheduling.scratch import scratch_for_good\n"
        "print(scratch_for_good(), flush=True)\n"
        "sys.argv[1] == 'kill' and os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    env = os.environ | {"TMPDIR": str(tmp_path)}
    for how in ("kill", "end"):
        said = subprocess.run([sys.executable, "-c", code, how], env=env, capture_output=True, text=True, check=False)
        assert said.stdout.startswith(str(tmp_path)), said.stderr
        assert len(list(tmp_path.iterdir())) == (1 if how == "kill" else 0)
