"""Tables of numbers: DEBD, UCI regression, MovieLens, Sachs, Tübingen pairs, CITE-seq, ETT."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from latentbench.core.errors import UserError
from latentbench.data import archive
from latentbench.data.columns import Chunk, Ragged
from latentbench.data.loaders.common import bits, find, npy, npz, table
from latentbench.declare import loader

Files = Mapping[str, Path]


@loader("debd")
def load_debd(files: Files) -> Iterator[Chunk]:
    """Binary density-estimation sets (Lowd & Davis 2010; Van Haaren & Davis 2012): lines of 0 and 1 with commas."""
    for name, path in files.items():
        split = name.split(".")[1]
        raw = np.frombuffer(archive.read(path), np.uint8)
        rows = len(archive.read(path).split())
        digits = raw[raw > ord(",")] - ord("0")
        if rows == 0 or digits.size % rows:
            raise UserError("lines of different lengths", where=path)
        yield Chunk(split, {"x": bits(digits, path).reshape(rows, -1)})


@loader("uci")
def load_uci(files: Files) -> Iterator[Chunk]:
    """UCI regression with the random splits of Hernández-Lobato & Adams (2015).

    Split all: x (N, D), y (N, 1) float64. Split folds: a row a split, train and test row numbers of ``all``.
    """
    values, index = table(find(files, "data.txt")), npz(files["splits.npz"])
    x = np.ascontiguousarray(values[:, index["index_features"].astype(np.int64)])
    y = np.ascontiguousarray(values[:, index["index_target"].astype(np.int64)])
    yield Chunk("all", {"x": x, "y": y})
    folds = range(int(index["n_splits"][0]))
    parts = {part: Ragged.of([index[f"{part}_{k}"] for k in folds], np.int32) for part in ("train", "test")}
    yield Chunk("folds", parts)


@loader("movielens")
def load_movielens(files: Files) -> Iterator[Chunk]:
    """MovieLens-100k (Harper & Konstan 2015): ratings, the first official fold, items and users; ids from 0."""
    for split, name in (("all", "u.data"), ("u1_train", "u1.base"), ("u1_test", "u1.test")):
        values = np.array([line.split() for line in _movielens_lines(files, name)], dtype=np.int64)
        yield Chunk(split, {"x": values[:, :2] - 1, "rating": values[:, 2], "time": values[:, 3]})
    items = [line.split("|") for line in _movielens_lines(files, "u.item")]
    genres = np.array([f[5:] for f in items], dtype=np.uint8)
    yield Chunk("items", {"title": Ragged.of_text(f[1] for f in items), "genres": genres})
    users = [line.split("|") for line in _movielens_lines(files, "u.user")]
    yield Chunk(
        "users",
        {
            "age": np.array([f[1] for f in users], dtype=np.int64),
            "female": np.array([f[2] == "F" for f in users], dtype=np.uint8),
            "occupation": Ragged.of_text(f[3] for f in users),
        },
    )


def _movielens_lines(files: Files, name: str) -> list[str]:
    """Lines of a file of the official zip, or of the file itself."""
    if "ml-100k.zip" in files:
        path = files["ml-100k.zip"]
        found = [raw for _, raw in archive.members(path, wanted=f"ml-100k/{name}".__eq__)]
        if not found:
            raise UserError(f"the archive has no {name}", where=path)
        text = found[0].decode("latin-1")
    else:
        text = archive.text(find(files, name), "latin-1")
    return [line for line in text.split("\n") if line]


def _records(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(archive.text(path))))


@loader("sachs")
def load_sachs(files: Files) -> Iterator[Chunk]:
    """Protein signalling (Sachs et al. 2005): measurements, variable names, and the consensus edges cause -> effect."""
    records = _records(find(files, "cyto_full_data.csv"))
    names = list(records[0])
    yield Chunk("all", {"x": np.array([[r[n] for n in names] for r in records], dtype=np.float64)})
    yield Chunk("variables", {"name": Ragged.of_text(names)})
    edges = [(names.index(r["Cause"]), names.index(r["Effect"])) for r in _records(find(files, "cyto_full_target.csv"))]
    yield Chunk("edges", {"edge": np.array(edges, dtype=np.int32)})


@loader("tuebingen")
def load_tuebingen(files: Files) -> Iterator[Chunk]:
    """Cause-effect pairs (Mooij et al. 2016): a row a pair, x (samples, 2), forward 1 where the first is the cause."""
    csv.field_size_limit(1 << 24)
    pairs = _records(find(files, "Tuebingen_pairs.csv"))
    target = {r["SampleID"]: float(r["Target"]) for r in _records(find(files, "Tuebingen_targets.csv"))}
    rows = [np.column_stack([np.array(r[side].split(), dtype=np.float64) for side in "AB"]) for r in pairs]
    forward = np.array([target[r["SampleID"]] > 0 for r in pairs], dtype=np.uint8)
    number = np.array([r["SampleID"].removeprefix("pair") for r in pairs], dtype=np.int64)
    yield Chunk("all", {"x": Ragged.of(rows, np.float64, (2,)), "forward": forward, "pair": number})


@loader("cells")
def load_cells(files: Files) -> Iterator[Chunk]:
    """CITE-seq as 50 principal components: a split a day."""
    for name, path in files.items():
        yield Chunk(f"day{name.removesuffix('.npy').rsplit('_', 1)[1]}", {"x": npy(path)})


@loader("ett")
def load_ett(files: Files) -> Iterator[Chunk]:
    """Electricity transformer temperature (Zhou et al. 2021): seven hourly series; time in seconds since 1970, UTC."""
    rows = [line.split(",") for line in archive.text(next(iter(files.values()))).splitlines()[1:] if line]
    stamps = [datetime.strptime(r[0], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp() for r in rows]
    x = np.array([r[1:] for r in rows], dtype=np.float64)
    yield Chunk("all", {"x": x, "time": np.array(stamps).astype(np.int64)})
