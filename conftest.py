"""A project of a test's own: suites in a temporary folder, data prepared once for all, a plug-in with toy models."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: workers side by side must not crowd the cores

import pytest
from hypothesis import settings
from latentbench.core import plugins
from latentbench.spec import registry

from tests.project import REPOSITORY, TOYS, Project, toy_entries, whole

pytest_plugins = ["tests.selection", "tests.deadline"]

settings.register_profile("latentbench", settings(), deadline=None, database=None)  # timing is the benchmarks' matter
settings.load_profile("latentbench")


@pytest.fixture(scope="session")
def shared_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder for the whole session: what one test prepares, the next finds."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "registry").mkdir()
    shutil.copy(REPOSITORY / "data/registry/digits.yaml", folder / "registry")
    for name, text in toy_entries().items():
        (folder / "registry" / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture
def own_data(project: Project, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of the test's own, with the shared registry, to which it may add."""
    folder = project.root / "data"
    shutil.copytree(shared_data / "registry", folder / "registry")
    monkeypatch.setenv("LATENTBENCH_DATA", str(folder))
    return folder


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plug-in of `tests/toys` is installed, here and in subprocesses."""
    monkeypatch.syspath_prepend(str(TOYS))
    path = [str(TOYS), str(REPOSITORY), str(REPOSITORY / "benchmarks"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    for known in (plugins.packages, registry.models, registry.metrics):
        known.cache_clear()
    yield
    for known in (plugins.packages, registry.models, registry.metrics):
        known.cache_clear()


@pytest.fixture
def project(
    tmp_path: Path, shared_data: Path, toys: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Project]:
    """An empty project with the toy plug-in, and the command line at hand."""
    for name in ("LATENTBENCH_MIRROR", "WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    whole(tmp_path)
    monkeypatch.setenv("LATENTBENCH_ROOT", str(tmp_path))
    monkeypatch.setenv("LATENTBENCH_DATA", str(shared_data))
    monkeypatch.setenv("LATENTBENCH_RESULTS", str(tmp_path / "results"))
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    yield Project(tmp_path, capfd)
    gc.enable()  # reading commands turn it off for their short life
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)  # and runs turn this on
    signal.signal(signal.SIGTERM, handler)
    entries = {"digits", *toy_entries()}
    assert {p.stem for p in (shared_data / "registry").iterdir()} == entries, "to add to the registry, use `own_data`"
