"""Tables on narrow terminals."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from latentbench.cli.folding import folded, left_out, widths
from rich.text import Text


def lines(text: str, width: int) -> list[str]:
    return folded(Text(text), width).plain.split("\n")


def test_words_break_at_their_joints():
    assert lines("light-schrodinger-bridge", 12) == ["light-", "schrodinger-", "bridge"]
    assert lines("light-schrodinger-bridge", 18) == ["light-schrodinger-", "bridge"]
    assert lines("rotated-mnist, cifar10", 10) == ["rotated-", "mnist, cifar10"]
    assert lines("short words stay", 6) == ["short words stay"]
    assert lines("Disentanglement", 6) == ["Disentanglement"], "rich cuts what has no joint"


def test_styles_stay():
    cell = folded(Text.assemble(("one-two", "red"), "-three"), 5)
    assert cell.plain == "one-\ntwo-\nthree"
    assert {cell.plain[s.start : s.end] for s in cell.spans if s.style == "red"} == {"one-", "two"}


@given(st.text(alphabet="ab-_/ ", max_size=40), st.integers(1, 20))
def test_nothing_is_lost(text, width):
    assert folded(Text(text), width).plain.replace("\n", "") == text


ROWS = [[Text("marginalization-models"), Text("3"), Text("a long title of many words, all short")]]
COLUMNS = ["id", "version", "title"]


def test_the_name_of_a_row_is_cut_last():
    assert widths(COLUMNS, ROWS, 200) == [22, 7, 37]
    assert widths(COLUMNS, ROWS, 60) == [22, 7, 24]
    narrow = widths(COLUMNS, ROWS, 40)
    assert narrow[0] >= len("marginalization-"), "a piece of it stays whole"
    assert sum(narrow) <= 40 - 7


@given(st.lists(st.text(max_size=60), min_size=1, max_size=9), st.integers(20, 200))
def test_widths_fit(texts, room):
    columns = [str(i) for i in range(len(texts))]
    found = widths(columns, [[Text(t) for t in texts]], room)
    assert min(found) >= 1
    assert sum(found) <= max(room, len(found))


def test_minor_columns_go_where_the_others_would_not_be_read():
    assert left_out(COLUMNS, ROWS, 200, ["version"]) == []
    assert left_out(COLUMNS, ROWS, 41, ["version"]) == ["version"]
    assert left_out(COLUMNS, ROWS, 10, ["version"]) == ["version"], "no others go"
