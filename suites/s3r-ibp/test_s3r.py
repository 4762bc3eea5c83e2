"""Priors against integrals and the buffet's own sums, moves against enumeration, whole sweeps by Geweke's test."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.s3r_ibp import buffets, trade
from scipy.integrate import quad
from scipy.special import gammaln
from scipy.stats import dirichlet, gamma, poisson
from sklearn.decomposition import NMF

INFO = DataInfo((1,), "real", 1)
SIZES = {"problems": 1, "countries": 14, "products": 16, "true_features": 4, "support": 5, "features": 5, "sweeps": 12}


def rng(seed=0):
    return np.random.default_rng(seed)


class TestPriors:
    @pytest.mark.parametrize(("mass", "c", "s"), [(1.5, 1.0, 0.0), (3.0, 2.5, 0.4), (0.7, 0.6, 0.7)])
    def test_weights_are_the_density_s(self, mass, c, s):
        k = 12
        levy = mass * np.exp(gammaln(1 + c) - gammaln(1 - s) - gammaln(c + s))

        def integral(power):
            def density(w, above):
                return w ** (levy / k - 1 - s * above + power) * (1 - w) ** (c + s - 1)

            return quad(density, 0, 1 / k, args=(0,))[0] + quad(density, 1 / k, 1, args=(1,), limit=200)[0]

        p = np.exp(buffets.log_weights(k, mass, c, s))
        assert p.sum() == pytest.approx(1.0)
        for power in (1, 2):
            assert p @ buffets.WEIGHTS**power == pytest.approx(integral(power) / integral(0), rel=0.04)

    @pytest.mark.parametrize(("c", "s"), [(1.0, 0.0), (3.0, 0.0), (2.0, 0.3)])
    def test_many_atoms_are_the_buffet(self, c, s):
        """Dishes tried by n customers (Teh and Goeruer 2009, section 3); for one customer, alpha."""
        k, mass = 2000, 2.0
        p = k * np.exp(buffets.log_weights(k, mass, c, s))
        for n in (1, 5, 20):
            i = np.arange(1, n + 1)
            new = np.exp(gammaln(1 + c) + gammaln(i + c + s - 1) - gammaln(i + c) - gammaln(c + s))
            assert p @ (1 - (1 - buffets.WEIGHTS) ** n) == pytest.approx(mass * new.sum(), rel=0.06)

    def test_sums_by_enumeration(self):
        w = np.array([0.1, 0.7, 0.4])
        expected = np.zeros(4)
        for z in product((0, 1), repeat=3):
            expected[sum(z)] += np.prod(np.where(z, w, 1 - w))
        np.testing.assert_allclose(buffets.sum_law(w), expected)

    def test_draws(self):
        logs = np.log([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]]) + 5.0
        found = buffets.drawn(np.broadcast_to(logs, (20_000, 2, 3)), rng())
        for row, p in enumerate(([0.2, 0.5, 0.3], [0.7, 0.1, 0.2])):
            np.testing.assert_allclose(np.bincount(found[:, row]) / 20_000, p, atol=0.015)


def small(restricted, three=True, seed=1):
    """A chain of two rows, three features, three columns, one cell not seen."""
    x, seen = np.array([[2, 0, 1], [0, 3, 9]]), np.array([[True, True, True], [True, True, False]])
    b = np.array([[1.5, 0.1, 0.2], [0.1, 1.0, 0.6], [0.4, 0.3, 0.5]])
    chain = buffets.Buffet(x, seen, np.array([[1, 0, 1], [0, 1, 0]]), b, rng(seed), three=three, restricted=restricted)
    chain.base[:] = 0.4
    return chain


def log_prior(chain, z, law):
    """Of all rows, from the definition."""
    logs = np.sum(z * np.log(chain.weights) + (1 - z) * np.log(1 - chain.weights))
    if chain.restricted:
        j = z.sum(1).astype(int)
        logs += np.sum(np.log(law[j]) - np.log(buffets.sum_law(chain.weights)[j]))
    return logs


def log_likelihood(chain, z):
    return poisson.logpmf(chain.x, chain.base + z @ chain.b)[chain.seen.astype(bool)].sum()


ALL_ROWS = [np.array(z, dtype=float).reshape(2, 3) for z in product((0, 1), repeat=6)]


@pytest.mark.parametrize("restricted", [False, True])
class TestMoves:
    def visited(self, chain, move, n=8000):
        counts = np.zeros(64)
        for _ in range(n):
            move()
            counts[int("".join(str(int(v)) for v in chain.z.ravel()), 2)] += 1
        return counts / n

    def test_rows_by_enumeration(self, restricted):
        chain = small(restricted)
        chain.chosen, chain.law = np.array([20, 30, 26]), np.array([0.3, 0.05, 0.4, 0.25])
        logs = np.array([log_likelihood(chain, z) + log_prior(chain, z, chain.law) for z in ALL_ROWS])
        expected = np.exp(logs - logs.max())
        assert np.abs(self.visited(chain, chain.rows) - expected / expected.sum()).max() < 0.025

    def test_exchanges_by_enumeration(self, restricted):
        """They keep each row's number, here 2 and 1: nine states."""
        chain = small(restricted)
        chain.chosen = np.array([20, 30, 26])
        keep = np.array([list(z.sum(1)) == [2, 1] for z in ALL_ROWS])
        logs = np.array([log_likelihood(chain, z) + log_prior(chain, z, np.ones(4)) for z in ALL_ROWS])
        expected = np.where(keep, np.exp(logs - logs.max()), 0.0)
        found = self.visited(chain, lambda: chain.exchange(buffets.LOGITS[chain.chosen]))
        assert np.abs(found - expected / expected.sum()).max() < 0.025

    def test_weights_law_and_setting_by_enumeration(self, restricted, monkeypatch):
        """On a grid of three weights, with two settings; the law of numbers integrates to that of Dirichlet draws."""
        few = np.array([-2.0, -0.5, 1.0])
        monkeypatch.setattr(buffets, "LOGITS", few)
        monkeypatch.setattr(buffets, "WEIGHTS", 1 / (1 + np.exp(-few)))
        chain = small(restricted)
        chain.z = np.array([[1, 0, 1], [1, 1, 0.0]])
        chain.settings, chain.tables = chain.settings[:2], np.log([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
        chain.chosen, expected = np.array([0, 1, 2]), np.zeros((2, 3, 3, 3))
        found, laws = np.zeros_like(expected), []
        for index in np.ndindex(*expected.shape):
            w = buffets.WEIGHTS[list(index[1:])]
            logs = chain.tables[index[0], list(index[1:])].sum()
            logs += np.sum(chain.z * np.log(w) + (1 - chain.z) * np.log(1 - w))
            if restricted:
                logs -= 2 * np.log(buffets.sum_law(w)[2])
            expected[index] = np.exp(logs)
        for _ in range(6000):
            chain.priors()
            found[(chain.setting, *chain.chosen)] += 1 / 6000
            laws.append(chain.law)
        assert np.abs(found - expected / expected.sum()).max() < 0.025
        if restricted:
            alpha = np.array([0.5, 0.5, 2.5, 0.5])
            np.testing.assert_allclose(np.mean(laws, axis=0), dirichlet(alpha).mean(), atol=0.01)
            np.testing.assert_allclose(np.var(laws, axis=0), dirichlet(alpha).var(), rtol=0.08)
            assert chain.row_law is chain.law
        else:
            np.testing.assert_allclose(chain.row_law, buffets.sum_law(chain.weights))

    def test_sweeps_leave_the_prior_alone(self, restricted):
        """Geweke: with counts drawn anew after each sweep, moments are the prior's (shape 1 and rate 1 of loadings)."""
        draws, chain = rng(9), small(restricted, seed=5)
        chain.hyper = lambda: None
        chain.shape = chain.rate = 1.0
        forward, successive, rows = [], [], np.array(list(product((0.0, 1.0), repeat=3)))
        for _ in range(2000):
            setting = draws.integers(len(chain.settings))
            w = buffets.WEIGHTS[[draws.choice(len(buffets.WEIGHTS), p=np.exp(chain.tables[setting])) for _ in range(3)]]
            law = draws.dirichlet(np.full(4, 0.5))
            z = (draws.random((2, 3)) < w).astype(float)
            if restricted:
                odds = np.array([np.prod((w / (1 - w)) ** row) for row in rows])
                for i, number in enumerate(draws.choice(4, 2, p=law)):
                    p = odds * (rows.sum(1) == number)
                    z[i] = rows[draws.choice(8, p=p / p.sum())]
            b, base = draws.exponential(size=(3, 3)), draws.exponential(size=3)
            forward.append(self.moments(w, z, b, base, chain.settings[setting]))
        for i in range(8000):
            chain.step()
            chain.x = np.where(chain.seen, draws.poisson(chain.rates), 0)
            chain.cells = np.nonzero(chain.x)
            if i % 4 == 0:
                successive.append(
                    self.moments(chain.weights, chain.z, chain.b, chain.base, chain.settings[chain.setting])
                )
        one, two = np.array(forward), np.array(successive)
        batches = two.reshape(20, -1, two.shape[1]).mean(1)
        error = np.sqrt(one.var(0) / len(one) + batches.var(0) / 20)
        assert np.abs((one.mean(0) - two.mean(0)) / error).max() < 4.0

    @staticmethod
    def moments(w, z, b, base, setting):
        j, mean = z.sum(1), z @ b + base
        return [w.mean(), np.square(w).mean(), z[:, 0].mean(), *(np.mean(j == v) for v in range(4)), np.mean(z * w),
                b.mean(), np.square(b).mean() / 5, base.mean(), mean.mean(), (z.T @ z)[0, 1], *setting]  # fmt: skip


def test_settings_of_the_two_buffets():
    assert {s[1:] for s in small(True, three=False).settings} == {(1.0, 0.0)}
    assert {s[2] for s in small(True).settings} == set(buffets.DISCOUNTS)


class TestFactors:
    def chain(self, cls=buffets.Factors, n=6, d=5, **given):
        x = rng(1).poisson(3.0, (n, d))
        return cls(
            x, rng(2).random((n, d)) < 0.7, rng(3).random((n, 2)) < 0.6, rng(4).gamma(1.0, 2.0, (2, d)), rng(5), **given
        )

    def test_counts_are_split_by_rates(self):
        chain = self.chain()
        rows, columns = np.mean([chain.split()[0] for _ in range(3000)], axis=0), chain.split()[1]
        np.testing.assert_array_equal(chain.split()[0].sum(1), (chain.x * chain.seen).sum(1))
        np.testing.assert_array_equal(columns.sum(0), (chain.x * chain.seen).sum(0))
        for k in range(2):
            share = chain.x * np.outer(chain.z[:, k], chain.b[k]) / chain.rates
            np.testing.assert_allclose(rows[:, k + 1], share.sum(1), atol=0.15)

    def test_loadings_have_their_conditional_mean(self):
        chain = self.chain()
        chain.shape, chain.rate = 0.3, 3.0
        rows, columns = chain.split()
        draws, bases = [], []
        for _ in range(4000):
            chain.load(rows, columns)
            draws.append(chain.b)
            bases.append(chain.base)
        shape, rate = 0.3 + columns[1:], 3.0 + chain.z.T @ chain.seen
        np.testing.assert_allclose(np.mean(draws, axis=0), shape / rate, rtol=0.12)
        np.testing.assert_allclose(np.mean(bases, axis=0), (1 + columns[0]) / (1 + chain.seen.sum(0)), rtol=0.06)

    def test_shape_and_rate_have_their_conditional(self):
        chain, pairs = self.chain(), list(product(buffets.SHAPES, buffets.RATES))
        chain.b = rng(6).gamma(0.5, 1.0, (2, 5))
        logs = np.array([gamma(a, scale=1 / s).logpdf(chain.b).sum() for a, s in pairs])
        expected, found = np.exp(logs - logs.max()), np.zeros(len(pairs))
        for _ in range(8000):
            chain.hyper()
            found[pairs.index((chain.shape, chain.rate))] += 1 / 8000
        np.testing.assert_allclose(found, expected / expected.sum(), atol=0.02)

    def test_gamma_weights(self):
        chain = self.chain(buffets.GammaPoisson)
        rows, columns = chain.split()
        b, draws, strengths = chain.b, [], []
        for _ in range(3000):
            chain.b, chain.strength = b, 0.3
            chain.load(rows, columns)
            draws.append(chain.z)
        np.testing.assert_allclose(
            np.mean(draws, axis=0), (0.3 + rows[:, 1:]) / (1 + chain.seen @ b.T), rtol=0.15, atol=0.01
        )
        chain.z = rng(7).gamma(0.6, 1.0, (6, 2))
        logs = np.array([gamma(w).logpdf(chain.z).sum() for w in buffets.SHAPES])
        for _ in range(4000):
            chain.priors()
            strengths.append(buffets.SHAPES.index(chain.strength))
        expected = np.exp(logs - logs.max())
        np.testing.assert_allclose(np.bincount(strengths, minlength=4) / 4000, expected / expected.sum(), atol=0.03)

    def test_cells_left_out_are_not_looked_at(self):
        for cls, parts in ((buffets.Buffet, {"three": True, "restricted": True}), (buffets.GammaPoisson, {})):
            one, two = self.chain(cls, **parts), self.chain(cls, **parts)
            other = cls(np.where(one.seen, one.x, 99), one.seen > 0, one.z, one.b, rng(5), **parts)
            for chain in (one, two, other):
                chain.rng = rng(8)
                for _ in range(3):
                    chain.step()
            np.testing.assert_array_equal(two.rates, other.rates)


def test_nmf_is_scikit_learn_s_where_all_is_seen():
    x = rng().poisson(2.0, (9, 7)).astype(float)
    w, h = buffets.masked_nmf(x, np.ones(x.shape, bool), 3, 400, rng(1), 0.2)
    penalties = {"alpha_W": 0.2 / 7, "alpha_H": 0.2 / 9, "l1_ratio": 1.0}
    theirs = NMF(3, solver="mu", beta_loss="kullback-leibler", init="custom", max_iter=400, tol=0.0, **penalties)
    start, level = rng(1), np.sqrt(x.mean() / 3)
    first, second = (level * (0.5 + start.random(size)) for size in ((9, 3), (3, 7)))
    expected = theirs.fit_transform(x, W=first.copy(), H=second.copy())
    np.testing.assert_allclose(w @ h, expected @ theirs.components_, rtol=1e-3, atol=1e-4)
    seen = rng(2).random(x.shape) < 0.7
    np.testing.assert_array_equal(
        buffets.masked_nmf(np.where(seen, x, 50), seen, 3, 20, rng(1))[1], buffets.masked_nmf(x, seen, 3, 20, rng(1))[1]
    )


def test_exports_are_those_of_the_design():
    class Plain(trade.Exports):
        def answer(self, given, rng):
            return {}

    for world, law in trade.LAWS.items():
        problem = Plain(INFO, world=world, countries=800, base=0.3, level=2.0).problem(rng())
        np.testing.assert_allclose(np.bincount(problem.truth["numbers"].astype(int), minlength=11) / 800,
                                   [law.get(j, 0.0) for j in range(11)], atol=0.05)  # fmt: skip
        np.testing.assert_allclose(problem.truth["law"], [law.get(j, 0.0) for j in range(11)])
        topics = problem.truth["topics"]
        assert ((topics > 0).sum(1) == 10).all()
        assert topics[topics > 0].mean() == pytest.approx(2.0, rel=0.2)
        given, seen = problem.given, problem.given["seen"]
        assert seen.mean() == pytest.approx(0.7, abs=0.01)
        assert given["hidden"].shape == problem.truth["ideal"].shape == ((~seen).sum(),)
        assert not given["x"][~seen].any()
        assert given["hidden"].mean() == pytest.approx(given["x"][seen].mean(), rel=0.1)
    free = Plain(INFO, world="buffet", countries=4000).problem(rng())
    numbers = free.truth["numbers"]
    assert numbers.mean() == pytest.approx(free.truth["law"] @ np.arange(11), abs=0.1) == pytest.approx(3.4, abs=0.1)
    assert numbers.var() < 3.4
    with pytest.raises(UserError):
        Plain(INFO, true_features=16)


def test_independent_rates_are_products_of_means():
    rates = np.outer([1.0, 2.0, 6.0], [3.0, 1.0, 5.0, 7.0])
    tall = np.tile(rates, (60, 50))
    np.testing.assert_allclose(trade.independent(tall, rng().random(tall.shape) < 2), tall, rtol=0.05)
    seen = rng().random(tall.shape) < 0.6
    np.testing.assert_array_equal(trade.independent(np.where(seen, tall, 0), seen), trade.independent(tall, seen))


def test_scores_are_predictive_probabilities_of_the_second_half(monkeypatch):
    study = trade.PoissonBuffet(INFO, **SIZES)
    problem, states = study.problem(rng(1)), []
    step = buffets.Buffet.step
    monkeypatch.setattr(
        buffets.Buffet, "step", lambda self: (step(self), states.append((self.rates, self.z.sum(1), self.law)))
    )
    answer = study.answer(problem.given, rng(2))
    hidden = ~problem.given["seen"]
    late = [poisson.pmf(problem.given["hidden"], rates[hidden]) for rates, _, _ in states[6:]]
    np.testing.assert_allclose(answer["score"], np.log(np.mean(late, axis=0)))
    numbers = np.bincount(np.concatenate([j for _, j, _ in states[6:]]).astype(int), minlength=6)
    np.testing.assert_allclose(answer["seen"], numbers / numbers.sum())
    np.testing.assert_allclose(answer["new"], np.mean([law for _, _, law in states[6:]], axis=0))


@pytest.mark.parametrize(("world", "best"), [("split", 0.1), ("fixed", 0.1)])
def test_plain_exports_are_factorised(world, best):
    design = {**SIZES, "world": world, "countries": 50, "products": 24, "level": 12.0, "sweeps": 120, "held_out": 0.15}
    for cls, limit in ((trade.PoissonBuffet, best), (trade.DenseWeights, 0.5), (trade.Nmf, 1.5)):
        study = cls(INFO, **design)
        problem = study.problem(rng(3))
        answer = study.answer(problem.given, rng(4))
        assert np.mean(problem.truth["ideal"] - answer["score"]) < limit, cls.__name__
        assert trade.precision(problem.truth["topics"], answer["topics"]) > 0.6


def test_precision_by_hand():
    true = np.array([[1.0, 2, 0, 0, 0], [0, 0, 3, 1, 0]])
    found = np.array([[0.0, 0, 5, 1, 2], [3, 4, 0, 0, 0], [1, 0, 1, 0, 0]])
    assert trade.precision(true, found) == pytest.approx((1 + 0.5) / 2)
    assert trade.precision(true, found[:1]) == pytest.approx(0.25)


def test_distances_and_excess():
    class Answered:
        problems = 2

        def answered(self):
            truth = {"numbers": np.array([1.0, 1, 3, 3]), "law": np.array([0, 0, 1.0]), "ideal": np.log([0.5, 0.5])}
            answer = {
                "seen": np.array([0, 0.5, 0, 0, 0.5]),
                "new": np.array([0.25, 0, 0.75]),
                "score": np.log([0.5, 0.25]),
            }
            yield truth, answer
            yield truth, {**answer, "seen": np.array([0, 0.5, 0, 0.5])}

    study = Answered()
    assert trade.feature_number_distance(study, None, {"of": "seen"}, None).value == pytest.approx(0.25)
    assert trade.feature_number_distance(study, None, {"of": "new"}, None).value == pytest.approx(0.5)
    found = trade.excess_count_nll(study, None, {}, None)
    assert found.value == pytest.approx(np.log(2) / 2)
    assert found.details["true_rates"] == pytest.approx(np.log(2))
    with pytest.raises(UserError):
        trade.feature_number_distance(study, None, {"of": "old"}, None)
