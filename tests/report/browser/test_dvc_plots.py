"""What `dvc plots` draws shows in a browser without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from latentbench.report.vega import write_library

from tests.project import REPOSITORY, Project
from tests.report.conftest import CHANGES, fill

pytestmark = pytest.mark.slow

pytest.importorskip("dvc", reason="DVC is not installed")


@pytest.fixture
def plotted(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pipeline's tables of made-up records, and DVC's page of them."""
    root = project.root
    fill(project, CHANGES)
    assert project("leaderboard", "--write", str(project.results)).code == 0
    write_library(project.results / "vega.js")
    shutil.copytree(REPOSITORY / ".dvc/plots", root / ".dvc/plots")
    for name in ("dvc.yaml", "params.yaml", ".dvc/config", ".gitignore"):
        shutil.copy(REPOSITORY / name, root / name)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(root / "scratch"))
    subprocess.run(["git", "init", "--quiet", root], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "plots", "show"],
        cwd=root,
        env=os.environ | {"DVC_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "dvc_plots/index.html"


def test_they_show_without_a_network(visit, plotted):
    shown = visit(plotted)
    drawn = shown.page.locator("canvas, svg.marks")
    drawn.nth(1).wait_for()
    assert drawn.count() == 2, "leaderboards and learning curves"
    assert min(box["width"] for d in drawn.all() if (box := d.bounding_box())) > 200
    assert [c for c in shown.complaints if not c.startswith("warning")] == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in shown.requests), shown.requests


def test_without_the_library_a_server_is_asked(visit, plotted):
    (plotted.parents[1] / "results/vega.js").unlink()
    asked = visit(plotted).requests
    assert any("vega-lite" in url for url in asked if url.startswith("https:"))
