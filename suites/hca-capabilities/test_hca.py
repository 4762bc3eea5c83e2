"""HCA on exact unmixing matrices and against plain loops; domains, measurements and rivals by what defines them."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.hca_capabilities import components, domains
from scipy.stats import ortho_group
from sklearn.decomposition import PCA, FactorAnalysis

INFO = DataInfo((1,), "real", 1)
HCA = components.HierarchicalComponents
MANY = (22_000, 6_000, 12_000)


def rng(seed=0):
    return np.random.default_rng(seed)


def exact(seed, k=3, d=3, p=5):
    """Unmixing matrices (k, d, p) = B_k H, and H with orthonormal rows."""
    h = ortho_group.rvs(p, random_state=rng(seed))[:d]
    return np.tril(rng(seed + 1).normal(size=(k, d, d)) + 2 * np.eye(d)) @ h, h


def plain_rows(unmixing):
    """By projectors and eigenvectors of sums of outer products."""
    p, h = unmixing.shape[2], []
    for i in range(unmixing.shape[1]):
        out = np.eye(p) - sum((np.outer(v, v) for v in h), np.zeros((p, p)))
        h.append(np.linalg.eigh(sum(np.outer(out @ w[i], out @ w[i]) for w in unmixing))[1][:, -1])
    return np.array(h)


def plain_inexactness(unmixing, h):
    """By least squares: each row on the rows of H up to its own, and that on the domain's rows."""
    values = []
    for w in unmixing:
        shares = []
        for i, row in enumerate(w):
            fit = h[: i + 1].T @ np.linalg.lstsq(h[: i + 1].T, row, rcond=None)[0]
            squares = np.linalg.lstsq(w.T, fit, rcond=None)[0] ** 2
            shares.append((squares.sum() - squares[i]) / squares.sum())
        values.append(np.mean(shares))
    return np.array(values)


@pytest.mark.parametrize(("k", "d", "p"), [(3, 3, 5), (4, 2, 3), (2, 4, 4)])
def test_rows_and_inexactness(k, d, p):
    w, h = exact(7, k, d, p)
    found = components.nested_rows(w)
    np.testing.assert_allclose(np.abs(found @ h.T), np.eye(d), atol=1e-9)
    np.testing.assert_allclose(components.inexactness_of(w, found), 0.0, atol=1e-12)
    batch = rng(8).normal(size=(6, k, d, p))
    many = components.nested_rows(batch)
    inexact = components.inexactness_of(batch, many)
    assert inexact.shape == (6, k)
    for one, rows, value in zip(batch, many, inexact, strict=True):
        np.testing.assert_allclose(rows @ rows.T, np.eye(d), atol=1e-9)
        np.testing.assert_allclose(np.abs((rows * plain_rows(one)).sum(1)), 1.0, atol=1e-6)
        np.testing.assert_allclose(value, plain_inexactness(one, rows), atol=1e-9)


def test_orders_are_found_whatever_the_order_and_sign_of_rows():
    w, h = exact(9)
    shuffled = np.stack([w[0][[2, 0, 1]], -w[1], w[2][[1, 0, 2]] * [[1], [-1], [1]]])
    found, inexact = components.hierarchical(shuffled)
    np.testing.assert_allclose(np.abs(found @ h.T), np.eye(3), atol=1e-9)
    np.testing.assert_allclose(inexact, 0.0, atol=1e-12)


@pytest.mark.parametrize("d", [2, 3])
def test_search_takes_the_least_maximum_of_all_orders(d):
    w = rng(17).normal(size=(2, d, 4))
    tried = []
    for orders in product(permutations(range(d)), repeat=2):
        those = np.stack([m[list(o)] for m, o in zip(w, orders, strict=True)])
        tried.append(plain_inexactness(those, plain_rows(those)))
    found, inexact = components.hierarchical(w)
    best = min(tried, key=max)
    np.testing.assert_allclose(inexact, best, atol=1e-7)
    assert min(min(tried, key=np.mean).max(), min(tried, key=min).max()) > best.max() + 1e-3
    assert found.shape == (d, 4)


def test_unmixing_gives_sources_of_variance_one():
    mixing = rng(11).normal(size=(5, 3))
    x = 4.0 + rng(12).uniform(-9, 9, (40_000, 3)) @ mixing.T
    w, converged = components.unmixing_of(x, 3, rng(13))
    assert converged
    np.testing.assert_allclose(np.cov((x @ w.T).T), np.eye(3), atol=1e-9)
    np.testing.assert_allclose(np.sort(np.abs(w @ mixing), 1), [[0, 0, 27**-0.5]] * 3, atol=0.01)


def orders_of(problem):
    """The order of latents in each domain, by which of them its sources are made of."""
    x, g = problem.given["x"], problem.truth["mixing"]
    found = []
    for k in np.unique(problem.given["domain"]):
        w = components.unmixing_of(x[problem.given["domain"] == k], g.shape[1], rng())[0] @ g
        uses = np.abs(w) > 0.15 * np.abs(w).max(1, keepdims=True)
        assert sorted(uses.sum(1)) == [1, 2, 3]
        found.append(tuple(int(i) for i in np.argsort(-uses.sum(0))))
    return found


@pytest.mark.parametrize(("world", "seed"), [("shared", 1), ("same", 2), ("unshared", 1)])
def test_worlds(world, seed):
    problem = HCA(INFO, world=world, law="uniform", rows=MANY).problem(rng(seed))
    g, d = problem.truth["mixing"], problem.given["domain"]
    np.testing.assert_array_equal(np.bincount(d), MANY)
    np.testing.assert_allclose(np.linalg.norm(g, axis=0), 1.0)
    orders = orders_of(problem)
    assert len(set(orders)) == (3 if world == "unshared" else 1)
    assert world == "unshared" or orders[0] == (0, 1, 2)
    z = problem.given["x"] @ np.linalg.pinv(g).T
    within = [np.cov(z[d == k].T) for k in range(3)]
    np.testing.assert_allclose(np.average(within, 0, MANY), problem.truth["covariance"], rtol=0.05, atol=0.1)
    assert np.allclose(within[0], within[1], rtol=0.1, atol=0.1) == (world == "same")
    first = np.sqrt([c[0, 0] for c in within])  # of the first latent, where the order is shared: that of its source
    assert world == "unshared" or all(0.49 < s < 2.03 for s in first)


@pytest.mark.parametrize(("noise", "shift"), [(0.0, 0.0), (0.3, 2.0)])
def test_noise_and_shift(noise, shift):
    problem = HCA(INFO, noise=noise, shift=shift, variables=5, latents=2, rows=MANY).problem(rng(3))
    x, g, d = problem.given["x"], problem.truth["mixing"], problem.given["domain"]
    outside = np.linalg.svd(g)[0][:, 2:]
    for k in range(3):
        part = x[d == k]
        deviation = part.std(0) if not noise else np.sqrt(part.var(0) - (part @ outside).var(0).mean())
        np.testing.assert_allclose((part @ outside).std(0), noise * deviation.mean(), rtol=0.03, atol=1e-9)
    many = HCA(INFO, noise=noise, shift=shift, rows=(400,) * 300, variables=3, latents=2).problem(rng(5))
    first = (many.given["x"] @ np.linalg.pinv(many.truth["mixing"]).T)[:, 0].reshape(300, 400)
    assert np.std(first.mean(1) / first.std(1)) == pytest.approx(shift, rel=0.15, abs=0.06), "in units of a source"


@pytest.mark.parametrize(
    ("law", "kurtosis"), [("exponential", 6.0), ("laplace", 3.0), ("uniform", -1.2), ("normal", 0)]
)
def test_laws_are_standardised(law, kurtosis):
    s = domains.LAWS[law](rng(4), (400_000, 2))
    np.testing.assert_allclose([s.mean(), s.std(), (s**4).mean() - 3], [0, 1, kurtosis], atol=0.2)


def test_correlation_up_to_causes():
    g, s = rng(16).normal(size=(5, 3)), np.array([[2.0, 0.8, -0.5], [0.8, 1.0, 0.3], [-0.5, 0.3, 1.5]])
    true = np.linalg.pinv(g)
    nested = np.array([[3.0, 0, 0], [-2, 0.5, 0], [1, 1, -1]]) @ true
    assert domains.up_to_causes(nested, g, s) == pytest.approx(1.0)
    assert domains.up_to_causes(true[[0, 2, 1]], g, s) < 0.9
    rows = rng(17).normal(size=(3, 5))
    z = rng(18).multivariate_normal(np.zeros(3), s, 400_000)
    found, truth = z @ g.T @ rows.T, {"mixing": g, "covariance": s}
    for order in ([0, 1, 2], [2, 0, 1]):
        partial = []
        for i in range(2):
            before = z[:, order[:i]]
            left = [v - before @ np.linalg.lstsq(before, v, rcond=None)[0] for v in (found[:, i], z[:, order[i]])]
            partial.append(abs(np.corrcoef(*left)[0, 1]))
        assert domains.by_order(rows, truth)[tuple(order)] == pytest.approx(np.mean(partial), abs=0.01)
    for order in permutations(range(3)):
        fits = domains.by_order(true[list(order)], truth)
        assert max(fits, key=fits.get) == order
        assert fits[order] == pytest.approx(1.0)


class Given(domains.Domains):
    """Rows that nest in the right order, in every second problem in reverse, and turned by 0.3 out of their span."""

    def components(self, x, rng):
        i = len(self._answers)
        g = self.problem(self._stream(i, "problem")).truth["mixing"]
        rows = np.linalg.pinv(g)[:: -1 if i % 2 else 1]
        first = np.cos(0.3) * rows[0] / np.linalg.norm(rows[0]) + np.sin(0.3) * np.linalg.svd(g)[0][:, -1]
        assert [len(part) for part in x] == list(self.rows)
        return {"rows": np.vstack([first, rows[1:]]), "inexactness": np.array([0.1, 0.3 + i, 0.2]), "unconverged": i}


def test_measurements():
    study = Given(INFO, problems=4, rows=(9, 8, 7))
    study.start(None, torch.Generator().manual_seed(0))
    while not study.done():
        study.advance(None, None)
    assert domains.right_causal_order(study, None, {}, None).value == 0.5
    assert domains.nested_correlation(study, None, {"order": "best"}, None).value == pytest.approx(1.0)
    own = np.mean([domains.up_to_causes(a["rows"], **t) for t, a in study.answered()])
    assert domains.nested_correlation(study, None, {"order": "own"}, None).value == pytest.approx(own)
    assert own < 0.95
    spans = [np.linalg.norm(np.linalg.qr(a["rows"].T)[0].T @ np.linalg.qr(t["mixing"])[0]) for t, a in study.answered()]
    overlap = domains.row_space_overlap(study, None, {}, None)
    assert overlap.value == pytest.approx(np.mean(np.square(spans)) / 3)
    assert 0.9 < overlap.value < 0.999
    inexact = domains.inexactness(study, None, {}, None)
    assert inexact.value == pytest.approx(0.3 + 1.5)
    assert inexact.details == {"mean": pytest.approx(0.2 + 0.5), "unconverged": 6.0}


def test_components_find_order_and_latents():
    study = HCA(INFO, law="uniform", rows=MANY)
    problem = study.problem(rng(20))
    answer = study.answer(problem.given, rng(21))
    assert domains.up_to_causes(answer["rows"], **problem.truth) > 0.99
    assert answer["inexactness"].max() < 0.01
    assert answer["unconverged"] == 0
    few = HCA(INFO, law="normal", rows=(40, 30), latents=3)
    assert 0 < sum(few.answer(few.problem(rng(i)).given, rng(i))["unconverged"] for i in range(22, 26)) < 8


def test_what_cannot_be_is_refused():
    for wrong in ({"latents": 1}, {"latents": 7}, {"rows": (50, 6)}):
        with pytest.raises(UserError):
            HCA(INFO, **wrong)
    with pytest.raises(UserError, match="orders"):
        HCA(INFO, latents=3, rows=(20,) * 7).components([np.ones((20, 6))] * 7, rng())


class TestRivals:
    def test_order_by_variance(self):
        mixing = np.array([[1.0, 0, 2], [1, 3, 0], [0, 1, 1], [0.5, 0, 0]])
        s = rng(24).normal(size=(5000, 3)) * [1.0, 2.0, 0.1]
        rows = np.linalg.pinv(mixing)
        np.testing.assert_array_equal(components.by_variance(rows, s @ mixing.T), rows[[2, 0, 1]])
        np.testing.assert_array_equal(components.by_variance(rows * [[1], [-0.01], [9]], s @ mixing.T)[0], 9 * rows[2])

    def test_domains_are_matched_and_averaged(self):
        same = components.DomainIca(INFO, world="same", law="uniform", rows=MANY)
        problem = same.problem(rng(25))
        rows = same.answer(problem.given, rng(26))["rows"]
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 3.0, atol=0.01)
        parts = [problem.given["x"][problem.given["domain"] == k] for k in range(3)]
        one = components.unmixing_of(parts[0], 3, rng(27))[0]
        cosines = np.abs(rows @ one.T) / 3 / np.linalg.norm(one, axis=1)
        np.testing.assert_allclose(cosines.max(0), 1.0, atol=0.001)

    @pytest.mark.parametrize("centred", [False, True])
    def test_pooled(self, centred):
        parts = [m + rng(3).laplace(size=(900, 2)) @ [[2, 1, 0, 1], [0, 1, 1, -1]] for m in (0, [0, 9, 9, 0])]
        parts = [v + 0.3 * rng(9).normal(size=v.shape) for v in parts]
        whole = np.vstack([v - v.mean(0) if centred else v for v in parts])
        pca, factors, ica = (
            components.Pooled(INFO, latents=2, analysis=a, centred=centred).components(parts, rng())["rows"]
            for a in ("pca", "factors", "ica")
        )
        np.testing.assert_allclose(np.abs(pca), np.abs(PCA(2).fit(whole).components_[::-1]), atol=1e-6)
        loadings = FactorAnalysis(2, rotation="varimax").fit(whole).components_
        np.testing.assert_allclose(np.sort(np.abs(factors @ loadings.T)), [[0, 1], [0, 1]], atol=0.02)
        np.testing.assert_allclose(np.cov((whole @ ica.T).T), np.eye(2), atol=1e-9)
