"""Small sprites on an uneven grid: every image once, and two factors that go together."""

from __future__ import annotations

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.data.generated.sprites import Sprites
from latentbench.papers.beta_tcvae.measure import mig_last_factors
from latentbench.papers.beta_tcvae.uneven import correlated, uneven


def rng():
    return np.random.default_rng(0)


def test_every_image_of_the_grid_once():
    made = uneven(1152, rng(), 32)
    assert len(np.unique(made["factors"], axis=0)) == 1152
    assert made["factors"].max(0).tolist() == [2, 2, 3, 7, 3]
    assert len(np.unique(made["x"].reshape(1152, -1), axis=0)) == 1152
    fewer = uneven(1000, rng(), 32)["factors"]
    assert len(np.unique(fewer, axis=0)) == 1000, "a part of it has none twice either"
    with pytest.raises(UserError, match="1153 rows of a grid of 1152"):
        uneven(1153, rng(), 32)


def test_a_factor_moves_what_it_is_called_after():
    """From one place to the next the sprite moves by two pixels; y stays within the middle half of what x has."""
    made = uneven(1152, rng(), 32)
    place = {tuple(f): x for f, x in zip(made["factors"].tolist(), made["x"], strict=True)}
    here, right, below = place[0, 1, 2, 3, 1], place[0, 1, 2, 4, 1], place[0, 1, 2, 3, 2]
    assert np.array_equal(np.roll(here, 2, axis=1), right)
    assert np.array_equal(np.roll(here, 2, axis=0), below)
    assert place[0, 2, 0, 3, 1].sum() > place[0, 0, 0, 3, 1].sum()
    shown = Sprites(32, 3, 16, 16).render(np.array([[0, 1, 2, 6, 6]]))[0]  # y = 1 is 2 below the quarter
    assert np.array_equal(here, shown)


def test_scale_and_x_depend_on_each_other_and_nothing_else_does():
    factors = correlated(20000, rng(), 32, 0.3)["factors"]
    together = np.corrcoef(factors.T)
    assert together[1, 3] > 0.5
    together[1, 3] = together[3, 1] = 0.0
    np.fill_diagonal(together, 0.0)
    assert np.abs(together).max() < 0.03
    assert np.abs(np.corrcoef(correlated(20000, rng(), 32, 100.0)["factors"].T)[1, 3]) < 0.03


class Codes:
    """Posteriors that lie at chosen factors, nearly without spread."""

    def __init__(self, factors, columns) -> None:
        self.means, self.at = factors[:, columns].astype("float32"), 0

    def encode_gaussian(self, x):
        import torch

        mean = torch.from_numpy(self.means[self.at : self.at + len(x)])
        self.at += len(x)
        return mean, torch.full_like(mean, -6.0)


@pytest.mark.parametrize(("columns", "expected"), [([1, 2, 3, 4], 1.0), ([0, 0, 0], 0.0), ([3, 3, 1], 0.25)])
def test_the_shape_is_not_scored(columns, expected):
    """A code a factor has the whole gap; codes of the shape have none of the four; a factor told twice has none."""
    from latentbench.core.seeds import generator

    from tests.evaluation.views import view_of

    made = uneven(1152, rng(), 32)
    view = view_of(made["x"], levels=2, columns={"factors": made["factors"]})
    settings = {"factors": 4, "samples": 1152}
    value = mig_last_factors(Codes(made["factors"], columns), view, settings, generator(0, "evaluation")).value
    assert value == pytest.approx(expected, abs=0.02)
