"""Runs on a Ray cluster of several nodes, one of which is killed on the way."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
from latentbench.core import interrupts
from latentbench.core.errors import UserError
from latentbench.data.dataset import open_dataset
from latentbench.running.settings import Settings
from latentbench.scheduling.executors.ray import RayExecutor

from tests.project import PATIENCE, REPOSITORY, TOYS, Project

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")

pytestmark = pytest.mark.slow

CHANGES = {
    "methods": {
        "slow": {"model": "toy", "params": {"pause": 0.04}},
        "floor": {"model": "factorised", "baseline": True},
    },
    "metrics": {"nll": {}},
    "tiers": {"cpu": {"seeds": 2, "training": {"epochs": 30}}},
}


@pytest.fixture(scope="module")
def cluster():
    """A head that takes no runs, and two nodes that take one run each; workers find the toy plug-in as drivers do."""
    from ray.cluster_utils import Cluster

    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("RAY_raylet_start_wait_time_s", "240")  # machines that run tests are busy
    patch.setenv("PYTHONPATH", os.pathsep.join([str(TOYS), str(REPOSITORY), str(REPOSITORY / "benchmarks")]))
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        found.add_node(num_cpus=1)
    yield found
    found.shutdown()
    patch.undo()


@pytest.fixture
def sweep(cluster, project: Project, monkeypatch):
    """`sweep(specs, …)` runs them on the cluster; the records with whether they were there, and what was told."""
    monkeypatch.setattr("latentbench.scheduling.executors.ray_sweep.POLL", 0.1)

    def go(specs, hook=lambda told: None, **options):
        done, heard = [], []

        def told(what):
            heard.append(what)
            hook(what)

        executor = RayExecutor(address=cluster.address, store=str(project.root / "store"))
        settings = Settings(project.results, checkpoint_seconds=0, **options)
        executor.run_all(specs, settings, told, lambda spec, record, cached: done.append((spec, record, cached)))
        return done, heard

    yield go
    interrupts.install()


def test_a_node_dies_and_the_sweep_ends_complete(cluster, sweep, project):
    """Each run has one record; that of the dead node went on from the checkpoint in the store."""
    specs = project.plan("cpu", CHANGES)
    doomed = []

    def kill_a_node(what):
        kept = (project.root / "store").glob(f"runs/small/{what.cell}--*/checkpoint/*.safetensors")
        if doomed or not next(kept, None):
            return
        above = {_parent(pid) for pid in _workers(f"small {what.cell}")}
        for node in cluster.list_all_nodes():
            if node.all_processes["raylet"][0].process.pid in above:
                doomed.append(node)
                cluster.remove_node(node, allow_graceful=False)

    done, heard = sweep(specs, kill_a_node)
    cluster.add_node(num_cpus=1)
    assert doomed, "a node was killed in the middle"
    assert sorted(spec.cell for spec, *_ in done) == sorted(s.cell for s in specs)
    assert {record.status for _, record, _ in done} == {"finished"}
    assert not any(cached for *_, cached in done)
    assert any(record.provenance.resumed_from for _, record, _ in done)
    assert {w.cell for w in heard} <= {s.cell for s in specs}
    assert {"training", "data"} <= {w.phase for w in heard}
    store = project.root / "store"
    files = [p.relative_to(store).as_posix() for p in store.rglob("*") if p.is_file() and p.suffix != ".lock"]
    assert sum(f.endswith("/record.json") for f in files) == len(specs)
    content = open_dataset("line").content_hash
    assert f"shared-data/{content}/latentbench.json" in files, "for nodes that lack the data"
    assert not [f for f in files if "checkpoint" in f or f.startswith("leases")]
    assert project.records().keys() == {s.cell for s in specs}

    again, _ = sweep(specs)
    assert [cached for *_, cached in again] == [True] * len(specs), "nothing is done twice"


def test_cancelling_saves_state_and_leaves_nothing(cluster, sweep, project):
    changes = CHANGES | {"tiers": {"cpu": {"seeds": 2, "training": {"epochs": 400}}}}
    specs = project.plan("cpu", changes, methods=["slow"])
    interrupts.install(signal.SIGTERM)
    pids: list[int] = []

    def stop(what):
        if what.phase == "training" and what.step > 3:
            pids.extend(_workers())
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        sweep(specs, stop)
    interrupts.install()
    store = project.root / "store"
    assert not list((store / "leases").rglob("*.json"))
    assert not list(store.rglob("record.json"))
    assert list(store.rglob("checkpoint/*.safetensors")), "what was done is kept"
    deadline = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()], "no task runs on"


def _workers(task: str = "small") -> list[int]:
    """Processes of Ray that do a run whose task has a name that begins so."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"ray::{task}".encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_run_that_kills_its_workers_fails_and_the_others_go_on(sweep, project, monkeypatch):
    monkeypatch.setattr("latentbench.scheduling.executors.ray_sweep.TRIES", 2)
    changes = CHANGES | {"methods": {"deadly": {"model": "toy", "params": {"spoil": "kill"}}, **CHANGES["methods"]}}
    specs = project.plan("cpu", changes, methods=["deadly", "floor"], seeds=[0])
    done, _ = sweep(specs)
    found = {spec.method: record for spec, record, _ in done}
    assert found["deadly"].status == "failed"
    assert re.search("worker died 2 times", found["deadly"].error)
    assert found["floor"].status == "finished"


def test_plug_in_folders_and_variables_reach_the_workers(sweep, project, monkeypatch, tmp_path):
    """The model lies in a folder that only the sender names, and reads a variable that only the sender has set."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "my_own.py").write_text(
        "import os\n"
        "from latentbench.declare import model\n"
        "from latentbench.models.baselines import Factorised\n"
        "@model('mine', 'Fittable ExactLikelihood', 'of my own')\n"
        "class Mine(Factorised):\n"
        "    def fit(self, *args, **options):\n"
        "        raise RuntimeError(f\"{os.environ.get('LATENTBENCH_SAYS')} from {__file__}\")\n"
    )
    from latentbench.spec import registry

    monkeypatch.setenv("LATENTBENCH_PLUGINS", "")
    registry.add_folder(folder)
    monkeypatch.setenv("LATENTBENCH_SAYS", "hello")
    specs = project.plan("cpu", {"methods": {"mine": {"model": "mine"}}}, seeds=[0])
    [(_, record, _)], _ = sweep(specs)
    assert record.status == "failed"
    assert "hello from" in record.error
    assert str(folder) not in record.error, "it was sent there"


def test_an_interruption_waits_until_ray_has_started(monkeypatch):
    """Cut short in its start, Ray ends the process with a segmentation fault."""
    done = []

    def start(**_):
        os.kill(os.getpid(), signal.SIGINT)
        done.append("started")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", start)
    monkeypatch.setattr(ray, "shutdown", lambda: done.append("shut down"))
    before = signal.getsignal(signal.SIGINT)
    interrupts.install(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt), RayExecutor()._cluster():
            done.append("used")
    finally:
        interrupts.install()
        signal.signal(signal.SIGINT, before)
    assert done == ["started", "shut down"]


def test_a_cluster_that_does_not_answer_is_said_in_a_line(project):
    with pytest.raises(UserError, match="no Ray cluster answers"):
        RayExecutor(address="127.0.0.1:1").device("auto")
