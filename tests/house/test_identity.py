"""What a run is known by survives growth and moving, and nothing that it executes escapes it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
from latentbench.data.api import status
from latentbench.planning.fingerprint import code_definitions, engine_definitions, engine_roots, of_engine, of_runs
from latentbench.planning.plan import RunSpec, plan
from latentbench.records.former import FILE
from latentbench.running.experiment import run_experiment
from latentbench.spec.loading import load_suite

from tests.house.tracing import Seen, traced
from tests.house.trees import Hashes, cells_of, copied, engine_of, planted, sources_in, together
from tests.project import REPOSITORY, every_suite

pytestmark = pytest.mark.slow

#: Additions that change no result, and so no run: to a file below benchmarks/latentbench.
GROWTH = {
    "data/steps.py": "\n\nclass Another(Flatten):\n    name = 'another'\n",
    "training/optim.py": "\n\ndef another() -> None: ...\n",
    "models/checks.py": "\n\nANOTHER = 1\n",
    "metrics/likelihood.py": "\n\ndef another() -> float:\n    return _ONE\n\n\n_ONE = 1.0\n",
    "models/nets.py": "\n\nclass Another(nn.Module):\n    pass\n",
    "models/likelihoods.py": "\n\nfrom latentbench.models.vae import VAE as OurVAE\n",
    "models/densities.py": "\n\nannotated: int = 3\n",
    "evaluation/likelihood.py": "\n\nfrom latentbench.models.pixelcnn import *\n",
    "core/types.py": "\n\nfrom latentbench.models.vae import VAE\n",
}


@pytest.fixture(scope="module")
def cells() -> dict[str, RunSpec]:
    return cells_of()


@pytest.fixture(scope="module")
def before(cells: dict[str, RunSpec]) -> list[str]:
    return Hashes(sources_in(REPOSITORY)).all(cells.values())


def test_growth_changes_no_run_and_no_engine(tmp_path, cells, before):
    """The table of what used to make runs stale: a step, a name, an unused function, a re-export."""
    tree = copied(tmp_path)
    for name, text in GROWTH.items():
        with (tree / "benchmarks/latentbench" / name).open("a") as file:
            file.write(text)
    sources = sources_in(tree)
    after = Hashes(sources).all(cells.values())
    assert [c for c, one, two in zip(cells, before, after, strict=True) if one != two] == []
    assert engine_of(sources, engine_roots()) == engine_of(sources_in(REPOSITORY), engine_roots())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("models.densities", "models.parts.log_densities"),
        ("evaluation.likelihood", "metrics.measured_likelihood"),
        ("core.types", "core.shapes.values"),
    ],
)
def test_moving_a_file_changes_no_run(tmp_path, cells, before, old, new):
    tree = copied(tmp_path)
    root = tree / "benchmarks/latentbench"
    source, target = (root.joinpath(*name.split(".")).with_suffix(".py") for name in (old, new))
    target.parent.mkdir(exist_ok=True)
    (target.parent / "__init__.py").touch()
    shutil.move(source, target)
    for file in [*root.rglob("*.py"), *(tree / "suites").rglob("*.py")]:
        file.write_text(adapted(file.read_text(), old, new))
    moved = Hashes(sources_in(tree), lambda t: re.sub(rf"^latentbench\.{old}:", f"latentbench.{new}:", t))
    if old == "core.types":  # where the engine ends is said by module, and moves along
        ends = of_runs()
        keys = frozenset((m.replace(f"latentbench.{old}", f"latentbench.{new}"), n) for m, n in ends.definitions)
        moved.graph._boundary = type(ends)(ends.modules, ends.packages, keys)
    after = moved.all(cells.values())
    assert [c for c, one, two in zip(cells, before, after, strict=True) if one != two] == []


def adapted(text: str, old: str, new: str) -> str:
    """A module's source with the imports of one module changed to where that lies now."""
    (package, _, name), (place, _, called) = old.rpartition("."), new.rpartition(".")
    text = text.replace(f"latentbench.{old} ", f"latentbench.{new} ")

    def parted(match: re.Match[str]) -> str:
        indent, names = match.group(1), [n.strip() for n in match.group(2).split(",")]
        others = [n for n in names if n.split(" as ")[0] != name]
        if len(others) == len(names):
            return match.group(0)
        own = next((n.split(" as ")[1] for n in names if n.startswith(f"{name} as ")), name)
        rest = [f"{indent}from latentbench.{package} import {', '.join(others)}"] if others else []
        return "\n".join([f"{indent}from latentbench.{place} import {called} as {own}", *rest])

    return re.sub(rf"(?m)^( *)from latentbench\.{package} import ([^(\n]+)$", parted, text)


def test_an_edit_changes_the_runs_that_reach_it_and_no_others(tmp_path, cells):
    """Each definition that some runs reach is changed in turn; every tenth, since there are hundreds."""
    chosen = [*cells.values()][:: max(1, len(cells) // 12)]
    plain = Hashes(sources_in(REPOSITORY))
    reach = [plain.closure(run.roots()) for run in chosen]
    known = plain.all(chosen)
    definitions = sorted(key for key in set().union(*reach) if not key[1].startswith("<"))
    assert len(definitions) > 200
    for module, name in definitions[::10]:
        found = plain.graph.sources.module(module)
        if name not in found.defs:
            continue
        edited = Hashes(plain.graph.sources.instead(planted(found, name, tmp_path)))
        changed = [edited.of(run.roots()) != hashed for run, hashed in zip(chosen, known, strict=True)]
        bound = together(found, name)
        assert changed == [not bound.isdisjoint(each) for each in reach], f"{module}:{name}"


def executed(run: RunSpec) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Definitions that a run executes and that its hashes do not cover, and all that it executes."""
    import torch
    from lightning.fabric import Fabric

    seen = Seen(lambda module: of_engine().is_outside(module) or module.startswith("latentbench.planning."))
    fabric = Fabric(accelerator="cpu", devices=1, precision=run.training["precision"])
    fabric.launch()
    try:
        with traced(seen):
            run_experiment(run, fabric)
    finally:
        torch.set_flush_denormal(False)  # which runs turn on
    return seen.definitions - code_definitions(run.roots()) - engine_definitions(), seen.definitions


def of_every_kind(runs: list[RunSpec]) -> list[RunSpec]:
    """As few runs as have every model and metric."""
    chosen, known = [], set()
    for run in runs:
        kinds = {run.model, *(m.name for m in run.metrics), *map(str, run.data["preprocess"])}
        if kinds - known:
            chosen.append(run)
            known |= kinds
    return chosen


def test_what_runs_execute_is_hashed():
    runs = [r for r in plan(load_suite("quickstart"), "smoke") if r.dataset == "digits"]
    seen = set()
    for run in of_every_kind(runs):
        escaped, own = executed(run)
        assert escaped == set(), run.cell
        seen |= own
    assert {("latentbench.models.vae", "VAE"), ("latentbench.training.optim", "build_optimizer")} <= seen
    assert len(seen) > 100


@pytest.mark.parametrize("name", every_suite())
def test_what_smoke_runs_execute_is_hashed(name):
    runs = plan(load_suite(name), "smoke")
    near = [r for r in runs if status(r.data["source"]).have not in ("remote", "missing")]
    if not near:
        pytest.skip("needs data that LATENTBENCH_MIRROR does not lead to")
    assert {run.cell: escaped for run in of_every_kind(near) if (escaped := executed(run)[0])} == {}


def test_former_hashes_come_out_again(tmp_path):
    """What `records/former.json` says of two suites is what the tool makes of the revision's own sources."""
    from perf.former_code import REVISION, table

    there = subprocess.run(["git", "archive", REVISION], cwd=REPOSITORY, capture_output=True, check=False)
    if there.returncode != 0:
        pytest.skip("needs git, and this repository's history")
    subprocess.run(["tar", "-x", "-C", str(tmp_path)], input=there.stdout, check=True)
    kept, found = json.loads(FILE.read_bytes()), table(tmp_path, ["quickstart", "iwae"])
    assert found["engine"] == kept["engine"]
    assert found["models"].items() <= kept["models"].items()
    assert found["code"]
    for former, each in found["code"].items():
        assert each.items() <= kept["code"][former].items()
