"""Tables of text with classes, targets and words among their columns."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.data.loaders.delimited import load_delimited, load_labelled_lines


def written(folder, **texts):
    files = {}
    for name, text in texts.items():
        files[f"{name}.gz"] = folder / f"{name}.gz"
        files[f"{name}.gz"].write_bytes(gzip.compress(text.encode("latin-1"), mtime=0))
    return files


def test_words_and_classes_are_numbered_over_all_files(tmp_path):
    files = written(tmp_path, a="3, red, no\n5, blue, yes\n", b="|a remark\n4, green, yes.\n")
    first, second = load_delimited(files, {"a.gz": "train", "b.gz": "test"}, label=-1)
    assert (first.split, second.split) == ("train", "test")
    np.testing.assert_array_equal(first.columns["x"], [[3, 2], [5, 0]])
    np.testing.assert_array_equal(second.columns["x"], [[4, 1]])
    assert first.columns["y"].tolist() + second.columns["y"].tolist() == [0, 1, 1]


def test_targets_gaps_and_shapes(tmp_path):
    files = written(tmp_path, a="h1;h2;h3;h4;h5\n1;2;?;9.5;x\n3;4;5;8.5;y\n")
    [chunk] = load_delimited(
        files, {"a.gz": "all"}, delimiter=";", skip=1, target=[3], drop=[-1], complete=True, dtype="uint8", shape=[2, 1]
    )
    assert chunk.columns["x"].dtype == np.uint8
    assert chunk.columns["x"].tolist() == [[[1], [2]], [[3], [4]]]
    assert chunk.columns["y"].tolist() == [[9.5], [8.5]]


@pytest.mark.parametrize("text", ["", "1,2\n3\n", "1,300\n"])
def test_what_is_no_such_table(tmp_path, text):
    with pytest.raises(UserError):
        list(load_delimited(written(tmp_path, a=text), {"a.gz": "all"}, dtype="uint8"))


def test_questions(tmp_path):
    files = written(tmp_path, a="NUM:dist how far ?\nLOC:city which caf\xe9 ?\n", b="NUM:date when ?\n")
    first, second, words = load_labelled_lines(files, {"a.gz": "train", "b.gz": "test"})
    assert [row.tolist() for row in first.columns["x"]] == [[0, 1, 2], [3, 4, 2]]
    assert second.columns["x"][0].tolist() == [5, 2]
    assert (first.columns["y"].tolist(), second.columns["y"].tolist()) == ([1, 0], [1])
    assert (first.columns["fine"].tolist(), second.columns["fine"].tolist()) == ([2, 0], [1])
    assert words.columns["text"].text(4) == "caf\xe9"
