"""Weights of shared stages (`latentbench.running.shared_stages`) that lie in the results, and what takes them."""

from __future__ import annotations

import shutil
from pathlib import Path

from latentbench.data.manifest import content_hash_if_known
from latentbench.planning.plan import plan
from latentbench.results.gather import seeds_on_disk
from latentbench.spec.files import suite_files
from latentbench.spec.loading import LoadedSuite, load_suite
from latentbench.spec.protocol import Training

FOLDER = "stages"


def kept_stages(results: Path) -> list[Path]:
    """The folders of the stages, each named by its fingerprint, in the order of the names."""
    folder = results / FOLDER
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink()) if folder.is_dir() else []


def wanted_stages(results: Path) -> set[str]:
    """Fingerprints of the stages that runs of the project's suites take, as suites, data and code stand.

    Runs are those of every tier, under its own seeds and those that have records. Of data that are not here, the
    fingerprint cannot be known.

    Raises:
        UserError: a suite cannot be read or planned, so that what it takes is not known.
    """
    return {fingerprint for name in suite_files() for fingerprint in _wanted_by(load_suite(name), results)}


def _wanted_by(loaded: LoadedSuite, results: Path) -> set[str]:
    found = set()
    for tier, spec in loaded.suite.tiers.items():
        seeds = sorted({*spec.seeds, *seeds_on_disk(loaded.suite.id, tier, results)})
        for run in plan(loaded, tier, seeds=seeds):
            shared = [stage for stage in run.training["in_stages"] if stage["model"] is not None]
            data_hash = content_hash_if_known(run.data["source"]) if shared else None
            if data_hash is not None:
                stages = Training.model_validate(run.training).in_stages
                found |= {run.of_stage(s).fingerprint(data_hash) for s in stages if s.model is not None}
    return found


def size_of(stage: Path) -> int:
    """Bytes of what is in a stage's folder."""
    return sum(p.stat().st_size for p in stage.rglob("*") if p.is_file() and not p.is_symlink())


def remove_stage(stage: Path) -> bool:
    """Remove a stage's folder, unless a process has it locked; whether it is gone.

    Raises:
        OSError: it cannot be removed.
    """
    from filelock import FileLock, Timeout

    try:
        with FileLock(stage / "lock", timeout=0):
            shutil.rmtree(stage)
    except Timeout:
        return False
    return True
