"""Prepared data that travel through the store by content hash."""

from __future__ import annotations

import shutil

import pytest
from latentbench.core.errors import UserError
from latentbench.data.dataset import open_dataset
from latentbench.data.manifest import MANIFEST
from latentbench.scheduling.shared_data import have, share


@pytest.fixture
def other_machine(tmp_path, shared_data, monkeypatch):
    """A function that makes this process a machine with the registry, and no data."""

    def become():
        folder = tmp_path / "other"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(shared_data / "registry", folder / "registry")
        monkeypatch.setenv("LATENTBENCH_DATA", str(folder))
        monkeypatch.setattr("latentbench.data.prepare._chunks", lambda *_: pytest.fail("it was prepared anew"))
        return folder

    return become


def test_data_are_brought_checked_and_used(project, store, other_machine):
    there = open_dataset("line")
    rows = there.split("train")["x"].copy()
    share(store, "line")
    share(store, "line")
    folder = other_machine()
    have(store, "line", there.content_hash)
    assert (open_dataset("line").split("train")["x"] == rows).all()
    assert (folder / "prepared/line" / MANIFEST).is_file()
    have(store, "line", there.content_hash)


def test_damaged_data_are_refused(project, store, other_machine):
    there = open_dataset("line")
    share(store, "line")
    place = f"shared-data/{there.content_hash}"
    arrow = max(store.names(place), key=lambda n: store.names(place)[n])
    content = store.read(f"{place}/{arrow}") or b""
    for damaged in (content[:-1000] + bytes(1000), content[: len(content) // 2]):
        store.write(f"{place}/{arrow}", damaged)
        folder = other_machine()
        with pytest.raises(UserError, match="data in the store are refused"):
            have(store, "line", there.content_hash)
        assert not (folder / "prepared/line").exists()
        assert not [p for p in (folder / "prepared").glob("*") if p.is_dir()]


def test_other_content_than_the_senders_is_no_use(project, folder):
    with pytest.raises(UserError, match="other content"):
        have(folder, "line", "0" * 64)
