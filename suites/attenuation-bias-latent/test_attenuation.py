"""Limits of every slope where they are known: items of equal loading with Gaussian noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.attenuation_bias_latent import attenuation as at

INFO = DataInfo((1,), "real", 1)
SLOPE, LOADING, ITEMS = -0.7, 1.3, 6


@pytest.fixture(scope="module")
def large():
    rng = np.random.default_rng(0)
    trait = rng.standard_normal(150_000)
    items = LOADING * trait[:, None] + rng.standard_normal((len(trait), ITEMS)) * 2.0 + 5.0
    return SLOPE * trait + 0.5 * rng.standard_normal(len(trait)) + 3.0, items, trait


def reliability(items):
    """Share of a mean's variance that is the trait's."""
    return items * LOADING**2 / (items * LOADING**2 + 4.0)


HALF, ALL = reliability(ITEMS // 2), reliability(ITEMS)
LIMITS = {
    at.Known: SLOPE,
    at.Naive: SLOPE * ALL**0.5,
    at.Composition: SLOPE * ALL,  # a draw's correlation with the trait is that of two draws of the posterior
    at.Instrument: SLOPE / HALF**0.5,
    at.Corrected: SLOPE,
}


@pytest.mark.parametrize("scores", ["component", "mean"])
@pytest.mark.parametrize("method", LIMITS, ids=lambda m: m.__name__)
def test_limits(large, method, scores):
    y, items, trait = large
    study = method(INFO, scores=scores, partitions=3)
    assert study.estimate(y, items, trait, np.random.default_rng(1)) == pytest.approx(LIMITS[method], rel=0.015)


def test_both_corrections_are_one(large):
    y, items, _ = (a[:500] for a in large)
    one, other = at.Corrected(INFO).halves(items, np.random.default_rng(3))
    rho = float(np.mean(one * other))
    corrected = [at.Corrected(INFO).halved(y, a, b, rho) for a, b in ((one, other), (other, one))]
    instruments = [at.Instrument(INFO).halved(y, a, b, rho) * rho**0.5 for a, b in ((one, other), (other, one))]
    assert np.mean(corrected) == pytest.approx(np.mean(instruments))
    assert at.Instrument(INFO).halved(y, one, other, rho) == pytest.approx(
        np.cov(y, other)[0, 1] / np.cov(one, other)[0, 1]
    )


def test_scores_have_unit_variance_and_point_with_the_items(large):
    _, items, trait = large
    for scores in ("component", "mean"):
        score = at.Naive(INFO, scores=scores).score(items[:999])
        assert score.mean() == pytest.approx(0.0, abs=1e-12)
        assert score.var() == pytest.approx(1.0)
        assert np.corrcoef(score, trait[:999])[0, 1] > 0.8
    assert not at.Naive(INFO).score(np.ones((5, 2))).any(), "items that all agree say nothing"


def test_halves_share_no_item_and_leave_none_out():
    items = np.eye(7)[:, :7] * np.arange(1, 8)
    study = at.Naive(INFO, scores="mean")
    study.score = lambda part: part
    one, other = study.halves(items, np.random.default_rng(0))
    assert sorted([*one.sum(0), *other.sum(0)]) == list(range(1, 8))
    assert {one.shape[1], other.shape[1]} == {3, 4}


def test_problems_are_those_of_the_design():
    study = at.Naive(INFO, rows=200_000, indicators=3, slope=0.9, noise=0.2, loading=0.8)
    problem = study.problem(np.random.default_rng(5))
    y, items, trait = problem.given["y"], problem.given["items"], problem.given["trait"]
    assert items.shape == (200_000, 3)
    assert set(np.unique(items)) == {0.0, 1.0}
    assert np.std(y - 0.9 * trait) == pytest.approx(0.2, rel=0.01)
    # Phi(l x + e) with e ~ N(0, 1/4) is Phi(l x / sqrt(1.25)) in the mean over e
    high = np.abs(trait - 1.0) < 0.05
    from scipy.stats import norm

    assert items[high].mean() == pytest.approx(norm.cdf(0.8 / 1.25**0.5), abs=0.01)
    assert problem.truth == {"slope": 0.9}


class Fixed(at.Naive):
    """Slopes 0.3 and 0.7 in turn, with an interval that holds 0.5 the second time alone."""

    def answer(self, given, rng):
        i = len(self._answers)
        return {"slope": [0.3, 0.7][i % 2], "low": [0.2, 0.5][i % 2], "high": [0.4, 0.8][i % 2]}


def test_measurements():
    study = Fixed(INFO, slope=0.5, problems=4)
    study.start(None, torch.Generator().manual_seed(0))
    while not study.done():
        study.advance(None, None)
    bias = at.slope_bias(study, None, {}, None)
    assert bias.value == pytest.approx(0.0, abs=1e-12)
    assert bias.se == pytest.approx(0.4 * (4 / 3) ** 0.5 / 2)
    assert at.slope_rms_error(study, None, {}, None).value == pytest.approx(0.4)
    assert at.slope_covered(study, None, {}, None).value == 0.5
    low = Fixed(INFO, slope=1.0, problems=1)
    low.start(None, torch.Generator().manual_seed(0))
    low.advance(None, None)
    assert at.slope_bias(low, None, {}, None).value == pytest.approx(0.7)
    assert at.slope_bias(low, None, {}, None).details["signed"] == pytest.approx(-0.7)


def test_an_interval_is_of_the_middle_95_per_cent(large):
    y, items, trait = (a[:300] for a in large)
    study = at.Known(INFO, resamples=400)
    answer = study.answer({"y": y, "items": items, "trait": trait}, np.random.default_rng(2))
    residual = y - y.mean() - study.estimate(y, items, trait, None) * (trait - trait.mean())
    width = 2 * 1.96 * residual.std() / trait.std() / 300**0.5
    assert answer["high"] - answer["low"] == pytest.approx(width, rel=0.2)
    assert answer["low"] < answer["slope"] < answer["high"]


def test_one_item_cannot_be_halved():
    with pytest.raises(UserError, match="indicators"):
        at.Corrected(INFO, indicators=1)
