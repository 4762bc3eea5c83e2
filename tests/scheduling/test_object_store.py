"""Bytes by name, in each kind of store."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

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
