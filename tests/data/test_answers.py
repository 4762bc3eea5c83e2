"""Questionnaires and pupils' exercises, on small files of their form."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.data.loaders.answers import load_exercises, load_questionnaire


def written(folder, texts):
    for name, text in texts.items():
        raw = text.encode()
        (folder / name).write_bytes(gzip.compress(raw, mtime=0) if name.endswith(".gz") else raw)
    return {name: folder / name for name in texts}


ANSWERS = {
    "own.csv.gz": "age,B1,A1,A2\n16,2,,4\n,6,1,3.0\n",
    "words.csv.gz": ',Id,Item\nA1,q_1,"Am indifferent, or not."\nA2,q_2,Ask.\nB1,q_3,Caf\u00e9.\nage,age,years\n',
    "keys.json": json.dumps({"own": {"warm": ["-A1", "A2"], "open": ["B1"]}, "other": {"none": ["Z1"]}}),
}


def test_items_in_their_order_with_texts_and_keys(tmp_path):
    files = written(tmp_path, ANSWERS)
    people, items = load_questionnaire(files, "own.csv.gz", people=["age"], texts={"words.csv.gz": "Item"}, keys="own")
    np.testing.assert_array_equal(people.columns["x"], [[2, np.nan, 4], [6, 1, 3]])
    np.testing.assert_array_equal(people.columns["person"], [[16], [np.nan]])
    assert items.columns["name"].texts() == ["B1", "A1", "A2"]
    assert items.columns["text"].texts() == ["Caf\u00e9.", "Am indifferent, or not.", "Ask."]
    assert items.columns["key"].tolist() == [[0, 1], [-1, 0], [1, 0]]


def test_items_alone(tmp_path):
    people, items = load_questionnaire(written(tmp_path, ANSWERS), "own.csv.gz")
    assert set(people.columns) == {"x"}
    assert people.columns["x"].shape == (2, 4)
    assert set(items.columns) == {"name"}


@pytest.mark.parametrize("text", ["", "a,b\n", "a,b\n1\n", "a,b\n1,yes\n"])
def test_what_is_no_questionnaire(tmp_path, text):
    with pytest.raises(UserError):
        list(load_questionnaire(written(tmp_path, {"own.csv.gz": text}), "own.csv.gz"))


def test_a_column_about_people_that_is_not_there(tmp_path):
    with pytest.raises(UserError):
        list(load_questionnaire(written(tmp_path, ANSWERS), "own.csv.gz", people=["sex"]))


NAMES = {"skills.txt": "2\tMean \n10\tArea, of circles\n"}
SPLITS = {"a.csv.gz": "train", "b.csv.gz": "test"}


def test_pupils_keep_their_exercises_in_order(tmp_path):
    files = written(
        tmp_path, NAMES | {"a.csv.gz": "3\n10,2,10\n1,0,0\n1\n2\n1\n", "b.csv.gz": "2\r\n2,10,\r\n0,1,\r\n"}
    )
    train, test, skills = load_exercises(files, SPLITS, "skills.txt")
    assert [row.tolist() for row in train.columns["x"]] == [[10, 2, 10], [2]]
    assert [row.tolist() for row in train.columns["answer"]] == [[1, 0, 0], [1]]
    assert (test.columns["x"][0].tolist(), test.columns["answer"][0].tolist()) == ([2, 10], [0, 1])
    assert (train.columns["x"].dtype, train.columns["answer"].dtype) == (np.int32, np.uint8)
    assert skills.columns["number"].tolist() == [2, 10]
    assert skills.columns["name"].texts() == ["Mean", "Area, of circles"]


@pytest.mark.parametrize(
    "text",
    ["", "2\n1,2\n", "2\n1,2\n1\n", "3\n1,2\n1,1\n", "2\n1,2\n1,3\n", "2\n1,b\n1,0\n", "1,2\n1,2\n1,0\n"],
)
def test_what_are_no_exercises(tmp_path, text):
    with pytest.raises(UserError):
        list(load_exercises(written(tmp_path, NAMES | {"a.csv.gz": text}), {"a.csv.gz": "train"}, "skills.txt"))
