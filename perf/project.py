"""A project of its own in a temporary folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from latentbench.core.paths import data_dir
from latentbench.core.trust import VARIABLE


@contextmanager
def project(suite: Mapping[str, Any], datasets: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[Path]:
    """A temporary project with one suite, which `os.environ` points at; its folder.

    Args:
        suite: as in a suite file.
        datasets: registry entries; None leaves the checkout's registry and prepared data.
    """
    with TemporaryDirectory(prefix="latentbench-bench-") as folder:
        root = Path(folder)
        _write(root / "suites" / "papers.yaml", [])
        _write(root / "suites" / f"{suite['id']}.yaml", suite)
        for name, entry in (datasets or {}).items():
            _write(root / "data" / "registry" / f"{name}.yaml", entry)
        places = {"ROOT": root, "DATA": data_dir() if datasets is None else root / "data", "RESULTS": root / "results"}
        before = dict(os.environ)
        os.environ |= {f"LATENTBENCH_{name}": str(place) for name, place in places.items()}
        os.environ[VARIABLE] = "1"  # the entries name code of this folder
        try:
            yield root
        finally:
            os.environ.clear()
            os.environ |= before


def _write(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
