"""Descriptions and the functions behind ``latentbench data``."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.data import api
from latentbench.data.dataset import open_dataset
from latentbench.data.describe import contact_sheet, describe
from latentbench.data.progress import silent
from PIL import Image

from .tiny import idx, mnist_entry, mnist_files


@pytest.fixture
def tiny(workplace):
    """30 training and 10 test images of which some repeat: 3 within train, 2 in both."""
    import gzip

    files, arrays = mnist_files()
    train, test = arrays["train-images-idx3-ubyte.gz"], arrays["t10k-images-idx3-ubyte.gz"]
    train[10], train[11], train[12] = train[0], train[0], train[1]
    test[3], test[4] = train[20], train[0]
    for name in ("train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"):
        files[name] = gzip.compress(idx(arrays[name]), mtime=0)
    workplace.put(files)
    workplace.declare(mnist_entry(files))
    return arrays


def test_counts_ranges_duplicates_overlap(workplace, tiny):
    found = describe(open_dataset("tiny", silent))
    train = found.splits["train"]
    assert (train.rows, train.examined, train.duplicates) == (30, 30, 3)
    assert found.splits["test"].duplicates == 0
    assert found.overlap == {("train", "test"): 2, ("test", "train"): 4}
    x = tiny["train-images-idx3-ubyte.gz"]
    facts = train.columns["x"]
    assert (facts.low, facts.high) == (x.min(), x.max())
    assert facts.mean == pytest.approx(x.mean())
    assert facts.shape == (28, 28)
    assert train.columns["y"].high == tiny["train-labels-idx1-ubyte.gz"].max()


def test_contact_sheet(workplace, tiny, tmp_path):
    dataset = open_dataset("tiny", silent)
    path = contact_sheet(dataset, tmp_path / "new" / "sheet.png", across=6, down=5)
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape == (5 * 29 - 1, 6 * 29 - 1)
    x = tiny["train-images-idx3-ubyte.gz"]
    assert (pixels[:28, :28] == x[0]).all()
    assert (pixels[29:57, 29:57] == x[7]).all()
    assert (pixels[28] == 128).all()
    assert describe(dataset, tmp_path / "other.png").sheet == tmp_path / "other.png"


def test_sheets_of_colour_bits_and_rendered_images(registry, tmp_path):
    for name, shape in (("rooms3d", (64, 64, 3)), ("sprites2d", (64, 64)), ("digits", (8, 8))):
        dataset = open_dataset(name, silent)
        with Image.open(contact_sheet(dataset, tmp_path / f"{name}.png", across=2, down=2)) as sheet:
            pixels = np.asarray(sheet)
        assert pixels.shape == (shape[0] * 2 + 1, shape[1] * 2 + 1, *shape[2:])
        assert pixels.max() >= 250, "the highest level is white"


def test_no_sheet_of_other_data(registry, tmp_path):
    dataset = open_dataset("two-moons", silent)
    assert describe(dataset, tmp_path / "sheet.png").sheet is None
    assert list(tmp_path.glob("*.png")) == []
    with pytest.raises(UserError, match="images"):
        contact_sheet(dataset, tmp_path / "sheet.png")


def test_sheet_that_cannot_be_written(workplace, tiny, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="contact sheet"):
        contact_sheet(open_dataset("tiny", silent), tmp_path / "file" / "sheet.png")


def test_ragged_and_rendered(registry):
    found = describe(open_dataset("block-graphs", silent))
    facts = found.splits["train"].columns["edges"]
    lengths = open_dataset("block-graphs", silent).split("train")["edges"].lengths
    assert facts.lengths == (lengths.min(), lengths.max())
    assert facts.high == 59
    found = describe(open_dataset("sprites2d", silent))
    assert found.splits["train"].rows == 737_280
    assert found.splits["train"].examined == 20_000
    assert found.splits["train"].columns["factors"].high == 39


class TestApi:
    def test_status_follows_what_is_there(self, workplace, tiny, monkeypatch):
        assert api.status("tiny").have == "local"
        monkeypatch.delenv("LATENTBENCH_MIRROR")
        assert api.status("tiny").have == "missing"
        files, _ = mnist_files()
        workplace.declare(mnist_entry(files, urls="http://127.0.0.1:9"))
        assert api.status("tiny").have == "remote"
        workplace.declare(mnist_entry(files))
        monkeypatch.setenv("LATENTBENCH_MIRROR", str(workplace.mirror))
        workplace.put(files)
        done = api.fetch("tiny")
        assert done.have == "prepared"
        assert done.bytes > 40 * 784
        assert done.rows == {"train": 30, "test": 10}
        assert [s.entry.name for s in api.list_datasets()] == ["tiny"]
        assert api.list_datasets()[0].content_hash == done.content_hash

    def test_ready_without_network(self, registry, monkeypatch):
        monkeypatch.delenv("LATENTBENCH_MIRROR", raising=False)
        assert api.status("digits").have == "ready"
        assert api.status("two-moons").have == "ready"
        assert api.status("sprites2d").have == "ready"
        assert api.status("cifar10").have == "remote"
        assert api.status("uci-boston").have == "missing"
        assert api.fetch("sprites2d").have == "ready"

    def test_verify(self, workplace, served):
        files, _ = mnist_files()
        workplace.declare(mnist_entry(files, urls=served.url))
        assert api.verify("tiny") == []
        api.fetch("tiny")
        checks = api.verify("tiny")
        assert all(check.ok for check in checks)
        assert {c.what for c in checks} >= {"cache t10k-labels-idx1-ubyte.gz", "prepared train.x", "prepared test.y"}
        (workplace.data / "cache" / "tiny" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"rot")
        arrow = workplace.data / "prepared" / "tiny" / "train" / "data-00000-of-00001.arrow"
        raw = bytearray(arrow.read_bytes())
        raw[len(raw) // 2] ^= 1
        arrow.write_bytes(raw)
        wrong = {c.what for c in api.verify("tiny") if c.ok is False}
        assert wrong == {"cache t10k-labels-idx1-ubyte.gz", "prepared train.x"}
        os.truncate(arrow, 100)
        assert any(c.what == "prepared" and c.ok is False for c in api.verify("tiny"))

    def test_verify_says_where_no_hash_is_known(self, workplace):
        files, _ = mnist_files()
        workplace.declare(mnist_entry(files, hashed=False))
        workplace.put(files)
        assert {c.ok for c in api.verify("tiny")} == {None}

    def test_fetch_again_with_force(self, workplace, tiny):
        first = api.fetch("tiny")
        (workplace.mirror / "tiny" / "t10k-labels-idx1-ubyte.gz").unlink()
        assert api.fetch("tiny").content_hash == first.content_hash
        with pytest.raises(UserError):
            api.fetch("tiny", force=True)
        assert api.status("tiny").have == "prepared", "a failed preparation leaves the old one in place"
        shutil.rmtree(workplace.data / "prepared")
        assert api.status("tiny").have == "missing"
