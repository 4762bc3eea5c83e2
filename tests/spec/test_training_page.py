"""docs/training.md: its examples are protocols and registry entries as they are."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from latentbench.core import capabilities
from latentbench.core.yamlfile import read_yaml
from latentbench.data.registry import WholePart, load_entry
from latentbench.planning.settled_stages import settled_stages
from latentbench.planning.settling import lay
from latentbench.spec.protocol import Training

from tests.project import REPOSITORY

PAGE = (REPOSITORY / "docs/training.md").read_text()


def blocks() -> list[Any]:
    with TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.yaml" for i in range(9)]
        found = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
        for file, text in zip(files, found, strict=False):
            file.write_text(text)
        return [read_yaml(file).data for file, _ in zip(files, found, strict=False)]


BLOCKS = blocks()


def protocols() -> list[dict[str, Any]]:
    found = [block["training"] for block in BLOCKS if "training" in block]
    return found + [m["training"] for b in BLOCKS for m in b.get("methods", {}).values() if "training" in m]


@pytest.mark.parametrize("training", protocols(), ids=lambda t: ",".join(t))
def test_protocols_hold(training):
    def find(name: str) -> dict[str, Any]:
        return {"model": name, "params": {}, "training": {"epochs": 1}}

    settled = Training.model_validate(settled_stages(training, lay, find))
    for given, made in zip(training.get("in_stages", []), settled.in_stages, strict=True):
        assert made.epochs == given.get("epochs", 1)
    if training.get("phases"):
        assert settled.batches_per_step == 6


def test_a_stage_takes_what_it_does_not_say_from_the_training_around_it():
    [training] = [t for t in protocols() if "batch_size" in t and "in_stages" in t]
    density = Training.model_validate(settled_stages(training, lay, dict)).in_stages[1]
    assert (density.batch_size, density.optimizer.name, density.optimizer.lr, density.ema) == (128, "adam", 1e-4, None)


def test_the_registry_entry_is_as_shown():
    [shown] = [block for block in BLOCKS if "parts" in block]
    cora = load_entry("cora")
    assert {name: WholePart.model_validate(part) for name, part in shown["parts"].items()}.items() <= cora.parts.items()
    assert shown["protocols"].items() <= cora.protocols.items()


def test_the_abilities_that_it_names_exist():
    named = set(re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE)) | set(re.findall(r"\(`(\w+)`[:)]", PAGE))
    assert {"Trainable", "Players", "Staged", "OwnState", "Validated"} <= named
    assert named <= set(capabilities.CAPABILITIES)
