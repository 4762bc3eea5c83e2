"""`import latentbench as lb` on a project of its own."""

from __future__ import annotations

import subprocess
import sys

import latentbench as lb
import numpy as np
import pytest
from latentbench.core.errors import UserError
from sklearn.metrics import normalized_mutual_info_score

from tests.project import write_made_up


@pytest.fixture
def filled(project):
    for method, numbers in {"wide": [1.0, 1.2, 1.1], "narrow": [2.0, 2.3, None]}.items():
        for spec, number in zip(project.plan("cpu", methods=[method]), numbers):
            status = "finished" if number is not None else "diverged"
            write_made_up(spec, {"nll": number}, status=status)
    return project


@pytest.mark.slow
def test_importing_is_cheap():
    code = "import sys, latentbench as lb; print(lb.__version__, 'records' in dir(lb), *sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split()[2:])
    assert done.stdout.split()[1] == "True"
    assert not loaded & {"torch", "pandas", "numpy", "pydantic", "click"}
    with pytest.raises(AttributeError, match="no_such_thing"):
        lb.no_such_thing  # noqa: B018


@pytest.mark.slow
def test_packages_are_called_whether_or_not_they_were_imported():
    for before in ("", "import latentbench.records.record, latentbench.papers;"):
        code = (
            f"import latentbench as lb; {before} print(len(lb.papers()), callable(lb.records), len(lb.records('vae')))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split()[:2] == ["326", "True"]
        assert int(done.stdout.split()[2]) > 10


def test_records_have_every_seed_and_every_failure(filled):
    found = lb.records("small", tier="cpu")
    wide = found[(found["method"] == "wide") & (found["metric"] == "nll")]
    assert wide.set_index("seed")["value"].to_dict() == {0: 1.0, 1: 1.2, 2: 1.1}
    failed = found[found["status"] == "diverged"]
    assert failed["value"].isna().all()
    assert set(failed["seed"]) == {2}
    assert set(lb.records("small", metric="nll")["metric"]) == {"nll"}
    assert len(lb.records("small", dataset="nowhere")) == 0
    assert not found["reference"].any()


def test_tables_are_those_of_the_commands(filled):
    board = lb.leaderboard("small")
    assert board.loc[board["method"] == "wide", "mean"].item() == pytest.approx(1.1)
    assert lb.leaderboard().equals(board), "all suites that have records"
    assert len(lb.verdicts("small")) == 0, "it claims nothing"
    with pytest.raises(UserError, match="unknown suite"):
        lb.leaderboard("smal")


@pytest.mark.slow
def test_a_run_and_its_model(project):
    params = {"latent_dim": 3, "hidden": [4], "likelihood": "gaussian"}
    methods = {"methods.wide": {"model": "vae", "params": params}, "methods.narrow": None, "methods.floor": None}
    project.suite({**methods, "metrics": {"nll_iw": {"settings": {"k": 3}}}})
    runs = lb.run("small", tier="smoke", jobs=1, device="cpu")
    assert runs["status"].to_list() == ["finished"]
    assert runs["value"].notna().all()
    model = lb.load("wide--line--smoke--s0")
    samples = model.sample(5, seed=1)
    assert samples.shape == (5, 4)
    assert np.array_equal(samples, model.sample(5, seed=1))
    assert not np.array_equal(samples, model.sample(5, seed=2))
    own = np.asarray(model.view.raw[3:9])
    assert model.encode(own).shape == (6, 3)
    assert np.allclose(model.encode(9)[3:], model.encode(own), atol=1e-5)
    again = model.decode(model.encode(own))
    assert np.allclose(again, model.reconstruct(own), atol=1e-5)
    assert abs(samples.mean() - own.mean()) < 5 * own.std(), "in stored units, not in standardised ones"
    assert repr(model).endswith(": sample, reconstruct, encode, decode>")


@pytest.mark.slow
def test_weights_that_are_not_there_or_not_the_runs(project):
    project.suite()
    lb.run("small", tier="smoke", method="wide", jobs=1, device="cpu")
    (weights,) = project.results.glob("runs/small/*/weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="not the weights that its record names"):
        lb.load("wide--line--smoke--s0")
    weights.unlink()
    with pytest.raises(UserError, match="latentbench run small --tier smoke --method 'wide'"):
        lb.load("wide--line--smoke--s0")


def test_metrics_of_arrays():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 3, 60), rng.integers(0, 4, 60)
    found = lb.metric("nmi", a, b)
    assert float(found) == pytest.approx(normalized_mutual_info_score(a, b))
    assert found.value == float(found)
    assert repr(found).startswith("<nmi: value=")
    for arrays in ((a,), (a, b, a)):
        with pytest.raises(UserError, match=r"not \d arrays"):
            lb.metric("nmi", *arrays)
    with pytest.raises(UserError, match="no option"):
        lb.metric("nmi", a, b, colour=1)
    with pytest.raises(UserError, match="no metric is called"):
        lb.metric("nmo", a, b)


def test_a_dataset(project):
    rows = lb.dataset("line").split("train")["x"]
    assert rows.shape == (120, 4)
    with pytest.raises(UserError, match="did you mean 'line'"):
        lb.dataset("lines")
