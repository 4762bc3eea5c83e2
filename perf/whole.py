"""A whole run through `latentbench run`'s path, and by a script that trains and evaluates the same model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from latentbench.core.paths import results_dir
from latentbench.data.dataset import open_dataset
from latentbench.planning.plan import RunSpec, plan
from latentbench.records.archive import run_folder
from latentbench.running.settings import Settings, Tracking
from latentbench.scheduling.task import perform
from latentbench.spec.loading import load_suite
from safetensors.torch import load_file

from perf.figures import Figure
from perf.harness import TARGET, by_hand
from perf.model import LEARNING_RATE, PARAMS, PREPROCESS, ROWS, SIDE
from perf.project import project
from perf.timing import interleaved, ratio, seconds

TEST_ROWS, BATCH, STEPS = 1000, 20, 2000
DATASET = {
    "name": "grey",
    "title": "Grey images of MNIST's shape",
    "kind": "generated",
    "modality": "image",
    "about": "Random pixels, four in five of them black.",
    "citation": "none",
    "licence": "Apache-2.0",
    "generate": "perf.model:generate",
    "splits": {"train": {"rows": ROWS}, "test": {"rows": TEST_ROWS}},
    "columns": {"x": {"shape": [SIDE, SIDE], "dtype": "uint8", "levels": 256}},
}


def _suite(steps: int) -> dict[str, Any]:
    return {
        "id": "one-run",
        "version": 1,
        "paper": {"title": "One run", "authors": ["nobody"], "year": 2026},
        "datasets": {"grey": {"preprocess": PREPROCESS}},
        "methods": {"vae": {"model": "vae", "params": PARAMS}},
        "metrics": {"elbo": {}},
        "training": {"optimizer": {"name": "adam", "lr": LEARNING_RATE}, "batch_size": BATCH, "steps": steps},
        "tiers": {"cpu": {"seeds": 1}, "smoke": {"seeds": 1, "training": {"steps": 1}}},
    }


def run(quick: bool) -> list[Figure]:
    """One run of 2,000 steps (a sixth of those of suite iwae's tier cpu), without wandb and with its offline tracking;
    and a run of a single step: what each costs beside its steps."""
    steps = STEPS // (10 if quick else 1)
    with project(_suite(steps), {"grey": DATASET}) as root:
        torch.set_flush_denormal(True)  # the harness sets it, so the script has it too
        data = open_dataset("grey")
        train, test = (np.asarray(data.split(split)["x"]) for split in ("train", "test"))
        np.savez(root / "data.npz", train=train, test=test)
        [spec], [single] = (plan(load_suite("one-run"), tier) for tier in ("cpu", "smoke"))

        def harness(one: RunSpec = spec, wandb: Tracking = "disabled") -> None:
            record, _ = perform(one, Settings(results_dir(), threads=1, wandb=wandb, force=True))
            assert record.status == "finished", record.error

        contenders: dict[str, Callable[[], Any]] = {
            "harness": harness,
            "tracked": lambda: harness(wandb="offline"),
            "hand": lambda: _script(root / "data.npz", steps),
            "single": lambda: harness(single),
        }
        harness()
        kept = load_file(run_folder(spec, data.content_hash) / "weights.safetensors")
        assert all(torch.equal(kept[k], v) for k, v in _script(root / "data.npz", steps).state_dict().items()), (
            "the run and the script do not end in the same bits"
        )
        times = interleaved(contenders)
    what = f"batch {BATCH}, {steps} steps, ELBO of {TEST_ROWS} rows, record: run over hand-written script"
    known: dict[str, Any] = {"steps": steps, "batch": BATCH}
    return [
        ratio("run/untracked", f"{what}, no wandb", times["harness"], times["hand"], target=TARGET, **known),
        ratio("run/tracked", f"{what}, wandb offline", times["tracked"], times["hand"], target=TARGET, **known),
        seconds(
            "run/single-step", "a run of one step, no wandb: what each run costs beside its steps", times["single"]
        ),
    ]


def _script(file: Path, steps: int) -> torch.nn.Module:
    """Load, train, evaluate: what one would write without a harness."""
    data = np.load(file, allow_pickle=False)
    model = by_hand(torch.from_numpy(data["train"]), BATCH, steps, fused=True)
    noise = torch.Generator().manual_seed(1)
    elbo = []
    with torch.no_grad():
        for rows in torch.from_numpy(data["test"]).flatten(1).split(100):
            grey = rows.float() / 255
            bound = model.elbo((torch.rand(grey.shape, generator=noise) < grey).float(), noise)  # type: ignore[operator]
            elbo.append(-bound.rate - bound.distortion)
    float(torch.cat(elbo).mean())
    return model
