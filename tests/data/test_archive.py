"""Archives from strangers: read within limits, refused when unsafe or cut short."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.data import archive

CONTENT = {"a/one.txt": b"one" * 1000, "a/b/two.bin": np.random.default_rng(0).bytes(50_000)}


def make_zip(path, content, links=()):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, raw in content.items():
            file.writestr(name, raw)
        for name in links:
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, 0o120777 << 16
            file.writestr(info, "/etc/passwd")
    return path


def make_tar(path, content, mode="w:gz", special=None):
    with tarfile.open(path, mode) as file:
        for name, raw in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            file.addfile(info, io.BytesIO(raw))
        if special is not None:
            file.addfile(special)
    return path


def special(kind, name="a/x", target="/etc/passwd"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("kind", ["zip", "w:", "w:gz", "w:bz2", "w:xz"])
def test_members(tmp_path, kind):
    path = tmp_path / "f"
    made = make_zip(path, CONTENT) if kind == "zip" else make_tar(path, CONTENT, kind)
    assert dict(archive.members(made)) == CONTENT
    assert dict(archive.members(made, wanted=lambda n: n.endswith(".txt"))) == {"a/one.txt": CONTENT["a/one.txt"]}


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:\\evil"])
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_paths_that_climb_out(tmp_path, make, name):
    with pytest.raises(UserError, match="climbs out"):
        list(archive.members(make(tmp_path / "f", {"fine": b"x", name: b"x"})))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f"]


def test_links_and_devices(tmp_path):
    with pytest.raises(UserError, match="link"):
        list(archive.members(make_zip(tmp_path / "z", CONTENT, links=["a/link"])))
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        with pytest.raises(UserError, match="link or device"):
            list(archive.members(make_tar(tmp_path / "t", CONTENT, special=special(kind))))


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_bombs(tmp_path, make):
    path = make(tmp_path / "f", {"zeros": bytes(20_000_000)})
    assert path.stat().st_size < 100_000
    with pytest.raises(UserError, match="more than 1000000 bytes"):
        list(archive.members(path, limit=1_000_000))
    many = make(tmp_path / "g", {f"zeros{k}": bytes(400_000) for k in range(5)})
    with pytest.raises(UserError, match="unpacks to more"):
        list(archive.members(many, limit=1_000_000))


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)])
def test_compressed_files(tmp_path, ending, pack):
    path = tmp_path / f"f{ending}"
    packed = pack(CONTENT["a/b/two.bin"])
    path.write_bytes(packed)
    assert archive.read(path) == CONTENT["a/b/two.bin"]
    with pytest.raises(UserError, match="more than"):
        archive.read(path, limit=1000)
    for cut in (0, 5, len(packed) // 2, len(packed) - 1):
        path.write_bytes(packed[:cut])
        if cut or ending == ".xz":
            with pytest.raises(UserError, match="truncated or damaged"):
                archive.read(path)
    path.write_bytes(b"not compressed at all")
    with pytest.raises(UserError, match="truncated or damaged"):
        archive.read(path)


def test_plain_files(tmp_path):
    (tmp_path / "f.txt").write_bytes("grün\n".encode())
    assert archive.text(tmp_path / "f.txt") == "grün\n"


@pytest.mark.parametrize("kind", ["zip", "w:", "w:gz", "w:xz"])
def test_truncated(tmp_path, kind):
    path = tmp_path / "f"
    raw = (make_zip(path, CONTENT) if kind == "zip" else make_tar(path, CONTENT, kind)).read_bytes()
    for cut in (len(raw) // 3, len(raw) * 2 // 3):
        path.write_bytes(raw[:cut])
        with pytest.raises(UserError, match="truncated or damaged"):
            list(archive.members(path))


def test_wrong_checksum(tmp_path):
    path = make_zip(tmp_path / "f", CONTENT)
    raw = bytearray(path.read_bytes())
    raw[20_000] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(UserError, match="truncated or damaged"):
        list(archive.members(path))


def test_unpacked_files_are_the_members(tmp_path):
    for path in (make_zip(tmp_path / "a.zip", CONTENT), make_tar(tmp_path / "a.tar.gz", CONTENT)):
        folder = tmp_path / f"from {path.name}"
        archive.unpack(path, folder)
        files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        assert files == CONTENT


def test_nothing_is_unpacked_outside_the_folder(tmp_path):
    path = make_tar(tmp_path / "a.tar", {"../out.txt": b"out"})
    with pytest.raises(UserError, match="climbs out"):
        archive.unpack(path, tmp_path / "folder")
    assert not (tmp_path / "out.txt").exists()
