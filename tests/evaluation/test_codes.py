"""Disentanglement scores in suites: clean codes at the top, shuffled ones at the floor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import Diverged, UserError
from latentbench.core.seeds import generator
from latentbench.evaluation import codes
from latentbench.metrics import disentanglement
from latentbench.spec.registry import metrics

from tests.evaluation.views import view_of

NAMES = [n for n, e in metrics().items() if ".codes:" in e.target]
SIZES = (4, 5, 6)


class Linear:
    def __init__(self, matrix) -> None:
        self.matrix = torch.as_tensor(matrix, dtype=torch.float32)

    def encode(self, x):
        return x @ self.matrix


@pytest.fixture(scope="module")
def view():
    rng = np.random.default_rng(0)
    v = np.stack([rng.integers(0, s, 700) for s in SIZES], axis=1)
    x = v / v.std(axis=0) + 0.05 * rng.normal(size=v.shape)
    return view_of(x.astype(np.float32), columns={"factors": v})


def measure(name, matrix, view, **changes):
    small = {"rows": 600, "train": 300, "test": 300, "batch": 16, "model": "forest"}
    settings = {
        **metrics()[name].settings,
        **{k: v for k, v in small.items() if k in metrics()[name].settings},
        **changes,
    }
    return getattr(codes, name)(Linear(matrix), view, settings, generator(0, "evaluation", name))


@pytest.mark.parametrize("name", NAMES)
def test_clean_codes_beat_mixed_and_constant_ones(name, view):
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    clean = measure(name, np.eye(3), view)
    assert clean.n == 600
    assert clean.value <= 1.0 + 1e-9
    if "shuffled" in clean.details:
        assert clean.details["shuffled"] < clean.value
    if name not in ("explicitness", "infoe", "dci_informativeness", "irs"):  # a rotation loses no information
        assert measure(name, rotation, view).value < clean.value
    if name.startswith("info"):
        with pytest.raises(Diverged, match="constant"):
            measure(name, np.zeros((3, 2)), view)
    else:
        assert measure(name, np.zeros((3, 3)), view).value <= clean.value


def test_the_score_is_the_metric_on_the_rows_in_order(view):
    found = measure("modularity", np.eye(3), view, rows=10_000)
    assert found.value == disentanglement.modularity(view.raw, view.columns["factors"])
    assert found.n == 700


def test_the_same_generator_gives_the_same_score(view):
    first, second = (measure("factor_vae_score", np.eye(3), view) for _ in range(2))
    assert first.value == second.value


def test_factors_are_asked_for(view):
    with pytest.raises(UserError, match="factors"):
        codes.mcc(Linear(np.eye(3)), view_of(view.raw), metrics()["mcc"].settings, generator(0, "evaluation"))
