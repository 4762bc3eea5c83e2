from __future__ import annotations

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.metrics import disentanglement as ds
from latentbench.metrics.codes.intervention import majority_vote_accuracy

QUICK = {"train": 400, "test": 200, "batch": 16}
SCORES = [ds.factor_vae_score, ds.beta_vae_score]


@pytest.mark.parametrize("score", SCORES)
def test_identity_codes_score_one_and_noise_scores_chance(grid, noise, score):
    assert score(grid, grid, **QUICK) == pytest.approx(1.0, abs=0.01)
    assert score(noise, grid, **QUICK) == pytest.approx(1 / 3, abs=0.12)
    shuffled = np.random.default_rng(0).permutation(grid)
    assert score(shuffled, grid, **QUICK) == pytest.approx(1 / 3, abs=0.12)


@pytest.mark.parametrize("score", SCORES)
def test_a_source_that_is_sampled_by_factor_scores_as_its_arrays(score):
    sizes = np.array([4, 5, 6])
    source = ds.GroundTruthSource(3, lambda n, rng: rng.integers(0, sizes, size=(n, 3)), lambda v: v[:, [2, 0]] * 1.0)
    values = np.random.default_rng(0).integers(0, sizes, size=(5000, 3))
    sampled = score(source=source, **QUICK)
    assert sampled == pytest.approx(score(values[:, [2, 0]], values, **QUICK), abs=0.1)
    # the factor that is in no code gets no vote; its batches differ in all codes, which a classifier can learn
    assert sampled == pytest.approx(2 / 3 if score is ds.factor_vae_score else 1.0, abs=0.1)


def test_held_factors_are_held(grid):
    rng = np.random.default_rng(0)
    for source in (
        ds.ArraySource(grid, grid),
        ds.GroundTruthSource(3, lambda n, rng: rng.integers(0, [4, 5, 6], size=(n, 3)), lambda v: v * 1.0),
    ):
        held = np.array([0, 1, 2, 1])
        z = source.fixed(held, 20, rng)
        assert z.shape == (4, 20, 3)
        spread = z.std(axis=1)
        assert (spread[np.arange(4), held] == 0).all()
        assert (np.delete(spread[0], 0) > 0).all()
        first, second = source.pairs(held, 20, rng)
        for b, k in enumerate(held):
            assert (first[b, :, k] == second[b, :, k]).all()
            assert len(np.unique(first[b, :, k])) > 1
            assert (first[b] != second[b]).any()


def test_draws_follow_the_generator(grid, noise):
    z = grid + noise
    a, b, c = (ds.factor_vae_score(z, grid, rng=np.random.default_rng(s), **QUICK) for s in (1, 1, 2))
    assert a == b
    assert a != c


def test_collapsed_codes_have_no_vote(grid, noise):
    assert ds.factor_vae_score(noise * 0.01, grid, **QUICK) == 0.0
    # a pruned code changes nothing for the others
    wide = np.c_[grid, noise[:, 0] * 0.01]
    assert ds.factor_vae_score(wide, grid, **QUICK) == pytest.approx(1.0)


def test_majority_vote():
    train, test = np.array([[9, 1], [1, 9]]), np.array([[3, 1], [0, 4]])
    assert majority_vote_accuracy(train, test) == 7 / 8


def test_irs_controls(grid, noise):
    assert ds.irs(grid, grid) == pytest.approx(1.0)
    assert ds.irs(np.zeros_like(noise), grid) == 0.0
    assert ds.irs(noise, grid) < 0.35
    # closed form: a code that is its factor ± 1/2 strays 1/2 of at most 3/2 + 1/2
    v = np.arange(400)[:, None] % 4
    z = v + np.where(np.arange(400)[:, None] // 4 % 2, 0.5, -0.5)
    assert ds.irs(z, v) == pytest.approx(1 - 0.5 / 2)
    with pytest.raises(UserError, match="quantile"):
        ds.irs(z, v, quantile=0)


def test_bad_input(grid):
    with pytest.raises(UserError, match="no two rows"):
        ds.factor_vae_score(grid[:50], np.arange(50)[:, None])
    with pytest.raises(UserError, match="or a source"):
        ds.factor_vae_score(grid)
    with pytest.raises(UserError, match="one factor"):
        ds.beta_vae_score(grid, grid[:, :1])
    bad = ds.GroundTruthSource(2, lambda n, rng: rng.normal(size=(n, 3)), lambda v: v)
    with pytest.raises(UserError, match="sample_factors"):
        ds.factor_vae_score(source=bad, **QUICK)
