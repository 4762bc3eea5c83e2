"""Variance components of the crossed design."""

from __future__ import annotations

import numpy as np
import pytest
from latentbench.stats.components import variance_components


def design(rng, shape, init=0.0, order=0.0, interaction=0.0, common=0.0, own=0.0):
    i, o, e = shape
    return (
        5.0
        + init * rng.standard_normal((i, 1, 1))
        + order * rng.standard_normal((1, o, 1))
        + interaction * rng.standard_normal((i, o, 1))
        + common * rng.standard_normal((1, 1, e))
        + own * rng.standard_normal(shape)
    )


@pytest.mark.parametrize("axis", ["init", "order", "interaction", "common", "own"])
def test_one_axis_alone_is_found_alone(axis):
    found = variance_components(design(np.random.default_rng(0), (200, 200, 30), **{axis: 2.0}))
    name = "evaluation" if axis in ("common", "own") else axis
    for other in ("init", "order", "interaction", "evaluation"):
        expected = 2.0 if other == name else 0.0
        assert getattr(found, other) == pytest.approx(expected, abs=0.6 if axis == "common" else 0.2)
    assert found.total == pytest.approx(2.0, abs=0.6)


def test_estimates_of_small_designs_are_unbiased_where_no_component_is_near_zero():
    rng = np.random.default_rng(1)
    truth = {"init": 3.0, "order": 2.0, "interaction": 1.0}
    found = [variance_components(design(rng, (4, 5, 3), **truth, own=0.5)) for _ in range(3000)]
    for name, sd in (truth | {"evaluation": 0.5}).items():
        assert np.mean([getattr(c, name) ** 2 for c in found]) == pytest.approx(sd**2, rel=0.08), name


def test_no_spread_at_all():
    found = variance_components(np.full((3, 3, 2), 7.0))
    assert (found.init, found.order, found.interaction, found.evaluation, found.total) == (0, 0, 0, 0, 0)
    assert found.shape == (3, 3, 2)


@pytest.mark.parametrize("bad", [np.zeros((1, 3, 2)), np.zeros((3, 3)), np.full((2, 2, 2), np.nan)])
def test_what_is_no_design_is_refused(bad):
    with pytest.raises(ValueError, match=r"shape|finite"):
        variance_components(bad)
