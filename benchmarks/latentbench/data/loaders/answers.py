"""Answers of people: items of questionnaires, and pupils' exercises in the order that they were done."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latentbench.core.errors import UserError
from latentbench.data import archive
from latentbench.data.columns import Chunk, Ragged
from latentbench.data.loaders.common import bits
from latentbench.declare import loader

Files = Mapping[str, Path]


@loader("questionnaire")
def load_questionnaire(
    files: Files, table: str, *, people: Sequence[str] = (), texts: Mapping[str, str] | None = None, keys: str = ""
) -> Iterator[Chunk]:
    """A person a row: x (N, items) float64, NaN where an answer is missing; person (N, len(people)) likewise.

    Split items: name of each and, where a file has them, its text and key (scales,) int8: 1 where it counts towards the
    scale, -1 where it counts reversed, else 0; scales in the order of the file.

    Args:
        table: the csv file of answers, whose first line names its columns.
        people: columns about the person, which are no items.
        texts: csv file -> its column of texts; the first column names the items.
        keys: the questionnaire's name in ``keys.json``: {name: {scale: [item, with - where reversed]}}.
    """
    path = files[table]
    rows = [row for row in csv.reader(io.StringIO(archive.text(path))) if row]
    if len(rows) < 2 or len({len(row) for row in rows}) != 1:
        raise UserError("no lines, or lines of different lengths", where=path)
    names = [name for name in rows[0] if name not in people]
    try:
        values = np.array([[float(cell) if cell else np.nan for cell in row] for row in rows[1:]])
        about = [rows[0].index(name) for name in people]
    except ValueError as e:
        raise UserError(f"an answer that is no number, or a column that is not there: {e}", where=path) from e
    x = values[:, [rows[0].index(name) for name in names]]
    yield Chunk("all", {"x": x, "person": values[:, about]} if people else {"x": x})
    items: dict[str, Any] = {"name": Ragged.of_text(names)}
    for file, column in (texts or {}).items():
        found = list(csv.DictReader(io.StringIO(archive.text(files[file]))))
        text = {row[""]: row[column] for row in found}
        items["text"] = Ragged.of_text(text[name] for name in names)
    if keys:
        items["key"] = _keys(json.loads(archive.text(files["keys.json"]))[keys], names)
    yield Chunk("items", items)


def _keys(scales: Mapping[str, Sequence[str]], names: Sequence[str]) -> np.ndarray:
    """(items, scales) int8 of 1, -1 and 0."""
    key = np.zeros((len(names), len(scales)), np.int8)
    for column, items in enumerate(scales.values()):
        for item in items:
            key[names.index(item.removeprefix("-")), column] = -1 if item.startswith("-") else 1
    return key


@loader("exercises")
def load_exercises(files: Files, splits: Mapping[str, str], skills: str) -> Iterator[Chunk]:
    """A pupil a row (Zhang et al. 2017): x ragged int32, skills of the exercises; answer ragged uint8, 1 where right.

    Of each pupil a file has three lines: how many, the skills from 1, the answers. Split skills: number and name.

    Args:
        splits: file -> split.
        skills: the file of names: number, tab, name.
    """
    for file, split in splits.items():
        path = files[file]
        lines = [line.strip().strip(",") for line in archive.text(path).splitlines() if line.strip()]
        try:
            lists = [np.array(line.split(","), np.int64) for line in lines]
        except ValueError as e:
            raise UserError(f"not lines of numbers: {e}", where=path) from e
        x, answer = lists[1::3], lists[2::3]
        lengths = [{*n, len(a), len(b)} for n, a, b in zip(lists[::3], x, answer)]
        if not lists or len(lists) % 3 or any(len(length) != 1 for length in lengths):
            raise UserError("not three lines a pupil, whose second and third are as long as the first says", where=path)
        marks = Ragged.of(answer, np.int64)
        yield Chunk(split, {"x": Ragged.of(x, np.int32), "answer": Ragged(bits(marks.values, path), marks.offsets)})
    pairs = [line.strip().split("\t") for line in archive.text(files[skills]).splitlines() if line.strip()]
    numbers = np.array([number for number, _ in pairs], np.int64)
    yield Chunk("skills", {"number": numbers, "name": Ragged.of_text(name.strip() for _, name in pairs)})
