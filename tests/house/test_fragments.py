"""What grows with every paper is collected from files of its own: changelog entries, and what came out."""

from __future__ import annotations

import runpy

import pytest
from latentbench.planning.plan import plan
from latentbench.spec.loading import load_suite

from tests.project import REPOSITORY, write_made_up

CHANGES = sorted((REPOSITORY / "changes").glob("*.md"))


@pytest.mark.parametrize("path", CHANGES, ids=lambda p: p.stem)
def test_a_fragment_is_a_list(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("- ")
    assert all(line.startswith(("- ", "  ")) and not line.endswith(" ") for line in lines)


def test_a_release_collects_the_fragments(tmp_path):
    (tmp_path / "changes").mkdir()
    (tmp_path / "changes/b-paper.md").write_text("- Suite `b-paper`.\n")
    (tmp_path / "changes/a-paper.md").write_text("- Suite `a-paper`,\n  with its model.\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\nHow it is kept.\n\n## 0.1.0, 2026-01-01\n\n- First.\n")
    runpy.run_path(str(REPOSITORY / "docs/changelog.py"))["release"]("0.2.0", tmp_path)
    lines = (tmp_path / "CHANGELOG.md").read_text().splitlines()
    heads = [line.partition(",")[0] for line in lines if line.startswith("#")]
    assert heads == ["# Changelog", "## 0.2.0", "## 0.1.0"]
    at = next(i for i, line in enumerate(lines) if line.startswith("## 0.2.0"))
    assert lines[at + 2 : at + 5] == ["- Suite `a-paper`,", "  with its model.", "- Suite `b-paper`."]
    assert list((tmp_path / "changes").iterdir()) == []


def test_the_page_of_suites_counts_verdicts_and_quotes_notes(project):
    claim = {"id": "wide-first", "kind": "order", "text": "wide over narrow", "where": "Table 1", "metric": "nll"}
    claim |= {"dataset": "line", "better": "wide", "worse": "narrow"}
    path = project.suite({"claims": [claim]})
    folder = project.root / "suites/small"
    folder.mkdir()
    path.rename(folder / "suite.yaml")
    (folder / "notes.md").write_text("Wide is ahead.\n")
    page = runpy.run_path(str(REPOSITORY / "docs/suites.py"))["page"]
    assert not any("| `small` |" in line for line in page()), "nothing has been run"
    for run in plan(load_suite(folder / "suite.yaml"), "cpu"):
        write_made_up(run, {"nll": {"wide": 1.0, "narrow": 2.0, "floor": 9.0}[run.method] * (1 + 0.01 * run.seed)})
    lines = list(page())
    assert "| `small` | cpu | 1 | 0 | 0 | 0 | 0 | 0 |" in lines
    assert lines[-1] == "\n## small\n\nWide is ahead."
