"""YAML laid out one way: nothing said is changed, and a second time changes nothing."""

from __future__ import annotations

import random
import textwrap
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from latentbench.core.yamlfile import parse_yaml
from latentbench.core.yamlformat import WIDTH, formatted
from latentbench.core.yamlsource import Source

PLACE = Path("some.yaml")

words = st.text("abcXYZ09é-.,:#'\"{}[]&*!|>%@`?= ±", min_size=1, max_size=12)
texts = st.lists(words, min_size=1, max_size=30).map(" ".join)
scalars = st.one_of(texts, st.integers(), st.floats(-1e9, 1e9), st.booleans(), st.none(), st.text("a\n b", max_size=9))
keys = st.text("abcdef-_{}", min_size=1, max_size=10)
data = st.dictionaries(
    keys,
    st.recursive(
        scalars,
        lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(keys, inner, max_size=6)),
        max_leaves=25,
    ),
    min_size=1,
    max_size=5,
)


def commented(text: str, rng: random.Random) -> str:
    """`text` with comments and blank lines put in, where they are none of the data."""
    rows = text.splitlines()
    for _ in range(rng.randrange(6)):
        at = rng.randrange(len(rows) + 1)
        what = rng.choice(("", "# a comment", "    # indented", "beside"))
        if what == "beside":
            at = min(at, len(rows) - 1)
            new = [*rows[:at], f"{rows[at]}  # beside {at}", *rows[at + 1 :]]
        else:
            new = [*rows[:at], what, *rows[at:]]
        try:
            same = yaml.safe_load("\n".join(new)) == yaml.safe_load("\n".join(rows))
        except yaml.YAMLError:
            same = False
        rows = new if same else rows
    return "\n".join(rows) + "\n"


@given(data, st.sampled_from([None, True, False]), st.sampled_from([20, 80, 1000]), st.randoms(use_true_random=False))
def test_the_data_and_the_comments_stay(what, flow, width, rng):
    text = commented(yaml.safe_dump(what, default_flow_style=flow, width=width, allow_unicode=True), rng)
    assume(parse_yaml(text, PLACE).data is not None)
    found = formatted(text)
    assert parse_yaml(found, PLACE).data == parse_yaml(text, PLACE).data
    assert sorted(Source(found).comments) == sorted(Source(text).comments)
    assert formatted(found) == found, "a second time changes nothing"
    assert not any(line != line.rstrip() for line in found.splitlines() if "'" not in line and '"' not in line)


@given(st.lists(st.text("abc0", min_size=1, max_size=15), min_size=1, max_size=60), st.booleans())
def test_no_line_is_too_long(names, flow):
    what = {"names": names, "text": " ".join(names), "a: b": {"deep": [" ".join(names), {"k": names}]}}
    text = yaml.safe_dump(what, default_flow_style=flow, width=10_000)
    assert max(map(len, formatted(text).splitlines())) <= WIDTH


def check(before: str, after: str) -> None:
    before, after = textwrap.dedent(before).lstrip("\n"), textwrap.dedent(after).lstrip("\n")
    assert formatted(before) == after
    assert formatted(after) == after


def test_what_fits_stays_as_it_is():
    check(
        """
        # what it is
        id: x

        a: {b: 1, "c": [1.0e-3, '2']}  # beside
        d:
          - {e: 1}
          # before f
          - f:
              g: h
        i: >
          folded as the author
          liked it
        """,
        """
        # what it is
        id: x

        a: {b: 1, "c": [1.0e-3, '2']}  # beside
        d:
          - {e: 1}
          # before f
          - f:
              g: h
        i: >
          folded as the author
          liked it
        """,
    )


def test_indents_blanks_and_spaces_are_made_alike():
    check(
        """
        a:
        - 1
        -   b:    2
            c: {d:   3,e: [4,5], }


        f:
              g: 6
              # at the end of f
        # before h
        h: {}
        """,
        """
        a:
          - 1
          - b: 2
            c: {d: 3, e: [4, 5]}

        f:
          g: 6
          # at the end of f
        # before h
        h: {}
        """,
    )


def test_long_things_are_broken():
    name, text = "n" * 30, " ".join(["word"] * 24)
    check(
        f"""
        a: {{first: {name}, second: [{name}, 1], third: {{deep: {name}, deeper: 2}}, fourth: "{name}"}}  # why
        b: [{name}1, {name}2, {name}3, {name}4]
        c:
          - {{text: {text}}}
          - "{text}"
        d: >-
          {text}

          {text}
        """,
        f"""
        a:  # why
          first: {name}
          second: [{name}, 1]
          third: {{deep: {name}, deeper: 2}}
          fourth: "{name}"
        b: [{name}1, {name}2, {name}3,
          {name}4]
        c:
          - text: {" ".join(["word"] * 22)}
              word word
          - "{" ".join(["word"] * 23)}
            word"
        d: >-
          {" ".join(["word"] * 23)}
          word

          {" ".join(["word"] * 23)}
          word
        """,
    )


def test_comments_within_braces_and_too_long_beside_something():
    long = "# " + "c" * 100
    check(
        f"""
        a: {{  # of b
          b: 1,
          # before c
          c: 2}}
        d: [1,
          2]  # at the end
        e: a text of some length  {long}
        """,
        f"""
        a:  # of b
          b: 1
          # before c
          c: 2
        d: [1, 2]  # at the end
        {long}
        e: a text of some length
        """,
    )


@pytest.mark.parametrize("text", ["", "just text\n", "[]\n", "{}\n", "# nothing\n"])
def test_what_holds_nothing_stays(text):
    assert formatted(text) == text
