"""Priors against integrals and the buffet's own sums, moves against enumeration, whole sweeps by Geweke's test."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from latentbench.core.types import DataInfo
from latentbench.papers.s3r_ibp import buffets, trade
from scipy.integrate import quad
from scipy.special import gammaln
from scipy.stats import binom, poisson

INFO = DataInfo((1,), "real", 1)
FAR = 4.5  # standard errors: t with 39 degrees of freedom, 40 numbers, one false alarm in 400 tests


def rng(seed=0):
    return np.random.default_rng(seed)


def off(draws, expected):
    """Greatest distance of the means of draws (T, ..) from what is expected, in standard errors by 40 batches."""
    batches = np.reshape(draws, (40, -1, *np.shape(expected))).mean(1)
    return np.max(np.abs(batches.mean(0) - expected) / np.maximum(batches.std(0, ddof=1) / np.sqrt(40), 1e-12))


def one_hot(index, size):
    return np.eye(size)[index]


@pytest.mark.parametrize(("mass", "c", "s"), [(1.5, 1.0, 0.0), (3.0, 2.5, 0.4), (0.7, 0.6, 0.7)])
def test_weights_have_the_density_s_moments(mass, c, s):
    """With 12 atoms, by quadrature."""
    levy = mass * np.exp(gammaln(1 + c) - gammaln(1 - s) - gammaln(c + s))

    def integral(power):
        below, above = (lambda w, t=t: w ** (levy / 12 - 1 - t + power) * (1 - w) ** (c + s - 1) for t in (0, s))
        return quad(below, 0, 1 / 12)[0] + quad(above, 1 / 12, 1, limit=200)[0]

    p = np.exp(buffets.log_weights(12, mass, c, s))
    found = [p.sum(), p @ buffets.WEIGHTS, p @ buffets.WEIGHTS**2]
    np.testing.assert_allclose(found, np.array([integral(power) for power in range(3)]) / integral(0), rtol=0.006)


@pytest.mark.parametrize(("c", "s"), [(1.0, 0.0), (3.0, 0.0), (2.0, 0.3)])
def test_many_atoms_are_the_buffet(c, s):
    """Dishes tried by n customers (Teh and Goeruer 2009, section 3); up to the least weight of 2,000."""
    p = 2000 * np.exp(buffets.log_weights(2000, 2.0, c, s))
    for n in (1, 5, 20):
        i = np.arange(1, n + 1)
        new = np.exp(gammaln(1 + c) + gammaln(i + c + s - 1) - gammaln(i + c) - gammaln(c + s))
        assert p @ (1 - (1 - buffets.WEIGHTS) ** n) == pytest.approx(2.0 * new.sum(), rel=0.04)


def small(prior="s3r-ibp", seed=1):
    """A chain of two rows, three features, three columns, one cell not seen."""
    x, seen = np.array([[2, 0, 1], [0, 3, 9]]), np.array([[True, True, True], [True, True, False]])
    b = np.array([[1.5, 0.1, 0.2], [0.1, 1.0, 0.6], [0.4, 0.3, 0.5]])
    start = (x, seen, np.array([[1, 0, 1], [0, 1, 0]]), b, rng(seed))
    if prior == "gamma":
        return buffets.GammaPoisson(*start)
    return buffets.Buffet(*start, three=prior != "s-ibp", restricted=prior == "s3r-ibp")


ROWS = np.array(list(product((0.0, 1.0), repeat=6))).reshape(64, 2, 3)


def log_likelihood(chain):
    """Of each of the `ROWS`, (64,)."""
    rates = chain.base + ROWS @ chain.b
    return (poisson.logpmf(chain.x, rates) * chain.seen).sum((1, 2))


def expectation(logs, values):
    p = np.exp(logs - logs.max())
    return np.tensordot(p / p.sum(), values, axes=p.ndim)


BUFFETS = pytest.mark.parametrize("prior", ["s3r-ibp", "s3-ibp"])


@BUFFETS
def test_exchanges_by_enumeration(prior):
    """They keep each row's number, here 2 and 1, and so the law of numbers: nine states."""
    chain, draws = small(prior), []
    chain.chosen = np.array([40, 50, 46])
    w = chain.weights
    logs = log_likelihood(chain) + (ROWS * np.log(w / (1 - w))).sum((1, 2))
    logs[(ROWS.sum(2) != [2, 1]).any(1)] = -np.inf
    for _ in range(8000):
        chain.exchange()
        draws.append(chain.z.copy())
    assert off(draws, expectation(logs, ROWS)) < FAR


@BUFFETS
def test_features_weights_and_setting_by_enumeration(prior, monkeypatch):
    """On a grid of three weights, with two settings; the law of numbers is summed out: 3,456 states."""
    few = np.array([-2.0, -0.5, 1.0])
    monkeypatch.setattr(buffets, "LOGITS", few)
    monkeypatch.setattr(buffets, "WEIGHTS", 1 / (1 + np.exp(-few)))
    chain = small(prior)
    chain.settings, chain.tables = chain.settings[:2], np.log([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    chain.chosen = np.array([0, 1, 2])

    def values(z, w, setting):
        return [*z.ravel(), *z[0] * z[1], *w, *z.sum(0) * w, *z.sum(1) ** 2, setting]

    numbers, logs, of = ROWS.sum(2).astype(int), np.zeros((2, 27, 64)), np.zeros((2, 27, 64, 18))
    for setting, (i, chosen) in product(range(2), enumerate(product(range(3), repeat=3))):
        w = buffets.WEIGHTS[list(chosen)]
        own = np.where(ROWS, w, 1 - w).prod(2)
        logs[setting, i] = log_likelihood(chain) + chain.tables[setting, chosen].sum() + np.log(own).sum(1)
        if chain.restricted:
            sums = np.array([own[:8, 1][numbers[:8, 1] == j].sum() for j in range(4)])
            of_number = np.eye(4)[numbers].sum(1)
            logs[setting, i] += (gammaln(0.5 + of_number) - of_number * np.log(sums)).sum(1)
        of[setting, i] = [values(z, w, setting) for z in ROWS]
    draws = []
    for _ in range(8000):
        chain.draw_weights(None)
        draws.append(values(chain.z, chain.weights, chain.setting))
    assert off(draws, expectation(logs, of)) < FAR


@pytest.mark.parametrize("prior", ["s3r-ibp", "s3-ibp", "gamma"])
def test_sweeps_leave_the_prior_alone(prior, monkeypatch):
    """Geweke: with counts drawn anew after each sweep, moments are the prior's; shapes and rates from shorter grids."""
    monkeypatch.setattr(buffets, "SHAPES", (0.6, 1.0, 1.5))
    monkeypatch.setattr(buffets, "RATES", (1.0, 2.0, 4.0))
    draws, chain, found = rng(3), small(prior, seed=4), []
    shape, rate, again = np.mean(buffets.SHAPES), np.mean(buffets.RATES), np.mean(1 / np.array(buffets.RATES))
    number = 3 * shape
    own = [shape, shape + np.mean(np.square(buffets.SHAPES))]  # of the weights of gamma laws, and their squares
    if prior != "gamma":
        first, second = (np.exp(chain.tables) @ buffets.WEIGHTS**power for power in (1, 2))  # by setting
        law = np.full(4, 0.25) if chain.restricted else binom.pmf(np.arange(4)[:, None], 3, first).mean(1)
        number = law @ np.arange(4)
        own = [first.mean(), second.mean(), law @ [0, 0, 1 / 3, 1], *law, *np.mean(chain.settings, axis=0)]
    for _ in range(4000):
        chain.step()
        chain.x = np.where(chain.seen, draws.poisson(chain.rates), 0)
        z, b = chain.z, chain.b
        if prior == "gamma":
            weights = [chain.strength, np.square(z).mean()]
        else:
            w, law = chain.weights, np.eye(4)[z.sum(1).astype(int)].mean(0)
            weights = [w.mean(), np.square(w).mean(), (z[:, 0] * z[:, 1]).mean(), *law, *chain.settings[chain.setting]]
        found.append([b.mean(), chain.base.mean(), np.square(chain.base).mean(), chain.rates.mean(), z[:, 0].mean(),
                      chain.shape, chain.rate, *weights])  # fmt: skip
    expected = [shape * again, 1.0, 2.0, 1 + number * shape * again, number / 3, shape, rate, *own]
    assert off(found, np.array(expected)) < FAR


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
    np.testing.assert_allclose(trade.independent(tall, tall > 0), tall, rtol=0.05)
    weights, loadings = trade.started(tall, tall > 0, rng(1))
    assert np.abs(weights @ loadings - tall).mean() < 0.05 * tall.mean()  # after 100 updates
    np.testing.assert_allclose(weights.max(0), 1.0)


@pytest.mark.parametrize("world", trade.LAWS)
def test_exports_are_those_of_the_design(world):
    problem = trade.RowByColumn(INFO, world=world, countries=800).problem(rng())
    x, seen, topics = problem.given["x"], problem.given["seen"], problem.truth["topics"]
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
    np.testing.assert_allclose(answer["topics"], topics.mean(0))


def test_metrics_by_hand():
    true = np.array([[1.0, 2, 0, 0, 0], [0, 0, 3, 1, 0]])
    found = np.array([[0.0, 0, 5, 1, 2], [3, 4, 0, 0, 0], [1, 0, 1, 0, 0]])
    assert trade.precision(true, found[:1]) == pytest.approx(0.25)

    class Answered:
        def answered(self):
            truth = {"numbers": np.array([1.0, 1, 3, 3]), "ideal": np.log([0.5, 0.5]), "topics": true}
            answer = {"numbers": np.array([0, 0.5, 0, 0, 0.5]), "score": np.log([0.5, 0.25]), "topics": found}
            yield truth, answer
            yield truth, {**answer, "numbers": np.array([0, 0.5, 0, 0.5])}

    metrics = (trade.feature_number_distance, trade.topic_precision, trade.excess_count_nll)
    distance, precision, excess = (metric(Answered(), None, {}, None) for metric in metrics)
    np.testing.assert_allclose([distance.value, precision.value, excess.value], [0.25, 0.75, np.log(2) / 2])
    assert excess.details["true_rates"] == pytest.approx(np.log(2))
