"""Data that change on disk under a run: no result mixes two contents, and no later run takes damaged data for whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from latentbench.data.dataset import open_dataset
from latentbench.data.manifest import prepared_dir
from latentbench.running.settings import Settings
from latentbench.running.watch import DataWatch
from latentbench.scheduling.task import perform


@pytest.fixture
def prepared(own_data, monkeypatch) -> Path:
    """Dataset `line`, prepared in a data folder of the test's own; its folder."""
    monkeypatch.setattr("latentbench.running.watch._sound", set())
    open_dataset("line")
    return prepared_dir() / "line"


def flip(folder: Path, split: str = "train") -> None:
    """Change one byte of a split's values in place: same size, another content."""
    (file,) = folder.glob(f"{split}/*.arrow")
    content = file.read_bytes()
    place = content.index(open_dataset("line").split(split)["x"][3].tobytes())
    with open(file, "r+b") as f:
        f.seek(place)
        f.write(bytes([content[place] ^ 0x40]))
    later = file.stat().st_mtime_ns + 10_000_000  # clocks of file systems are coarse
    os.utime(file, ns=(later, later))


def test_data_that_stay_are_hashed_once_in_a_process(prepared, monkeypatch):
    assert DataWatch(open_dataset("line")).fault() is None
    monkeypatch.setattr("latentbench.data.arrow.rehash", None)
    watch = DataWatch(open_dataset("line"))
    assert (watch.fault(), watch.fault()) == (None, None)


@pytest.mark.parametrize("split", ["train", "test"])
def test_other_bytes_under_old_times_are_found_before_anything_trains_on_them(project, prepared, split):
    """As after `cp -a` or `rsync -a` of a damaged copy, or where a bit has flipped on the medium."""
    (file,) = prepared.glob(f"{split}/*.arrow")
    before = file.stat()
    flip(prepared, split)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "not the values that were prepared" in DataWatch(open_dataset("line")).fault()
    seen = []
    spec = project.plan("cpu", methods=["wide"], seeds=[0])[0]
    record, _ = perform(spec, Settings(project.results), lambda what: seen.append(what.phase))
    assert record.status == "failed"
    assert f"split {split}" in record.error
    assert "training" not in seen


def test_a_changed_byte_is_found(prepared):
    watch = DataWatch(open_dataset("line"))
    assert watch.fault() is None
    flip(prepared)
    fault = watch.fault()
    assert fault.startswith("dataset line changed on disk: split train, column x: not the values that were prepared")
    assert "latentbench data fetch line --force" in fault
    assert DataWatch(open_dataset("line")).fault() == fault, "and found by whoever comes later"
    flip(prepared)
    assert watch.fault() is None, "it is as it was"


def test_a_copy_with_other_times_is_hashed_once(prepared, monkeypatch):
    for file in prepared.rglob("*.arrow"):
        os.utime(file)
    later = (prepared / "latentbench.json").stat().st_mtime_ns + 10**9
    for file in prepared.rglob("*.arrow"):
        os.utime(file, ns=(later, later))
    assert DataWatch(open_dataset("line")).fault() is None
    monkeypatch.setattr("latentbench.data.arrow.rehash", None)
    assert DataWatch(open_dataset("line")).fault() is None


@pytest.mark.parametrize("how", ["cut", "gone", "replaced"])
def test_other_ends_of_data(prepared, how):
    watch = DataWatch(open_dataset("line"))
    if how == "cut":
        os.truncate(next(prepared.glob("train/*.arrow")), 100)
    elif how == "gone":
        shutil.rmtree(prepared)
    else:
        manifest = prepared / "latentbench.json"
        hashed = open_dataset("line").content_hash
        manifest.write_text(manifest.read_text().replace(hashed, "0" * 64))
    assert "changed on disk" in watch.fault()


def test_a_run_under_which_data_change_gives_no_number(project, prepared):
    spec = project.plan("cpu", methods=["wide"], seeds=[0])[0]
    settings = Settings(project.results, checkpoint_seconds=0.0)
    changed = []

    def report(what) -> None:
        if what.phase == "evaluation" and not changed:
            changed.append(flip(prepared, "test"))

    record, _ = perform(spec, settings, report)
    assert changed
    assert record.status == "failed"
    assert "dataset line changed on disk: split test" in record.error
    assert all(m.value is None for m in record.metrics)
    assert not [*project.results.rglob("checkpoint")], "nothing is taken up from it"
    again, _ = perform(spec, settings)
    assert (again.status, again.error) == ("failed", record.error), "nor does another run take the data for whole"
    flip(prepared, "test")
    mended, cached = perform(spec, settings)
    assert (mended.status, cached) == ("finished", False)
    assert mended.provenance.faults == []
