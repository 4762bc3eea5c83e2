import io
import json

import pytest
from rich.console import Console

from perf import report
from perf.figures import Figure


def figure(value: float, width: float = 0.01, **changes: object) -> Figure:
    known = {"name": "loop/case", "what": "A over B", "repeats": 7, "details": {"cpu_ratio": value}}
    return Figure(**{**known, "value": value, "low": value - width, "high": value + width, **changes})


def printed(*figures: Figure, before: dict[str, Figure] | None = None) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    report.show(figures, console, before)
    return console.export_text()


def test_a_file_holds_what_was_measured(tmp_path):
    path = tmp_path / "deep" / "figures.json"
    made = [figure(1.05, target=1.1), figure(0.2, name="startup/help", unit="s")]
    report.write(path, made, {"cpu": "one", "load_average": [0.1, 0.2, 0.3]}, quick=True, date="2026-01-01T00:00:00")
    found, rest = report.read(path)
    assert list(found.values()) == made
    assert (rest["quick"], rest["machine"]["cpu"]) == (True, "one")
    assert [f["met"] for f in json.loads(path.read_text())["figures"]] == [True, None]


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": 99, "figures": []}', "not JSON"])
def test_another_file_is_refused(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError):
        report.read(path)


@pytest.mark.parametrize(
    ("now", "before", "words"),
    [
        (1.30, 1.00, "slower, +30%"),
        (0.50, 1.00, "faster, -50%"),
        (1.01, 1.00, "the same within noise"),
    ],
)
def test_only_intervals_that_do_not_touch_are_a_change(now, before, words):
    assert report.change(figure(now), figure(before)) == words
    assert words in printed(figure(now), before={"loop/case": figure(before)})


def test_a_figure_without_an_earlier_one_is_new():
    assert "new" in printed(figure(1.0), before={})


def test_a_missed_target_shows_and_a_met_one_too():
    assert "yes" in printed(figure(1.05, target=1.10))
    assert "NO" in printed(figure(1.20, target=1.10))
    busy = figure(0.7, unit="s", target=0.5, details={"cpu_s": 0.3})
    assert "NO (CPU time: yes)" in printed(busy), "what an idle machine would have met is no target met"
    assert busy.met is False
