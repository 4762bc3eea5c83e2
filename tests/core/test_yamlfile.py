"""YAML as plain data with line numbers; whatever the text, data or a UserError."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.core.yamlfile import MAX_BYTES, MAX_DEPTH, read_plain, read_yaml
from latentbench.core.yamlschema import parse
from pydantic import BaseModel, ConfigDict


@pytest.fixture
def read(tmp_path: Path):
    def read(text: str) -> Any:
        path = tmp_path / "some.yaml"
        path.write_text(text, encoding="utf-8")
        return read_yaml(path)

    return read


def fault(read: Any, text: str) -> str:
    with pytest.raises(UserError) as e:
        read(text)
    assert "\n" not in str(e.value)
    return str(e.value)


def test_every_value_knows_its_line(read):
    file = read("a: 1\nb:\n  - x\n  - c: 2\n    d:\n\n      e: 3\n")
    assert file.data == {"a": 1, "b": ["x", {"c": 2, "d": {"e": 3}}]}
    lines = {("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 1, "c"): 4, ("b", 1, "d"): 5, ("b", 1, "d", "e"): 7}
    assert {path: file.line(path) for path in lines} == lines
    assert file.line(("b", 1, "missing", "deeper")) == 4, "what is missing belongs to its nearest parent"


def test_error_names_file_line_and_fix(read):
    file = read("a: 1\nb: 2\n")
    assert str(file.error("is wrong", ("b",), "mend it")).endswith("some.yaml:2: is wrong (mend it)")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E-3", 0.001),
        ("-2e5", -200000),
        ("2.0e5", 200000.0),
        ("1e0", 1),
        ("0e0", 0),
        (".5e1", 5.0),
        ("3", 3),
        ("0.5", 0.5),
        ("'1e-3'", "1e-3"),
        ('"1e-3"', "1e-3"),
        ("1e-3x", "1e-3x"),
        ("e", "e"),
        ("tree", "tree"),
        ("2026-01-01", "2026-01-01"),
        ("true", True),
        ("no", "no"),
        ("On", "On"),
        ("YES", "YES"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("-1:30:00.5", "-1:30:00.5"),
        ("1_000", 1000),
        ("0x1f", 31),
        ("0", 0),
        ("0.5e-1", 0.05),
        ("0o17", "0o17"),
        ("'010'", "010"),
        ("null", None),
        ("", None),
    ],
)
def test_scalars(read, text, value):
    found = read(f"a: {text}\n").data["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: [1, 2\n", 3, "not YAML"),
        ("a: 1\n\tb: 2\n", 2, "not YAML"),
        ("a: 1\nb: 2\na: 3\n", 3, "'a' stands twice"),
        ("1: x\n'1': y\n", 2, "'1' stands twice"),
        ("a: &x [1]\nb: *x\n", 2, "aliases"),
        ("- &x a\n- {*x : 1}\n", 2, "aliases"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]\n", 2, "not allowed"),
        ("b: !thing {a: 1}\n", 1, "not allowed"),
        ("b: !!set {a, b}\n", 1, "not allowed"),
        ("b: !!binary aGk=\n", 1, "not allowed"),
        ("base: {a: 1}\nb:\n  <<: {c: 2}\n", 3, "not allowed"),
        ("? [a, b]\n: 1\n", 1, "not allowed"),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
        ("a: !!int x\n", 1, "not a value"),
        ("a: 1\nb: 010\n", 2, "'010' may be octal or decimal (write 10,"),
        ("a: [1, -08]\n", 1, "'-08' may be octal or decimal (write 8,"),
        ("a: 0_7\n", 1, "may be octal or decimal"),
        ("a: !!bool x\n", 1, "not a value"),
        ("a: 1\nb: .nan\n", 2, "no number"),
        ("b: 1e999\n", 1, "no number"),
        ("b: -.inf\n", 1, "no number"),
        ("b: " + "9" * 5000, 1, "not a value"),
        ("a:\n  " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), 2, "nested too deeply"),
        ("[" * 200_000, 1, "nested too deeply"),
        ("- " * 100_000, 1, "nested too deeply"),
    ],
)
def test_what_is_refused(read, text, line, words):
    said = fault(read, text)
    assert words in said
    assert f"some.yaml:{line}: " in said
    assert said.endswith(")"), "it says how to mend it"
    assert len(said) < 300


def test_keys_are_as_they_are_written(read):
    keys = ["no", "On", "true", "null", "010", "1:30", "1e3", "1.0", "~", "0x1f"]
    assert list(read("".join(f"{k}: x\n" for k in keys)).data) == keys


@given(st.from_regex(r"[-+]?[0-9_:.eExob]{1,8}", fullmatch=True))
@example("1:30")
@example("012")
def test_a_number_is_what_it_looks_like_or_no_number(tmp_path_factory, text):
    """What reads as a number is one in the plainest sense, with underscores for thousands at most."""
    path = tmp_path_factory.getbasetemp() / "number.yaml"
    path.write_text(f"a: {text}\n", encoding="utf-8")
    found = data_or_error(path)
    value = found["a"] if isinstance(found, dict) else found
    if isinstance(value, int | float):
        plain_text = text.replace("_", "")
        assert value == (
            int(plain_text, 0) if plain_text.lower().lstrip("+-")[:2] in ("0x", "0b") else float(plain_text)
        )


def test_unreadable_files(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        read_yaml(tmp_path)
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        read_yaml(binary)
    large = tmp_path / "l.yaml"
    large.write_bytes(b"a" * (MAX_BYTES + 1))
    with pytest.raises(UserError, match="larger"):
        read_yaml(large)


#: What YAML is made of, to be strung together at random.
PIECES = (
    "a|b: |- |\n|  |[|]|{|}|,|&x |*x|!!int |!!bool |!t |? |: |>|'|\"|#|%YAML 1.1\n|---\n|...|1e5|0x1f|.inf|1:30|~|<<"
)
fragments = st.sampled_from([*PIECES.split("|"), "|", "\\u", "\t", "\0", "é", "=", "-"])


@given(st.one_of(st.text(), st.lists(fragments, max_size=25).map("".join)))
@example("!!timestamp x")
@example("!!float .")
@example("\ud7ff\ue000")
def test_any_text_gives_plain_data_or_a_user_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    assert plain(data_or_error(path))


def data_or_error(path: Path) -> Any:
    """What the file holds, or the one line that says what is wrong with it; any other exception passes."""
    try:
        return read_yaml(path).data
    except UserError as e:
        return None if "\n" not in str(e) else e


def plain(data: Any) -> bool:
    if isinstance(data, dict):
        return all(isinstance(k, str) and plain(v) for k, v in data.items())
    if isinstance(data, list):
        return all(map(plain, data))
    return data is None or isinstance(data, str | bool | int) or (isinstance(data, float) and math.isfinite(data))


#: Text that YAML 1.1 writes bare and every reader of a suite takes for a number.
POWER_OF_TEN = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")

json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(-1e300, 1e300, allow_subnormal=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8).filter(
        lambda text: not POWER_OF_TEN.fullmatch(text)
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcxyz_-", min_size=1), inner, max_size=3),
    max_leaves=12,
)


@given(json_like, st.booleans())
def test_what_yaml_writes_comes_back(tmp_path_factory, data, flow):
    path = tmp_path_factory.getbasetemp() / "back.yaml"
    path.write_text(yaml.safe_dump(data, default_flow_style=flow, allow_unicode=True), encoding="utf-8")
    file = read_yaml(path)
    assert file.data == data
    rows = path.read_text(encoding="utf-8").splitlines()
    assert all(1 <= line <= len(rows) for line in file.lines.values())


def test_read_plain_agrees_and_says_where(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("- {id: a, year: 2020}\n- {id: b}\n")
    assert read_plain(path) == read_yaml(path).data
    path.write_text("- [no, 1:30, 1e-3, 1e5, true, 2026-01-01, yes]\n")
    assert read_plain(path) == read_yaml(path).data == [["no", "1:30", 0.001, 100000, True, "2026-01-01", "yes"]]
    path.write_text("- 1\n- 010\n")
    with pytest.raises(UserError, match=r"p\.yaml:2: '010' may be octal"):
        read_plain(path)
    path.write_text("- a\n- [b\n")
    with pytest.raises(UserError, match=r"p\.yaml:3: not YAML"):
        read_plain(path)


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int
    word: Literal["left", "right"] = "left"


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    inner: Inner | None = None
    several: dict[str, Inner] = {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\ninnner: {size: 1}\n", "some.yaml:2: unknown key 'innner' (did you mean 'inner'?)"),
        ("name: a\ninner:\n  sise: 1\n", "some.yaml:3: unknown key 'inner.sise' (did you mean 'size'?)"),
        ("name: a\nseveral:\n  x: {size: 1}\n  y: {size: 2, wrd: left}\n", "some.yaml:4: unknown key 'several.y.wrd'"),
        ("name: a\ninner: {}\n", "some.yaml:2: 'inner.size' is missing (add it)"),
        ("name: a\ninner:\n  size: many\n", "some.yaml:3: inner.size: input should be a valid integer"),
        ("name: a\ninner:\n  size: 1\n  word: up\n", "some.yaml:4: inner.word: input should be 'left' or 'right'"),
    ],
)
def test_parse_explains_the_first_fault(read, text, expected):
    file = read(text)
    with pytest.raises(UserError) as e:
        parse(file, Outer)
    assert expected in str(e.value)


def test_parse_gives_the_model(read):
    assert parse(read("name: a\ninner: {size: 2}\n"), Outer) == Outer(name="a", inner=Inner(size=2))
