"""Files from strangers run no code: what can import, evaluate or unpickle is a reviewed list, and each place holds."""

from __future__ import annotations

import ast
import gzip
import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import latentbench
import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.core.trust import VARIABLE
from latentbench.core.yamlfile import read_yaml
from latentbench.data.loaders.common import npy, npz
from latentbench.data.registry import load_entry, resolve
from latentbench.data.unpickle import arrays
from latentbench.metrics.files import read_arrays
from latentbench.running.checkpoints import Checkpoints

from tests.project import toy_entries

ROOT = Path(latentbench.__file__).parent

#: Calls that could run what a file says, and where each is made. A new place is looked at first: what reaches it?
REVIEWED = {
    # imports by name: constants of ours, the registry's own lines, or what `core.trust` let pass
    ("core/imports.py", "import_module"): "`load`: targets of the registry; datasets' functions after `check_import`",
    ("core/imports.py", "find_spec"): "finds a source file, imports parent packages only",
    ("core/loaded.py", "find_spec"): "a source that is about to be imported anyway",
    ("records/known.py", "marshal.dumps"): "writes a key that tells 1, 1.0 and True apart; nothing is read back",
    ("results/basis.py", "find_spec"): "finds where numpy, scipy and pydantic lie, for their state",
    ("cli/sweep.py", "find_spec"): "whether an extra is installed, imports nothing",
    ("core/loose.py", "find_spec"): "looks for a top-level module, imports nothing",
    ("cli/main.py", "import_module"): "a command's module out of COMMANDS",
    # installed plug-ins: whoever installs one has run its code already
    ("core/plugins.py", "entry_points"): "names the packages of installed plug-ins",
    ("core/finder.py", "spec_from_file_location"): "a folder that is ours, or that the user has named or trusted",
    # annotations of constructors in sources that may be imported anyway: names of four libraries, literals
    ("discovery/ranges.py", "import_module"): "typing, collections.abc, annotated_types, pydantic",
    ("discovery/ranges.py", "literal_eval"): "bounds and choices; it runs nothing",
    ("planning/stated.py", "literal_eval"): "defaults of a model's parameters; it runs nothing",
    ("core/callable_package.py", "import_module"): "our own `latentbench.api`",
    ("spec/registry.py", "entry_points"): "models and metrics of installed plug-ins",
    # other programs: fixed command lines, never through a shell
    ("running/provenance.py", "subprocess.run"): "git rev-parse and status",
    ("scheduling/executors/slurm_sweep.py", "subprocess.run"): "scancel with the numbers of our own job arrays",
    ("audit/revision.py", "subprocess.run"): "git with a checked revision; ourselves, names after `--`",
    ("results/sides.py", "subprocess.run"): "git rev-parse and show; names after `--end-of-options`",
    # pickles and formats that may hold them
    ("data/loaders/common.py", "np.load"): "allow_pickle=False",
    ("data/loaders/common.py", "read_array"): "allow_pickle=False",
    ("data/loaders/maf.py", "read_array"): "allow_pickle=False",
    ("data/loaders/factors.py", "read_array"): "allow_pickle=False",
    ("metrics/files.py", "np.load"): "allow_pickle=False",
    ("metrics/extractors/inception.py", "torch.load"): "weights_only=True, of a file known by its sha256",
    # YAML: the safe loader
    ("core/yamlfile.py", "yaml.load"): "CSafeLoader or SafeLoader",
    ("core/yamlfile.py", "yaml.parse"): "events only",
}
NAMES = {"eval", "exec", "compile", "__import__", "import_module", "find_spec", "entry_points", "read_array"}
NAMES |= {"spec_from_file_location", "run_path", "run_module", "execfile", "Popen", "check_output", "check_call"}
NAMES |= {"system", "popen", "execv", "execve", "spawnv", "startfile", "read_pickle", "from_pretrained", "literal_eval"}
MODULES = {"pickle", "marshal", "shelve", "subprocess", "yaml", "runpy", "dill", "joblib", "cloudpickle", "ctypes"}
LOADERS = {"np.load", "numpy.load", "torch.load", "joblib.load"}
HARMLESS = {"re.compile", "model.eval", "torch.compile", "platform.system", "yaml.YAMLError", "pickle.UnpicklingError"}
HARMLESS |= {"yaml.constructor.ConstructorError"}
HARMLESS |= {"subprocess.TimeoutExpired", "subprocess.CompletedProcess"}


def dangerous(call: ast.Call) -> str | None:
    """The name of a call that could run what a file says, as it stands in the source."""
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    if name in HARMLESS or (last == "eval" and "." in name and not call.args):  # of a module of torch
        return None
    if name in LOADERS or name.partition(".")[0] in MODULES:
        return name
    return last if last in NAMES and not (last == "compile" and "." in name) else None


def test_the_places_that_could_run_code_are_the_reviewed_ones():
    found = set()
    for path in ROOT.rglob("*.py"):
        where = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (name := dangerous(node)):
                found.add((where, name))
            if isinstance(node, ast.ClassDef):
                found |= {(where, ast.unparse(b)) for b in node.bases if ast.unparse(b) == "pickle.Unpickler"}
    assert found == set(REVIEWED)


@pytest.mark.parametrize(("source", "name"), [("eval(x)", "eval"), ("m.eval(x)", "eval"), ("os.system(x)", "system")])
def test_the_search_finds_what_it_looks_for(source, name):
    call = ast.parse(source).body[0].value
    assert dangerous(call) == name
    assert dangerous(ast.parse("model.eval()").body[0].value) is None


def test_pickles_stay_off_wherever_numpy_and_torch_read():
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            name = ast.unparse(node.func)
            if name == "np.load" or name.endswith("read_array"):
                assert keywords.get("allow_pickle") == "False", path
            if name == "torch.load":
                assert keywords.get("weights_only") == "True", path
            assert keywords.get("shell") in (None, "False"), path
            assert keywords.get("trust_remote_code") in (None, "False"), path


@pytest.fixture
def fired(tmp_path):
    """A file that code of a stranger's would make."""
    path = tmp_path / "fired"
    yield path
    assert not path.exists(), "code from a file was run"


class Trap:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_the_trap_is_one(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "fired")))
    assert (tmp_path / "fired").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(fired, protocol):
    for hidden in (Trap(fired), [Trap(fired)], {"data": Trap(fired)}, np.array([Trap(fired)], object)):
        with pytest.raises(UserError):
            arrays(pickle.dumps(hidden, protocol), fired.parent)


def test_numpy_files(fired, tmp_path):
    trap = np.array([Trap(fired)], dtype=object)
    np.save(tmp_path / "a.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=trap)
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Trap(fired)))
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Trap(fired)))
    with gzip.open(tmp_path / "c.npy.gz", "wb") as f:
        f.write((tmp_path / "a.npy").read_bytes())
    for name in ("a.npy", "b.npy", "c.npy.gz"):
        with pytest.raises(UserError):
            npy(tmp_path / name)
    for name in ("a.npz", "b.npz"):
        with pytest.raises(UserError):
            npz(tmp_path / name)
        with pytest.raises(UserError):
            read_arrays([tmp_path / name], ["x"])


def test_checkpoints(fired, tmp_path):
    import hashlib

    import torch

    folder = tmp_path / "checkpoint"
    folder.mkdir()
    buffer = io.BytesIO()
    torch.save({"x": Trap(fired)}, buffer)
    for content in (buffer.getvalue(), pickle.dumps(Trap(fired))):
        path = folder / f"{7:012d}-{hashlib.sha256(content).hexdigest()}.safetensors"
        path.write_bytes(content)
        checkpoints = Checkpoints(folder, "f" * 64, 60.0)
        assert checkpoints.latest() is None
        assert "damaged" in checkpoints.faults[0]


def test_weights(project, fired):
    from latentbench.audit.verify import verify

    project.suite()
    assert project.run("small", "--seeds", "1", "--method", "wide", "-q").code == 0
    [weights] = project.results.rglob("weights.safetensors")
    weights.write_bytes(pickle.dumps(Trap(fired)))
    [checked] = verify(project.results, sample=-1)
    assert any("does not hash" in f for f in checked.faults)
    assert any("cannot be evaluated" in f for f in checked.faults)


TAGS = [
    "!!python/object/apply:os.system [touch FIRED]",
    "!!python/object/new:subprocess.Popen [[touch, FIRED]]",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!binary aGVsbG8=",
    "!!set {a}",
    "!!omap [a: 1]",
    "!custom x",
    "!<tag:yaml.org,2002:python/tuple> [1]",
    "&a [*a]",
    "{<<: {a: 1}}",
]


@pytest.mark.parametrize("tag", TAGS)
def test_yaml_tags_and_aliases(fired, tmp_path, tag):
    path = tmp_path / "x.yaml"
    for text in (f"a: {tag}\n", f"- {tag}\n", f"? {tag}\n: 1\n", f"%TAG ! tag:yaml.org,2002:\n---\na: {tag}\n"):
        path.write_text(text.replace("FIRED", str(fired)))
        with pytest.raises(UserError):
            read_yaml(path)


BOMBS = {
    "aliases": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "nesting": "[" * 100_000,
    "nesting of mappings": "".join(f"{' ' * i}a:\n" for i in range(2000)),
    "a number in base eight": "a: 01" + "1" * 200_000,
    "a number of many digits": "a: " + "9" * 100_000,
    "a float of many digits": "a: 0." + "9" * 100_000,
    "a hexadecimal number": "a: 0x" + "f" * 100_000,
    "many keys of one name": "a: 1\n" * 10_000,
    "several documents": "---\na: 1\n" * 10,
    "more than a file": "#" * 4_000_001,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_yaml_bombs(tmp_path, bomb):
    path = tmp_path / "x.yaml"
    path.write_text(BOMBS[bomb])
    with pytest.raises(UserError):
        read_yaml(path)


@pytest.mark.parametrize("bomb", ["a: " + "[" * 100_000, "- " * 100_000 + "x", "? " * 100_000, "a: !!int x", "\xff"])
def test_the_catalogue_of_papers_and_the_lock_of_dvc(project, bomb):
    """Long files that are read without a look at each event; libyaml would end the process."""
    (project.root / "suites/papers.yaml").write_text(bomb, encoding="latin-1")
    (project.root / "dvc.lock").write_text(bomb, encoding="latin-1")
    answer = project("list", "papers")
    assert answer.code == 2
    assert answer.errors
    assert project("doctor").code in (0, 1, 2)


GRIDS = {
    "combinations": {"grid": {k: list(range(50)) for k in "abcd"}, "model": "toy"},
    "a text put in often": {"grid": {"k": ["x" * 5_000] * 20}, "model": "toy", "label": "{k}" * 1000},
    "a list put in often": {
        "grid": {"k": [[0] * 50 for _ in range(200)]},
        "model": "toy",
        "params": {f"a{i}": "{k}" for i in range(50)},
    },
}


@pytest.mark.parametrize("case", GRIDS)
def test_grid_bombs(project, case):
    name = "m" + "".join(f"{{{axis}}}" for axis in GRIDS[case]["grid"])
    answer = project("validate", project.suite({"methods": {name: GRIDS[case]}}))
    assert answer.code == 2
    assert "grid writes out more than" in answer.errors[0]


HUGE = {
    "seeds": {"tiers.cpu.seeds": 10**12},
    "a seed": {"tiers.cpu.seeds": [10**300]},
    "runs": {
        "tiers.cpu.seeds": 10_000,
        "methods": {f"m{i}": {"model": "toy"} for i in range(20)},
    },
    "methods": {"methods": {f"m{i}": {"model": "toy"} for i in range(2001)}},
    "a split": {"datasets.line": {"split": {"train": f"train[:{'9' * 5000}]", "test": "test"}}},
    "per cent": {"datasets.line": {"split": {"train": f"train[:{'9' * 400}%]", "test": "test"}}},
    "patterns": {"metrics.nll": {"methods": ["*"] * 201}},
    "a width": {"methods": {"v": {"model": "vae", "params": {"latent_dim": 10**15}}}, "metrics": {"nll_iw": {}}},
}


@pytest.mark.parametrize("case", HUGE)
def test_suites_larger_than_a_suite(project, case):
    answer = project("validate", project.suite(HUGE[case]))
    assert answer.code == 2, answer.out
    assert answer.errors


def entry(project, name, **functions):
    text = toy_entries()["line"].replace("name: line", f"name: {name}")
    for key, function in functions.items():
        text = text.replace("generate: latentbench_toys:rows", f"{key}: {function}")
    path = project.root / "data/registry"
    path.mkdir(parents=True, exist_ok=True)
    (path / f"{name}.yaml").write_text(text)


OUTSIDE = ["os:system", "subprocess:check_output", "builtins:eval", "evil:rows", "latentbench.cli.main:main"]
OUTSIDE += ["latentbench.data.loadersx:f", "latentbench.data.api:rows", "posixpath:join", "importlib:import_module"]


@pytest.mark.parametrize("function", OUTSIDE)
def test_a_dataset_names_no_code_from_outside(project, monkeypatch, function):
    monkeypatch.setenv("LATENTBENCH_DATA", str(project.root / "data"))
    entry(project, "evil", generate=function)
    project.suite({"datasets": {"evil": {"protocol": "all"}}, "metrics.bits_per_dim": {}})
    answer = project.run("small", "--seeds", "1")
    assert answer.code == 2
    assert f"{function!r} is code from outside latentbench" in answer.errors[0]
    assert "--trust" in answer.errors[0]


@pytest.mark.parametrize("name", ["Path", "Any", "archive", "np", "UserError", "__loader__", "absent"])
def test_what_our_modules_only_import_is_no_loader(name):
    with pytest.raises(UserError):
        resolve("loader", f"latentbench.data.loaders.common:{name}")


def test_all_datasets_of_ours_resolve():
    from latentbench.data.registry import names

    for name in names():
        found = load_entry(name)
        loaders = [("loader", form.loader) for form in found.forms]
        for kind, named in (("generator", found.generate), ("oracle", found.oracle), *loaders):
            assert named is None or callable(resolve(kind, named))


def test_trust_is_said_by_the_user_alone(project, monkeypatch, tmp_path):
    """--trust lets code from outside be named; without it the same run is refused before anything is imported."""
    monkeypatch.setenv("LATENTBENCH_DATA", str(project.root / "data"))
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "stranger_module.py").write_text(
        f"from pathlib import Path\nfrom latentbench_toys import rows\nPath({str(tmp_path / 'imported')!r}).touch()\n"
    )
    (tmp_path / "stranger_module.py").write_text(
        (tmp_path / "stranger_module.py").read_text() + "def ours(n, rng, **k): return rows(n, rng, **k)\n"
    )
    entry(project, "evil", generate="stranger_module:ours")
    project.suite({"datasets": {"evil": {"protocol": "all"}}, "metrics.bits_per_dim": {}})
    command = ("run", "small", "--seeds=1", "--method=wide", "--jobs=0", "--wandb=disabled", "--device=cpu", "-q")
    assert project(*command).code == 2
    assert not (tmp_path / "imported").exists()
    monkeypatch.setenv(VARIABLE, "0")
    assert project(*command).code == 2
    answer = project("--trust", *command)
    assert answer.code == 0, answer.err
    assert (tmp_path / "imported").exists()


def test_a_suite_cannot_trust_itself(project):
    for key in ("trust", VARIABLE):
        answer = project("validate", project.suite({key: True}))
        assert answer.code == 2
        assert "unknown key" in answer.errors[0]


def test_a_suite_names_models_and_metrics_of_the_registry_only(project):
    for change in ({"methods.wide.model": "os:system"}, {"metrics": {"m": {"metric": "os:system"}}}):
        answer = project("validate", project.suite(change))
        assert answer.code == 2
        assert "unknown m" in answer.errors[0]


def test_parquet_brings_numbers_only(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": [b"\x80\x04."], "y": ["text"]}), tmp_path / "a.parquet")
    for name in ("x", "y"):
        with pytest.raises(UserError, match="not numbers"):
            read_arrays([tmp_path / "a.parquet"], [name])


def test_a_record_is_data(project, fired):
    path = project.root / "sent.json"
    for text in (pickle.dumps(Trap(fired)), json.dumps({"py/object": "os.system"}).encode(), b"__import__('os')"):
        path.write_bytes(text)
        for command in ("replay", "verify"):
            assert project(command, path).code in (1, 2)


def test_a_zip_of_code_is_no_archive_of_data(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as z:
        z.writestr("__main__.py", "raise SystemExit('run')")
    with pytest.raises(UserError, match="no array"):
        read_arrays([tmp_path / "a.npz"], ["x"])


def test_trust_ends_with_the_call_that_asked_for_it(project, monkeypatch):
    """One process may run many command lines; what one of them trusts is not the next one's."""
    monkeypatch.delenv(VARIABLE, raising=False)
    assert project("--trust", "list", "metrics").code == 0
    assert VARIABLE not in os.environ
    monkeypatch.setenv(VARIABLE, "1")
    assert project("list", "metrics").code == 0
    assert os.environ[VARIABLE] == "1"
