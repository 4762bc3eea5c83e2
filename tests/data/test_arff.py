"""Tables of ARFF with several labels or targets, on small files of Mulan's form."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.data.loaders.arff import load_arff

TRAIN = """% a remark
@relation 'birds: -C 2'

@attribute 'audio ssd1' numeric
@attribute place {17,2,10}
@attribute shape {Round,Long}
@attribute 'Swainson\\'s Thrush' {1,0}
@attribute Wren {0,1}

@data
0.5,10,Long,1,0
-1e-3,2,Round,0,1
?,17,?,0,0
"""
TEST = TRAIN.split("0.5,10")[0] + "7,17,Round,0,1\n"


def written(folder, **texts):
    files = {f"{name}.arff.gz": folder / f"{name}.arff.gz" for name in texts}
    for name, text in texts.items():
        files[f"{name}.arff.gz"].write_bytes(gzip.compress(text.encode(), mtime=0))
    return files


def test_labels_are_the_numbers_that_are_declared_and_words_their_place(tmp_path):
    files = written(tmp_path, a=TRAIN, b=TEST)
    train, test, attributes = load_arff(files, {"a.arff.gz": "train", "b.arff.gz": "test"}, targets=2, dtype="uint8")
    assert (train.split, test.split, attributes.split) == ("train", "test", "attributes")
    np.testing.assert_array_equal(train.columns["x"], [[0.5, 10, 1], [-1e-3, 2, 0], [np.nan, 17, np.nan]])
    np.testing.assert_array_equal(test.columns["x"], [[7, 17, 0]])
    assert train.columns["y"].dtype == np.uint8
    assert train.columns["y"].tolist() == [[1, 0], [0, 1], [0, 0]]
    assert attributes.columns["name"].texts() == ["audio ssd1", "place", "shape", "Swainson's Thrush", "Wren"]


def test_targets_are_the_last_columns(tmp_path):
    files = written(tmp_path, a=TRAIN)
    chunk, _ = load_arff(files, {"a.arff.gz": "all"}, targets=4)
    assert chunk.columns["x"].shape == (3, 1)
    np.testing.assert_array_equal(chunk.columns["y"], [[10, 1, 1, 0], [2, 0, 0, 1], [17, np.nan, 0, 0]])


@pytest.mark.parametrize(
    "text",
    [
        "",
        TRAIN.split("0.5,10")[0],
        TRAIN.replace("10,Long,1,0", "10,Long,1"),
        TRAIN.replace("10,Long", "11,Long"),
        TRAIN.replace("0.5,10,Long,1,0", "{0 0.5, 3 1}"),
        TRAIN.replace("numeric", "string"),
        TRAIN.replace("Long,1,0", "Long,?,0"),
    ],
    ids=["empty", "no rows", "a short row", "another value", "sparse", "strings", "no label"],
)
def test_what_is_no_such_table(tmp_path, text):
    with pytest.raises(UserError):
        list(load_arff(written(tmp_path, a=text), {"a.arff.gz": "all"}, targets=2, dtype="uint8"))


@pytest.mark.parametrize("targets", [0, 5])
def test_some_columns_are_targets_and_some_are_not(tmp_path, targets):
    with pytest.raises(UserError):
        list(load_arff(written(tmp_path, a=TRAIN), {"a.arff.gz": "all"}, targets=targets))


def test_files_of_other_attributes_do_not_go_together(tmp_path):
    files = written(tmp_path, a=TRAIN, b=TEST.replace("Wren", "Wrens"))
    with pytest.raises(UserError):
        list(load_arff(files, {"a.arff.gz": "train", "b.arff.gz": "test"}, targets=2))
