"""Sentences as padded rows: vocabulary by frequency, end marks, limits of length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from latentbench.papers.autogen.sentences import load_sentences


def load(folder: Path, train: str, test: str, **params: int) -> dict:
    files = {}
    for split, text in (("train", train), ("test", test)):
        files[f"{split}.txt"] = folder / f"{split}.txt"
        files[f"{split}.txt"].write_text(text)
    return {chunk.split: chunk.columns for chunk in load_sentences(files, **params)}


def test_rows_are_padded_and_long_lines_left_out(tmp_path):
    found = load(tmp_path, "b a b\na\n\nb b b b\n c <unk>", "a zz\n", length=4, words=4)
    words = [bytes(row).decode() for row in found["vocabulary"]["text"]]
    assert words == ["<eos>", "<unk>", "b", "a"]  # the long line counts for the vocabulary
    assert np.array_equal(found["train"]["x"], [[2, 3, 2, 0], [3, 0, 0, 0], [1, 1, 0, 0]])
    assert np.array_equal(found["test"]["x"], [[3, 1, 0, 0]])
    assert found["train"]["x"].dtype == np.int32
