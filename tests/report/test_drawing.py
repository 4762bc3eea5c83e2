"""Scales, numbers and fronts."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentbench.report import plots, strips, wording
from latentbench.report.svg import Scale, element

FINITE = st.floats(-1e12, 1e12, allow_nan=False)


@given(st.lists(FINITE, min_size=1, max_size=20), st.booleans())
def test_a_scale_holds_its_values_in_order_and_has_ticks_within(values, log):
    scale = Scale.over(values, log=log, start=0.1, end=0.9)
    shown = sorted(v for v in values if v > 0) if log else sorted(values)
    places = [scale.at(v) for v in shown]
    assert all(0.1 <= p <= 0.9 for p in places)
    assert places == sorted(places)
    ticks = scale.ticks()
    assert len(ticks) <= 8
    slack = 1e-6 * (scale.high - scale.low)
    assert all(scale.low - slack <= t <= scale.high + slack for t in ticks)


@given(st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=9, unique=True))
def test_ticks_that_differ_have_labels_that_differ(values):
    marks = Scale.over(values).labelled()
    assert len({label for _, label in marks}) == len(marks)


def test_text_is_escaped_wherever_it_goes():
    drawn = element("text", "<b>&", x='"><script>', aria_label="a'b\u202e")
    assert "<b>" not in drawn
    assert "<script" not in drawn
    assert "\u202e" not in drawn
    assert drawn.count('"') == 4


@pytest.mark.parametrize(
    ("value", "half", "shown"),
    [
        (97.0042, 0.4013, "97.00"),
        (0.91581, 0.0079, "0.9158"),
        (-1.5, 0.3, "−1.50"),
        (250034.2, 120.0, "250034"),
        (3.0, None, "3"),
        (0.84, None, "0.8400"),
    ],
)
def test_numbers_show_two_digits_of_their_interval(value, half, shown):
    assert wording.number(value, wording.decimals(half, value)) == shown


def test_a_strip_says_what_it_shows():
    strip = strips.Strip("wide", [1.0, 2.0, 3.0], 2.0, 0.5, 3.5, reported=9.0)
    drawn = strips.track(strip, Scale(0, 10), unit="nats")
    assert drawn.count("<circle") == 3
    assert [float(x) for x in re.findall(r'cx="([\d.]+)%"', drawn)] == [10, 20, 30]
    assert "wide: 2.0 nats, 95% interval 0.5 to 3.5, 3 seeds; the paper reports 9" in drawn


def test_strips_without_numbers_are_drawn():
    chart = strips.chart([strips.Strip("none", [], None), strips.Strip("one", [2.0], 2.0)])
    assert [row.text for row in chart.rows] == ["–", "2"]


@given(
    st.lists(st.tuples(st.floats(0.1, 100), st.floats(-5, 5)), min_size=1, max_size=12),
    st.sampled_from(["lower", "higher"]),
)
def test_the_front_is_what_nothing_beats(points, better):
    sign = -1 if better == "higher" else 1
    named = [plots.Point(str(i), str(i), x, y) for i, (x, y) in enumerate(points)]
    for p, (x, y) in zip(plots.pareto(named, better), points, strict=True):
        beaten = any((a <= x and sign * b < sign * y) or (a < x and sign * b <= sign * y) for a, b in points)
        assert not (p.best and beaten)
        if not p.best and not beaten:  # one of several that are the same
            assert sum((a, b) == (x, y) for a, b in points) > 1


def test_long_curves_are_thinned_with_their_ends():
    points = [(float(i), math.sin(i)) for i in range(5000)]
    kept = plots.thinned(points)
    assert len(kept) == plots.MOST_POINTS
    assert (kept[0], kept[-1]) == (points[0], points[-1])


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "//x.org", "http://", "http://[", ""]
)
def test_no_link_but_to_the_web(address):
    assert wording.web_address(address) is None
    assert wording.arxiv_address(address) is None


@pytest.mark.parametrize(
    ("value", "shown"), [(0.09, "0.09"), (3.0, "3"), (-86.76, "−86.76"), (1e-7, "1.00e−07"), (None, "")]
)
def test_reported_numbers_have_the_digits_that_were_written(value, shown):
    assert wording.printed(value) == shown


def test_links_to_the_web():
    assert wording.web_address("https://github.com/a/b") == "https://github.com/a/b"
    assert wording.arxiv_address("1509.00519v4") == "https://arxiv.org/abs/1509.00519v4"
    assert wording.arxiv_address("cs.LG/0501001") == "https://arxiv.org/abs/cs.LG/0501001"
