"""Archives and arrays from strangers: nothing climbs out, nothing unpacks past its limit."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from latentbench.core.errors import UserError
from latentbench.data.archive import members, read
from latentbench.data.loaders import common
from latentbench.data.loaders.common import npy, npz
from latentbench.data.loaders.idx import read_idx

MIB = 1 << 20
CLIMBING = ["../x", "a/../../x", "/etc/passwd", "C:\\x", "c:x", "..\\x", "\\x", "a/..\\..\\x", "//host/x"]


def tar(path, *infos: tuple[str, bytes, str]):
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, link in infos:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, 1 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"x") if info.size else None)
    return path


@pytest.mark.parametrize("name", CLIMBING)
def test_climbing_out(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, "x")
    for path in (tmp_path / "a.zip", tar(tmp_path / "a.tar.gz", (name, tarfile.REGTYPE, ""))):
        with pytest.raises(UserError, match="climbs out"):
            list(members(path))
        with pytest.raises(UserError, match="climbs out"):
            list(members(path, wanted=lambda n: False))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"V"]
)
def test_links_and_devices(tmp_path, kind):
    path = tar(tmp_path / "a.tar.gz", ("x", kind, "../../etc/passwd"), ("x/y", tarfile.REGTYPE, ""))
    with pytest.raises(UserError, match="link or device"):
        list(members(path))


def test_links_in_a_zip(tmp_path):
    info = zipfile.ZipInfo("x")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match="holds a link"):
        list(members(tmp_path / "a.zip"))


@pytest.mark.parametrize(("suffix", "opener"), [(".gz", gzip.open), (".xz", lzma.open), (".bz2", bz2.open)])
def test_compressed_bombs(tmp_path, suffix, opener):
    path = tmp_path / f"bomb{suffix}"
    with opener(path, "wb") as f:
        for _ in range(32):
            f.write(bytes(MIB))
    assert path.stat().st_size < MIB / 8
    with pytest.raises(UserError, match="unpacks to more than"):
        read(path, limit=4 * MIB)
    assert len(read(path, limit=32 * MIB)) == 32 * MIB


def bomb(path, sizes):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i, size in enumerate(sizes):
            archive.writestr(f"{i}", bytes(size))
    return path


def test_zip_bombs(tmp_path):
    path = bomb(tmp_path / "a.zip", [32 * MIB])
    with pytest.raises(UserError, match="unpacks to more than"):
        list(members(path, limit=4 * MIB))
    path = bomb(tmp_path / "b.zip", [3 * MIB] * 8)
    with pytest.raises(UserError, match="unpacks to more than"):
        list(members(path, limit=16 * MIB))
    assert len(list(members(path, limit=24 * MIB))) == 8


def test_a_zip_within_a_zip_is_just_a_file(tmp_path):
    inner = bomb(tmp_path / "inner.zip", [32 * MIB])
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(inner, "inner.zip")
    [(name, content)] = members(tmp_path / "outer.zip", limit=MIB)
    assert (name, content) == ("inner.zip", inner.read_bytes())


def test_a_zip_that_lies_of_its_sizes(tmp_path):
    path = bomb(tmp_path / "a.zip", [32 * MIB])
    content = path.read_bytes().replace((32 * MIB).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    path.write_bytes(content)
    with pytest.raises(UserError):
        list(members(path, limit=4 * MIB))


def test_tar_bombs(tmp_path):
    with tarfile.open(tmp_path / "a.tar.xz", "w:xz") as archive:
        info = tarfile.TarInfo("x")
        info.size = 32 * MIB
        archive.addfile(info, io.BytesIO(bytes(32 * MIB)))
    with pytest.raises(UserError, match="unpacks to more than"):
        list(members(tmp_path / "a.tar.xz", limit=4 * MIB))


def lying(shape: str) -> bytes:
    """A .npy file whose header claims an array of this shape, and holds none."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * (118 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize("shape", ["(1000000000000000,)", "(-1,)", "(2**62, 4)", "(1,) * 100", "('a',)", "open('x')"])
def test_arrays_larger_than_their_file(tmp_path, shape):
    (tmp_path / "a.npy").write_bytes(lying(shape))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", lying(shape))
    with pytest.raises(UserError):
        npy(tmp_path / "a.npy")
    with pytest.raises(UserError):
        npz(tmp_path / "a.npz", "x")


def test_npz_bombs(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(32 * MIB, np.uint8))
    with pytest.raises(UserError, match="unpacks to more than"):
        npz(tmp_path / "a.npz", "x", limit=4 * MIB)
    assert npz(tmp_path / "a.npz", "x", limit=33 * MIB)["x"].shape == (32 * MIB,)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_header_before_a_member_is_bounded(tmp_path, kind):
    """A long name or attributes of 100 MB, to which a little unpacks: they are no content, so no limit is on them."""
    header = tarfile.TarInfo("header")
    header.type, header.size = kind, 100 * MIB
    with gzip.open(tmp_path / "f.tar.gz", "wb", compresslevel=1) as file:
        file.write(header.tobuf())
        file.write(bytes(100 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="damaged"):
            list(members(tmp_path / "f.tar.gz"))
        assert tracemalloc.get_traced_memory()[1] < 30 * MIB
    finally:
        tracemalloc.stop()


def test_a_matlab_variable_is_bounded(tmp_path, monkeypatch):
    scipy.io.savemat(tmp_path / "a.mat", {"x": np.zeros((1000, 1000)), "y": np.ones(3)}, do_compression=True)
    assert common.matlab(tmp_path / "a.mat", "x")["x"].shape == (1000, 1000)
    monkeypatch.setattr(common._bounded, "__defaults__", (1_000_000,))
    with pytest.raises(UserError, match="unpack to more"):
        common.matlab(tmp_path / "a.mat", "x")


def test_a_sparse_matlab_matrix_points_nowhere_else(tmp_path):
    matrix = scipy.sparse.csc_matrix(np.diag([1.0, 2, 3]))
    matrix.indices[1] = 10**6
    scipy.io.savemat(tmp_path / "a.mat", {"x": matrix})
    with pytest.raises(UserError, match="damaged"):
        common.matlab(tmp_path / "a.mat", "x")


def test_an_idx_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "__defaults__", (1_000_000,))
    with gzip.open(tmp_path / "a.gz", "wb") as file:
        file.write(bytes(10_000_000))
    with pytest.raises(UserError, match="unpacks to more"):
        read_idx(tmp_path / "a.gz")
