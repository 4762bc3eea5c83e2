from __future__ import annotations

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.metrics import representation as rp
from latentbench.metrics.correlation import canonical_correlations
from sklearn.cross_decomposition import CCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 300)
Z = np.eye(3)[Y] * 2 + RNG.normal(size=(300, 3))
ORTHOGONAL = np.linalg.qr(RNG.normal(size=(3, 3)))[0]


def test_probes_are_scikit_learn_s():
    scaler = StandardScaler().fit(Z[:200])
    expected = LogisticRegression(max_iter=1000).fit(scaler.transform(Z[:200]), Y[:200])
    ours = rp.linear_probe(Z[:200], Y[:200], Z[200:], Y[200:])
    assert ours.value == expected.score(scaler.transform(Z[200:]), Y[200:])
    assert ours.se == pytest.approx(np.sqrt(ours.value * (1 - ours.value) / 100))
    knn = KNeighborsClassifier(5).fit(Z[:200], Y[:200]).score(Z[200:], Y[200:])
    assert rp.knn_probe(Z[:200], Y[:200], Z[200:], Y[200:]).value == knn
    assert rp.linear_probe(Z[:9], [1] * 9, Z[:2], [1, 0]).value == 0.5


def test_probe_controls():
    shuffled = RNG.permutation(Y)
    assert rp.linear_probe(np.eye(3)[Y[:200]], Y[:200], np.eye(3)[Y[200:]], Y[200:]).value == 1.0
    assert rp.linear_probe(Z[:200], shuffled[:200], Z[200:], shuffled[200:]).value < 0.5
    assert rp.knn_probe(Z, Y, Z, Y, k=1).value == 1.0


def test_clustering_agreement():
    renamed = np.array([7, -3, 100])[Y]
    for metric in (rp.nmi, rp.ari):
        assert metric(renamed, Y) == pytest.approx(1.0)
        assert metric(RNG.permutation(Y), Y) == pytest.approx(0, abs=0.05)
    assert rp.clustering_accuracy(renamed, Y).value == 1.0
    assert rp.clustering_accuracy([0, 0, 1, 1], [0, 0, 0, 1]).value == 0.75
    assert rp.clustering_accuracy([0, 1, 2, 3], [5, 5, 5, 5]).value == 0.25
    assert rp.clustering_accuracy(np.zeros(300, int), Y).value == np.bincount(Y).max() / 300


def test_kmeans_finds_separate_clusters():
    labels = rp.kmeans(np.eye(3)[Y] * 50 + RNG.normal(size=(300, 3)), 3)
    assert rp.clustering_accuracy(labels, Y).value == 1.0
    assert rp.silhouette(np.eye(3)[Y] * 50 + RNG.normal(size=(300, 3)), Y) > 0.9
    assert rp.silhouette(RNG.normal(size=(300, 3)), Y) < 0.05


def test_cka_properties_and_kernel_definition():
    x, y = RNG.normal(size=(40, 3)), RNG.normal(size=(40, 5))
    assert rp.cka(x, x @ ORTHOGONAL * 3 + 1) == pytest.approx(1.0)
    h = np.eye(40) - 1 / 40
    k, l = h @ x @ x.T @ h, h @ y @ y.T @ h  # noqa: E741
    assert rp.cka(x, y) == pytest.approx((k * l).sum() / np.sqrt((k * k).sum() * (l * l).sum()))
    # the unbiased estimate as a mean over the ordered quadruples, by brute force on few rows
    assert rp.cka(x, x, debiased=True) == pytest.approx(1.0)
    wide = [rp.cka(RNG.normal(size=(30, 200)), RNG.normal(size=(30, 200)), debiased=True) for _ in range(30)]
    assert np.mean(wide) == pytest.approx(0, abs=4 * np.std(wide) / np.sqrt(30))
    assert rp.cka(RNG.normal(size=(30, 200)), RNG.normal(size=(30, 200))) > 0.5


def test_debiased_cka_is_song_s_unbiased_hsic():
    x, y = RNG.normal(size=(20, 3)), RNG.normal(size=(20, 4))
    x[:, 0] += y[:, 0]

    def hsic(a, b):
        k, l = a @ a.T, b @ b.T  # noqa: E741
        np.fill_diagonal(k, 0), np.fill_diagonal(l, 0)
        n, one = len(a), np.ones(len(a))
        return np.trace(k @ l) + one @ k @ one * (one @ l @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * one @ k @ l @ one

    expected = hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))
    assert rp.cka(x, y, debiased=True) == pytest.approx(expected)
    assert rp.cka(x + 100, y - 5, debiased=True) == pytest.approx(expected)  # centring changes nothing


def test_canonical_correlations_are_scikit_learn_s():
    x = RNG.normal(size=(200, 3))
    y = np.c_[x[:, :1] + RNG.normal(size=(200, 1)), RNG.normal(size=(200, 1))]
    u, v = CCA(2, max_iter=5000, tol=1e-12).fit_transform(x, y)
    expected = sorted((abs(np.corrcoef(u[:, i], v[:, i])[0, 1]) for i in range(2)), reverse=True)
    np.testing.assert_allclose(canonical_correlations(x, y), expected, atol=1e-4)
    assert canonical_correlations(x, np.c_[x, x]).tolist() == pytest.approx([1, 1, 1])  # rank 3, not 6


def test_svcca_drops_directions_of_little_variance():
    x = RNG.normal(size=(400, 2))
    noisy = np.c_[x, RNG.normal(size=(400, 5)) * 1e-3]
    assert rp.svcca(noisy, x @ RNG.normal(size=(2, 2))) == pytest.approx(1.0, abs=1e-3)
    assert rp.svcca(RNG.normal(size=(4000, 2)), RNG.normal(size=(4000, 2))) < 0.06


def test_mean_correlation():
    assert rp.mean_correlation(Z, -Z[:, ::-1]) == pytest.approx(1.0)
    assert rp.mean_correlation(Z, Z @ RNG.normal(size=(3, 3)), up_to="affine") == pytest.approx(1.0)
    with pytest.raises(UserError, match="up_to"):
        rp.mean_correlation(Z, Z, up_to="rotation")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: rp.cka(np.ones((5, 2)), Z[:5]), "constant"),
        (lambda: rp.cka(Z[:3], Z[:3], debiased=True), "at least 4"),
        (lambda: rp.cka(Z, Z[:5]), "rows"),
        (lambda: rp.svcca(Z * np.nan, Z), "NaN"),
        (lambda: rp.silhouette(Z, np.zeros(300, int)), "clusters"),
        (lambda: rp.kmeans(Z, 301), "n_clusters"),
        (lambda: rp.nmi([0.5], [1]), "fractions"),
        (lambda: rp.knn_probe(Z, Y, Z[:, :2], Y), "columns"),
        (lambda: rp.knn_probe(Z[:3], Y[:3], Z, Y), "k: is 5"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(UserError, match=says):
        call()
