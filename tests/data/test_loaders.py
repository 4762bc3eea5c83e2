"""Each loader on a tiny file in the official format that the test makes itself."""

from __future__ import annotations

import fractions
import gzip
import io
import json
import lzma
import math
import pickle
import sys
import tarfile
import types
import wave
import zipfile

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp
from latentbench.core.errors import UserError
from latentbench.data.columns import Ragged, concatenate
from latentbench.data.loaders import binary, factors, graphs, idx, images, maf, pooled, puzzles, sequences, tables, text
from PIL import Image

rng = np.random.default_rng(0)


def collect(chunks):
    """Chunks put together: split -> column -> array or Ragged."""
    parts = {}
    for chunk in chunks:
        for name, column in chunk.columns.items():
            parts.setdefault(chunk.split, {}).setdefault(name, []).append(column)
    return {s: {n: concatenate(p) for n, p in columns.items()} for s, columns in parts.items()}


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def tar(path, content, mode="w:gz"):
    with tarfile.open(path, mode) as file:
        for name, raw in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            file.addfile(info, io.BytesIO(raw))
    return path


def zipped(path, content):
    with zipfile.ZipFile(path, "w") as file:
        for name, raw in content.items():
            file.writestr(name, raw)
    return path


def npy_bytes(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


class TestIdx:
    def test_damage(self, tmp_path):
        from .tiny import idx as make

        whole = make(np.arange(24).reshape(2, 3, 4))
        path = tmp_path / "f"
        path.write_bytes(whole)
        assert (idx.read_idx(path) == np.arange(24).reshape(2, 3, 4)).all()
        for raw in (whole[:-1], whole + b"x", whole[:3], b"\x00\x00\x0d\x01" + whole[4:], b""):
            path.write_bytes(raw)
            with pytest.raises(UserError, match="f: "):
                idx.read_idx(path)


class TestPooled:
    @pytest.mark.parametrize(("by", "shape"), [(1, (2, 3, 5)), (2, (3, 4, 6)), (3, (2, 6, 9))])
    def test_means_of_blocks(self, by, shape):
        images = rng.integers(0, 256, shape).astype(np.uint8)
        got = pooled.pool(images, by)
        assert got.dtype == np.uint8
        for n, i, j in np.ndindex(*got.shape):
            block = images[n, by * i : by * i + by, by * j : by * j + by].astype(int).ravel().tolist()
            assert got[n, i, j] == math.floor(fractions.Fraction(sum(block), by * by) + fractions.Fraction(1, 2))
        assert got.shape == (shape[0], shape[1] // by, shape[2] // by)

    def test_white_stays_white(self):
        assert (pooled.pool(np.full((1, 4, 4), 255, np.uint8), 2) == 255).all()

    @pytest.mark.parametrize("by", [0, 3, 5])
    def test_blocks_that_do_not_fill(self, by):
        with pytest.raises(UserError, match="do not fill images of 4 x 6"):
            pooled.pool(np.zeros((1, 4, 6), np.uint8), by)

    def test_splits_and_labels(self, tmp_path):
        from .tiny import mnist_files

        contents, arrays = mnist_files()
        files = {name: tmp_path / name for name in contents}
        for name, path in files.items():
            path.write_bytes(contents[name])
        train, test = pooled.load_pooled(files, by=7)
        assert (train.split, test.split) == ("train", "test")
        assert train.columns["x"].shape == (30, 4, 4)
        assert (test.columns["x"] == pooled.pool(arrays["t10k-images-idx3-ubyte.gz"].astype(np.uint8), 7)).all()
        assert (test.columns["y"] == arrays["t10k-labels-idx1-ubyte.gz"]).all()


class TestCifar:
    def batches(self, n=20):
        out = {}
        for k, name in enumerate([f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]):
            x = rng.integers(0, 256, (n, 32, 32, 3)).astype(np.uint8)
            out[name] = (x, [(k + i) % 10 for i in range(n)])
        return out

    @pytest.mark.parametrize("keys", [str, str.encode])
    def test_official_archive(self, tmp_path, keys):
        batches = self.batches()
        content = {"cifar-10-batches-py/readme.html": b"hello"}
        for name in reversed(batches):  # the archive has its own order
            x, y = batches[name]
            batch = {keys("data"): x.transpose(0, 3, 1, 2).reshape(len(x), -1), keys("labels"): y}
            if keys is str.encode:
                batch = {k.decode(): v for k, v in batch.items()} | {b"batch_label": b"training batch"}
            content[f"cifar-10-batches-py/{name}"] = pickle.dumps(batch, 2)
        path = tar(tmp_path / "cifar-10-python.tar.gz", content)
        found = collect(images.load_cifar10({"cifar-10-python.tar.gz": path}))
        train = [batches[f"data_batch_{k}"] for k in range(1, 6)]
        assert (found["train"]["x"] == np.concatenate([x for x, _ in train])).all()
        assert found["train"]["y"].tolist() == [label for _, y in train for label in y]
        assert (found["test"]["x"] == batches["test_batch"][0]).all()

    def test_missing_batch(self, tmp_path):
        path = tar(tmp_path / "f.tar.gz", {"cifar-10-batches-py/readme.html": b"hello"})
        with pytest.raises(UserError, match="data_batch_1"):
            collect(images.load_cifar10({"cifar-10-python.tar.gz": path}))

    def test_hostile_batch(self, tmp_path):
        path = tar(tmp_path / "f.tar.gz", {"cifar-10-batches-py/data_batch_1": pickle.dumps(print)})
        with pytest.raises(UserError, match="refused to unpickle"):
            collect(images.load_cifar10({"cifar-10-python.tar.gz": path}))

    def test_sheets_with_peoples_choices(self, tmp_path):
        """Two rows of a hundred tiles a sheet; the test sheet has more tiles than labels, and more people's rows."""
        sheets = rng.integers(0, 256, (6, 64, 3200, 3)).astype(np.uint8)
        files = {}
        for pixels, name in zip(sheets, [*(f"train_batch_{k}" for k in range(1, 6)), "test_first1000"]):
            files[f"{name}.webp"] = tmp_path / f"{name}.webp"
            Image.fromarray(pixels).save(files[f"{name}.webp"], "WEBP", lossless=True)
        labels = {"train_labels.npy": np.arange(50_000) % 9, "test_first1000_labels.npy": np.arange(150) % 10}
        for name, y in labels.items():
            files[name] = tmp_path / name
            np.save(files[name], y.astype(np.uint8))
        counts = rng.integers(0, 50, (400, 10)).astype(np.uint8)
        files["counts.npz"] = tmp_path / "counts.npz"
        np.savez(files["counts.npz"], counts=counts)
        found = collect(images.load_cifar10h_sheets(files))
        assert set(found["train"]) == {"x", "y"}
        assert (found["train"]["x"][203] == sheets[1, :32, 96:128]).all()
        assert found["train"]["y"][203] == 10_003 % 9
        assert (found["test"]["x"][101] == sheets[5, 32:, 32:64]).all()
        assert (len(found["test"]["x"]), found["test"]["y"][101]) == (150, 1)
        assert (found["test"]["counts"] == counts[:150]).all()


def test_svhn(tmp_path):
    content = {}
    for part, n in (("train", 5), ("test", 3)):
        x = rng.integers(0, 256, (n, 32, 32, 3)).astype(np.uint8)
        y = np.array([10, 1, 9, 10, 5][:n], np.uint8)
        scipy.io.savemat(
            tmp_path / f"{part}_32x32.mat", {"X": x.transpose(1, 2, 3, 0), "y": y[:, None]}, do_compression=True
        )
        content[part] = x
    found = collect(images.load_svhn({f"{p}_32x32.mat": tmp_path / f"{p}_32x32.mat" for p in content}))
    assert (found["train"]["x"] == content["train"]).all()
    assert (found["test"]["x"] == content["test"]).all()
    assert found["train"]["y"].tolist() == [0, 1, 9, 0, 5]


def test_celeba(tmp_path):
    names = [f"{k:06d}.jpg" for k in range(1, 5)]
    jpegs = {}
    for k, name in enumerate(names):
        pixels = np.full((218, 178, 3), 40 * k, np.uint8)
        pixels[:, :15] = 255  # outside the crop
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "JPEG", quality=95)
        jpegs[f"img_align_celeba/{name}"] = out.getvalue()
    files = {"img_align_celeba.zip": zipped(tmp_path / "z", jpegs)}
    marks = rng.choice([-1, 1], (4, 40))
    lines = ["4", " ".join(f"A{k}" for k in range(40))] + [
        f"{n}  " + " ".join(map(str, m)) for n, m in zip(names, marks)
    ]
    for name, content in (
        ("list_attr_celeba.txt", "\n".join(lines)),
        ("list_eval_partition.txt", "\n".join(f"{n} {s}" for n, s in zip(names, "0012"))),
    ):
        (tmp_path / name).write_text(content + "\n")
        files[name] = tmp_path / name
    found = collect(images.load_celeba(files, crop=148, side=64))
    assert {s: len(c["x"]) for s, c in found.items()} == {"train": 2, "valid": 1, "test": 1}
    assert found["train"]["x"].shape == (2, 64, 64, 3)
    assert abs(found["valid"]["x"].astype(int) - 80).max() <= 3
    assert (found["test"]["attributes"][0] == (marks[3] > 0)).all()


def test_imagenet(tmp_path):
    x = rng.integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    path = tar(tmp_path / "f.tar", {f"train_32x32/{k:07d}.png": png(p) for k, p in enumerate(x)}, "w:")
    found = collect(images.load_imagenet({"train_32x32.tar": path, "valid_32x32.tar": path}))
    assert (found["train"]["x"] == x).all()
    assert (found["valid"]["x"] == x).all()
    with pytest.raises(UserError, match="truncated or damaged image"):
        collect(images.load_imagenet({"train_32x32.tar": tar(path, {"a.png": png(x[0])[:50]}, "w:")}))


class TestOmniglot:
    def test_chardata(self, tmp_path):
        images28 = {"data": rng.random((7, 28, 28)), "testdata": rng.random((3, 28, 28))}
        content = {k: v.transpose(0, 2, 1).reshape(len(v), -1).T for k, v in images28.items()}
        scipy.io.savemat(tmp_path / "chardata.mat", content | {"target": np.zeros((50, 7))})
        found = collect(binary.load_chardata({"chardata.mat": tmp_path / "chardata.mat"}, shuffle_seed=123))
        order = np.random.RandomState(123).permutation(7)
        assert (found["train"]["x"] == images28["data"][order].astype(np.float32)).all()
        assert (found["test"]["x"] == images28["testdata"].astype(np.float32)).all()

    def test_missing_variable_and_damage(self, tmp_path):
        path = tmp_path / "chardata.mat"
        scipy.io.savemat(path, {"data": np.zeros((784, 2))})
        with pytest.raises(UserError, match="testdata"):
            collect(binary.load_chardata({"chardata.mat": path}, shuffle_seed=123))
        path.write_bytes(path.read_bytes()[:3000])
        with pytest.raises(UserError, match="MATLAB"):
            collect(binary.load_chardata({"chardata.mat": path}, shuffle_seed=123))

    def drawings(self, tmp_path):
        """The same drawings as official zips and as the packed numpy file."""
        ink = rng.random((6, 105, 105)) < 0.1
        where = [(0, "Korean", 2, 5, 1), (0, "Korean", 2, 5, 2), (0, "Latin", 1, 7, 1)]
        where += [(1, "Angelic", 1, 3, 1), (1, "Avesta", 4, 4, 1), (1, "Avesta", 4, 4, 2)]
        zips = [{}, {}]
        for image, (part, alphabet, k, character, drawer) in zip(ink, where):
            folder = ("images_background", "images_evaluation")[part]
            with io.BytesIO() as out:
                Image.fromarray(~image).convert("1").save(out, "PNG")
                zips[part][f"{folder}/{alphabet}/character{k:02d}/{character:04d}_{drawer:02d}.png"] = out.getvalue()
        official = {f"images_{s}.zip": zipped(tmp_path / s, z) for s, z in zip(("background", "evaluation"), zips)}
        index = np.array(
            [(0, 0, 2, 5, 1), (0, 0, 2, 5, 2), (0, 1, 1, 7, 1), (1, 2, 1, 3, 1), (1, 3, 4, 4, 1), (1, 3, 4, 4, 2)],
            [("set", "u1"), ("alphabet", "u1"), ("character", "u1"), ("character_id", "u2"), ("drawer", "u1")],
        )
        packed = {"omniglot_105x105_packed.npy.xz": tmp_path / "p.npy.xz", "omniglot_index.npy": tmp_path / "i.npy"}
        packed["omniglot_105x105_packed.npy.xz"].write_bytes(lzma.compress(npy_bytes(np.packbits(ink, axis=2))))
        packed["omniglot_index.npy"].write_bytes(npy_bytes(index))
        return ink, official, packed

    def test_both_forms_agree(self, tmp_path):
        ink, official, packed = self.drawings(tmp_path)
        for load in (
            binary.load_omniglot,
            lambda files: binary.load_omniglot28(files, {"train": 4, "test": 2}, split_seed=0),
        ):
            a, b = collect(load(official)), collect(load(packed))
            for split, columns in a.items():
                for name, column in columns.items():
                    assert (column == b[split][name]).all()
                    assert column.dtype == b[split][name].dtype
        whole = collect(binary.load_omniglot(packed))
        assert (np.concatenate([whole["background"]["x"], whole["evaluation"]["x"]]) == ink).all()
        assert whole["evaluation"]["y"].tolist() == [2, 3, 3]
        assert whole["evaluation"]["alphabet"].tolist() == [2, 3, 3]

    def test_shrink(self):
        ink = rng.random((3, 105, 105)) < 0.3
        small = binary.shrink(ink.astype(np.uint8), 28)
        fine = np.repeat(np.repeat(ink, 4, axis=1), 4, axis=2)  # 420 = 28 * 15: exact areas by counting
        exact = fine.reshape(3, 28, 15, 28, 15).mean((2, 4)) * 255
        assert abs(small - exact).max() <= 0.5 + 1e-6
        assert (binary.shrink(np.ones((1, 105, 105), np.uint8), 28) == 255).all()


class TestSilhouettes:
    x = (rng.random((9, 28, 28)) < 0.5).astype(np.uint8)
    flat = x.transpose(0, 2, 1).reshape(9, 784)

    def test_official_split(self, tmp_path):
        parts = {"train": slice(0, 4), "val": slice(4, 6), "test": slice(6, 9)}
        content = {f"{p}_data": self.flat[s] for p, s in parts.items()}
        content |= {f"{p}_labels": np.arange(1, 10)[s, None].astype(np.uint8) for p, s in parts.items()}
        path = tmp_path / "f.mat"
        scipy.io.savemat(path, content)
        found = collect(binary.load_silhouettes_split({"caltech101_silhouettes_28_split1.mat": path}))
        assert (found["valid"]["x"] == self.x[4:6]).all()
        assert found["test"]["y"].tolist() == [6, 7, 8]

    def test_own_split(self, tmp_path):
        path = tmp_path / "f.mat"
        scipy.io.savemat(path, {"X": self.flat.astype(bool), "Y": np.arange(1, 10)[None].astype(float)})
        found = collect(binary.load_silhouettes({"caltech101_silhouettes_28.mat": path}, {"a": 6, "b": 3}, 0))
        for columns in found.values():
            assert (columns["x"] == self.x[columns["y"]]).all()
        scipy.io.savemat(path, {"X": self.flat * 2, "Y": np.arange(1, 10)[None].astype(float)})
        with pytest.raises(UserError, match="0 and 1"):
            collect(binary.load_silhouettes({"caltech101_silhouettes_28.mat": path}, {"a": 6, "b": 3}, 0))


def test_static_mnist(tmp_path):
    x = {s: (rng.random((n, 28, 28)) < 0.3).astype(np.uint8) for s, n in (("train", 5003), ("valid", 2), ("test", 1))}
    files = {}
    for split, bits in x.items():
        path = files[f"binarized_mnist_{split}.amat"] = tmp_path / split
        path.write_text("".join(" ".join(map(str, row)) + " \n" for row in bits.reshape(len(bits), -1)))
    found = collect(binary.load_amat(files))
    assert all((found[s]["x"] == x[s]).all() for s in x)
    path.write_text(path.read_text()[:-3])
    with pytest.raises(UserError, match="784"):
        collect(binary.load_amat(files))


def test_frey_forms_agree(tmp_path):
    frames = rng.integers(0, 256, (12, 28, 20)).astype(np.uint8)
    np.savez(tmp_path / "f.npz", images=frames)
    scipy.io.savemat(tmp_path / "f.mat", {"ff": frames.reshape(12, 560).T})
    scaled = frames.reshape(12, 560) / 255
    (tmp_path / "f.pkl").write_bytes(pickle.dumps(scaled.astype(np.float32), 2))
    split = {"sizes": {"train": 8, "valid": 2, "test": 2}, "split_seed": 0}
    found = [
        collect(binary.load_frey({"freyfaces.npz": tmp_path / "f.npz"}, **split)),
        collect(binary.load_frey_matlab({"frey_rawface.mat": tmp_path / "f.mat"}, **split)),
        collect(binary.load_frey_pickle({"freyfaces.pkl": tmp_path / "f.pkl"}, **split)),
    ]
    for one in found:
        for columns in one.values():
            assert (columns["x"] == frames[columns["frame"]]).all()
            assert columns["x"].dtype == np.uint8
    (tmp_path / "f.pkl").write_bytes(pickle.dumps(print))
    with pytest.raises(UserError, match="refused"):
        collect(binary.load_frey_pickle({"freyfaces.pkl": tmp_path / "f.pkl"}, **split))


class TestFactors:
    def test_dsprites(self, tmp_path):
        path = tmp_path / "f.hdf5"
        x = (rng.random((6, 64, 64)) < 0.5).astype(np.uint8)
        classes = np.stack(np.unravel_index(np.arange(6), (1, 3, 1, 1, 1, 2)), 1)
        with h5py.File(path, "w") as file:
            file["imgs"], file["latents/classes"] = x, classes
        found = collect(factors.load_dsprites({"f": path}))["train"]
        assert (found["x"] == x).all()
        assert (found["factors"] == classes[:, 1:]).all()
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(UserError, match="HDF5"):
            collect(factors.load_dsprites({"f": path}))

    def test_shapes3d(self, tmp_path):
        path, x = tmp_path / "f.h5", rng.integers(0, 256, (6, 64, 64, 3)).astype(np.uint8)
        with h5py.File(path, "w") as file:
            file["images"] = x
        found = collect(factors.load_shapes3d({"f": path}, sizes=[3, 2]))["train"]
        assert (found["x"] == x).all()
        assert found["factors"].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]]
        with pytest.raises(UserError, match="grid"):
            collect(factors.load_shapes3d({"f": path}, sizes=[3, 3]))
        with pytest.raises(UserError, match="imgs"):
            collect(factors.load_dsprites({"f": path}))

    def test_mpi3d(self, tmp_path):
        x = rng.integers(0, 256, (2, 3, 64, 64, 3)).astype(np.uint8)
        np.savez_compressed(tmp_path / "f.npz", images=x)
        found = collect(factors.load_mpi3d({"f": tmp_path / "f.npz"}, sizes=[2, 3]))["train"]
        assert (found["x"] == x.reshape(-1, 64, 64, 3)).all()
        assert found["factors"][-1].tolist() == [1, 2]

    def test_smallnorb(self, tmp_path):
        def matrix(values, magic):
            shape = list(values.shape) + [1] * (3 - values.ndim)
            head = np.array([magic, values.ndim, *shape], "<i4").tobytes()
            return gzip.compress(head + values.tobytes())

        files, content = {}, {}
        for part, stem in (
            ("train", "smallnorb-5x46789x9x18x6x2x96x96-training"),
            ("test", "smallnorb-5x01235x9x18x6x2x96x96-testing"),
        ):
            pairs = rng.integers(0, 256, (4, 2, 96, 96)).astype(np.uint8)
            category = rng.integers(0, 5, 4).astype("<i4")
            info = np.stack([rng.integers(0, n, 4) for n in (10, 9, 18, 6)], 1).astype("<i4")
            content[part] = pairs, category, info
            stored = info.copy()
            stored[:, 2] *= 2
            for kind, values, magic in (
                ("dat", pairs, 0x1E3D4C55),
                ("cat", category, 0x1E3D4C54),
                ("info", stored, 0x1E3D4C54),
            ):
                name = f"{stem}-{kind}.mat.gz"
                files[name] = tmp_path / name
                files[name].write_bytes(matrix(values, magic))
        found = collect(factors.load_smallnorb(files))
        for part, (pairs, category, info) in content.items():
            assert (found[part]["x"] == pairs.transpose(0, 2, 3, 1)).all()
            assert (found[part]["factors"] == np.column_stack([category, info])).all()
        for damaged in (b"", b"\x00" * 40, gzip.decompress(files[name].read_bytes())[:-1]):
            files[name].write_bytes(gzip.compress(damaged))
            with pytest.raises(UserError):
                factors.read_norb(files[name])

    def test_cars3d(self, tmp_path):
        x = rng.integers(0, 256, (2, 4, 24, 64, 64, 3)).astype(np.uint8)  # car, elevation, azimuth
        files = {}
        for car in range(2):
            name = f"cars_{car:02d}.webp"
            files[name] = tmp_path / name
            Image.fromarray(x[car].transpose(0, 2, 1, 3, 4).reshape(256, 24 * 64, 3)).save(files[name], lossless=True)
        found = collect(factors.load_cars3d(files))["train"]
        for image, (elevation, azimuth, car) in zip(found["x"], found["factors"]):
            assert (image == x[car, elevation, azimuth]).all()
        small = collect(pooled.load_pooled_cars(files, by=16))["train"]
        assert (small["factors"] == found["factors"]).all()
        means = found["x"].reshape(-1, 4, 16, 4, 16, 3).astype(int).sum((2, 4)) / 256
        assert small["x"].shape == (192, 4, 4, 3)
        assert (small["x"] == np.floor(means + 0.5)).all()


class TestTables:
    def test_debd(self, tmp_path):
        path = tmp_path / "f"
        path.write_bytes(gzip.compress(b"0,1,1\n1,0,0\n"))
        path = path.rename(tmp_path / "f.gz")
        assert collect(tables.load_debd({"s.train.data.gz": path}))["train"]["x"].tolist() == [[0, 1, 1], [1, 0, 0]]
        for raw in (b"0,1\n1\n", b"0,2\n", b""):
            path.write_bytes(gzip.compress(raw))
            with pytest.raises(UserError):
                collect(tables.load_debd({"s.train.data.gz": path}))

    def test_movielens_forms_agree(self, tmp_path):
        content = {
            "u.data": "1\t2\t5\t874965758\n3\t1\t1\t874965759\n",
            "u1.base": "1\t2\t5\t874965758\n",
            "u1.test": "3\t1\t1\t874965759\n",
            "u.item": "1|Café (1994)|01-Jan-1994||http://x|" + "|".join("0" * 18 + "1") + "\n",
            "u.user": "1|24|M|writer|85711\n2|53|F|other|94043\n",
        }
        raw = {name: value.encode("latin-1") for name, value in content.items()}
        plain = {}
        for name, value in raw.items():
            plain[f"{name}.gz"] = tmp_path / f"{name}.gz"
            plain[f"{name}.gz"].write_bytes(gzip.compress(value))
        archive = zipped(tmp_path / "ml.zip", {f"ml-100k/{n}": v for n, v in raw.items()})
        for files in (plain, {"ml-100k.zip": archive}):
            found = collect(tables.load_movielens(files))
            assert found["all"]["x"].tolist() == [[0, 1], [2, 0]]
            assert found["u1_test"]["rating"].tolist() == [1]
            assert found["items"]["title"].texts() == ["Café (1994)"]
            assert found["items"]["genres"].sum() == 1
            assert found["users"]["female"].tolist() == [0, 1]

    def test_ett(self, tmp_path):
        path = tmp_path / "f.csv"
        path.write_text("date,HUFL,HULL,MUFL,MULL,LUFL,LULL,OT\n1970-01-02 01:00:00,1,2,3,4,5,6,7.5\n")
        found = collect(tables.load_ett({"f": path}))["all"]
        assert found["x"].tolist() == [[1, 2, 3, 4, 5, 6, 7.5]]
        assert found["time"].tolist() == [90000]


class TestText:
    def test_words_number_across_splits(self, tmp_path):
        files = {}
        for split, content in (("train", "the cat\nsat\n"), ("valid", "the dog\n"), ("test", "\n")):
            files[f"ptb.{split}.txt"] = tmp_path / split
            files[f"ptb.{split}.txt"].write_text(content)
        found = collect(text.load_lines(files, end=True))
        words = found["vocabulary"]["text"].texts()
        assert words == ["the", "cat", "<eos>", "sat", "dog"]
        assert [r.tolist() for r in found["train"]["x"]] == [[0, 1, 2], [3, 2]]
        assert [r.tolist() for r in found["valid"]["x"]] == [[0, 4, 2]]
        members = {s: f"./simple/ptb.{s}.txt" for s in ("train", "valid", "test")}
        path = tar(tmp_path / "f.tgz", {m: files[f"ptb.{s}.txt"].read_bytes() for s, m in members.items()})
        named = {s: m.removeprefix("./") for s, m in members.items()}
        again = collect(text.load_lines({"f": path}, end=True, members=named))
        assert again["vocabulary"]["text"].texts() == words
        assert (again["train"]["x"].values == found["train"]["x"].values).all()
        with pytest.raises(UserError, match="no other"):
            collect(text.load_lines({"f": path}, end=True, members={"train": "other"}))

    def test_characters(self, tmp_path):
        (tmp_path / "f.txt").write_text("ba\nab")
        found = collect(text.load_characters({"f": tmp_path / "f.txt"}))
        assert found["all"]["x"].tolist() == [2, 1, 0, 1, 2]
        assert found["vocabulary"]["text"].texts() == ["\n", "a", "b"]
        path = zipped(tmp_path / "text8.zip", {"text8": b" the cat"})
        letters = " abcdefghijklmnopqrstuvwxyz"
        found = collect(text.load_characters({"f": path}, alphabet=letters))
        assert "".join(letters[k] for k in found["all"]["x"]) == " the cat"
        for raw, message in (
            ({"text8": b"The"}, "alphabet"),
            ({"a": b"", "b": b""}, "2 files"),
            ({"a": b"\xff"}, "ASCII"),
        ):
            with pytest.raises(UserError, match=message):
                collect(text.load_characters({"f": zipped(tmp_path / "g.zip", raw)}, alphabet=letters))


class TestSequences:
    def test_music(self, tmp_path):
        pieces = [(rng.random((n, 88)) < 0.1).astype(float) for n in (3, 5)]
        cell = np.empty((1, 2), object)
        cell[0, 0], cell[0, 1] = pieces
        scipy.io.savemat(tmp_path / "f.mat", {f"{s}data": cell for s in ("train", "valid", "test")})
        found = collect(sequences.load_music({"f": tmp_path / "f.mat"}))["valid"]["x"]
        assert all((a == b).all() for a, b in zip(found, pieces))
        assert found.dtype == np.uint8

    def test_spoken_digits(self, tmp_path):
        names = ["0_amy_0", "0_amy_10", "0_bob_2", "7_amy_5"]
        sounds = [rng.integers(-9000, 9000, 10 + k).astype(np.int16) for k in range(4)]
        content = {}
        for name, samples in zip(names, sounds):
            out = io.BytesIO()
            with wave.open(out, "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(8000)
                file.writeframes(samples.astype("<i2").tobytes())
            content[f"repo-123/recordings/{name}.wav"] = out.getvalue()
        np.savez(
            tmp_path / "i.npz",
            offsets=np.cumsum([0, *map(len, sounds)]),
            digit=np.array([0, 0, 0, 7], np.uint8),
            speaker=np.array([0, 0, 1, 0], np.uint8),
            index=np.array([0, 10, 2, 5], np.uint8),
        )
        (tmp_path / "s.npy.xz").write_bytes(lzma.compress(npy_bytes(np.concatenate(sounds))))
        packed = {"fsdd_index.npz": tmp_path / "i.npz", "fsdd_samples.npy.xz": tmp_path / "s.npy.xz"}
        archived = {"f.zip": zipped(tmp_path / "f.zip", content)}
        for files in (packed, archived):
            found = collect(sequences.load_spoken_digits(files))
            assert (found["train"]["x"][1] == sounds[3]).all()
            assert (found["test"]["x"][1] == sounds[2]).all()
            assert found["test"]["speaker"].tolist() == [0, 1]
            assert found["train"]["y"].tolist() == [0, 7]
            assert found["train"]["take"].tolist() == [10, 5]


class TestGraphs:
    def test_planetoid_pickles(self, tmp_path):
        """Six nodes of the test part, of which one is missing from the file, as in Citeseer."""
        x = np.round(rng.random((600, 4)) * (rng.random((600, 4)) < 0.5), 3).astype(np.float32)
        y = rng.integers(0, 3, 600)
        one_hot = np.eye(3, dtype=np.int32)[y]
        test = np.array([599, 595, 597, 594, 598])  # 596 is missing
        graph = {0: [1, 1, 0], 1: [0, 599], 599: [1], 596: []}
        content = {
            "x": sp.csr_matrix(x[:20]),
            "y": one_hot[:20],
            "allx": sp.csr_matrix(x[:594]),
            "ally": one_hot[:594],
            "tx": sp.csr_matrix(x[test]),
            "ty": one_hot[test],
            "graph": graph,
        }
        files = {}
        for part, value in content.items():
            files[f"ind.tiny.{part}"] = tmp_path / part
            files[f"ind.tiny.{part}"].write_bytes(pickle.dumps(value, 2))
        files["ind.tiny.test.index"] = tmp_path / "index"
        files["ind.tiny.test.index"].write_text("".join(f"{k}\n" for k in test))
        found = collect(graphs.load_planetoid_pickles(files))
        x[596], y[596] = 0, -1
        assert (found["nodes"]["x"] == x).all()
        assert (found["nodes"]["y"] == y).all()
        assert found["edges"]["edge"].tolist() == [[0, 1], [1, 599]]
        assert found["folds"]["train"][0].tolist() == list(range(20))
        assert found["folds"]["valid"][0].tolist() == list(range(20, 520))
        assert found["folds"]["test"][0].tolist() == sorted(test)
        # the same data as a numpy archive
        sparse = sp.csr_matrix(x)
        np.savez(
            tmp_path / "f.npz", edges=np.array([[0, 1], [1, 599]], np.int32), labels=y.astype(np.int16),
            train_index=np.arange(20), test_index=test, x_data=sparse.data, x_indices=sparse.indices,
            x_indptr=sparse.indptr, x_shape=np.array(sparse.shape),
        )  # fmt: skip
        again = collect(graphs.load_planetoid({"f": tmp_path / "f.npz"}))
        for split, columns in found.items():
            for name, column in columns.items():
                other = again[split][name]
                if isinstance(column, Ragged):
                    column, other = column.values, other.values
                assert (column == other).all()
                assert column.dtype == other.dtype
        files["ind.tiny.allx"].write_bytes(pickle.dumps(eval))
        with pytest.raises(UserError, match="refused"):
            collect(graphs.load_planetoid_pickles(files))

    def test_tu(self, tmp_path):
        content = {
            "A": "1, 2\n2, 1\n3, 4\n4, 3\n4, 5\n5, 4\n",
            "graph_indicator": "1\n1\n2\n2\n2\n",
            "graph_labels": "-1\n1\n",
            "node_labels": "7\n9\n7\n7\n8\n",
        }
        files = {}
        for kind, value in content.items():
            files[f"TINY_set_{kind}.txt"] = tmp_path / f"{kind}.txt"
            files[f"TINY_set_{kind}.txt"].write_text(value)
        found = collect(graphs.load_tu(files))["all"]
        assert [g.tolist() for g in found["edges"]] == [[[0, 1]], [[0, 1], [1, 2]]]
        assert [n.tolist() for n in found["node_labels"]] == [[0, 2], [0, 0, 1]]
        assert found["y"].tolist() == [0, 1]
        files["TINY_set_A.txt"].write_text("2, 3\n")
        with pytest.raises(UserError, match="two graphs"):
            collect(graphs.load_tu(files))

    def test_blogcatalog(self, tmp_path):
        network = sp.csc_matrix(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]]))
        scipy.io.savemat(tmp_path / "f.mat", {"network": network, "group": sp.csc_matrix(np.eye(3, 2))})
        found = collect(graphs.load_blogcatalog({"blogcatalog.mat": tmp_path / "f.mat"}))
        assert found["edges"]["edge"].tolist() == [[0, 1], [1, 2]]
        assert found["nodes"]["y"].tolist() == [[1, 0], [0, 1], [0, 0]]


def test_arc_forms_agree(tmp_path):
    pair = {"input": [[1, 2, 3], [4, 5, 6]], "output": [[0]]}
    content = {
        s: {"b": {"train": [pair, pair], "test": [pair]}, "a": {"train": [pair], "test": []}}
        for s in ("training", "evaluation")
    }
    (tmp_path / "f.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))
    members = {f"ARC-123/data/{s}/{t}.json": json.dumps(v) for s, tasks in content.items() for t, v in tasks.items()}
    path = zipped(tmp_path / "f.zip", members | {"ARC-123/apps/x.json": "not json"[:0] or "{}"})
    for files in ({"f": tmp_path / "f.json.gz"}, {"f": path}):
        found = collect(puzzles.load_arc(files))
        assert found["training_tasks"]["name"].texts() == ["a", "b"]
        training = found["training"]
        assert training["task"].tolist() == [0, 1, 1, 1]
        assert training["test"].tolist() == [0, 0, 0, 1]
        assert training["input"][0].reshape(training["input_shape"][0]).tolist() == pair["input"]
        assert training["output_shape"][0].tolist() == [1, 1]


class TestMaf:
    """The published preparation, step by step, on tiny files of their archive."""

    def archive(self, tmp_path, **content):
        return {"data.tar.gz": tar(tmp_path / "data.tar.gz", {f"data/{n}": raw for n, raw in content.items()})}

    @staticmethod
    def cut(data):
        n = int(0.1 * len(data))
        return data[:-n], data[-n:]

    def check(self, found, train, valid, test):
        for split, rows in (("train", train), ("valid", valid), ("test", test)):
            np.testing.assert_allclose(found[split]["x"], rows, rtol=2e-5, atol=2e-5)
            assert found[split]["x"].dtype == np.float32

    def test_miniboone(self, tmp_path):
        data = rng.standard_normal((203, 5)) * 3 + 1
        found = collect(maf.load_miniboone(self.archive(tmp_path, **{"miniboone/data.npy": npy_bytes(data)})))
        rest, _ = self.cut(data)
        scaled = (data - rest.mean(0)) / rest.std(0)
        train, valid = self.cut(scaled[: len(rest)])
        self.check(found, train, valid, scaled[len(rest) :])

    def test_power(self, tmp_path):
        data = rng.standard_normal((120, 8))
        found = collect(maf.load_power(self.archive(tmp_path, **{"power/data.npy": npy_bytes(data)})))
        theirs = np.random.RandomState(42)
        theirs.shuffle(data)
        data = np.delete(np.delete(data, 3, axis=1), 1, axis=1)
        voltage, gap, meters = 0.01 * theirs.rand(120, 1), 0.001 * theirs.rand(120, 1), theirs.rand(120, 3)
        data = data + np.hstack((gap, voltage, meters, np.zeros((120, 1))))
        rest, _ = self.cut(data)
        data = (data - rest.mean(0)) / rest.std(0)
        train, valid = self.cut(data[: len(rest)])
        self.check(found, train, valid, data[len(rest) :])

    def test_hepmass(self, tmp_path):
        def table(n, extra):
            values = np.round(rng.standard_normal((n, 4)), 6)
            values[:, 2] = rng.integers(0, 3, n)  # few values: dropped
            frame = pd.DataFrame(np.column_stack([rng.integers(0, 2, n).astype(float), values]))
            frame.columns = ["# label", "f0", "f1", "f2", "f3"]
            if extra:
                frame["mass"] = 1000.0
            return frame

        train, test = table(300, False), table(100, True)
        raw = {f"hepmass/1000_{n}.csv": f.to_csv(index=False).encode() for n, f in (("train", train), ("test", test))}
        found = collect(maf.load_hepmass(self.archive(tmp_path, **raw)))
        a = train[train["# label"] == 1].iloc[:, 1:]
        b = test[test["# label"] == 1].iloc[:, 1:-1]
        b, a = (b - a.mean()) / a.std(), (a - a.mean()) / a.std()
        a, b = a[["f0", "f1", "f3"]].to_numpy(), b[["f0", "f1", "f3"]].to_numpy()
        self.check(found, *self.cut(a), b)

    def gas_table(self):
        base = rng.standard_normal((200, 3))
        frame = pd.DataFrame({"Time": np.arange(200.0), "Meth": base[:, 0], "Eth": base[:, 1]})
        frame["R1"], frame["R2"] = base[:, 0], base[:, 0] + 0.01 * base[:, 1]  # alike: the first is dropped
        frame["R3"], frame["R4"] = base[:, 2], base[:, 1] * 2
        frame.columns = pd.Index(list(frame.columns), dtype=object)
        return frame

    @pytest.mark.parametrize("protocol", [2, 4, 5])
    def test_gas(self, tmp_path, protocol):
        frame = self.gas_table()
        raw = pickle.dumps(frame, protocol)
        found = collect(maf.load_gas(self.archive(tmp_path, **{"gas/ethylene_CO.pickle": raw})))
        kept = frame[["R2", "R3", "R4"]]
        kept = ((kept - kept.mean()) / kept.std()).to_numpy()
        rest, test = self.cut(kept)
        self.check(found, *self.cut(rest), test)

    def test_gas_as_old_pandas_wrote_it(self):
        """The layout of 2017: BlockManager with a state of axes, values, items and a dictionary."""
        frame = self.gas_table()
        modules = {}
        for name in ("pandas.core.frame", "pandas.core.internals", "pandas.indexes.base"):
            modules[name] = types.ModuleType(name)
        saved = {name: sys.modules.get(name) for name in modules}

        def stand_in(module, name, **body):
            made = type(name, (), {"__module__": module, "__qualname__": name, **body})
            setattr(modules[module], name, made)
            return made

        def new_index(cls, content):
            raise AssertionError("never called")

        new_index.__module__, new_index.__qualname__ = "pandas.indexes.base", "_new_Index"
        modules["pandas.indexes.base"]._new_Index = new_index
        index = stand_in("pandas.indexes.base", "Index", __reduce__=lambda self: (new_index, (type(self), self.state)))
        manager = stand_in("pandas.core.internals", "BlockManager", __getstate__=lambda self: self.state)
        table = stand_in("pandas.core.frame", "DataFrame", __getstate__=lambda self: self.state)
        columns, inner, outer = index(), manager(), table()
        columns.state = {"data": np.array(list(frame.columns), dtype=object), "name": None}
        values = frame.to_numpy().T
        blocks = [
            {"values": values[:2], "mgr_locs": slice(0, 2, 1)},
            {"values": values[2:], "mgr_locs": np.arange(2, len(values))},
        ]
        axes = [columns, columns]
        inner.state = (axes, [], [], {"0.14.1": {"axes": axes, "blocks": blocks}})
        outer.state = {"_data": inner, "_typ": "dataframe", "_metadata": []}
        try:
            sys.modules.update(modules)
            raw = pickle.dumps(outer, 2)
        finally:
            for name, module in saved.items():
                if module is None:
                    del sys.modules[name]
                else:
                    sys.modules[name] = module
        found = maf.frame_columns(raw, "f")
        assert list(found) == list(frame.columns)
        assert all((found[c] == frame[c]).all() for c in frame.columns)

    def test_bsds300(self, tmp_path):
        parts = {s: rng.standard_normal((4, 63)) for s in ("train", "validation", "test")}
        out = io.BytesIO()
        with h5py.File(out, "w") as file:
            for name, rows in parts.items():
                file[name] = rows
        found = collect(maf.load_bsds300(self.archive(tmp_path, **{"BSDS300/BSDS300.hdf5": out.getvalue()})))
        self.check(found, *parts.values())

    def test_missing_member_and_other_pickles(self, tmp_path):
        files = self.archive(tmp_path, **{"gas/ethylene_CO.pickle": pickle.dumps({"a": 1})})
        with pytest.raises(UserError, match="miniboone"):
            collect(maf.load_miniboone(files))
        with pytest.raises(UserError, match="pandas table"):
            collect(maf.load_gas(files))
