"""What `latentbench new` writes passes `latentbench check`, and a method of one's own joins a suite."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml
from latentbench.core import plugins
from latentbench.spec import registry

DECLARED = "from latentbench.declare import model\n@model('x', 'Fittable')\nclass X: ...\n"


@pytest.fixture
def folder(project, monkeypatch):
    """A plug-in folder; what was imported from it is forgotten afterwards."""
    monkeypatch.setenv(plugins.VARIABLE, "")
    yield project.root / "plugins"
    monkeypatch.undo()
    registry.forget()


@pytest.mark.parametrize("kind", ["model", "metric", "dataset", "suite"])
def test_what_is_written_holds_its_contract(project, folder, kind):
    written = project("new", kind, f"my-{kind}", "--folder", folder)
    assert written.code == 0, written.err
    file = written.out.splitlines()[0].removeprefix("wrote ")
    checked = project("check", file, "--format", "json")
    assert checked.code == 0, checked.out
    found = json.loads(checked.out)
    assert found
    assert all(not f["why"] for f in found)
    if kind == "suite":
        assert project("fmt", file, "--check").code == 0
    assert any(not f["skipped"] for f in found)


@pytest.mark.parametrize("like", ["vae", "flow", "diffusion", "fit"])
def test_a_model_of_a_kind_holds_its_contract(project, folder, like):
    written = project("new", "model", "my-model", "--like", like, "--folder", folder)
    assert written.code == 0, written.err
    checked = project("check", written.out.splitlines()[0].removeprefix("wrote "), "--format", "json")
    found = json.loads(checked.out)
    assert checked.code == 0, [f for f in found if f["why"]]
    assert sum(not f["skipped"] for f in found) > 5
    assert project("new", "metric", "my-gap", "--like", like, "--folder", folder).code == 2


def test_a_new_suite_is_found_by_its_id_wherever_it_was_written(project, folder, monkeypatch):
    assert project("new", "suite", "my-suite", "--folder", folder).code == 0
    assert project("validate", "my-suite").code == 2, "nobody has named the folder"
    assert project("--plugins", folder, "validate", "my-suite").code == 0
    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.chdir(folder)
    assert project("validate", "my-suite").code == 0


THEIRS = """
from latentbench.declare import model
from latentbench.models import densities
from latentbench.models.baselines import Factorised

@model("theirs", "Fittable ExactLikelihood Sampler", "x")
class Theirs(Factorised):
    def fit(self, x, generator):
        {line}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        'densities.normal_kl("no", "tensors")',  # ours is called, and fails
        "x.reshape(-1, 7, 11)",  # a library is
        "super().fit(x[:, :0], 1 / 0)",
    ],
)
def test_an_error_is_told_at_its_authors_line(project, folder, line):
    folder.mkdir(parents=True)
    (folder / "theirs.py").write_text(THEIRS.format(line=line))
    project.suite({"methods.mine": {"model": "theirs"}})
    options = ("--plugins", folder, "run", "small", "--method", "mine", "--seeds", "1", "-q", "--wandb", "disabled")
    done = project(*options, "--jobs", "1", "--device", "cpu")
    assert done.code == 1
    (record,) = project.records().values()
    number = THEIRS.split("\n").index("        {line}") + 1
    assert record.error.endswith(f"(in fit, theirs.py:{number})")


def test_a_papers_suite_is_filled_in_from_the_catalogue(project, folder):
    """Its folder is a paper's, it validates as it is, and says what the catalogue knows."""
    paper = {"id": "pixelcnn", "title": 'Pixels: a "study"', "arxiv": "1601.06759", "year": 2016, "method": "PixelCNN"}
    paper |= {"family": "autoregressive", "scope": "core", "priority": 1, "datasets": ["cifar-10"], "metrics": ["nats"]}
    paper |= {"claim": "It takes fewer bits.", "small": "MNIST.", "reported": [{"what": "CIFAR-10", "value": 3.14}]}
    project.write("papers", yaml.safe_dump([paper]))
    written = project("new", "suite", "pixelcnn")
    assert written.code == 0, written.err
    path = project.root / "suites/pixelcnn/suite.yaml"
    assert project("validate", path).code == 0
    suite, text = yaml.safe_load(path.read_text()), path.read_text()
    assert suite["paper"]["title"] == 'Pixels: a "study"'
    assert (suite["paper"]["arxiv"], suite["paper"]["year"]) == ("1601.06759", 2016)
    assert suite["summary"].strip() == "It takes fewer bits."
    for said in ("family autoregressive", "Datasets: cifar-10.", "experiment: MNIST.", "the abstract: CIFAR-10: 3.14"):
        assert said in text
    assert project("fmt", "--check", path).code == 0


def test_nothing_is_overwritten_and_names_are_checked(project, folder):
    assert project("new", "model", "my-model", "--folder", folder).code == 0
    again = project("new", "model", "my-model", "--folder", folder)
    assert again.code == 2
    assert "it is there already" in again.err
    for name in ("../up", "My-Model", "class", "a b", "-x", ""):
        assert project("new", "model", "--folder", folder, "--", name).code == 2


@pytest.mark.slow
def test_a_method_of_ones_own_joins_a_suite(project, folder):
    """From `new model` to a leaderboard with the others, in worker processes too."""
    project("new", "model", "my-model", "--folder", folder)
    project.suite({"methods.mine": {"model": "my-model"}, "datasets.line.preprocess": ["standardise"]})
    refused = project("validate", "small")
    assert refused.code == 2
    assert "unknown model 'my-model'" in refused.err
    options = ("--plugins", folder, "run", "small", "--seeds", "1", "--wandb", "disabled", "--jobs", "2")
    done = project(*options, "--device", "cpu")
    assert done.code == 0, done.err
    assert "mine" in done.out
    assert project.records()["mine--line--cpu--s0"].status == "finished"


@pytest.mark.slow
def test_a_helper_module_of_a_plug_in_counts_for_the_code_hash(project, folder):
    project("new", "model", "my-model", "--folder", folder)
    helper = folder / "my_helper.py"
    helper.write_text("SCALE = 1.0\n")
    model = folder / "my_model.py"
    model.write_text(model.read_text().replace("import torch\n", "from . import my_helper\nimport torch\n", 1))
    model.write_text(model.read_text().replace("scale * torch.randn(dims)", "my_helper.SCALE * torch.randn(dims)"))
    path = project.suite({"methods.mine": {"model": "my-model"}})
    answers = []
    for scale in ("1.0", "2.0"):
        helper.write_text(f"SCALE = {scale}\n")
        script = (
            "from latentbench.planning.plan import plan; from latentbench.spec.loading import load_suite;"
            f"print(plan(load_suite('{path}'), 'cpu', methods=['mine'])[0].code_hash)"
        )
        env = {**os.environ, plugins.VARIABLE: str(folder)}
        done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
        answers.append(done.stdout)
    assert answers[0] != answers[1]


def test_a_broken_suite_is_said_to_be_broken(project):
    path = project.suite({"methods.broken": {"model": "toy", "params": {"spoil": "raise"}}})
    done = project("check", path)
    assert done.code == 1
    assert project("check", "small").out.splitlines() == done.out.splitlines(), "by its id it is the same"
    assert "broken--line--smoke--s0: its smoke run finishes with every metric: RuntimeError" in done.out
    assert "do not" in done.out.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("empty.py", "x = 1\n", "neither a model nor a metric"),
        ("odd.txt", "", "neither a module, nor YAML"),
        ("wrong.py", DECLARED.replace("Fittable", "Fitting"), "wrong.py:2: declaration @model: no capability"),
        ("raises.py", DECLARED + "1/0\n", "cannot be imported: ZeroDivisionError"),
    ],
)
def test_what_cannot_be_checked_is_an_error_of_input(project, folder, name, text, error):
    folder.mkdir()
    (folder / name).write_text(text)
    done = project("check", folder / name)
    assert done.code == 2
    assert error in done.err


def test_a_name_that_is_taken_is_refused(project, folder):
    assert "has a model 'vae'" in project("new", "model", "vae", "--folder", folder).err
    project("new", "model", "my-model", "--folder", folder)
    module = folder / "my_model.py"
    module.write_text(module.read_text().replace('"my-model",', '"vae",'))
    done = project("check", module)
    assert done.code == 2
    assert "model 'vae' is declared twice" in done.err


def test_a_folder_with_helpers_and_datasets_is_checked_whole(project, folder):
    for kind in ("dataset", "metric"):
        project("new", kind, f"my-{kind}", "--folder", folder)
    (folder / "my_helper.py").write_text("SCALE = 1.0\n")
    done = project("check", folder)
    assert done.code == 0, done.out + done.err
    assert "my-metric: " in done.out
    assert "my-dataset: it can be prepared" in done.out


def test_the_catalogue_of_papers_beside_suites_is_no_suite(project):
    suites = project.suite().parent
    (suites / "papers.yaml").write_text("- {id: some-paper, title: Some paper}\n")
    done = project("check", suites)
    assert "ok small: it validates" in done.out, done.err
    assert "papers" not in done.out + done.err
