"""Evaluators of bounds in parts and of sampling paths, on models whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.evaluation.bounds import bits_per_dim_elbo, bound_spread, nll_elbo
from latentbench.papers.nfdm.measure import few_step_distance, path_straightness, straightness
from torch import Tensor

from .views import pixels, view_of


def gen() -> torch.Generator:
    return torch.Generator().manual_seed(0)


class Parts:
    """A bound of 3 nats in two parts, and noise of a known deviation."""

    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise

    def bound_terms(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        noise = self.noise * torch.randn(len(x), generator=generator)
        return {"prior": torch.ones(len(x)), "diffusion": 2.0 + noise}


class Arc:
    """Paths from noise to (3, 4): straight, or along two sides of a triangle; `off` beside the target at the end."""

    def __init__(self, *, bent: bool, off: float = 0.0) -> None:
        self.bent, self.off = bent, off

    def sample_path(self, n: int, steps: int, generator: torch.Generator) -> Tensor:
        s = torch.linspace(0, 1, steps + 1)[:, None, None]
        end = torch.tensor([3.0, 4.0])
        straight = s * end
        corner = torch.cat([(2 * s).clamp(max=1) * 3, (2 * s - 1).clamp(min=0) * 4], -1)
        path = (corner if self.bent else straight).expand(-1, n, 2)
        return path + self.off * s + 0.01 * torch.randn(n, 2, generator=generator)


def test_bits_are_nats_over_dimensions_with_the_jacobian():
    view = view_of(pixels(250), ["flatten"], levels=256)
    value = bits_per_dim_elbo(Parts(), view, {"samples": 2}, gen())
    assert value.value == pytest.approx(3.0 / (6 * math.log(2)))
    assert value.details == {"prior": 1.0, "diffusion": 2.0}
    assert value.n == 250
    assert nll_elbo(Parts(), view, {"samples": 1}, gen()).value == pytest.approx(3.0)
    scaled = view_of(pixels(250), ["flatten", "dequantise", "to_unit"], levels=256)
    # a density of x / 256 is 256^6 times as large as one of x
    assert bits_per_dim_elbo(Parts(), scaled, {"samples": 1}, gen()).value == pytest.approx(
        3.0 / (6 * math.log(2)) + 8.0, rel=1e-5
    )


def test_draws_average_and_their_spread_is_measured():
    view = view_of(pixels(900), ["flatten"], levels=256)
    noisy = nll_elbo(Parts(2.0), view, {"samples": 16}, gen())
    assert noisy.se == pytest.approx(2.0 / math.sqrt(900 * 16), rel=0.2)
    assert abs(noisy.value - 3.0) < 4 * noisy.se
    spread = bound_spread(Parts(2.0), view, {"samples": 16}, gen())
    assert spread.value == pytest.approx(2.0 / (6 * math.log(2)), rel=0.05)
    assert 0 < spread.se < 0.05 * spread.value
    assert bound_spread(Parts(), view, {"samples": 4}, gen()).value == 0.0


def test_straightness_is_chord_over_length():
    view = view_of(np.zeros((20, 2), np.float32))
    settings = {"steps": 100, "samples": 50}
    assert path_straightness(Arc(bent=False), view, settings, gen()).value == pytest.approx(1.0, abs=1e-6)
    assert path_straightness(Arc(bent=True), view, settings, gen()).value == pytest.approx(5 / 7, abs=1e-4)
    uneven = torch.tensor([0.0, 0.1, 0.9, 1.0])[:, None, None].expand(4, 3, 2)
    torch.testing.assert_close(straightness(uneven), torch.ones(3, dtype=torch.float64))  # speed does not matter
    assert straightness(torch.zeros(3, 2, 2)).tolist() == [1.0, 1.0]
    with pytest.raises(UserError, match="one step"):
        straightness(torch.zeros(1, 2, 2))


def test_few_step_distance_tells_where_paths_end():
    real = np.array([3.0, 4.0], np.float32) + 0.01 * np.random.default_rng(0).standard_normal((400, 2)).astype("f4")
    view = view_of(real)
    settings = {"steps": 5, "samples": 300, "projections": 100}
    near, far = (few_step_distance(Arc(bent=True, off=off), view, settings, gen()) for off in (0.0, 1.0))
    assert near.value < 0.01
    assert near.details["real_against_real"] < 0.01
    # a shift by (1, 1): its root mean square along random directions is 1, its mean 0.9
    assert 0.8 < far.value < 1.1


@pytest.mark.parametrize("steps", [3, 8])
def test_paths_are_taken_with_as_many_steps_as_asked(steps: int):
    asked = []

    class Noted(Arc):
        def sample_path(self, n: int, steps: int, generator: torch.Generator) -> Tensor:
            asked.append((n, steps))
            return super().sample_path(n, steps, generator)

    view = view_of(np.zeros((20, 2), np.float32))
    few_step_distance(Noted(bent=True), view, {"steps": steps, "samples": 10, "projections": 5}, gen())
    path_straightness(Noted(bent=True), view, {"steps": steps, "samples": 10}, gen())
    assert asked == [(10, steps)] * 2
