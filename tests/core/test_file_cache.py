"""What is kept between processes, and when it is forgotten."""

from __future__ import annotations

import os

import pytest
from latentbench.core import file_cache
from latentbench.core.file_cache import Memory, state_of, states_of


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(file_cache, "STILL", -1)  # a test cannot wait until a file has stood still
    path = tmp_path / "file.txt"
    path.write_text("one")
    return path


def kept(tmp_path, version: str = "1") -> Memory:
    return Memory(tmp_path / "cache/known.json", version)


def learn(tmp_path, file, value) -> None:
    known = kept(tmp_path)
    known.learn("file", state_of(file.stat()), value)
    known.save()


def test_what_was_learnt_is_recalled_by_another_process(tmp_path, file):
    learn(tmp_path, file, {"a": [1, None]})
    assert kept(tmp_path).recall("file", state_of(file.stat())) == {"a": [1, None]}
    assert kept(tmp_path).recall("other", state_of(file.stat())) is None


def test_an_edit_that_keeps_size_and_time_is_seen(tmp_path, file):
    learn(tmp_path, file, 1)
    before = file.stat()
    file.write_text("two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert kept(tmp_path).recall("file", state_of(file.stat())) is None


def test_another_version_knows_nothing(tmp_path, file):
    learn(tmp_path, file, 1)
    assert kept(tmp_path, "2").recall("file", state_of(file.stat())) is None


def test_a_file_that_changed_just_now_is_not_remembered(tmp_path, file, monkeypatch):
    monkeypatch.setattr(file_cache, "STILL", 2_000_000_000)
    learn(tmp_path, file, 1)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": "1"}', '{"version": "1", "known": 3}', "\x00", "[" * 10**6]
)
def test_a_damaged_memory_is_as_good_as_none(tmp_path, file, text):
    learn(tmp_path, file, 1)
    (tmp_path / "cache/known.json").write_text(text)
    assert kept(tmp_path).recall("file", state_of(file.stat())) is None
    learn(tmp_path, file, 2)
    assert kept(tmp_path).recall("file", state_of(file.stat())) == 2


@pytest.mark.parametrize("entry", ['"x"', "[]", "[1]", "null"])
def test_a_damaged_entry_too(tmp_path, file, entry):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/known.json").write_text(f'{{"version": "1", "known": {{"file": {entry}}}}}')
    assert kept(tmp_path).recall("file", state_of(file.stat())) is None


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path, file):
    (tmp_path / "cache").write_text("a file where the folder would be")
    learn(tmp_path, file, 1)
    assert kept(tmp_path).recall("file", state_of(file.stat())) is None


def test_states_of_files_below_folders(tmp_path, file):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/other.txt").write_text("")
    (tmp_path / "deep/code.py").write_text("")
    found = dict(states_of([tmp_path], ".txt"))
    assert found == {str(p): state_of(p.stat()) for p in (file, tmp_path / "deep/other.txt")}
