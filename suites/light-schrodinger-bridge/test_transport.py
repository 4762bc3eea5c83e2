"""Evaluators of transport, on transports that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.papers.light_schrodinger_bridge.measure import (
    conditional_bw2_uvp,
    pushed_energy_distance,
    target_bw2_uvp,
)
from latentbench.papers.light_schrodinger_bridge.plans import EntropicPlan, pairs
from torch import Tensor

from tests.evaluation.views import view_of

PARAMS = {"components": 3, "epsilon": 0.6, "radius": 1.5, "scales": (0.2, 0.8), "structure_seed": 4, "rotated": True}
PLAN = EntropicPlan(dims=3, **PARAMS)
ROWS = pairs(4000, np.random.default_rng(0), 3, **PARAMS)["x"]
SETTINGS = {"sources": 40, "samples": 800}


class Truth:
    """The true plan, moved by `shift`."""

    def __init__(self, shift: float = 0.0, scale: float = 1.0) -> None:
        self.shift, self.scale = shift, scale

    def transport(self, x: Tensor, generator: torch.Generator, time: float = 1.0) -> Tensor:
        rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        y = PLAN.sample_conditional(x.numpy(), rng)
        return torch.from_numpy((y + self.shift) * self.scale).float()


class Independent:
    """The target's marginal, whatever x is: right marginal, wrong plan."""

    def transport(self, x: Tensor, generator: torch.Generator, time: float = 1.0) -> Tensor:
        return torch.from_numpy(ROWS[:, 1])[torch.randint(len(ROWS), (len(x),), generator=generator)]


def gen() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_true_plan_is_at_the_floor_and_others_are_not():
    view = view_of(ROWS, oracle=PLAN)
    true = conditional_bw2_uvp(Truth(), view, SETTINGS, gen())
    assert true.n == 40
    assert true.value == pytest.approx(true.details["floor"], rel=0.3)
    assert true.value < 0.5
    assert conditional_bw2_uvp(Independent(), view, SETTINGS, gen()).value > 10
    assert target_bw2_uvp(Independent(), view, {}, gen()).value < 0.5, "the marginal alone does not tell"
    shifted = conditional_bw2_uvp(Truth(0.5), view, SETTINGS, gen()).value
    # half of |shift|² over half of the target's variance
    expected = 100 * 3 * 0.25 / np.trace(PLAN.target_moments[1])
    assert shifted == pytest.approx(expected + true.value, rel=0.1)
    assert target_bw2_uvp(Truth(0.5), view, {}, gen()).value == pytest.approx(expected, rel=0.15)


def test_energy_distance_tells_where_sources_arrive():
    view = view_of(ROWS, oracle=PLAN)
    settings = {"time": 1.0, "rows": 2000}
    true, wrong = (pushed_energy_distance(Truth(s), view, settings, gen()).value for s in (0.0, 1.0))
    assert true < 0.1 < 0.5 < wrong


def test_values_are_in_raw_units_whatever_the_preprocessing():
    """A transport that works in standardised space and is the true plan in raw space scores as the true plan."""
    raw = (ROWS * 3 + 1).astype(np.float32)
    plain, view = view_of(raw), view_of(raw, [{"standardise": "all"}])
    scale, shift = raw.std(), raw.mean()

    class Standardised:
        def transport(self, x: Tensor, generator: torch.Generator, time: float = 1.0) -> Tensor:
            return (x * scale + shift + 2.0 - shift) / scale

    class Raw:
        def transport(self, x: Tensor, generator: torch.Generator, time: float = 1.0) -> Tensor:
            return x + 2.0

    settings = {"time": 1.0, "rows": 500}
    a = pushed_energy_distance(Standardised(), view, settings, gen()).value
    b = pushed_energy_distance(Raw(), plain, settings, gen()).value
    assert a == pytest.approx(b, rel=1e-3)


def test_unknown_plans_are_refused():
    with pytest.raises(UserError, match="plan of these data is not known"):
        conditional_bw2_uvp(Truth(), view_of(ROWS), SETTINGS, gen())
