"""`matrix`: one entry for every combination, with types and lines kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.core.yamlfile import YamlFile, read_yaml
from latentbench.spec.matrix import MAX_ENTRIES, expand_list, expand_mapping, fill

FILE = YamlFile(Path("some.yaml"), None)

value = st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.text("abc", max_size=3), st.none())
matrices = st.dictionaries(
    st.sampled_from(["k", "beta", "layers"]), st.lists(value, min_size=1, max_size=4), min_size=1, max_size=3
)


@given(matrices)
def test_a_list_entry_becomes_the_product(matrix):
    params = {name: f"{{{name}}}" for name in matrix}
    found = expand_list(FILE, [{"id": "first"}, {"matrix": matrix, "params": params}, {"id": "last"}], ("claims",))
    assert len(found) == 2 + math.prod(map(len, matrix.values()))
    assert (found[0], found[-1]) == ({"id": "first"}, {"id": "last"})
    for entry in found[1:-1]:
        assert set(entry) == {"params"}
        for name, got in entry["params"].items():
            assert any(got is v or (got == v and type(got) is type(v)) for v in matrix[name]), "a value keeps its type"


@given(matrices)
def test_every_combination_comes_once(matrix):
    distinct = {name: list(range(len(values))) for name, values in matrix.items()}
    key = "m" + "".join(f"-{{{name}}}" for name in distinct)
    found = expand_mapping(FILE, {key: {"matrix": distinct, "at": [f"{{{n}}}" for n in distinct]}}, ("methods",))
    assert len(found) == math.prod(map(len, distinct.values()))
    assert len({tuple(entry["at"]) for entry in found.values()}) == len(found)
    assert all(name == "m" + "".join(f"-{v}" for v in entry["at"]) for name, entry in found.items())


@given(st.dictionaries(st.text(min_size=1), value, max_size=4))
def test_entries_without_matrix_stay(data):
    assert expand_mapping(FILE, {"a": data}, ()) == {"a": data}


def test_placeholders():
    values = {"k": 5, "on": True, "f": 0.5, "n": None, "l": [1, 2]}
    assert fill("{k}", values) == 5
    assert fill("{on}", values) is True
    assert fill("{n}", values) is None
    assert fill("{l}", values) == [1, 2]
    assert fill("IWAE, k = {k} at {f}", values) == "IWAE, k = 5 at 0.5"
    assert fill("{other} {k}", values) == "{other} 5", "what the matrix does not name is text"
    assert fill({"a-{k}": ["{k}", {"b": "{f}"}]}, values) == {"a-5": [5, {"b": 0.5}]}
    assert fill("{k}", {}) == "{k}"


@pytest.fixture
def read(tmp_path: Path):
    def read(text: str) -> tuple[YamlFile, Any]:
        (tmp_path / "s.yaml").write_text(text)
        file = read_yaml(tmp_path / "s.yaml")
        return file, file.data["methods"]

    return read


def test_written_out_entries_keep_their_lines(read):
    file, data = read("methods:\n  a: {model: x}\n  b-{k}:\n    matrix: {k: [1, 2]}\n    params:\n      k: '{k}'\n")
    assert list(expand_mapping(file, data, ("methods",))) == ["a", "b-1", "b-2"]
    for name in ("b-1", "b-2"):
        assert file.line(("methods", name)) == 3
        assert file.line(("methods", name, "params", "k")) == 6


def test_written_out_lists_keep_their_lines(tmp_path):
    (tmp_path / "s.yaml").write_text("claims:\n- matrix: {k: [1, 2]}\n  id: a-{k}\n- id: b\n  kind: order\n")
    file = read_yaml(tmp_path / "s.yaml")
    found = expand_list(file, file.data["claims"], ("claims",))
    assert [c["id"] for c in found] == ["a-1", "a-2", "b"]
    assert [file.line(("claims", i, "id")) for i in range(3)] == [3, 3, 4]
    assert file.line(("claims", 2, "kind")) == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("methods:\n  m-{k}: {matrix: {k: 3}}\n", "s.yaml:2: matrix must map names to lists"),
        ("methods:\n  m:\n    matrix: []\n", "s.yaml:3: matrix must map names to lists"),
        ("methods:\n  m-{k}: {matrix: {k: []}}\n", "s.yaml:2: matrix must map names to lists"),
        ("methods:\n  m:\n    matrix: {k: [1, 2]}\n", "s.yaml:2: 'm' is written out twice"),
        ("methods:\n  m-{k}: {matrix: {k: [1, 1]}}\n", "s.yaml:2: 'm-1' is written out twice"),
    ],
)
def test_what_is_refused(read, text, words):
    file, data = read(text)
    with pytest.raises(UserError) as e:
        expand_mapping(file, data, ("methods",))
    assert words in str(e.value)


def test_a_matrix_cannot_explode():
    matrix = {name: list(range(100)) for name in "abcdefgh"}
    with pytest.raises(UserError, match=f"more than {MAX_ENTRIES}"):
        expand_list(FILE, [{"matrix": matrix}], ())
