"""Preparation and reading back: exact, whole or not at all, and safe side by side."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.data import arrow
from latentbench.data.columns import Chunk, Ragged
from latentbench.data.dataset import open_dataset
from latentbench.data.manifest import content_hash_if_known, prepared_dir, read_manifest
from latentbench.data.prepare import prepare
from latentbench.data.progress import silent
from latentbench.data.registry import Column, Entry, load_entry

from tests.project import PATIENCE

from .tiny import entry, mnist_entry, mnist_files

DTYPES = ["uint8", "int16", "int32", "int64", "float32", "float64"]


def declared(columns, rows, name="tiny"):
    return Entry.model_validate(
        entry(name=name, files=[{"name": "a", "urls": ["http://127.0.0.1/a"]}])
        | {"splits": {"all": {"rows": rows}}, "columns": columns, "protocols": {}}
    )


@st.composite
def tables(draw):
    """Columns of random dtype and shape, declared and filled, fixed and ragged."""
    rows = draw(st.integers(0, 6))
    columns, content = {}, {}
    for k in range(draw(st.integers(1, 3))):
        shape = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
        dtype, ragged = draw(st.sampled_from(DTYPES)), draw(st.booleans())
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        columns[f"c{k}"] = {"shape": list(shape), "dtype": dtype, "ragged": ragged}
        lengths = [draw(st.integers(0, 4)) for _ in range(rows)] if ragged else [rows]
        parts = [(rng.standard_normal((n, *shape)) * 50).astype(dtype) for n in lengths]
        content[f"c{k}"] = Ragged.of(parts, dtype, shape) if ragged else parts[0]
    return columns, content, rows


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(table=tables(), cut=st.integers(0, 6))
def test_what_is_written_is_read(tmp_path_factory, table, cut):
    columns, content, rows = table
    made = declared(columns, rows)
    folder, other = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("chunked")
    manifest = arrow.write_splits(made, [Chunk("all", content)], folder)
    pieces = [Chunk("all", {n: c[part] for n, c in content.items()}) for part in (slice(0, cut), slice(cut, None))]
    assert arrow.write_splits(made, pieces, other)["content_hash"] == manifest["content_hash"]
    path = folder / manifest["splits"]["all"]["file"]
    found = arrow.read_split(path, made.columns_of("all"))
    for name, column in content.items():
        got = found[name]
        if isinstance(column, Ragged):
            assert (got.offsets == column.offsets).all()
            got, column = got.values, column.values
        assert got.dtype == column.dtype
        assert got.shape == column.shape
        assert got.tobytes() == np.ascontiguousarray(column).tobytes()
        assert not got.flags.writeable or got.size == 0
    assert arrow.rehash(path, made.columns_of("all")) == manifest["splits"]["all"]["hashes"]


def test_hash_tells_data_apart(tmp_path):
    x = np.arange(12, dtype=np.int32).reshape(4, 3)
    hashes = set()
    for k, (values, shape) in enumerate([(x, [3]), (x.reshape(4, 3, 1), [3, 1]), (x[::-1], [3]), (x + 1, [3])]):
        (tmp_path / str(k)).mkdir()
        made = declared({"x": {"shape": shape, "dtype": "int32"}}, 4)
        hashes.add(arrow.write_splits(made, [Chunk("all", {"x": values})], tmp_path / str(k))["content_hash"])
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.zeros((4, 2), np.uint8), "shape"),
        (np.zeros((4, 3), np.int64), "dtype"),
        (np.full((4, 3), 9, np.uint8), "0 .. 4"),
        (np.zeros((3, 3), np.uint8), "3 rows"),
        (Ragged.of([np.zeros(3, np.uint8)] * 4, np.uint8), "array"),
    ],
)
def test_data_other_than_declared(tmp_path, column, message):
    made = declared({"x": {"shape": [3], "dtype": "uint8", "levels": 5}}, 4)
    with pytest.raises(UserError, match=message):
        arrow.write_splits(made, [Chunk("all", {"x": column})], tmp_path)


def test_other_splits_and_columns_than_declared(tmp_path):
    made = declared({"x": {"dtype": "uint8"}}, 1)
    for name, chunk in (("a", Chunk("test", {"x": np.zeros(1, np.uint8)})), ("b", Chunk("all", {}))):
        (tmp_path / name).mkdir()
        with pytest.raises(UserError, match="declared"):
            arrow.write_splits(made, [chunk], tmp_path / name)


@pytest.fixture
def tiny(workplace):
    files, arrays = mnist_files()
    workplace.put(files)
    workplace.declare(mnist_entry(files))
    return arrays


def test_open_dataset(workplace, tiny):
    dataset = open_dataset("tiny", silent)
    train = dataset.split("train")
    assert (train["x"] == tiny["train-images-idx3-ubyte.gz"]).all()
    assert (dataset.split("test")["y"] == tiny["t10k-labels-idx1-ubyte.gz"]).all()
    assert train["x"].base is not None
    with pytest.raises(ValueError, match="read-only"):
        train["x"][0] = 0
    part = dataset.split("train[5:-5]")["x"]
    assert np.shares_memory(part, train["x"])
    assert (part == train["x"][5:-5]).all()
    both = dataset.split("train+test")
    assert (both["y"] == np.concatenate([train["y"], dataset.split("test")["y"]])).all()
    assert dataset.protocol("plain")["valid"] == "train[20:]"
    assert dataset.oracle is None
    assert dataset.column("y").levels == 10
    assert content_hash_if_known("tiny") == dataset.content_hash
    for wrong in ("tran", "train[40:]"):
        with pytest.raises(UserError):
            dataset.split(wrong)


def test_datasets_reads_the_same_folder(workplace, tiny):
    import datasets

    open_dataset("tiny", silent)
    loaded = datasets.load_from_disk(str(workplace.data / "prepared" / "tiny"))
    assert {k: len(v) for k, v in loaded.items()} == {"train": 30, "test": 10}
    row = loaded["train"].with_format("numpy")[7]
    assert (row["x"].reshape(28, 28) == tiny["train-images-idx3-ubyte.gz"][7]).all()


def test_prepared_once(workplace, tiny):
    calls = []
    open_dataset("tiny", lambda *a: calls.append(a))
    assert calls
    calls.clear()
    open_dataset("tiny", lambda *a: calls.append(a))
    assert not calls
    manifest = (workplace.data / "prepared" / "tiny" / "latentbench.json").read_bytes()
    arrow_file = workplace.data / "prepared" / "tiny" / "train" / "data-00000-of-00001.arrow"
    content = arrow_file.read_bytes()
    prepare(load_entry("tiny"), silent, force=True)
    assert (workplace.data / "prepared" / "tiny" / "latentbench.json").read_bytes() == manifest
    assert arrow_file.read_bytes() == content, "preparing again must give DVC the same bytes"


def test_prepared_data_outlive_their_sources(workplace, tiny, monkeypatch):
    open_dataset("tiny", silent)
    monkeypatch.delenv("LATENTBENCH_MIRROR")
    assert len(open_dataset("tiny", silent).split("test")["y"]) == 10


def test_open_arrays_survive_a_new_preparation(workplace, tiny):
    x = open_dataset("tiny", silent).split("train")["x"]
    before = x.copy()
    prepare(load_entry("tiny"), silent, force=True)
    assert (x == before).all()


@pytest.mark.parametrize("damage", ["cut", "gone", "manifest", "garbled manifest"])
def test_damaged_folder_is_made_anew(workplace, tiny, damage):
    open_dataset("tiny", silent)
    folder = workplace.data / "prepared" / "tiny"
    file = folder / "train" / "data-00000-of-00001.arrow"
    if damage == "cut":
        os.truncate(file, file.stat().st_size // 2)
    elif damage == "gone":
        file.unlink()
    elif damage == "manifest":
        (folder / "latentbench.json").unlink()
    else:
        (folder / "latentbench.json").write_text("[1]")
    assert read_manifest(load_entry("tiny")) is None
    assert (open_dataset("tiny", silent).split("train")["x"] == tiny["train-images-idx3-ubyte.gz"]).all()


def test_damage_inside_is_told(workplace, tiny):
    dataset = open_dataset("tiny", silent)
    file = workplace.data / "prepared" / "tiny" / "train" / "data-00000-of-00001.arrow"
    raw = bytearray(file.read_bytes())
    raw[:400] = bytes(400)
    file.write_bytes(raw)
    with pytest.raises(UserError, match="damaged"):
        dataset.split("train")


def test_truncated_source_leaves_nothing(workplace):
    files, _ = mnist_files()
    name = "train-images-idx3-ubyte.gz"
    files[name] = files[name][:-100]
    workplace.put(files)
    workplace.declare(mnist_entry(files))
    with pytest.raises(UserError, match="truncated"):
        open_dataset("tiny", silent)
    assert workplace.prepared == []


def test_wrong_content_hash_leaves_nothing(workplace):
    files, _ = mnist_files()
    workplace.put(files)
    workplace.declare(mnist_entry(files, content_hash="0" * 64))
    with pytest.raises(UserError, match="content hash"):
        open_dataset("tiny", silent)
    assert workplace.prepared == []


def test_full_disk_leaves_nothing(workplace, tiny, monkeypatch):
    def full(self, values):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(arrow._Flat, "append", full)
    with pytest.raises(UserError, match="disk is full"):
        open_dataset("tiny", silent)
    assert workplace.prepared == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_disk_that_fills_while_arrow_is_written(workplace, tiny, monkeypatch):
    import datasets.arrow_writer

    real = datasets.arrow_writer.ArrowWriter

    def onto_full_device(path, **kwargs):
        return real(path="/dev/full", **kwargs)

    monkeypatch.setattr(datasets.arrow_writer, "ArrowWriter", onto_full_device)
    with pytest.raises(UserError, match="disk is full"):
        open_dataset("tiny", silent)
    assert workplace.prepared == []


def test_what_a_killed_process_left_is_swept(workplace, tiny):
    stale = prepared_dir() / ".tiny.tmp-abc"
    stale.mkdir(parents=True)
    (stale / "half").write_text("x")
    open_dataset("tiny", silent)
    assert workplace.prepared == ["tiny"]


@pytest.mark.slow
def test_two_processes_at_once(workplace, tiny):
    code = (
        "import sys; from latentbench.data.dataset import open_dataset;"
        "d = open_dataset('tiny'); print(d.content_hash, int(d.split('train')['x'].sum()))"
    )
    root = Path(__file__).resolve().parents[2]
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root
        )
        for _ in range(3)
    ]
    results = [job.communicate(timeout=PATIENCE) for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0, 0], results
    assert len({out for out, _ in results}) == 1
    assert sum("preparing" in err for _, err in results) == 1, "one prepares, the others find the work done"
    assert workplace.prepared == ["tiny"]


def test_version_makes_anew(workplace, tiny):
    open_dataset("tiny", silent)
    files, _ = mnist_files()
    workplace.declare(mnist_entry(files, version=2))
    assert read_manifest(load_entry("tiny")) is None
    assert json.loads((workplace.data / "prepared" / "tiny" / "latentbench.json").read_text())["name"] == "tiny"
    open_dataset("tiny", silent)
    assert read_manifest(load_entry("tiny")) is not None


def test_rendered_data_are_never_stored(registry):
    dataset = open_dataset("sprites2d", silent)
    part = dataset.split("train[100:110]")
    assert part["x"].shape == (10, 64, 64)
    assert (part["factors"][:] == dataset.split("train")["factors"][100:110]).all()
    assert (part["x"][3] == dataset.split("train")["x"][103]).all()
    assert dataset.content_hash == content_hash_if_known("sprites2d")
    assert not (registry / "prepared").exists()
    with pytest.raises(UserError, match="rendered"):
        prepare(load_entry("sprites2d"))


def test_generated_data_are_the_same_each_time_and_differ_by_split(registry):
    first = open_dataset("two-moons", silent)
    x = first.split("train")["x"].copy()
    prepare(load_entry("two-moons"), silent, force=True)
    again = open_dataset("two-moons", silent)
    assert again.content_hash == first.content_hash
    assert (again.split("train")["x"] == x).all()
    assert (again.split("test")["x"] != x[:10000]).any()


@pytest.mark.parametrize("kind", ["generated", "rendered", "real"])
def test_params_that_a_function_does_not_take(workplace, kind):
    """The entry is at fault, not a file and not the code."""
    files, _ = mnist_files()
    workplace.put(files)
    content = mnist_entry(files)
    if kind == "real":
        content["forms"][0]["params"] = {"noize": 1}
    else:
        content |= {"kind": kind, "forms": [], "generate": "latentbench.data.generated.planar:two_moons"}
        content |= {"params": {"scale": 1.0, "noize": 1}}
    workplace.declare(content)
    with pytest.raises(UserError, match="mend `params`"):
        open_dataset("tiny", silent).split("train")
    assert workplace.prepared == []


def test_listed_rows(registry, mirror):
    dataset = open_dataset("uci-yacht", silent)
    fold = {role: dataset.split(e)["y"][:, 0] for role, e in dataset.protocol("fold-7").items()}
    whole = dataset.split("all")["y"][:, 0]
    assert sorted(np.concatenate(list(fold.values()))) == sorted(whole)
    with pytest.raises(UserError, match="row numbers"):
        dataset.split("all@folds.valid.0")


def test_column_size():
    assert Column(dtype="uint8", shape=(2, 3)).size == 6
    assert Column(dtype="uint8").size == 1
