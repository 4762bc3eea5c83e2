"""Models built only to look at their parameters."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.running import building
from latentbench.running.building import TooLarge, built
from torch import nn


class Sized(nn.Module):
    """A model whose size is a parameter in several ways."""

    def __init__(self, info, *, width=1, parts=0, reads=False, items=0, spins=False, refuses=False):
        super().__init__()
        self.first = nn.Linear(info.shape[0], width)
        self.register_buffer("mean", info.mean.logit())
        self.parts = nn.ModuleList(nn.Identity() for _ in range(parts))
        if reads:
            self.scale = float(self.first.weight.abs().sum())
        self.held = list(range(items))
        while spins:
            pass
        if refuses:
            raise UserError("the width is odd")


TARGET = f"{__name__}:Sized"


def info():
    return DataInfo(shape=(64,), support="real", n_train=10, levels=None, mean=torch.full((64,), 0.5), columns={})


def test_a_model_is_built_without_its_numbers():
    model = built(TARGET, info(), {"width": 30_000_000})
    assert model.first.weight.device.type == "meta"
    assert model.first.weight.shape == (30_000_000, 64)


def test_one_that_looks_at_its_numbers_has_them():
    model = built(TARGET, info(), {"width": 5, "reads": True})
    assert model.first.weight.device.type == "cpu"
    assert model.scale > 0


@pytest.mark.parametrize(
    ("params", "why"),
    [({"width": 10**9}, "numbers"), ({"parts": 10**6}, "parts"), ({"spins": True}, "to build")],
)
def test_bounds(monkeypatch, params, why):
    monkeypatch.setattr(building, "MODEL_SECONDS", 1)
    monkeypatch.setattr(building, "MODEL_PARTS", 1000)
    before = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGVTALRM)
    with pytest.raises(TooLarge, match=why):
        built(TARGET, info(), params)
    assert (resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGVTALRM)) == before
    assert built(TARGET, info(), {"parts": 3}).parts, "nothing is counted from one to the next"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not say what the process has")
@pytest.mark.parametrize("params", [{"items": 10**9}, {"width": 100_000_000, "reads": True}])
def test_memory_is_bounded_where_numbers_are_needed(monkeypatch, params):
    monkeypatch.setattr(building, "MODEL_BYTES", 200 << 20)
    with pytest.raises((MemoryError, RuntimeError)):
        built(TARGET, info(), params)


def test_what_a_constructor_says_comes_through():
    with pytest.raises(UserError, match="odd"):
        built(TARGET, info(), {"width": 7, "refuses": True})
    with pytest.raises(TypeError):
        built(TARGET, info(), {"unknown": 1})
