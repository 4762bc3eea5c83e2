"""Scores against plain recomputation, and the measures against samples that are laid out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.diffusion_mode_interpolation import measure
from latentbench.papers.diffusion_mode_interpolation.filters import Chance, DDPMFilter, Density, Variance
from latentbench.papers.diffusion_mode_interpolation.mixture import grid_mixture

TWO = DataInfo((2,), "real", 40)
LINE = grid_mixture([[1, 2, 4, 5]], 0.05)
GRID = grid_mixture([[-4, -2, 0, 2, 4], [-4, -2, 0, 2, 4]], 0.1)
SMALL = {"timesteps": 20, "width": 8}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Fixed:
    """Gives the rows of `x` in turn, with their scores."""

    def __init__(self, x, scores=None):
        self.x, self.scores, self.at = torch.tensor(np.asarray(x), dtype=torch.float32), scores, 0

    def sample(self, n, generator):
        self.at += n
        return self.x[self.at - n : self.at]

    def scored(self, n, generator):
        return self.sample(n, generator), torch.tensor(self.scores[self.at - n : self.at])


def view(law, scale=1.0):
    pipeline = SimpleNamespace(inverse=lambda y: scale * y, arrange=lambda y: y)
    return SimpleNamespace(oracle=law, x=torch.zeros(1, law.means.shape[1]), pipeline=pipeline)


def settings(samples, **more):
    return {"samples": samples, "outside": 1e-6, **more}


def test_the_variance_is_that_of_predictions_over_steps():
    guesses = torch.randn(4, 6, 3, generator=generator(1))
    found = Variance().score(guesses[-1], guesses, generator())
    for n in range(6):
        each = [np.mean((guesses[:, n, d].numpy() - guesses[:, n, d].mean().item()) ** 2) for d in range(3)]
        assert found[n].item() == pytest.approx(np.mean(each), rel=1e-5)


def test_density_is_the_distance_to_the_kth_training_row():
    rows, x = torch.randn(40, 2, generator=generator(1)), torch.randn(1300, 2, generator=generator(2))
    made = Density(TWO, 3)
    made.fit(rows, generator())
    found = made.score(x, torch.zeros(1, 1300, 2), generator())
    apart = np.sort(np.linalg.norm(x.numpy()[:, None] - rows.numpy(), axis=2), axis=1)
    np.testing.assert_allclose(found, apart[:, 2], rtol=1e-5)


def test_chance_looks_at_nothing_and_draws_from_the_generator():
    x = torch.zeros(4000, 2)
    found, again = (Chance().score(x, x[None], generator(s)) for s in (3, 3))
    assert torch.equal(found, again)
    assert not torch.equal(found, Chance().score(x, x[None], generator(4)))
    assert abs(found.mean().item() - 0.5) < 4.5 / (12 * 4000) ** 0.5


@pytest.mark.parametrize("by", ["variance", "density", "chance"])
def test_all_filters_see_the_same_samples_and_the_last_steps(by):
    torch.manual_seed(0)
    base = DDPMFilter(TWO, ddpm=SMALL, window=4)
    made = DDPMFilter(TWO, ddpm=SMALL, window=4, by=by)
    made.ddpm.load_state_dict(base.ddpm.state_dict())
    made.stages()["filter"].fit(torch.randn(40, 2, generator=generator(5)), generator())
    x, scores = made.scored(9, generator(6))
    y, guesses = base.ddpm.trace(9, 4, generator(6))
    torch.testing.assert_close(x, y)
    if by != "chance":
        torch.testing.assert_close(scores, made.filter.score(y, guesses, generator()))
    torch.testing.assert_close(made.sample(9, generator(6)), x)
    assert made.stages()["ddpm"] is made.ddpm


def test_rate_counts_rows_as_stored():
    x = [[0.5], [0.75], [1.0], [1.5], [2.0], [2.5], [3.0]]
    found = measure.hallucination_rate(Fixed(x), view(LINE, 2.0), settings(7), generator())
    assert found.value == pytest.approx(3 / 7)
    assert found.se == pytest.approx((3 / 7 * 4 / 7 / 7) ** 0.5)
    assert found.n == 7


def test_samples_are_drawn_in_blocks_until_there_are_as_many_as_asked_for():
    x = np.ones((4500, 1))
    x[4490:] = 1.5
    found = measure.hallucination_rate(Fixed(x), view(LINE), settings(4500), generator())
    assert found.value == pytest.approx(10 / 4500)


def test_the_widest_gaps_share_has_one_more_in_each():
    x = np.array([1.5, 1.5, 1.6, 3.0, 3.2, 2.5, 2.5, 4.4, 0.5, 5.5, 5.6, 2.0])[:, None]
    found = measure.widest_gap_share(Fixed(x), view(LINE), settings(12), generator())
    assert found.value == pytest.approx((4 + 1) / (8 + 3))
    assert found.details == {"counted": 8.0, "gap_0": 3.0, "gap_1": 4.0, "gap_2": 1.0}
    none = measure.widest_gap_share(Fixed(np.ones((5, 1))), view(LINE), settings(5), generator())
    assert none.value == pytest.approx(1 / 3)
    with pytest.raises(UserError, match="no gaps"):
        measure.widest_gap_share(Fixed(np.ones((5, 2))), view(GRID), settings(5), generator())


def test_excess_is_over_the_area_of_the_strips_between_neighbours():
    x = np.array([[1.0, 0.0], [0.0, 3.0], [1.0, 1.0], [0.0, 0.0], [2.0, 1.1]])
    found = measure.nearest_mode_excess(Fixed(x), view(GRID), settings(5, away=1.7), generator())
    r, g, far = GRID.radius(1e-6), 2.0, 1.7 * GRID.radius(1e-6)
    ends = 2 * (r * np.sqrt(far**2 - r**2) + far**2 * np.arcsin(r / far))
    strips = 32 * (2 * r * g - ends)
    assert found.details["by_chance"] == pytest.approx(strips / (16 * g**2 - 16 * np.pi * far**2), rel=0.03)
    assert found.details["counted"] == 4
    assert found.details["share"] == pytest.approx(0.75)
    assert found.value == pytest.approx(0.75 - found.details["by_chance"])
    assert found.n == 4
    uneven = grid_mixture([[0, 2, 6], [0, 2]], 0.1)
    found = measure.nearest_mode_excess(Fixed(x), view(uneven), settings(5, away=1.5), generator())
    even = np.random.default_rng(0).random((200_000, 2)) * [6, 2]
    even = even[uneven.hallucinated(even, 1e-6, 1.5)]
    assert found.details["by_chance"] == pytest.approx(uneven.between(even, uneven.radius(1e-6)).mean(), abs=0.006)
    with pytest.raises(UserError, match="plane"):
        measure.nearest_mode_excess(Fixed([[1.5]]), view(LINE), settings(1, away=3.0), generator())
    with pytest.raises(UserError, match="nothing lies 9 radii"):
        measure.nearest_mode_excess(Fixed(x), view(GRID), settings(5, away=9.0), generator())


def test_modes_that_are_too_wide_are_not_between_modes():
    rng = np.random.default_rng(1)
    blurred = GRID.means[rng.integers(25, size=3000)] + 2.0 * GRID.std * rng.standard_normal((3000, 2))
    assert GRID.hallucinated(blurred, 1e-6).mean() > 0.02
    found = measure.nearest_mode_excess(Fixed(blurred), view(GRID), settings(3000, away=1.7), generator())
    assert found.details["counted"] == 0


def test_recall_is_beyond_the_quantile_of_the_others():
    rng = np.random.default_rng(2)
    scores, hallucinated = rng.normal(size=500), rng.random(500) < 0.2
    scores[hallucinated] += 1.5
    threshold = sorted(scores[~hallucinated])[int(0.9 * (~hallucinated).sum())]
    recall, auroc = measure.found(scores, hallucinated, 0.9)
    assert recall == pytest.approx((scores[hallucinated] > threshold).mean(), abs=0.02)
    pairs = scores[hallucinated][:, None] > scores[~hallucinated]
    assert auroc == pytest.approx(pairs.mean())
    assert recall > 0.4
    assert (scores[~hallucinated] <= np.quantile(scores[~hallucinated], 0.9)).mean() == pytest.approx(0.9, abs=0.01)
    assert measure.found(scores, np.zeros(500, bool), 0.9) == (0.0, 0.5)
    assert measure.found(scores, np.ones(500, bool), 0.9) == (0.0, 0.5)


def test_a_filters_recall_comes_with_its_parts():
    x = np.concatenate([np.full((30, 1), 1.0), np.full((10, 1), 1.5)])
    scores = np.concatenate([np.arange(30.0), [31.0] * 6 + [0.5] * 4]).astype(np.float32)
    found = measure.filter_recall(Fixed(x, scores), view(LINE), settings(40, keep=0.96), generator())
    assert found.value == pytest.approx(0.6)
    assert found.n == 10
    assert found.se == pytest.approx((0.24 / 10) ** 0.5)
    assert found.details["hallucinations"] == 10
    assert found.details["rate"] == 0.25
    assert found.details["auroc"] == pytest.approx(0.6 + 0.4 * 1 / 30)
    with pytest.raises(UserError, match="scores no samples"):
        measure.filter_recall(SimpleNamespace(), view(LINE), settings(4, keep=0.9), generator())


def test_other_data_are_refused():
    with pytest.raises(UserError, match="mixture on a grid"):
        measure.hallucination_rate(Fixed([[1.0]]), SimpleNamespace(oracle=None), settings(1), generator())
