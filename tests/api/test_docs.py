"""What docs/python.md and the notebook show is what comes out."""

from __future__ import annotations

import doctest
import json
import os
from pathlib import Path

import pytest

from tests.project import PATIENCE, REPOSITORY

PAGE, NOTEBOOK = REPOSITORY / "docs/python.md", REPOSITORY / "docs/python.ipynb"


@pytest.fixture
def user(tmp_path, monkeypatch):
    """Somebody in a clone whose runs and data go elsewhere."""
    for name in ("LATENTBENCH_MIRROR", "WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LATENTBENCH_ROOT", str(REPOSITORY))
    monkeypatch.setenv("LATENTBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LATENTBENCH_RESULTS", str(tmp_path / "results"))
    path = [str(REPOSITORY / "benchmarks"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    return tmp_path


@pytest.mark.slow
def test_the_page_tells_the_truth(user):
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    text = PAGE.read_text().replace("```", "")
    parser = doctest.DocTestParser()
    test = parser.get_doctest(text, {}, "python.md", str(PAGE), 0)
    assert len(test.examples) > 25
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=options)
    runner.run(test, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


def test_the_notebook_has_ten_cells_and_no_output():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert len(cells) == 10
    assert [c for c in cells if c.get("outputs")] == [], "what came out belongs to whoever runs it"


@pytest.mark.slow
def test_the_notebook_runs(user):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=PATIENCE, resources={"metadata": {"path": str(user)}}).execute()
    shown = [out["data"] for c in notebook.cells for out in c.get("outputs", ()) if "data" in out]
    assert any("image/png" in data for data in shown)
    assert sum("text/html" in data for data in shown) >= 4, "DataFrames"


def test_the_page_names_what_there_is():
    import latentbench as lb

    page = PAGE.read_text()
    assert [name for name in lb.__all__ if f"lb.{name}" not in page] == []
    assert set(lb.__all__) <= set(dir(lb))
    assert Path(lb.__file__).parent.name == "latentbench"
