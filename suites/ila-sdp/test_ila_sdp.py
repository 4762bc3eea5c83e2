"""Programs against certificates and a general solver, likelihoods against scipy, designs against their laws."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.metrics.representation import clustering_accuracy
from latentbench.papers.ila_sdp import clusters, rivals, sdp
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

INFO = DataInfo((1,), "real", 1)
PROCEDURES = [
    clusters.KMeansSdp,
    clusters.LaSdp,
    clusters.IlaSdp,
    rivals.KMeansClusters,
    rivals.BayesClusters,
    rivals.Em,
    rivals.HardEm,
]


def rng(seed=0):
    return np.random.default_rng(seed)


def groups(n=18, d=3, k=3, apart=3.0, seed=0):
    """Rows, labels and the covariances they were drawn with."""
    r = rng(seed)
    roots = np.linalg.qr(r.standard_normal((k, d, d)))[0] * r.uniform(0.5, 2.0, (k, 1, d))
    labels = r.permutation(np.arange(n) % k)
    x = apart * r.standard_normal((k, d))[labels] + np.einsum("nde,ne->nd", roots[labels], r.standard_normal((n, d)))
    return x, labels, roots @ roots.swapaxes(1, 2)


def scipy_likelihood(x, labels, covariances):
    """Log likelihood with the groups' own means, row by row."""
    total = len(x) * x.shape[1] * np.log(2 * np.pi) / 2
    for k, s in enumerate(covariances):
        rows = x[labels == k]
        total += multivariate_normal(rows.mean(0), s).logpdf(rows).sum()
    return total


class TestProgram:
    def test_affinities_of_a_partition_are_its_likelihood(self):
        x, labels, s = groups()
        a, z = sdp.affinities(x, s), sdp.lifted(labels, 3)
        assert (a * z).sum() == pytest.approx(scipy_likelihood(x, labels, s))
        np.testing.assert_allclose(a, a.swapaxes(1, 2))

    def test_partitions_satisfy_the_constraints(self):
        z = sdp.lifted(groups()[1], 3)
        np.testing.assert_allclose(np.trace(z, axis1=1, axis2=2), 1.0)
        np.testing.assert_allclose(z.sum((0, 2)), 1.0)
        np.testing.assert_allclose(z @ z, z, atol=1e-12)

    def test_projection_on_the_affine_part(self):
        """By least squares on all entries, with symmetry as further equations."""
        g, n = 2, 4
        m = rng().standard_normal((g, n, n))
        m = m + m.swapaxes(1, 2)
        traces, rows, equal = np.array([1.0, 2.5]), [], []
        for k in range(g):
            e = np.zeros((g, n, n))
            e[k] = np.eye(n)
            rows.append(e)
            equal.append(traces[k])
        for i in range(n):
            e = np.zeros((g, n, n))
            e[:, i] = 1.0
            rows.append(e)
            equal.append(1.0)
        for k, i, j in product(range(g), range(n), range(n)):
            if i < j:
                e = np.zeros((g, n, n))
                e[k, i, j], e[k, j, i] = 1.0, -1.0
                rows.append(e)
                equal.append(0.0)
        b = np.array(rows).reshape(len(rows), -1)
        expected = m.ravel() - np.linalg.pinv(b) @ (b @ m.ravel() - np.array(equal))
        np.testing.assert_allclose(sdp.within(m, traces).ravel(), expected, atol=1e-10)

    def test_projection_on_the_cone(self):
        m = rng().standard_normal((3, 5, 5))
        m = m + m.swapaxes(1, 2)
        y = sdp.semidefinite(m)
        assert np.linalg.eigvalsh(y).min() > -1e-12
        assert np.linalg.eigvalsh(m - y).max() < 1e-12
        np.testing.assert_allclose(np.einsum("kij,kij->k", y, m - y), 0.0, atol=1e-12)

    @pytest.mark.parametrize(("apart", "seed"), [(1.0, 0), (2.0, 1), (6.0, 2)])
    @pytest.mark.parametrize("one", [False, True])
    def test_optimum_is_certified(self, apart, seed, one):
        """Any multipliers bound the optimum; those of the solver to a part in a thousand."""
        x, _, s = groups(apart=apart, seed=seed)
        a = sdp.affinities(x, np.eye(3)[None] if one else s)
        traces = np.array([3.0]) if one else np.ones(3)
        found = sdp.solve(a, traces, tolerance=1e-6, most=20_000)
        assert found.iterations < 20_000
        np.testing.assert_allclose(found.z.sum((0, 2)), 1.0)
        np.testing.assert_allclose(np.trace(found.z, axis1=1, axis2=2), traces)
        assert found.z.min() > -1e-5
        assert np.linalg.eigvalsh(found.z).min() > -1e-5
        value = (a * found.z).sum()
        assert value == pytest.approx(bound(a, traces, found), abs=1e-3 * found.scale)
        assert bound(a, traces, found) > value - 1e-5 * found.scale

    def test_optimum_of_a_general_solver(self):
        """Z_k = V_k V_k' with V_k at least zero and of as many columns as rows, by SLSQP from several starts."""
        x, _, s = groups(n=5, d=2, k=2, apart=1.0, seed=3)
        a = sdp.affinities(x, s)

        def z_of(v):
            v = v.reshape(2, 5, 5)
            return v @ v.swapaxes(1, 2)

        constraints = {
            "type": "eq",
            "fun": lambda v: np.r_[np.trace(z_of(v), axis1=1, axis2=2) - 1, z_of(v).sum((0, 2)) - 1],
        }
        nonnegative = {"type": "ineq", "fun": lambda v: z_of(v).ravel()}
        best = -np.inf
        for seed in range(3):
            run = minimize(
                lambda v: -(a * z_of(v)).sum(),
                0.4 + 0.1 * rng(seed).standard_normal(50),
                method="SLSQP",
                constraints=[constraints, nonnegative],
                options={"maxiter": 500, "ftol": 1e-10},
            )
            best = max(best, -run.fun) if run.success else best
        found = sdp.solve(a, np.ones(2), tolerance=1e-7, most=50_000)
        assert (a * found.z).sum() == pytest.approx(best, rel=1e-4)

    def test_relaxes_the_best_partition(self):
        """No partition is better than the program; where groups are far apart the best one solves it."""
        for apart, tight in (1.0, False), (15.0, True):
            x, _, s = groups(n=7, d=2, k=2, apart=apart, seed=4)
            a = sdp.affinities(x, s)
            partitions = [np.array(p) for p in product(range(2), repeat=7) if 0 < sum(p) < 7]
            values = [(a * sdp.lifted(p, 2)).sum() for p in partitions]
            found = sdp.solve(a, np.ones(2), tolerance=1e-6, most=50_000)
            assert (a * found.z).sum() > max(values) - 1e-3
            if tight:
                assert (a * found.z).sum() == pytest.approx(max(values), rel=1e-3)
                assert (found.z.sum(2).argmax(0) == partitions[int(np.argmax(values))]).all()

    def test_equal_covariances_give_the_relaxation_of_k_means(self):
        x, _, s = groups(apart=1.0)
        a = sdp.affinities(x, np.repeat(s[:1], 3, axis=0))
        each = sdp.solve(a, np.ones(3), tolerance=1e-6, most=20_000)
        both = sdp.solve(a[:1], np.array([3.0]), tolerance=1e-6, most=20_000)
        assert (a * each.z).sum() == pytest.approx((a[:1] * both.z).sum(), abs=1e-3)

    def test_starts_change_nothing_but_time(self):
        x, _, s = groups(apart=1.0)
        a = sdp.affinities(x, s)
        first = sdp.solve(a, np.ones(3), tolerance=1e-6, most=20_000)
        again = sdp.solve(a, np.ones(3), first, tolerance=1e-6, most=20_000)
        assert again.iterations < first.iterations / 4
        other = sdp.solve(sdp.affinities(x, s[::-1]), np.ones(3), first, tolerance=1e-6, most=20_000)
        assert (a * other.z[::-1]).sum() == pytest.approx((a * first.z).sum(), abs=1e-3)


def bound(a, traces, found):
    """A bound on the program from the solver's multipliers, whatever they are worth.

    For any N >= 0 and any l, sum_k traces[k] lambda_max(A_k + N_k - (l 1' + 1 l') / 2) + 1' l is no less than the
    optimum, for Z psd, with the rows' sums and traces of the program.
    """
    n, weight = a.shape[1], found.scale * found.penalty
    lifted = a + np.maximum(-weight * found.positive_dual, 0.0)
    off = (lifted - weight * found.psd_dual).mean(0)  # (l 1' + 1 l') / 2 but for the diagonal
    np.fill_diagonal(off, 0.0)
    sums = off.sum(1)
    rows = (2 * sums - sums.sum() / (n - 1)) / (n - 2)
    tops = np.linalg.eigvalsh(lifted - (rows[:, None] + rows) / 2)[:, -1]
    return float((traces * tops).sum() + rows.sum())


class TestAscent:
    def test_covariances_of_a_partition(self):
        x, labels, _ = groups()
        found = sdp.covariances(x, sdp.lifted(labels, 3), 1e-9)
        for k in range(3):
            np.testing.assert_allclose(found[k], np.cov(x[labels == k].T, bias=True))

    def test_covariances_of_weights_are_half_squared_distances(self):
        x, _, s = groups(apart=1.0)
        z = sdp.solve(sdp.affinities(x, s), np.ones(3)).z
        differences = x[:, None] - x
        for k, found in enumerate(sdp.covariances(x, z, 1e-9)):
            expected = np.einsum("ij,ijd,ije->de", z[k], differences, differences) / (2 * z[k].sum())
            np.testing.assert_allclose(found, expected, atol=1e-8)

    def test_floor_of_eigenvalues_is_the_constrained_optimum(self):
        x, labels, _ = groups(n=12)
        z, floor = sdp.lifted(labels, 3), 0.8
        best = sdp.covariances(x, z, floor)
        assert np.linalg.eigvalsh(best).min() == pytest.approx(floor)
        reached = (sdp.affinities(x, best) * z).sum()
        for seed in range(20):
            values, vectors = np.linalg.eigh(
                best + 0.05 * (e := rng(seed).standard_normal(best.shape)) @ e.swapaxes(1, 2)
            )
            other = (vectors * np.maximum(values, floor)[:, None]) @ vectors.swapaxes(1, 2)
            assert (sdp.affinities(x, other) * z).sum() < reached

    def test_likelihood_rises(self):
        x, labels, _ = groups(n=36, d=2, apart=2.0, seed=5)
        start = rng(1).permutation(labels)
        z, reached = sdp.ascend(x, start, 3, 0.01, 20, least=1e-4)
        assert len(reached) > 3
        assert min(np.diff(reached)) > -1e-3 * len(x)
        assert reached[-1] > sdp.exact_likelihood(x, start, 0.01)
        a = sdp.affinities(x, sdp.covariances(x, sdp.lifted(start, 3), 0.01))
        assert reached[0] == pytest.approx((a * sdp.solve(a, np.ones(3)).z).sum())
        one, first = sdp.ascend(x, start, 3, 0.01, 1)
        assert first == reached[:1]
        assert not np.allclose(one, z)

    def test_stops_when_a_turn_adds_little(self):
        x, labels, _ = groups(n=36, d=2, apart=12.0, seed=6)
        z, reached = sdp.ascend(x, labels, 3, 0.01, 20)
        assert len(reached) == 2
        assert (z.sum(2).argmax(0) == labels).all()

    def test_exact_likelihood(self):
        x, labels, _ = groups()
        s = [np.cov(x[labels == k].T, bias=True) for k in range(3)]
        assert sdp.exact_likelihood(x, labels, 1e-9) == pytest.approx(scipy_likelihood(x, labels, s))
        assert sdp.exact_likelihood(x, 2 * labels, 1e-9) == pytest.approx(scipy_likelihood(x, labels, s))


class TestDesign:
    def test_moments(self):
        study = rivals.BayesClusters(INFO, rows=6000, dimension=3, separation=5.0, elongation=9.0, volume=2.0)
        problem = study.problem(rng())
        x, labels = problem.given["x"], problem.truth["labels"]
        assert np.bincount(labels).tolist() == [2000] * 3
        assert (np.diff(labels) != 0).mean() > 0.6
        means, s = problem.given["means"], problem.given["covariances"]
        for i, j in (0, 1), (0, 2), (1, 2):
            assert np.linalg.norm(means[i] - means[j]) == pytest.approx(5.0)
        for k, volume in enumerate((0.5, 1.0, 2.0)):
            np.testing.assert_allclose(np.linalg.eigvalsh(s[k]), volume * np.array([1 / 3, 1.0, 3.0]))
            rows = x[labels == k]
            np.testing.assert_allclose(rows.mean(0), means[k], atol=0.15)
            np.testing.assert_allclose(np.cov(rows.T), s[k], atol=0.6)
        axes = [np.linalg.eigh(c)[1][:, -1] for c in s]
        assert abs(axes[0] @ axes[1]) < 0.99

    def test_problems_differ_and_are_the_same_for_all(self):
        a, b = (cls(INFO).problem(rng(4)).given["x"] for cls in (rivals.Em, clusters.IlaSdp))
        assert (a == b).all()
        assert not np.allclose(a, rivals.Em(INFO).problem(rng(5)).given["x"])

    def test_starts(self):
        study = rivals.Em(INFO, rows=90, dimension=2)
        problem = study.problem(rng(1))
        labels, merged = problem.truth["labels"], problem.given["merged"]
        table = np.zeros((3, 3), dtype=int)
        np.add.at(table, (labels, merged), 1)
        assert sorted((table > 0).sum(1)) == [1, 1, 2]
        assert sorted((table > 0).sum(0)) == [1, 1, 2]
        assert table.max(0)[table.sum(0) == 60] == 30
        cut = int(np.argmax((table > 0).sum(1)))
        halves = [problem.given["x"][(labels == cut) & (merged == k)] for k in np.flatnonzero(table[cut])]
        along = halves[0].mean(0) - halves[1].mean(0)
        axis = np.linalg.eigh(np.cov(problem.given["x"][labels == cut].T))[1][:, -1]
        assert abs(along @ axis) > 0.9 * np.linalg.norm(along)
        assert set(problem.given["random"]) == {0, 1, 2}
        assert (study.started(problem.given, "merged", rng()) == merged).all()
        assert (study.started(problem.given, "random", rng()) == problem.given["random"]).all()
        x, found = problem.given["x"], study.started(problem.given, "kmeans", rng())
        within = sum(((x[found == k] - x[found == k].mean(0)) ** 2).sum() for k in range(3))
        assert within == pytest.approx(KMeans(3, n_init=50, random_state=0).fit(x).inertia_, rel=0.01)
        first = clusters.nearest(problem.given["x"], problem.given["x"][:3])
        assert not same(problem.given["random"], first)
        r, untouched = rng(), rng()
        study.started(problem.given, "kmeans", r)
        assert r.random() != untouched.random()

    def test_nearest(self):
        x = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 4.0]])
        assert clusters.nearest(x, np.array([[0.0, 3.0], [1.0, 0.0]])).tolist() == [1, 1, 0]

    def test_designs_that_cannot_be(self):
        for design in {"dimension": 1}, {"rows": 5}, {"elongation": 0.5}, {"groups": 1}:
            with pytest.raises(UserError):
                rivals.Em(INFO, **design)
        with pytest.raises(UserError, match="three or more"):
            rivals.Em(INFO, groups=2, dimension=2).problem(rng())


def same(one, other):
    return len(set(zip(one.tolist(), other.tolist(), strict=True))) == len(set(one.tolist()))


class TestProcedures:
    @pytest.mark.parametrize("cls", PROCEDURES)
    def test_finds_what_is_plain(self, cls):
        study = cls(INFO, rows=36, dimension=2, separation=12.0, elongation=2.0)
        problem = study.problem(rng(3))
        assert same(study.answer(problem.given, rng())["labels"], problem.truth["labels"])

    def test_shapes_are_seen_by_likelihoods_alone(self):
        """Two crossed needles and a ball: k-means cuts the needles."""
        r, labels = rng(2), np.repeat([0, 1, 2], 15)
        scales = np.array([[5.0, 0.1], [0.1, 5.0], [0.5, 0.5]])
        means = np.array([[0.0, 0.0], [1.5, 6.0], [4.5, 0.0]])
        x = r.standard_normal((45, 2)) * scales[labels] + means[labels]
        given = {"x": x, "means": means, "covariances": np.stack([np.diag(v**2) for v in scales]), "random": labels}
        right = {}
        for cls in PROCEDURES:
            start = {"start": "random"} if cls in (clusters.IlaSdp, rivals.Em, rivals.HardEm) else {}
            found = cls(INFO, rows=45, dimension=2, **start).answer(given, rng())["labels"]
            right[cls] = clustering_accuracy(found, labels).value
        assert max(right.pop(clusters.KMeansSdp), right.pop(rivals.KMeansClusters)) < 0.9
        assert min(right.values()) > 0.93, right

    def test_leaves_a_bad_start(self):
        design = {"rows": 45, "dimension": 2, "separation": 8.0, "elongation": 2.0, "start": "merged"}
        study = clusters.IlaSdp(INFO, **design)
        problem = study.problem(rng(3))
        found = study.answer(problem.given, rng())
        assert same(found["labels"], problem.truth["labels"])
        assert not same(rivals.Em(INFO, **design).answer(problem.given, rng())["labels"], problem.truth["labels"])
        single = clusters.IlaSdp(INFO, rounds=1, **design).answer(problem.given, rng())
        assert (found["turns"] > 2, single["turns"]) == (True, 1)

    def test_densities(self):
        x, _, s = groups()
        means = rng(1).standard_normal((3, 3))
        found = rivals.log_densities(x, means, s) - 1.5 * np.log(2 * np.pi)
        for k in range(3):
            np.testing.assert_allclose(found[:, k], multivariate_normal(means[k], s[k]).logpdf(x))

    def test_em_starts_from_the_partition(self):
        study = rivals.Em(INFO, rows=60, dimension=2, start="merged")
        problem = study.problem(rng(7))
        x, start = problem.given["x"], problem.given["merged"]
        expected = GaussianMixture(
            3,
            reg_covar=0.01,
            max_iter=500,
            tol=1e-5,
            weights_init=np.bincount(start) / 60,
            means_init=np.stack([x[start == k].mean(0) for k in range(3)]),
            precisions_init=np.stack([np.linalg.inv(np.cov(x[start == k].T, bias=True)) for k in range(3)]),
        ).fit(x)
        labels, score = study.climb(x, start)
        assert (labels == expected.predict(x)).all()
        assert (study.answer(problem.given, rng())["labels"] == labels).all()
        assert score == pytest.approx(expected.score(x))

    def test_hard_em_ends_where_no_row_wants_to_move(self):
        study = rivals.HardEm(INFO, rows=60, dimension=2, start="random")
        problem = study.problem(rng(8))
        x, start = problem.given["x"], problem.given["random"]
        labels, reached = study.climb(x, start)
        assert reached == pytest.approx(sdp.exact_likelihood(x, labels, 0.01))
        assert reached > sdp.exact_likelihood(x, start, 0.01)
        densities = np.stack(
            [
                multivariate_normal(r.mean(0), np.cov(r.T, bias=True)).logpdf(x)
                for r in (x[labels == k] for k in range(3))
            ]
        )
        assert (densities.argmax(0) == labels).all()

    @pytest.mark.parametrize("cls", [rivals.Em, rivals.HardEm])
    def test_restarts_keep_the_best(self, cls):
        design = {"rows": 60, "dimension": 2, "start": "merged"}
        problem = cls(INFO, **design).problem(rng(9))
        single, many = cls(INFO, **design), cls(INFO, restarts=6, **design)
        seen = []

        def climb(x, labels):
            found = cls.climb(many, x, labels)
            seen.append(found)
            return found

        many.climb = climb
        found = many.answer(problem.given, rng(1))["labels"]
        assert len(seen) == 7
        assert len({round(value, 6) for _, value in seen}) > 1
        assert (found == max(seen, key=lambda s: s[1])[0]).all()
        assert (seen[0][0] == single.answer(problem.given, rng())["labels"]).all()

    def test_random_start_is_what_the_trivial_row_says(self):
        study = rivals.RandomClusters(INFO)
        given = study.problem(rng()).given
        assert (study.answer(given, rng())["labels"] == given["random"]).all()


class Halves(rivals.RandomClusters):
    """Right the first time, and then the merged start."""

    def answer(self, given, rng):
        right = rivals.BayesClusters.answer(self, given, rng)
        return {"labels": given["merged"]} if self._answers else right


def test_likelihood_excess():
    study = Halves(INFO, problems=2, separation=12.0, elongation=2.0)
    study.start(None, torch.Generator().manual_seed(0))
    while not study.done():
        study.advance(None, None)
    found = clusters.likelihood_excess(study, None, {}, None)
    truth, answer = list(study.answered())[1]
    x = truth["x"]
    lost = [
        scipy_likelihood(x, labels, [np.cov(x[labels == k].T, bias=True) for k in range(3)]) / 75
        for labels in (answer["labels"], truth["labels"])
    ]
    assert found.value == pytest.approx((lost[0] - lost[1]) / 2)
    assert found.value < -0.1
