"""Generated data are the same bytes whatever kernels a processor has for matrix products and elementary functions, on
however many threads."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import pytest
from latentbench.data.generated.rooms import subset
from latentbench.data.registry import load_entry

from tests.project import REPOSITORY

#: Rows of each split that are made: of rooms and series, which take longest, fewer.
_ROWS = 120
_MAKE = """
import hashlib, json, sys
import numpy as np
from latentbench.core.seeds import derive
from latentbench.data.columns import Ragged
from latentbench.data.registry import call, load_entry

found = {}
for name in json.loads(sys.argv[1]):
    entry = load_entry(name)
    split, declared = next(iter(entry.splits.items()))
    rng = np.random.default_rng(derive(entry.seed, "data", name, split))
    params = {**entry.params, **declared.params}
    made = call("generator", entry.generate, min(declared.rows, ROWS), rng, **params)
    hashed = hashlib.sha256()
    for column in made.values():
        parts = (column.values, column.offsets) if isinstance(column, Ragged) else (column,)
        for part in parts:
            hashed.update(np.ascontiguousarray(part).tobytes())
    found[name] = hashed.hexdigest()
print(json.dumps(found))
""".replace("ROWS", str(_ROWS))


def _generated() -> list[str]:
    """Every generated dataset, the papers' own too."""
    files = [*REPOSITORY.glob("data/registry/*.yaml"), *REPOSITORY.glob("suites/*/data/*.yaml")]
    return [f.stem for f in sorted(files) if "\nkind: generated\n" in f.read_text(encoding="utf-8")]


def _made(**kernels: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", _MAKE, json.dumps(_generated())],
        env=os.environ | kernels,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode < 0:
        pytest.skip("this processor lacks the instructions of those kernels")
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def here() -> dict[str, str]:
    return _made(OPENBLAS_NUM_THREADS="1")


@pytest.mark.slow
@pytest.mark.parametrize(("core", "threads"), [("Prescott", "1"), ("Haswell", "2"), ("SkylakeX", "2")])
def test_no_byte_depends_on_the_kernels_of_matrix_products(here, core, threads):
    assert len(here) > 20
    assert _made(OPENBLAS_CORETYPE=core, OPENBLAS_NUM_THREADS=threads) == here


@pytest.mark.slow
def test_no_byte_depends_on_the_kernels_of_elementary_functions(here):
    """Numpy's own sine and exponential of float32 have other bits without fused multiply-adds."""
    without = "X86_V3 X86_V4 AVX2 FMA3 AVX512F AVX512_SKX"
    wave = "import numpy as np; print(np.sin(np.linspace(0, 6, 999, dtype=np.float32)).tobytes().hex())"
    plain, other = (
        subprocess.run([sys.executable, "-c", wave], env=os.environ | env, capture_output=True, text=True, check=True)
        for env in ({}, {"NPY_DISABLE_CPU_FEATURES": without})
    )
    if plain.stdout == other.stdout:
        pytest.skip("this processor or numpy has no other kernels")
    assert _made(NPY_DISABLE_CPU_FEATURES=without, OPENBLAS_NUM_THREADS="1") == here


def test_small_rooms_are_the_bytes_that_results_were_measured_on():
    """Their content is part of what `hvae-ood` measures."""
    entry = load_entry("rooms3d-small")
    made = subset(64, None, **entry.params, first=0)
    assert hashlib.sha256(made["x"].tobytes()).hexdigest()[:16] == "3c79b0cf233a860d"
