"""Bytes by name, in each kind of store."""

from __future__ import annotations

import errno
import json
import os
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pytest
from latentbench.core.errors import UserError
from latentbench.scheduling.object_store import Store


def test_what_is_written_is_read_and_listed(store):
    assert store.read("runs/a/b.json") is None
    assert store.names("runs") == {}
    store.write("runs/a/b.json", b"one")
    store.write("runs/a/b.json", b"three")
    store.write("runs/c.json", b"")
    store.write("runs-else/d.json", b"x")
    assert store.read("runs/a/b.json") == b"three"
    assert store.names("runs") == {"a/b.json": 5, "c.json": 0}
    assert Store(store.url).names("runs/a") == {"b.json": 5}, "another process sees the same"
    store.remove("runs/a/b.json", "runs/never.json")
    assert store.names("runs") == {"c.json": 0}


def test_of_many_that_create_one_name_one_is_told_yes(store):
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda i: store.create("leases/x/1.json", f"{i}".encode()), range(8)))
    assert sum(told) == 1
    assert store.read("leases/x/1.json") == f"{told.index(True)}".encode()


def test_a_store_travels_and_knows_itself(store, tmp_path):
    mark = store.mark
    assert store.mark == Store(store.url).mark == mark
    pickle.loads(pickle.dumps(store)).must_be(mark)
    with pytest.raises(UserError, match="does not see the same store"):
        Store(tmp_path / "elsewhere").must_be(mark)


def test_a_folder_is_a_results_folder_and_keeps_no_empty_ones(tmp_path):
    store = Store(tmp_path)
    store.write("leases/x/run/1.json", b"x")
    assert (tmp_path / "leases/x/run/1.json").read_bytes() == b"x"
    assert store.folder == tmp_path
    store.remove("leases/x/run/1.json")
    assert not (tmp_path / "leases/x/run").exists()


def test_what_killed_processes_left_goes_below_one_name_only(tmp_path):
    store = Store(tmp_path)
    store.write("runs/x/a/checkpoint/1", b"whole")
    for run in "ab":
        (tmp_path / f"runs/x/{run}/checkpoint").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"runs/x/{run}/checkpoint/.2.0abc.part").write_bytes(b"ha")
    store.remove_unfinished("runs/x/a")
    left = {p.relative_to(tmp_path / "runs/x").as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {"a/checkpoint/1", "b/checkpoint/.2.0abc.part"}
    Store("memory://unfinished").remove_unfinished("runs")  # where names appear whole there is nothing to do


def test_what_cannot_be_opened_or_written_is_said_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr("latentbench.scheduling.object_store.PAUSE", 0.001)
    with pytest.raises(UserError, match="no store of this kind"):
        Store("nosuchthing://x")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written") as error:
        Store(tmp_path / "file").write("a/b", b"")
    assert str(tmp_path / "file") in str(error.value)


def test_a_passing_fault_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr("latentbench.scheduling.object_store.PAUSE", 0.001)
    store = Store(f"memory://{tmp_path.name}")
    store.write("a", b"x")
    faults = [ConnectionError("gone"), TimeoutError("slow")]
    whole = store._fs.cat_file

    def shaky(path):
        if faults:
            raise faults.pop()
        return whole(path)

    monkeypatch.setattr(store._fs, "cat_file", shaky)
    assert store.read("a") == b"x"
    assert faults == []


def test_what_is_no_file_or_too_large_is_not_read(tmp_path):
    store = Store(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with open(tmp_path / "holes", "wb") as file:
        file.truncate(12 << 30)
    for name, why in (("pipe", "not a regular file"), ("zero", "not a regular file"), ("holes", "larger than")):
        with pytest.raises(UserError, match=why):
            store.read(name)


def test_more_than_was_asked_for_is_not_read(store):
    store.write("a", b"12345")
    assert store.read("a", 5) == b"12345"
    with pytest.raises(UserError, match="larger than 4 bytes"):
        store.read("a", 4)


def _mark(url):
    return Store(url).mark


def test_users_that_come_at_once_agree_on_the_mark(tmp_path):
    with ProcessPoolExecutor(4, get_context("fork")) as pool:
        for i in range(20):
            (tmp_path / f"{i}").mkdir()
            assert len(set(pool.map(_mark, [str(tmp_path / f"{i}")] * 4))) == 1


def test_a_mark_that_was_cut_off_is_made_again(tmp_path):
    (tmp_path / "store.json").touch()
    store = Store(tmp_path)
    Store(tmp_path).must_be(store.mark)
    assert json.loads(store.mark)["store"]


@pytest.mark.parametrize("links", [True, False])
def test_a_name_appears_whole_or_not_at_all(tmp_path, monkeypatch, links):
    """Cut off before the end of the content, nothing is there; and what is there is never taken."""
    if not links:

        def link(*_):
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", link)
    store = Store(tmp_path)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("latentbench.scheduling.object_store.PAUSE", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="No space left"):
            store.create("a/b", b"content")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert store.create("a/b", b"content")
    assert not store.create("a/b", b"other")
    assert store.read("a/b") == b"content"
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["b"]
