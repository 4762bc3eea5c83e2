"""Where files come from: mirror, cache, hub, official address; verified, resumed, and told clearly when none works."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.data import download as dl
from latentbench.data import sources
from latentbench.data.dataset import open_dataset
from latentbench.data.download import SourceError, download
from latentbench.data.progress import silent
from latentbench.data.registry import File, Form, load_entry

from .tiny import mnist_entry, mnist_files, sha

DEAD = "http://127.0.0.1:9"  # the discard port: nothing listens there


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(dl.time, "sleep", lambda _: None)


def sources_of(found):
    return {path.parent.name for path in found.files.values()}


def test_order_mirror_cache_address(workplace, served):
    files, arrays = mnist_files()
    workplace.declare(mnist_entry(files, urls=served.url))
    workplace.put(files)
    assert sources_of(sources.obtain(load_entry("tiny"))) == {"tiny"}
    assert not served.requests
    shutil.rmtree(workplace.mirror / "tiny")
    found = sources.obtain(load_entry("tiny"))
    assert all(path.is_relative_to(workplace.data / "cache") for path in found.files.values())
    assert len(served.requests) == 4
    sources.obtain(load_entry("tiny"))
    assert len(served.requests) == 4, "what is cached is not fetched again"
    assert (open_dataset("tiny", silent).split("train")["x"] == arrays["train-images-idx3-ubyte.gz"]).all()


def test_a_mirror_serves_any_entry_also_where_none_is_named(workplace, served):
    """Under the dataset's name, as the cache has it; and the error says where that would be."""
    files, arrays = mnist_files()
    workplace.declare(mnist_entry(files, mirror=None, urls=DEAD))
    with pytest.raises(UserError, match=r"the mirror has no tiny/t10k-images"):
        sources.obtain(load_entry("tiny"))
    workplace.put(files)
    found = sources.obtain(load_entry("tiny"))
    assert all(path.is_relative_to(workplace.mirror / "tiny") for path in found.files.values())
    assert (open_dataset("tiny", silent).split("train")["x"] == arrays["train-images-idx3-ubyte.gz"]).all()
    assert not served.requests


def test_bad_mirror_file_is_not_used(workplace, served):
    files, _ = mnist_files()
    workplace.declare(mnist_entry(files, urls=served.url))
    workplace.put(files | {"train-images-idx3-ubyte.gz": b"other"})
    open_dataset("tiny", silent)
    assert [name for name, _ in served.requests] == ["train-images-idx3-ubyte.gz"]


def test_wrong_hash_everywhere(workplace, served):
    files, _ = mnist_files()
    name = "train-images-idx3-ubyte.gz"
    workplace.declare(mnist_entry(files, urls=served.url))
    workplace.put(files | {name: b"other"})
    served.files[name] = b"something else"
    with pytest.raises(UserError, match="wrong hash") as caught:
        open_dataset("tiny", silent)
    assert sha(b"other")[:16] in str(caught.value)
    assert sha(b"something else")[:16] in str(caught.value)
    assert workplace.prepared == []
    assert not (workplace.data / "cache" / "tiny" / name).exists()


def test_corrupted_cache_is_fetched_again(workplace, served):
    files, _ = mnist_files()
    workplace.declare(mnist_entry(files, mirror=None, urls=served.url))
    sources.obtain(load_entry("tiny"))
    (workplace.data / "cache" / "tiny" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"rot")
    sources.obtain(load_entry("tiny"))
    assert [name for name, _ in served.requests[4:]] == ["t10k-labels-idx1-ubyte.gz"]


def test_unpublished_hash_is_recorded_and_kept(workplace, served):
    files, _ = mnist_files()
    name = "t10k-labels-idx1-ubyte.gz"
    workplace.declare(mnist_entry(files, mirror=None, urls=served.url, hashed=False))
    sources.obtain(load_entry("tiny"))
    record = workplace.data / "cache" / "tiny" / f"{name}.sha256"
    assert record.read_text().split()[0] == sha(files[name])
    (workplace.data / "cache" / "tiny" / name).unlink()
    served.files[name] = mnist_files(seed=1)[0][name]
    with pytest.raises(UserError, match="wrong hash"):
        sources.obtain(load_entry("tiny"))


def test_mirror_file_without_any_known_hash_is_refused(workplace):
    files, _ = mnist_files()
    workplace.declare(mnist_entry(files, hashed=False))
    workplace.put(files)
    with pytest.raises(UserError, match="no hash is known"):
        sources.obtain(load_entry("tiny"))


def test_no_network_and_no_mirror(workplace, monkeypatch):
    files, _ = mnist_files()
    workplace.declare(mnist_entry(files, urls=DEAD))
    monkeypatch.delenv("LATENTBENCH_MIRROR")
    with pytest.raises(UserError) as caught:
        open_dataset("tiny", silent)
    text = str(caught.value)
    assert "LATENTBENCH_MIRROR" in text
    assert DEAD in text
    assert "\n" not in text
    assert workplace.prepared == []


def test_missing_at_the_address(workplace, served):
    files, _ = mnist_files()
    workplace.declare(mnist_entry(files, mirror=None, urls=served.url + "/gone"))
    with pytest.raises(UserError, match="404"):
        sources.obtain(load_entry("tiny"))


def test_second_form(workplace, served, monkeypatch):
    """Where the first form is not to be had, the second is, and the data are the same."""
    monkeypatch.setenv("LATENTBENCH_TRUST", "1")
    files, arrays = mnist_files()
    content = mnist_entry(files)
    plain = {f"plain/{name}": raw for name, raw in files.items()}
    served.files |= plain
    second = mnist_entry(files, mirror=None, urls=served.url + "/plain")["forms"][0]
    for file in second["files"]:
        file["name"] = "b/" + file["name"]
    second["loader"] = "tests.data.test_sources:load_second"
    workplace.declare(content | {"forms": [content["forms"][0], second]})
    assert (open_dataset("tiny", silent).split("train")["x"] == arrays["train-images-idx3-ubyte.gz"]).all()


def load_second(files):
    from latentbench.data.loaders.idx import load

    return load({name.removeprefix("b/"): path for name, path in files.items()})


def test_hub(workplace, tmp_path, monkeypatch):
    """A hub repository is read through `datasets`; a local folder in its layout stands in for it."""
    import pandas as pd

    files, arrays = mnist_files()
    workplace.put(files)
    workplace.declare(mnist_entry(files))
    known = open_dataset("tiny", silent).content_hash
    shutil.rmtree(workplace.data / "prepared")
    shutil.rmtree(workplace.mirror / "tiny")
    repository = tmp_path / "hub"
    repository.mkdir()
    for split, prefix in (("train", "train"), ("test", "t10k")):
        frame = pd.DataFrame(
            {
                "image": [a.astype(np.uint8).ravel() for a in arrays[f"{prefix}-images-idx3-ubyte.gz"]],
                "label": arrays[f"{prefix}-labels-idx1-ubyte.gz"],
            }
        )
        frame.to_parquet(repository / f"{split}.parquet")
    hub = {
        "id": str(repository),
        "revision": "main",
        "columns": {"x": "image", "y": "label"},
        "splits": {"train": "train", "test": "test"},
    }
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    workplace.declare(mnist_entry(files, hub=hub, content_hash=known))
    dataset = open_dataset("tiny", silent)
    assert dataset.content_hash == known
    assert (dataset.split("test")["x"] == arrays["t10k-images-idx3-ubyte.gz"]).all()
    shutil.rmtree(workplace.data / "prepared")
    workplace.declare(mnist_entry(files, hub=hub | {"id": str(tmp_path / "gone")}, content_hash=known))
    with pytest.raises(UserError, match="Hugging Face hub"):
        open_dataset("tiny", silent)


def test_hub_out_of_reach_is_told_at_once(workplace, monkeypatch):
    files, _ = mnist_files()
    hub = {"id": "x/y", "revision": "main", "columns": {"x": "a", "y": "b"}, "splits": {"train": "train"}}
    workplace.declare(mnist_entry(files, hub=hub, content_hash="0" * 64))
    monkeypatch.setenv("HF_ENDPOINT", DEAD)
    with pytest.raises(UserError, match="Hugging Face hub") as caught:
        open_dataset("tiny", silent)
    assert "refused" in str(caught.value)


def test_hub_images(workplace, tmp_path):
    """Pictures come back as the arrays they were made of."""
    import datasets
    from PIL import Image

    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, 28, 28)).astype(np.uint8)
    table = datasets.Dataset.from_dict(
        {"image": [Image.fromarray(p) for p in pictures], "label": [1, 2, 3]},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")}),
    )
    files, _ = mnist_files(3, 3)
    content = mnist_entry(files, rows=(3, 3))
    hub = {
        "id": "x/y",
        "revision": "main",
        "columns": {"x": "image", "y": "label"},
        "splits": {"train": "a", "test": "b"},
    }
    workplace.declare(content | {"hub": hub, "content_hash": "0" * 64})
    made = load_entry("tiny")
    chunks = list(sources.HubData(made.hub, {"a": table, "b": table}).chunks(made))
    assert (chunks[0].columns["x"] == pictures).all()
    assert chunks[0].columns["x"].dtype == np.uint8
    with pytest.raises(UserError, match="split"):
        list(sources.HubData(made.hub, {"a": table}).chunks(made))


class TestDownload:
    raw = np.random.default_rng(0).bytes(3_000_000)

    def test_whole(self, served, tmp_path):
        served.files["f"] = self.raw
        seen = []
        download(f"{served.url}/f", tmp_path / "f", lambda what, done, total: seen.append((done, total)))
        assert (tmp_path / "f").read_bytes() == self.raw
        assert seen[0] == (0, 3_000_000)
        assert seen[-1] == (3_000_000, 3_000_000)
        assert list(tmp_path.iterdir()) == [tmp_path / "f"]

    def test_broken_connection_is_retried_from_where_it_broke(self, served, tmp_path):
        served.files["f"], served.cut, served.broken = self.raw, 1_100_000, 2
        download(f"{served.url}/f", tmp_path / "f")
        assert (tmp_path / "f").read_bytes() == self.raw
        assert [asked for _, asked in served.requests] == [None, "bytes=1100000-", "bytes=2200000-"]

    def test_later_call_resumes(self, served, tmp_path):
        served.files["f"], served.cut, served.broken = self.raw, 100_000, 3
        with pytest.raises(SourceError, match="300000 bytes are kept"):
            download(f"{served.url}/f", tmp_path / "f")
        assert not (tmp_path / "f").exists()
        download(f"{served.url}/f", tmp_path / "f")
        assert (tmp_path / "f").read_bytes() == self.raw
        assert served.requests[-1] == ("f", "bytes=300000-")

    def test_file_that_changed_meanwhile_is_fetched_whole(self, served, tmp_path):
        served.files["f"], served.cut, served.broken = self.raw, 100_000, 3
        with pytest.raises(SourceError):
            download(f"{served.url}/f", tmp_path / "f")
        served.files["f"] = other = self.raw[::-1]
        download(f"{served.url}/f", tmp_path / "f")
        assert (tmp_path / "f").read_bytes() == other

    def test_server_without_ranges(self, served, tmp_path):
        served.files["f"], served.cut, served.broken, served.ranges = self.raw, 100_000, 2, False
        download(f"{served.url}/f", tmp_path / "f")
        assert (tmp_path / "f").read_bytes() == self.raw

    def test_part_of_another_address_is_not_continued(self, served, tmp_path):
        served.files["f"], served.cut, served.broken = self.raw, 100_000, 3
        served.files["g"] = other = self.raw[::-1]
        with pytest.raises(SourceError):
            download(f"{served.url}/f", tmp_path / "f")
        download(f"{served.url}/g", tmp_path / "f")
        assert (tmp_path / "f").read_bytes() == other

    @pytest.mark.parametrize("says_length", [True, False])
    @pytest.mark.parametrize(("size", "most"), [(None, 1_500_000), (1_500_000, 9_000_000)])
    def test_more_than_there_may_be_is_given_up(self, served, tmp_path, monkeypatch, says_length, size, most):
        """As many as the entry says; where it says nothing, as many as any download may have."""
        monkeypatch.setattr(dl, "DOWNLOAD_BYTES", most)
        served.files["f"], served.says_length = self.raw, says_length
        seen = []
        with pytest.raises(SourceError, match="more than 1500000 bytes"):
            download(f"{served.url}/f", tmp_path / "f", lambda what, done, total: seen.append(done), size=size)
        assert max(seen, default=0) < 3_000_000
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("size", [None, 3_000_000])
    def test_of_a_length_that_the_server_does_not_say(self, served, tmp_path, size):
        served.files["f"], served.says_length = self.raw, False
        download(f"{served.url}/f", tmp_path / "f", size=size)
        assert (tmp_path / "f").read_bytes() == self.raw

    def test_nobody_there(self, tmp_path):
        with pytest.raises(SourceError, match=r"127\.0\.0\.1:9"):
            download(f"{DEAD}/f", tmp_path / "f")
        assert list(tmp_path.iterdir()) == []

    def test_other_protocols_are_refused(self, tmp_path):
        (tmp_path / "secret").write_text("x")
        with pytest.raises(SourceError, match="http"):
            download(f"file://{tmp_path}/secret", tmp_path / "f")

    def test_disk_too_small_is_told_before_fetching(self, served, tmp_path, monkeypatch):
        served.files["f"] = self.raw
        monkeypatch.setattr(dl.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
        with pytest.raises(UserError, match="disk is full"):
            download(f"{served.url}/f", tmp_path / "f")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_disk_that_fills_on_the_way(self, served, tmp_path):
        served.files["f"] = self.raw
        (tmp_path / "f.part").symlink_to("/dev/full")
        with pytest.raises(UserError, match="disk is full"):
            download(f"{served.url}/f", tmp_path / "f")
        assert list(tmp_path.iterdir()) == []

    def test_other_errors_of_the_disk_pass(self, served, tmp_path, monkeypatch):
        def denied(*args):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

        served.files["f"] = self.raw
        monkeypatch.setattr(dl, "_copy", denied)
        with pytest.raises(PermissionError):
            download(f"{served.url}/f", tmp_path / "f")


def test_a_pickle_is_taken_by_its_hash_alone(tmp_path, monkeypatch):
    """Where its entry gives none, neither cache nor address are asked, unless the user trusts the source."""
    monkeypatch.setenv("LATENTBENCH_DATA", str(tmp_path))
    file = File(name="a.pkl", urls=(f"{DEAD}/a.pkl",))
    digits = load_entry("digits").model_dump() | {"kind": "real", "hub": None}
    pickled, other = (
        load_entry("digits").model_copy(update=digits | {"forms": (Form(loader=loader, files=(file,)),)})
        for loader in ("frey-pickle", "frey-matlab")
    )
    path = sources.cached(pickled, file)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    path.with_name("a.pkl.sha256").write_text(hashlib.sha256(b"x").hexdigest())
    with pytest.raises(UserError, match="pickle whose sha256"):
        sources.obtain(pickled)
    assert sources.obtain(other).files == {"a.pkl": path}
    monkeypatch.setenv("LATENTBENCH_TRUST", "1")
    assert sources.obtain(pickled).files == {"a.pkl": path}
