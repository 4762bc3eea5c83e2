"""What the tests' own projects are made of."""

from __future__ import annotations

import copy
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from latentbench.core.paths import results_dir
from latentbench.core.plugins import package_name
from latentbench.data.manifest import content_hash_if_known
from latentbench.planning.engines import todays_era
from latentbench.planning.fingerprint import digest, engine_hash
from latentbench.planning.plan import RunSpec, plan
from latentbench.records.design import Design
from latentbench.records.record import Cost, Measured, Provenance, Record, Status, read_record, seal, write_record
from latentbench.spec.loading import LoadedSuite, load_suite

REPOSITORY = Path(__file__).resolve().parents[1]
TOYS = REPOSITORY / "tests/toys"
#: Suites of ours that rerun no paper.
OWN = {"quickstart", "disentanglement-study", "image-likelihood-study", "representation-study"}
#: Seconds within which a process should have ended, on a machine that is slow and busy with other work.
PATIENCE = 900

#: A suite of two trained methods and a fitted one on generated data; a run takes milliseconds.
SUITE: dict[str, Any] = {
    "id": "small",
    "version": 3,
    "paper": {"title": "A small suite", "authors": ["A. Nobody"], "year": 2026},
    "datasets": {"line": {"protocol": "all", "preprocess": ["standardise"]}},
    "methods": {
        "wide": {"model": "toy", "params": {"spread": 2.0}, "label": "the wide one"},
        "narrow": {"model": "toy", "params": {"spread": 0.5}},
        "floor": {"model": "factorised", "baseline": True},
    },
    "metrics": {"nll": {}, "bits_per_dim": {"datasets": ["line"]}},
    "training": {"optimizer": {"name": "adam", "lr": 0.05}, "batch_size": 40, "epochs": 3},
    "tiers": {
        "smoke": {"seeds": 1, "training": {"epochs": 1}, "limit": {"train": 80}},
        "cpu": {"seeds": 3},
        "paper": {"seeds": [0, 1], "training": {"epochs": 4}},
    },
    "claims": [],
}

_ENTRY = """\
name: {name}
title: toy rows
kind: generated
modality: vector
about: Gaussian rows for the tests
citation: none
licence: CC0
generate: latentbench_toys:rows
params: {{dims: 4}}
splits:
  train: {{rows: 120}}
  valid: {{rows: 40, params: {{start: 1}}}}
  test: {{rows: 60, params: {{start: 2{poison}}}}}
columns:
  x: {{shape: [4], dtype: float32}}
  factors: {{shape: [2], dtype: int64}}
factors: [{{name: a, size: 3}}, {{name: b, size: 2}}]
protocols:
  all: {{train: train, valid: valid, test: test}}
  no-valid: {{train: train, test: test}}
"""

_LINEAR = """\
name: linear
title: linear-Gaussian rows
kind: generated
modality: vector
about: rows whose density is known
citation: none
licence: CC0
generate: latentbench.data.generated.gaussians:linear
oracle: latentbench.data.generated.gaussians:LinearGaussian
params: {dims: 5, latent: 2, noise: 0.5, structure_seed: 3}
splits:
  train: {rows: 400}
  test: {rows: 300}
columns:
  x: {shape: [5], dtype: float32}
  z: {shape: [2], dtype: float32}
"""


_CHAIN = """\
name: chain
title: a chain of nodes
kind: generated
modality: graph
about: nodes on a line
citation: none
licence: CC0
generate: latentbench_toys:chain
splits:
  nodes: {rows: 12, columns: {x: {shape: [3], dtype: float32}}}
  edges: {rows: 8, columns: {edge: {shape: [2], dtype: int32}}, params: {first: 0}}
  held: {rows: 3, columns: {edge: {shape: [2], dtype: int32}}, params: {first: 8}}
parts:
  edges: {column: edges.edge, role: edges}
  held_out: {column: held.edge, role: edges, splits: [test]}
protocols:
  graph: {train: nodes, test: nodes}
"""


def toy_entries() -> dict[str, str]:
    """Registry entries of the tests' datasets: name -> YAML."""
    poisons = {"line": "", "poisoned": ", poison: nan", "enlarged": ", poison: huge"}
    return {name: _ENTRY.format(name=name, poison=p) for name, p in poisons.items()} | {
        "linear": _LINEAR,
        "chain": _CHAIN,
    }


def whole(folder: Path) -> Path:
    """Make `folder` a project with a catalogue of its own, so that nothing shipped is seen in it."""
    (folder / "suites").mkdir()
    (folder / "suites" / "papers.yaml").write_text("[]\n")
    return folder


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines that say what is wrong."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


class Project:
    """A folder with suites and results, and the command line on it."""

    def __init__(self, root: Path, capture: pytest.CaptureFixture[str] | None = None) -> None:
        self.root, self._capture = root, capture

    @property
    def results(self) -> Path:
        return results_dir()

    def suite(self, changes: dict[str, Any] | None = None, name: str = "small") -> Path:
        """Write the small suite with changes laid over it: keys are dotted paths, a value of None removes the key."""
        data = changed(SUITE, {"id": name, **(changes or {})})
        return self.write(name, yaml.safe_dump(data, sort_keys=False))

    def write(self, name: str, text: str) -> Path:
        path = self.root / "suites" / f"{name}.yaml"
        path.write_text(text)
        return path

    def load(self, changes: dict[str, Any] | None = None, name: str = "small") -> LoadedSuite:
        return load_suite(self.suite(changes, name))

    def plan(self, tier: str = "cpu", changes: dict[str, Any] | None = None, **options: Any) -> list[RunSpec]:
        return plan(self.load(changes), tier, **options)  # type: ignore[arg-type]

    def __call__(self, *args: str) -> Answer:
        """`latentbench ARGS`, in this process."""
        from latentbench.cli.main import main

        assert self._capture is not None
        self._capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in args])
        said = self._capture.readouterr()
        return Answer(ended.value.code, said.out, said.err)  # type: ignore[arg-type]

    def run(self, *args: str) -> Answer:
        """`latentbench run ARGS`, one run after another in this process, untracked."""
        return self("run", *args, "--jobs", "0", "--wandb", "disabled", "--device", "cpu")

    def start(self, *args: str) -> subprocess.Popen[str]:
        """`latentbench ARGS` in a process of its own, which leads a group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "latentbench", *args],
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def records(self, suite: str = "small") -> dict[str, Record]:
        """Every record of a suite by cell (method--dataset--tier--seed)."""
        paths = (self.results / "runs" / suite).glob("*/record.json")
        found = [Record.model_validate_json(p.read_bytes()) for p in paths]
        return {r.run_id.rpartition("--")[0]: r for r in found}


def changed(data: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A deep copy of `data` with dotted paths set; a value of None removes the key."""
    out = copy.deepcopy(data)
    for path, value in changes.items():
        *folders, last = path.split(".")
        place: Any = out
        for part in folders:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        if value is None:
            del place[last]
        else:
            place[last] = copy.deepcopy(value)
    return out


def write_made_up(
    spec: RunSpec,
    values: dict[str, float | None],
    *,
    status: Status = "finished",
    identity: str | dict[str, str] = "a" * 12,
    data_hash: str | None = None,
    ended: str = "2026-01-01T00:00:00+00:00",
    code: str | None = None,
    asked: str | None = None,
    folder: Path | None = None,
    outcomes: Sequence[str] = (),
    errors: dict[str, float] | None = None,
    design: Design | None = None,
    made: dict[str, Any] | None = None,
) -> Path:
    """A record as a run of `spec` would have left it, with made-up values; where it was written.

    `errors` are standard errors over 100 test rows, by metric; `made` are parts of its provenance.
    `code`, `asked` and `data_hash` stand for the hashes of code, specification and data; by default they are today's.
    """
    data_hash = data_hash or content_hash_if_known(spec.data["source"]) or "0" * 64
    measured = []
    for m in spec.metrics:
        if m.key in values:
            kind = m.entry.kind(m.settings)
            own = identity if isinstance(identity, str) else identity.get(m.key, "a" * 12)
            value = values[m.key]
            measured.append(
                Measured(
                    name=m.key,
                    metric=m.name,
                    value=value,
                    se=(errors or {}).get(m.key),
                    n=100 if m.key in (errors or {}) else None,
                    unit=m.entry.unit,
                    better=m.entry.better,
                    likelihood=kind,
                    identity=own,
                    failure=None if value is not None else "made up",
                )
            )
    hashes = {"spec": asked or spec.spec_hash, "data": data_hash, "code": code or spec.code_hash}
    fingerprint = digest([*hashes.values(), todays_era()])
    hashes["engine"] = engine_hash()
    run_id = f"{spec.cell}--{fingerprint[:10]}"
    record = Record(
        run_id=run_id,
        suite=spec.suite,
        version=spec.suite_version,
        tier=spec.tier,
        method=spec.method,
        dataset=spec.dataset,
        seed=spec.seed,
        status=status,
        error=None if status == "finished" else "made up",
        outcomes=list(outcomes),
        fingerprint=fingerprint,
        hashes=hashes,  # type: ignore[arg-type]
        exact=spec.exact,
        spec=spec.settled(),
        metrics=measured,
        cost=Cost(wall_seconds=1.0),
        provenance=Provenance(
            **{"python": "3.11.0", "platform": "test", "device": "cpu", "threads": 1, "design": design}
            | {"started": ended, "ended": ended, **(made or {})}
        ),
    )
    path = (folder or results_dir() / "runs" / spec.suite) / run_id / "record.json"
    write_sealed(path, record)
    return path


def leave_curve(path: Path, text: str) -> None:
    """Put a learning curve beside a record, as its run would have."""
    (path.parent / "curve.csv").write_text(text)
    hashed = {"curve.csv": hashlib.sha256(text.encode()).hexdigest()}
    write_sealed(path, read_record(path).model_copy(update={"curve": "curve.csv", "files": hashed}))


def write_sealed(path: Path, record: Record) -> None:
    """Write a record with the seal that fits what is in it."""
    write_record(path, record.model_copy(update={"seal": seal(record)}))


def every_suite() -> list[Any]:
    """The id of each shipped suite as a parameter of a test that belongs to it (`tests.selection`)."""
    return [pytest.param(name, marks=pytest.mark.suite(name), id=name) for name in _suite_names()]


def marks_of(target: str) -> list[pytest.MarkDecorator]:
    """Marks of a test of what a paper declares (``latentbench.papers.gon.gon:GON``): it belongs to the paper's suite.

    A test of what papers share bears none, and always runs.
    """
    package = target.partition(":")[0].split(".")[2:3] if target.startswith("latentbench.papers.") else []
    return [pytest.mark.suite(name) for name in _suite_names() if package == [package_name(Path(name))]]


def _suite_names() -> list[str]:
    return sorted(path.parent.name for path in (REPOSITORY / "suites").glob("*/suite.yaml"))
