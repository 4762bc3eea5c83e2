"""Declared examples whose rows are one tensor, for tests of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from latentbench.contracts import synthetic
from latentbench.contracts.synthetic import KINDS, Kind
from latentbench.core.imports import load
from latentbench.core.types import DataInfo
from latentbench.spec.registry import models
from torch import Tensor, nn

from tests.project import marks_of

BINARY = synthetic.rows(KINDS["binary-vector"]).info


@dataclass(frozen=True)
class Case:
    name: str
    cls: Callable[..., nn.Module]
    info: DataInfo
    can: frozenset[str]
    params: Mapping[str, Any]
    target: str


def _cases() -> Iterator[Case]:
    for name, entry in models().items():
        for i, example in enumerate(entry.examples):
            rows = synthetic.rows(KINDS[example.data]) if example.data in KINDS else None
            if rows is not None and not rows.columns and not rows.whole and example.data != "pairs":
                yield Case(f"{name}/{i}", load(entry.target), rows.info, entry.can, example.params, entry.target)


CASES = list(_cases())
#: Those that a loss of their own trains, from the first step on, as parameters of a test.
TRAINED = [
    pytest.param(case, id=case.name, marks=marks_of(case.target))
    for case in CASES
    if "Trainable" in case.can and "Preparable" not in case.can
]


def data(info: DataInfo, seed: int = 1) -> Tensor:
    """Samples of the support with some structure."""
    return synthetic.rows(Kind(info.shape, info.support, info.levels), seed=seed).x
