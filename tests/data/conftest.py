"""Fixtures of the data tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from latentbench.core import plugins

from tests.project import whole

from .tiny import Server, Workplace, mnist_files

REGISTRY = Path(__file__).resolve().parents[2] / "data" / "registry"
#: Every entry of ours, those in papers' folders among them.
ENTRY_FILES = sorted([*REGISTRY.glob("*.yaml"), *REGISTRY.parents[1].glob("suites/*/data/*.yaml")])


@pytest.fixture(autouse=True)
def _plug_ins_anew():
    """Which plug-ins are installed is looked up once a process; tests of other folders install one of their own."""
    yield
    plugins.packages.cache_clear()


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Empty registry, cache, prepared and mirror folders."""
    place = Workplace(tmp_path)
    monkeypatch.setenv("LATENTBENCH_ROOT", str(whole(tmp_path)))
    monkeypatch.setenv("LATENTBENCH_DATA", str(place.data))
    monkeypatch.setenv("LATENTBENCH_MIRROR", str(place.mirror))
    return place


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """The project's registry over an empty cache and prepared folder; the mirror is the one of the environment."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "registry").symlink_to(REGISTRY)
    monkeypatch.setenv("LATENTBENCH_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def mirror():
    """The folder of real data, where there is one."""
    named = os.environ.get("LATENTBENCH_MIRROR")
    if not named or not Path(named).is_dir():
        pytest.skip("LATENTBENCH_MIRROR names no folder of real data")
    return Path(named)


@pytest.fixture
def served():
    """A server with the files of a tiny MNIST."""
    files, _ = mnist_files()
    server = Server(files)
    yield server
    server.close()
