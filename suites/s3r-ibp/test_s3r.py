"""Priors against integrals and the buffet's own sums, moves against enumeration, whole sweeps by Geweke's test."""

from __future__ import annotations

import numpy as np
import pytest
from latentbench.core.types import DataInfo
from latentbench.papers.s3r_ibp import buffets, trade
from scipy.special import gammaln
from scipy.stats import binom, poisson

INFO = DataInfo((1,), "real", 1)
FAR = 4.5  # standard errors: t with 39 degrees of freedom, 26 numbers, a false alarm in 600 tests


def rng(seed=0):
    return np.random.default_rng(seed)


def off(draws, expected):
    """Greatest distance of the means of draws (T, S) from what is expected (S,), in standard errors by 40 batches."""
    batches = np.reshape(draws, (40, -1, len(expected))).mean(1)
    return np.max(np.abs(batches.mean(0) - expected) / (batches.std(0, ddof=1) / np.sqrt(40)))


@pytest.mark.parametrize(("c", "s"), [(1.0, 0.0), (3.0, 0.0), (2.0, 0.3)])
def test_many_atoms_are_the_buffet(c, s):
    """Dishes tried by n customers (Teh and Goeruer 2009, section 3); up to the least weight of 2,000."""
    p = 2000 * np.exp(buffets.log_weights(2000, 2.0, c, s))
    for n in (1, 5, 20):
        i = np.arange(1, n + 1)
        new = np.exp(gammaln(1 + c) + gammaln(i + c + s - 1) - gammaln(i + c) - gammaln(c + s))
        assert p @ (1 - (1 - buffets.WEIGHTS) ** n) == pytest.approx(2.0 * new.sum(), rel=0.04)


@pytest.mark.parametrize("prior", ["s3r-ibp", "s3-ibp", "gamma"])
def test_sweeps_leave_the_prior_alone(prior, monkeypatch):
    """Geweke: with counts drawn anew after each sweep, moments are the prior's; shapes and rates from shorter grids.

    Two rows, three features, three columns, two cells not seen.
    """
    shapes, rates, found, draws = (0.6, 1.0, 1.5), (0.4, 0.8, 1.6), [], rng(3)
    monkeypatch.setattr(buffets, "SHAPES", shapes)
    monkeypatch.setattr(buffets, "RATES", rates)
    seen = np.array([[True, False, True], [True, True, False]])
    start = (np.ones((2, 3), int), seen, np.array([[1, 0, 1], [0, 1, 0]]), np.ones((3, 3)), rng(4))
    number, loading = 3 * np.mean(shapes), np.mean(shapes) * np.mean(np.divide(1, rates))
    if prior == "gamma":
        chain, own = buffets.GammaPoisson(*start), [np.mean(shapes), np.mean(shapes) + np.mean(np.square(shapes))]
    else:
        chain = buffets.Buffet(*start, three=True, restricted=prior == "s3r-ibp")
        first, second = (np.exp(chain.tables) @ buffets.WEIGHTS**power for power in (1, 2))  # by setting
        law = np.full(4, 0.25) if chain.restricted else binom.pmf(np.arange(4)[:, None], 3, first).mean(1)
        number, pair = law @ np.arange(4), law @ [0, 0, 1 / 3, 1]
        masses = np.array(chain.settings)[:, 0] - np.mean(buffets.MASSES)
        alike = 4 * 0.5 * 1.5 / (2.0 * 3.0)  # both rows have the same number, by Dirichlet(1/2)
        own = [first.mean(), second.mean(), pair, *law, *np.mean(chain.settings, axis=0), (masses * first).mean()]
        own.append(alike if chain.restricted else second.mean())
    for _ in range(4000):
        chain.step()
        for _ in range(0 if prior == "gamma" else 9):
            chain.exchange()
        chain.x = np.where(seen, draws.poisson(chain.rates), 0)
        z, b, base = chain.z, chain.b, chain.base
        if prior == "gamma":
            weights = [chain.strength, np.square(z).mean()]
        else:
            w, numbers, setting = chain.weights, np.eye(4)[z.sum(1).astype(int)], chain.settings[chain.setting]
            weights = [w.mean(), np.square(w).mean(), (z[:, 0] * z[:, 1]).mean(), *numbers.mean(0), *setting]
            weights.append((setting[0] - np.mean(buffets.MASSES)) * w[2])
            weights.append(numbers.prod(0).sum() if chain.restricted else (z * w).mean())
        found.append([*b.mean(0), base.mean(), np.square(base).mean(), z.mean(), chain.shape, chain.rate,
                      *chain.rates.ravel(), *weights])  # fmt: skip
    expected = [*[loading] * 3, 1.0, 2.0, number / 3, np.mean(shapes), np.mean(rates), *[1 + number * loading] * 6]
    assert off(found, expected + own) < FAR


def test_cells_left_out_are_not_looked_at():
    x, seen = rng(1).poisson(3.0, (20, 9)), rng(2).random((20, 9)) < 0.7
    for prior in ("s3r-ibp", "gamma"):
        study, rates = trade.PoissonFactors(INFO, prior=prior), []
        for counts in (x, np.where(seen, x, 50)):
            chain = study.chain(counts, seen, rng(3))
            for _ in range(3):
                chain.step()
            rates.append(chain.rates)
        np.testing.assert_array_equal(*rates)
    np.testing.assert_array_equal(trade.independent(x, seen), trade.independent(np.where(seen, x, 50), seen))


def test_priors_by_name():
    x = rng().poisson(3.0, (20, 9))
    chains = [trade.PoissonFactors(INFO, prior=p).chain(x, x >= 0, rng()) for p in ("s3r-ibp", "s3-ibp", "s-ibp")]
    assert [(chain.restricted, len(chain.settings)) for chain in chains] == [(True, 80), (False, 80), (False, 5)]
    assert {s[1:] for s in chains[2].settings} == {(1.0, 0.0)}


def test_start_and_trivial_rates_are_factorisations():
    tall = np.tile(np.outer([1.0, 2.0, 6.0], [3.0, 1.0, 5.0, 7.0]), (60, 50))
    weights, loadings = trade.started(tall, tall > 0, rng(1))
    np.testing.assert_allclose(weights.max(0), [1.0] * 10 + [0.0] * 5)
    for rates in (weights @ loadings, trade.independent(tall, rng().random(tall.shape) < 0.6)):
        assert np.abs(rates - tall).mean() < 0.1 * tall.mean()


@pytest.mark.parametrize("world", trade.LAWS)
def test_exports_are_those_of_the_design(world):
    problem = trade.RowByColumn(INFO, world=world, countries=800).problem(rng())
    x, seen, topics = problem.given["x"], problem.given["seen"], problem.truth["latents"].T
    law = np.bincount(problem.truth["numbers"].astype(int), minlength=11) / 800
    np.testing.assert_allclose(law, [trade.LAWS[world].get(j, 0.0) for j in range(11)], atol=0.05)
    assert ((topics > 0).sum(1) == 10).all()
    assert topics[topics > 0].mean() == pytest.approx(4.0, rel=0.2)
    assert seen.mean() == pytest.approx(0.7, abs=0.01)
    assert not x[~seen].any()
    assert problem.given["hidden"].mean() == pytest.approx(x[seen].mean(), rel=0.1)


def test_answers_are_means_over_the_second_half(monkeypatch):
    study, states, step = trade.PoissonFactors(INFO, countries=14, products=16, sweeps=12), [], buffets.Buffet.step
    problem = study.problem(rng(1))
    monkeypatch.setattr(buffets.Buffet, "step", lambda c: (step(c), states.append((c.rates, c.z.sum(1), c.b))))
    answer = study.answer(problem.given, rng(2))
    rates, numbers, topics = (np.array(kept[6:]) for kept in zip(*states, strict=True))
    late = poisson.pmf(problem.given["hidden"], rates[:, ~problem.given["seen"]])
    np.testing.assert_allclose(answer["score"], np.log(np.mean(late, axis=0)))
    np.testing.assert_allclose(answer["numbers"], np.bincount(numbers.astype(int).ravel(), minlength=16) / numbers.size)
    np.testing.assert_allclose(answer["latents"], topics.mean(0).T)


def test_metrics_by_hand():
    class Answered:
        def answered(self):
            truth = {"numbers": np.array([1.0, 1, 3, 3]), "ideal": np.log([0.5, 0.5])}
            for number in (4, 3):
                yield truth, {"numbers": np.eye(16)[[1, number]].mean(0), "score": np.log([0.5, 0.25])}

    distance, excess = (f(Answered(), None, {}, None) for f in (trade.feature_number_distance, trade.excess_count_nll))
    np.testing.assert_allclose([distance.value, excess.value], [0.25, np.log(2) / 2])
    assert excess.details["true_rates"] == pytest.approx(np.log(2))
