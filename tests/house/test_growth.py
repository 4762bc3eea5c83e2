"""Four papers written at once, each with a model, a metric, a step and data of its own, meet without conflict, and no
run of another paper is done again for them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.changes import fingerprints
from tests.project import REPOSITORY

pytestmark = pytest.mark.slow

SUITE = """\
id: {id}
version: 1
paper: {{title: A paper, authors: [A. Nobody], year: 2026}}
datasets:
  {id}-rows: {{preprocess: [{name}_shift]}}
methods:
  mine: {{model: {id}-model, params: {{scale: 0.5}}}}
  floor: {{model: factorised, baseline: true}}
metrics:
  nll: {{}}
  {name}_gap: {{methods: [mine]}}
training: {{optimizer: {{name: adam, lr: 0.05}}, batch_size: 40, epochs: 1}}
tiers:
  smoke: {{seeds: 1}}
  cpu: {{seeds: 3}}
  paper: {{seeds: 5}}
claims:
  - {{id: mine-first, kind: order, text: the model over the floor, where: Table 1, metric: nll, dataset: {id}-rows,
     better: mine, worse: floor}}
"""

METHOD = '''\
"""What is new in the paper: a normal of learned width, and rows that are moved before it sees them."""

from __future__ import annotations

import math

import numpy as np
import torch
from latentbench.core.types import Batch, DataInfo
from latentbench.data.step import Step
from latentbench.declare import Example, generator, model, step
from torch import Generator, Tensor, nn


@model("{id}-model", "Trainable ExactLikelihood Sampler", examples=(Example("real-vector", {{"scale": 0.5}}),))
class Method(nn.Module):
    """Independent normals around zero."""

    def __init__(self, info: DataInfo, *, scale: float = 1.0) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full(info.shape, math.log(scale)))

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.distributions.Normal(0.0, self.log_scale.exp()).log_prob(x).flatten(1).sum(1)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        return {{"loss": -self.log_prob(batch.x).mean()}}

    def sample(self, n: int, generator: Generator) -> Tensor:
        return self.log_scale.exp() * torch.randn(n, *self.log_scale.shape, generator=generator)


@step("{name}_shift")
class Shift(Step):
    """Moves rows by {number}."""

    name = "{name}_shift"

    def map(self, y: Tensor) -> Tensor:
        return y + {number}.0

    def inverse(self, y: Tensor) -> Tensor:
        return y - {number}.0


@generator("{name}_rows")
def rows(n: int, rng: np.random.Generator, *, dims: int) -> dict[str, np.ndarray]:
    """Normal rows."""
    return {{"x": rng.normal(size=(n, dims)).astype(np.float32)}}
'''

MEASURE = '''\
"""The paper's own measure."""

from __future__ import annotations

from typing import Any

from latentbench.core.capabilities import Sampler
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View
from torch import Generator


@metric("{name}_gap", "Sampler", "1", "lower", settings={{"samples": 100}}, lowest={{"samples": 1}})
def gap(model: Sampler, view: View, settings: dict[str, Any], generator: Generator) -> MetricValue:
    """Distance of the samples' mean from the rows'."""
    drawn = model.sample(int(settings["samples"]), generator)
    return MetricValue(float((drawn.mean(0) - view.x.mean(0)).norm()), n=len(drawn))
'''

DATA = """\
name: {id}-rows
title: Rows of the paper
kind: generated
modality: vector
about: Normal rows.
citation: none
licence: CC0
generate: {name}_rows
params: {{dims: 3}}
splits:
  train: {{rows: 200}}
  test: {{rows: 100}}
columns:
  x: {{shape: [3], dtype: float32}}
"""

TEST = '''\
"""What is exact in the paper."""

import torch
from latentbench.core.types import DataInfo
from latentbench.papers.{name}.method import Method, Shift


def test_a_standard_normal_at_its_mode():
    info = DataInfo(shape=(3,), support="real", n_train=10)
    assert torch.isclose(Method(info).log_prob(torch.zeros(1, 3)), torch.tensor(-2.756816)).all()


def test_the_shift_goes_back():
    x = torch.randn(5, 3)
    assert torch.allclose(Shift().inverse(Shift().map(x.clone())), x, atol=1e-5)
'''


def write(clone, paper: str, number: int) -> None:
    """A paper's folder and its changelog entry, as CONTRIBUTING has them."""
    words = {"id": paper, "name": paper.replace("-", "_"), "number": number}
    folder = clone.root / "suites" / paper
    (folder / "data").mkdir(parents=True)
    for name, text in {
        "suite.yaml": SUITE,
        "method.py": METHOD,
        "measure.py": MEASURE,
        f"data/{paper}-rows.yaml": DATA,
        "test_method.py": TEST,
        "notes.md": "The model is ahead of the floor.\n",
    }.items():
        (folder / name).write_text(text.format(**words))
    (clone.root / "changes" / f"{paper}.md").write_text(f"- Suite `{paper}`.\n")


@pytest.fixture
def papers(clone) -> list[str]:
    """Four papers of the catalogue that have no suite."""
    ids = [line.split()[-1] for line in (REPOSITORY / "suites/papers.yaml").open() if line.startswith("- id: ")]
    free = [i for i in ids if not (clone.root / "suites" / i).exists()]
    return free[:4]


def test_four_papers_at_once(clone, papers, tmp_path, monkeypatch):
    before = fingerprints(clone.root, tmp_path / "before", tier="cpu")
    assert len(before) > 15
    for number, paper in enumerate(papers, start=1):
        clone.git("switch", "--quiet", "--create", paper, "main")
        write(clone, paper, number)
        clone.commit(f"Add {paper}")
    clone.git("switch", "--quiet", "main")
    for paper in papers:
        clone.git("merge", "--no-ff", "--message", f"Merge {paper}", paper)
    assert clone.git("status", "--porcelain") == ""

    after = fingerprints(clone.root, tmp_path / "after", tier="cpu")
    assert set(after) == {*before, *papers}
    assert [name for name in before if after[name] != before[name]] == [], "nothing goes stale"

    for name in [n for n in os.environ if n.startswith("LATENTBENCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(clone.root / "benchmarks"))
    _call(clone, "-m", "latentbench", "validate", *papers)
    _call(clone, "-m", "latentbench", "run", *papers, "--tier", "smoke", "--quiet", "--wandb", "disabled")
    _call(clone, "-m", "pytest", "-n", "0", *(f"suites/{paper}" for paper in papers))


def _call(clone, *args: str) -> None:
    done = subprocess.run([sys.executable, *args], cwd=clone.root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
