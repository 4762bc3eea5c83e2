"""Loading by name, and finding a module's source without running it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from latentbench.core.imports import load, module_file


def test_load():
    assert load("math:hypot")(3, 4) == 5
    with pytest.raises(ImportError):
        load("no_such_module:x")
    with pytest.raises(AttributeError):
        load("math:no_such_name")


def test_module_file_agrees_with_the_import_system():
    import latentbench.core.seeds
    import latentbench.spec

    assert module_file("latentbench.core.seeds") == Path(latentbench.core.seeds.__file__)
    assert module_file("latentbench.spec") == Path(latentbench.spec.__file__)
    assert module_file("json.decoder") == Path(sys.modules["json.decoder"].__file__)
    for name in ("latentbench.core.absent", "sys", "no_such_module", "json.absent"):
        assert module_file(name) is None


def test_finding_a_module_does_not_import_it():
    code = (
        "import sys; from latentbench.core.imports import module_file;"
        "assert module_file('latentbench.training.loop').name == 'loop.py';"
        "assert 'torch' not in sys.modules and 'latentbench.training.loop' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
