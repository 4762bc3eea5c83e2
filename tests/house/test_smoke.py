"""Every suite's smoke tier runs from end to end: its data, its models, its metrics, its verdicts."""

from __future__ import annotations

import json
import os

import pytest
from latentbench.data.api import status
from latentbench.planning.plan import plan
from latentbench.spec.loading import load_suite

from tests.project import REPOSITORY, every_suite

pytestmark = pytest.mark.slow

MIRROR = os.environ.get("LATENTBENCH_MIRROR")


@pytest.mark.parametrize("name", every_suite())
def test_the_smoke_tier_runs(project, monkeypatch, name):
    monkeypatch.setenv("LATENTBENCH_ROOT", str(REPOSITORY))
    if MIRROR:
        monkeypatch.setenv("LATENTBENCH_MIRROR", MIRROR)
    monkeypatch.delenv("LATENTBENCH_DATA")  # what is prepared once in a checkout serves all runs there
    runs = plan(load_suite(name), "smoke")
    if far := [s for s in sorted({r.data["source"] for r in runs}) if status(s).have in ("remote", "missing")]:
        pytest.skip(f"needs {', '.join(far)}, which LATENTBENCH_MIRROR does not lead to")
    answer = project.run(name, "--tier", "smoke", "--quiet")
    assert answer.code == 0, answer.err
    records = project.records(name)
    assert set(records) == {r.cell for r in runs}
    assert {r.status for r in records.values()} == {"finished"}
    assert [f"{cell} {m.name}: {m.failure}" for cell, r in records.items() for m in r.metrics if m.value is None] == []
    (found,) = json.loads(project("status", name, "--tier", "smoke", "--format", "json").out)
    assert (found["done"], found["to_do"]) == (len(runs), [])
