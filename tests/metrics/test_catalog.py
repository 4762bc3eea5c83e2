from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.metrics import disentanglement, posterior, samples
from latentbench.metrics.catalog import compute, find, flatten, metrics_of_arrays
from latentbench.metrics.files import read_arrays

RNG = np.random.default_rng(0)
V = RNG.integers(0, 4, size=(200, 3))
Z = V + 0.3 * RNG.normal(size=V.shape)


@pytest.fixture
def codes(tmp_path):
    path = tmp_path / "codes.npz"
    np.savez(path, codes=Z, factors=V, more=np.zeros(3))
    return path


@pytest.mark.parametrize("entry", metrics_of_arrays().values(), ids=lambda e: e.name)
def test_every_entry_names_a_function_with_a_docstring_and_those_arrays(entry):
    function = entry.load()
    parameters = inspect.signature(function).parameters
    assert set(entry.arrays) | set(entry.optional) <= set(parameters)
    assert inspect.getdoc(function)
    # what is called needed is what the function cannot do without, but for arrays or a source in their place
    free = {k for k, p in parameters.items() if p.default is inspect.Parameter.empty}
    assert {a for a in entry.arrays if a in free} == set(entry.arrays) or "source" in parameters
    assert all(parameters[a].default is not inspect.Parameter.empty for a in entry.optional)


def test_every_metric_is_on_the_page_with_its_comparison():
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    for entry in metrics_of_arrays().values():
        line = next(x for x in page.splitlines() if x.startswith(f"| `{entry.name}` |"))
        assert line.endswith(f"| {entry.unit} | {entry.direction} | {entry.reference} |"), "run perf.metric_proof"
        compared = [x for x in page.splitlines() if x.startswith(f"| `{entry.name}`")]
        assert len(compared) >= 2, entry.name


def test_importing_the_catalogue_imports_neither_torch_nor_scikit_learn():
    code = "import sys, latentbench.metrics.catalog; print({'torch', 'sklearn', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_metric_from_npz(codes):
    found = compute("mig", [codes], {"bins": "10"})
    assert found.numbers == {"value": disentanglement.mig(Z, V, bins=10)}
    assert found.options == {"bins": 10}
    assert found.identity != compute("mig", [codes]).identity
    assert compute("mig", [codes], {"bins": "20"}).identity == compute("mig", [codes]).identity


def test_a_metric_from_parquet_columns_and_lists(tmp_path):
    wide = pd.DataFrame({**{f"codes_{j}": Z[:, j] for j in range(3)}, **{f"factors.{k}": V[:, k] for k in range(3)}})
    wide.to_parquet(tmp_path / "wide.parquet")
    pd.DataFrame({"codes": list(Z), "factors": list(V)}).to_parquet(tmp_path / "lists.parquet")
    expected = disentanglement.mig(Z, V)
    assert compute("mig", [tmp_path / "wide.parquet"]).numbers["value"] == expected
    assert compute("mig", [tmp_path / "lists.parquet"]).numbers["value"] == expected


def test_arrays_of_unequal_length_come_in_files_of_their_own(tmp_path):
    pd.DataFrame(Z).rename(columns=str).to_parquet(tmp_path / "real.parquet")
    pd.DataFrame(Z[:50] + 1).rename(columns=str).to_parquet(tmp_path / "fake.parquet")
    found = compute("frechet_distance", [tmp_path / "real.parquet", tmp_path / "fake.parquet"])
    assert found.numbers["value"] == samples.frechet_distance(Z, Z[:50] + 1)


def test_draws_follow_the_seed(codes, tmp_path):
    np.savez(tmp_path / "g.npz", means=Z, log_variances=np.zeros_like(Z))
    a, b, c = (compute("aggregate_posterior", [tmp_path / "g.npz"], {"seed": s}) for s in "112")
    assert a.numbers == b.numbers != c.numbers
    assert {"mutual_information", "mutual_information_se", "total_correlation"} <= set(a.numbers)
    quick = {"train": "50", "test": "50"}
    assert 0 <= compute("factor_vae_score", [codes], quick).numbers["value"] <= 1


def test_results_become_flat_numbers():
    assert flatten(0.5) == {"value": 0.5}
    value = MetricValue(1.0, 0.1, 10, {"k": 5, "text": "x", "list": [1, 2], "warnings": ()})
    assert flatten(value) == {"value": 1.0, "se": 0.1, "n": 10, "k": 5}
    assert set(flatten(disentanglement.dci(Z, V, model="forest"))) == {
        "disentanglement", "completeness", "informativeness", "informativeness_train",
    }  # fmt: skip
    udr = flatten(disentanglement.udr([Z, Z]))
    assert {"0", "1", "0_n"} <= set(udr)
    assert isinstance(posterior.active_units(Z), MetricValue)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("migg", {}, "did you mean 'mig'"),
        ("mig", {"bin": "3"}, "did you mean 'bins'"),
        ("mig", {"bins": "many"}, "no int"),
        ("psnr", {}, "needs data_range"),
        ("attainable_share", {}, "arrays alone"),
        ("kid", {}, "no array is called 'real'"),
        ("infomec", {"discrete_codes": "perhaps"}, "no bool"),
    ],
)
def test_bad_requests(codes, name, options, says):
    with pytest.raises(UserError, match=says):
        compute(name, [codes], options)


def test_bad_files(tmp_path, codes):
    for name, content in (("a.npz", b"junk"), ("a.parquet", b"junk"), ("a.csv", b"1,2")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            read_arrays([tmp_path / name], ["codes"])
    np.savez(tmp_path / "objects.npz", codes=np.array([object()]))
    with pytest.raises(UserError, match="cannot be read"):
        read_arrays([tmp_path / "objects.npz"], ["codes"])
    with pytest.raises(UserError, match="no such file"):
        read_arrays([tmp_path / "none.npz"], ["codes"])
    with pytest.raises(UserError, match="another file"):
        read_arrays([codes, codes], ["codes"])
    for frame, says in (
        ({"codes": [1.0, None]}, "missing"),
        ({"codes": ["a", "b"]}, "not numbers"),
        ({"codes": [[1.0], [1.0, 2.0]]}, "unequal"),
    ):
        pd.DataFrame(frame).to_parquet(tmp_path / "bad.parquet")
        with pytest.raises(UserError, match=says):
            read_arrays([tmp_path / "bad.parquet"], ["codes"])
    assert find("mig").target == "latentbench.metrics.codes.information:mig"
