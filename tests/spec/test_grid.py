"""`grid`: one entry for every combination, with types and lines kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.core.yamlfile import YamlFile, read_yaml
from latentbench.spec.expansion import expand
from latentbench.spec.grid import MAX_ENTRIES, fill

value = st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.text("abc", max_size=3), st.none())
grids = st.dictionaries(
    st.sampled_from(["k", "beta", "layers"]), st.lists(value, min_size=1, max_size=4), min_size=1, max_size=3
)


def written(**data: Any) -> dict[str, Any]:
    return expand(YamlFile(Path("some.yaml"), data))


@given(grids)
def test_a_claim_becomes_the_product(grid):
    params = {name: f"{{{name}}}" for name in grid}
    template = {"id": "-".join(params.values()), "grid": grid, "params": params}
    found = written(claims=[{"id": "first"}, template, {"id": "last"}])["claims"]
    assert len(found) == 2 + math.prod(map(len, grid.values()))
    assert (found[0], found[-1]) == ({"id": "first"}, {"id": "last"})
    for entry in found[1:-1]:
        assert set(entry) == {"id", "params"}
        for name, got in entry["params"].items():
            assert any(got is v or (got == v and type(got) is type(v)) for v in grid[name]), "a value keeps its type"


@given(grids)
def test_every_combination_comes_once_the_last_axis_fastest(grid):
    distinct = {name: list(range(len(values))) for name, values in grid.items()}
    key = "m" + "".join(f"-{{{name}}}" for name in distinct)
    found = written(methods={key: {"grid": distinct, "at": [f"{{{n}}}" for n in distinct]}})["methods"]
    assert len(found) == math.prod(map(len, distinct.values()))
    assert [entry["at"] for entry in found.values()] == sorted(entry["at"] for entry in found.values())
    assert all(name == "m" + "".join(f"-{v}" for v in entry["at"]) for name, entry in found.items())


@given(st.dictionaries(st.text("ab", min_size=1), value, max_size=4))
def test_entries_without_grid_stay(data):
    assert written(methods={"a": data})["methods"] == {"a": data}


def test_placeholders():
    values = {"k": 5, "on": True, "f": 0.5, "n": None, "l": [1, 2], "o.label": "ReinMax"}
    assert fill("{k}", values) == 5
    assert fill("{on}", values) is True
    assert fill("{n}", values) is None
    assert fill("{l}", values) == [1, 2]
    assert fill("IWAE, k = {k} at {f}", values) == "IWAE, k = 5 at 0.5"
    assert fill("{o.label}, k = {k}", values) == "ReinMax, k = 5"
    assert fill("{other} {k}", values) == "{other} 5", "what the grid does not name is text"
    assert fill({"a-{k}": ["{k}", {"b": "{f}"}]}, values) == {"a-5": [5, {"b": 0.5}]}
    assert fill("{k}", {}) == "{k}"


NAMED = """\
methods:
  "{codes}-{how}":
    grid:
      codes:
        cat: {label: categorical, params: {layout: 10x20}}
        bern: {label: binary, params: {layout: 2x200, units: 3}}
      how:
        st: {label: straight-through, baseline: true, params: {rate: 0.5}}
        gs: {label: Gumbel-Softmax, params: {rate: "{how.first}", units: 4}, first: 0.1}
        none:
    model: vae
    label: "{how.label}, {codes.label} codes"
    params: {hidden: [5], rate: 1.0}
"""


def test_named_values_are_laid_over_the_entry(read):
    with pytest.raises(UserError, match=r"s.yaml:10: 'none' of 'how' has no 'label' \(\{how.label\} asks for it\)"):
        expand(read(NAMED))
    found = expand(read(NAMED.replace("none:", "none: {label: exact}")))["methods"]
    assert list(found) == ["cat-st", "cat-gs", "cat-none", "bern-st", "bern-gs", "bern-none"]
    assert found["cat-st"] == {
        "model": "vae",
        "label": "straight-through, categorical codes",
        "baseline": True,
        "params": {"hidden": [5], "layout": "10x20", "rate": 0.5},
    }
    assert found["bern-gs"]["params"]["units"] == 4, "a later axis is laid over an earlier one"
    assert found["cat-none"]["params"]["rate"] == 1.0


def test_what_fills_a_text_keeps_its_type(read):
    text = NAMED.replace("none:", "none: {label: exact}").replace("st: {", "st: {first: x, ")
    found = expand(read(text))["methods"]
    assert found["cat-gs"]["params"]["rate"] == 0.1
    assert not any("first" in method for method in found.values())


def test_written_out_entries_keep_their_lines(read):
    file = read(NAMED.replace("none:", "none: {label: exact}"))
    expand(file)
    assert file.line(("methods", "bern-gs")) == 2
    assert file.line(("methods", "bern-gs", "params", "hidden")) == 13
    assert file.line(("methods", "bern-gs", "params", "layout")) == 6
    assert file.line(("methods", "bern-gs", "params", "rate")) == 9
    assert file.line(("methods", "cat-st", "baseline")) == 8


def test_written_out_lists_keep_their_lines(read):
    file = read("claims:\n- grid: {k: [1, 2]}\n  id: a-{k}\n- id: b\n  kind: order\n")
    assert [c["id"] for c in expand(file)["claims"]] == ["a-1", "a-2", "b"]
    assert [file.line(("claims", i, "id")) for i in range(3)] == [3, 3, 4]
    assert file.line(("claims", 2, "kind")) == 5
    assert file.line(("claims", 1, "kind")) == 2, "nothing is left of the line of what stood second"


@pytest.fixture
def read(tmp_path: Path):
    def read(text: str) -> YamlFile:
        (tmp_path / "s.yaml").write_text(text)
        return read_yaml(tmp_path / "s.yaml")

    return read


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("methods:\n  m-{k}: {grid: {k: 3}}\n", "s.yaml:2: 'k' must be a list of values, or map names"),
        ("methods:\n  m:\n    grid: []\n", "s.yaml:3: grid must map names to values"),
        ("methods:\n  m-{k}: {grid: {k: []}}\n", "s.yaml:2: 'k' must be a list of values, or map names"),
        ("methods:\n  m-{k}:\n    grid:\n      k:\n        a: 3\n", "s.yaml:5: what 'a' of 'k' says must be a mapping"),
        ("methods:\n  m-{k}:\n    grid: {k k: [1]}\n", "s.yaml:3: 'k k' is no name that can stand in braces"),
        ("methods:\n  m:\n    grid: {k: [1, 2]}\n", "s.yaml:2: 'm' does not name 'k' of its grid (put {k} in it)"),
        ("claims:\n- id: m\n  grid: {k: [1]}\n", "s.yaml:2: 'm' does not name 'k' of its grid (put {k} in it)"),
        ("methods:\n  m-{k}: {grid: {k: [1, 1]}}\n", "s.yaml:2: 'm-1' is written out twice"),
        ("methods:\n  m-1: {}\n  m-{k}: {grid: {k: [1]}}\n", "s.yaml:3: 'm-1' is written out twice"),
        ("methods:\n  m-{k}: {}\n", "s.yaml:2: {k} asks for 'k', which no grid has"),
        ("claims:\n- id: m-{k}-{j}\n  grid: {j: [1]}\n", "s.yaml:2: {k} asks for 'k', which no grid has"),
        ("claims:\n- {id: 'm-{j}', text: '{k.a}', grid: {j: [1]}}\n", "s.yaml:2: {k.a} asks for 'k'"),
        ("methods:\n  m-{k}:\n    matrix: {k: [1]}\n", "s.yaml:3: `matrix` is called `grid` (rename it)"),
    ],
)
def test_what_is_refused(read, text, words):
    with pytest.raises(UserError) as e:
        expand(read(text))
    assert words in str(e.value)


def test_a_grid_cannot_explode():
    grid = {name: list(range(100)) for name in "abcdefgh"}
    with pytest.raises(UserError, match=f"more than {MAX_ENTRIES}"):
        written(claims=[{"id": "".join(f"{{{a}}}" for a in grid), "grid": grid}])


def test_many_grids_cannot_explode_together():
    claims = [{"id": f"{i}-{{k}}", "grid": {"k": list(range(1000))}, "text": "x" * 1000} for i in range(100)]
    assert len(written(claims=claims[:2])["claims"]) == 2000
    with pytest.raises(UserError, match="grid writes out more than a suite may hold"):
        written(claims=claims)
