"""Hashes of what can change a run's result.

A run's fingerprint joins the hashes of its resolved specification, of the content of its data and of its code: the
definitions that its model, its metrics, its steps of preprocessing and its oracle reach (`latentbench.core.reach`),
wherever they lie and however they are imported. The engine, which is the same for all runs, has a hash of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from latentbench.core.reach import installed
from latentbench.core.reach.graph import Boundary, Key
from latentbench.core.reach.installed import FINDING, PACKAGE, WORDS_AND_PLACES

#: What words and places are, and modules whose work the data's content hash covers.
CANNOT_CHANGE_A_RESULT = WORDS_AND_PLACES | {f"{PACKAGE}.data.registry", f"{PACKAGE}.data.dataset"}
#: What every run executes, whatever its model and metrics.
ENGINE = "running.experiment:run_experiment"
#: What the engine passes to models, metrics and steps: it belongs to the engine, and only its name counts for a run.
INTERFACE = (
    "core.seeds:derive",
    "core.seeds:generator",
    "core.seeds:Seeds",
    "core.types:Batch",
    "core.types:DataInfo",
    "core.types:Elbo",
    "core.types:MetricValue",
    "core.types:Support",
    "data.step:Learner",
    "data.step:State",
    "data.step:Step",
    "evaluation.view:BLOCK",
    "evaluation.view:View",
    "evaluation.view:make_view",
)


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal for equal values, whatever order they were written in."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(value: Any) -> str:
    """sha256 of `value`'s canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def code_hash(roots: Mapping[str, str]) -> str:
    """Hash of a run's code.

    Args:
        roots: what it is called in the run (``model vae``, ``metric elbo``) -> ``module:name``.

    Raises:
        LookupError: one has no source.
    """
    return joined(installed.code_hashes(roots, of_runs()))


def joined(hashes: Mapping[str, str]) -> str:
    """One hash of several with their labels."""
    return digest(sorted(hashes.items()))


def code_definitions(roots: Mapping[str, str]) -> set[Key]:
    """The definitions behind `code_hash`: module and name."""
    return installed.closure(roots, of_runs())


def imported_by(roots: Mapping[str, str]) -> set[str]:
    """Top-level modules of other packages that a run's own code refers to."""
    return installed.modules_elsewhere(roots, of_runs())


@cache
def engine_hash() -> str:
    """Hash of what every run executes: training, preprocessing, evaluation, and the values that they pass on."""
    return joined(installed.code_hashes(engine_roots(), of_engine()))


def engine_definitions() -> set[Key]:
    """The definitions behind `engine_hash`."""
    return installed.closure(engine_roots(), of_engine())


def engine_roots(package: str = PACKAGE, root: str = ENGINE, interface: tuple[str, ...] = INTERFACE) -> dict[str, str]:
    """What the engine's hash is made of, by label."""
    return {"engine": f"{package}.{root}"} | {target.partition(":")[2]: f"{package}.{target}" for target in interface}


@cache
def of_runs() -> Boundary:
    """Where a run's own code ends."""
    parts = (target.partition(":") for target in INTERFACE)
    return Boundary(
        CANNOT_CHANGE_A_RESULT, FINDING, frozenset((f"{PACKAGE}.{module}", name) for module, _, name in parts)
    )


@cache
def of_engine() -> Boundary:
    """Where the engine's code ends."""
    return Boundary(CANNOT_CHANGE_A_RESULT, FINDING)
