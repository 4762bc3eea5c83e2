"""The network against its definition; spectra and counts against naive ones; choices against what they may see."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.practical_tabular_ncd import discovery as d
from latentbench.papers.practical_tabular_ncd import nets
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist
from torch.nn import functional

rng = partial(np.random.default_rng, 0)
INFO = DataInfo((5,), "real", 24)
LABELLED = DataInfo((2, 3), "real", 60, columns={"y": ()})
SETTING = {"rate": 0.01, "dropout": 0.1, "latent": 3, "w": 0.4}


def normals(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(4))


def mixed(cls=d.ByRows, **design):
    study = cls(INFO, **{"rows": 200, "test": 150, "novel": 3, "hidden": 2, "folds": 4, **design})
    return study, study.problem(rng())


def test_network():
    net = nets.PbnNet(9, 4, 5, 0.3)
    for part, sizes in (net.encoder, (9, 6, 4, 5)), (net.decoder, (5, 4, 6, 9)):
        assert [type(p).__name__ for p in part] == ["Linear", *["ReLU", "BatchNorm1d", "Dropout", "Linear"] * 2]
        assert [(p.in_features, p.out_features) for p in part[::4]] == list(pairwise(sizes))
        assert [p.p for p in part[3::4]] == [0.3, 0.3]


@pytest.mark.parametrize("w", [0.8, 0.3])
@pytest.mark.parametrize("labels", [[0, 3, -1, 1, -1, 3, 0], [-1] * 7])
def test_loss(w, labels):
    net, x = nets.PbnNet(6, 4, 5, 0.3).eval(), normals(7, 6)
    z = net.encoder(x) / net.encoder(x).norm(dim=1, keepdim=True)
    ce = [-net.classifier(z).log_softmax(1)[i, label] for i, label in enumerate(labels) if label >= 0]
    expected = w * sum(ce) / max(len(ce), 1) + (1 - w) * ((net.decoder(z) - x) ** 2).sum() / 7
    torch.testing.assert_close(net.loss(x, torch.tensor(labels), w), expected)


@pytest.mark.parametrize(("w", "batches"), [(0.5, 3), (1.0, 2)])
def test_training_is_adamw_on_batches(w, batches):
    net, x, labels, order = torch.nn.Linear(3, 4), normals(10, 3), torch.arange(10) % 4 - 1, []
    weights = net.weight.detach().clone().requires_grad_()
    net.loss = lambda *batch: [order.append(batch), functional.linear(batch[0], net.weight).square().mean()][1]
    nets.train(net, x, labels, w, rate=0.02, epochs=2, batch=3)
    adam = torch.optim.AdamW([weights], lr=0.02)
    for rows, classes, share in order:
        assert (len(rows), share) == (3, w)  # of ten rows, or of seven with labels, one is left out
        assert (labels[torch.cdist(rows, x).argmin(1)] == classes).all()
        assert w < 1 or (classes >= 0).all()
        adam.zero_grad()
        functional.linear(rows, weights).square().mean().backward()
        adam.step()
    torch.testing.assert_close(net.weight, weights, atol=1e-5, rtol=1e-4)
    assert (len(order), net.training) == (2 * batches, False)


@pytest.mark.parametrize(("least", "components"), [(0.3, 4), (0.8, 2)])
def test_spectrum(least, components):
    x = rng().standard_normal((20, 3)) * [1, 2, 3]
    distances = cdist(x, x)
    longest = minimum_spanning_tree(distances).data.max()
    affinity = least ** (distances**2 / (2 * longest**2)) - np.eye(20)
    degree = affinity.sum(1) ** -0.5
    _, vectors = np.linalg.eigh(np.eye(20) - degree[:, None] * affinity * degree)
    found = d.spectrum(x, least, components)
    np.testing.assert_allclose(np.abs(found.T @ vectors[:, 1 : components + 1]), np.eye(components), atol=1e-6)


def test_count():
    centres = 9 * np.array([[0, 0], [1, 0], [0, 1.2], [1.3, 1.4]])
    x = (centres[:, None] + rng().standard_normal((4, 30, 2))).reshape(-1, 2)
    assert (d.count_of(x, 9, rng()), d.count_of(x, 9, rng(), judged=60), d.count_of(x, 3, rng())) == (4, 4, 3)


@pytest.mark.parametrize(("known", "k", "shares"), [(2, 1, [1 / 6, 4 / 6, 1 / 6]), (0, 2, [1 / 3] * 3)])
def test_starts_are_far_from_known_centroids(known, k, shares):
    x, centroids = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]), np.array([[0.0, 0.0], [3.0, 1.0]])[:known]
    starts = [d.far_rows(x, centroids, k, draws) for draws in [rng()] for _ in range(2000)]
    assert all(len(np.unique(start, axis=0)) == k for start in starts)
    np.testing.assert_allclose(np.mean([(x == start[0]).all(1) for start in starts], axis=0), shares, atol=0.04)


def test_the_best_start_counts():
    x = rng().standard_normal((90, 2))
    inertias = [d.novel_kmeans(x, x[:3], 8, draws, 1).inertia_ for draws in [rng()] for _ in range(9)]
    assert d.novel_kmeans(x, x[:3], 8, rng(), 9).inertia_ == pytest.approx(min(inertias))


def test_problem():
    x, y = normals(60, 2, 3), torch.arange(60) % 6
    x[:, 1, 1], x[:, 0, 0] = 4.0, y.float()
    study = d.ByRows(LABELLED, design="rows", novel_classes=[1, 4], rows=40, test=20, hidden=3, folds=8)
    study.start(Batch(x, 60, columns={"y": y}), torch.Generator())
    given, truth = (problem := study.problem(rng())).given, problem.truth
    assert (given["x"].shape, given["x_test"].shape) == ((40, 5), (20, 5))  # a column without spread is left out
    np.testing.assert_allclose([given["x"].mean(0), given["x"].std(0)], [[0] * 5, [1] * 5], atol=1e-9)
    classes = np.unique(np.r_[given["x"], given["x_test"]][:, 0].round(6), return_inverse=True)[1]
    labels = np.r_[given["labels"], given["labels_test"]]
    np.testing.assert_array_equal(labels, np.array([0, -1, 1, 2, -1, 3])[classes])
    np.testing.assert_array_equal(truth["labels"], classes[40:][labels[40:] < 0])
    assert (truth["novel"], given["folds"].sum(1).tolist()) == (2, [3] * 8)


def test_what_is_refused():
    with pytest.raises(UserError, match="fewer"):
        d.ByRows(LABELLED, rows=40, test=20, design="rows").problem(rng())
    with pytest.raises(UserError, match="labels"):
        d.ByRows(INFO, design="rows")


def test_k_means_is_of_novel_training_rows(monkeypatch):
    monkeypatch.setattr(d, "novel_kmeans", lambda *a: SimpleNamespace(predict=lambda rows: (a, rows)))
    monkeypatch.setattr(d, "count_of", lambda z, most, rng: len(z))
    for by in "kmeans", "ncd-kmeans":
        study, problem = mixed(by=by)
        x, labels = problem.given["x"], problem.given["labels"]
        answer = study.answer(problem.given, rng())
        (seen, known, k, _), rows = answer["labels"]
        np.testing.assert_array_equal(seen, x[labels < 0])
        np.testing.assert_array_equal(rows, problem.given["x_test"][problem.given["labels_test"] < 0])
        assert k == answer["count"] == len(seen)
        np.testing.assert_allclose(known, [x[labels == c].mean(0) for c in range(7)] if by == "ncd-kmeans" else x[:0])


def test_the_best_score_answers():
    study, settings = d.Pbn(INFO, trials=3), iter([2, 5, 9])
    study.setting, study.found = lambda *_: next(settings), lambda given, setting, rng: setting
    study.score = lambda given, setting, rng: -abs(setting - 4)
    assert study.answer({"x": normals(4, 3)}, rng()) == 5


@pytest.mark.parametrize("rows", ["", "_test"])
def test_spectral_clusters_are_of_all_rows(monkeypatch, rows):
    study, problem = mixed(d.NovelSpectral)
    given, setting, calls = problem.given, {"least": 0.7, "components": 4}, []
    truth, novel = given["labels" + rows], given["labels" + rows] < 0
    found = np.where(novel, 90 + np.arange(len(novel)), np.where(truth == 2, 1, truth))
    monkeypatch.setattr(d, "spectrum", lambda x, least, components: x * least + components)
    monkeypatch.setattr(d, "count_of", lambda z, most, rng: calls.append(z) or novel.sum())
    monkeypatch.setattr(d, "parts", lambda z, k, rng: [calls.append(z + k), found][1])
    if rows:
        answer = study.found(given, setting, rng())
        np.testing.assert_array_equal(answer["labels"], found[novel])
    else:  # classes 1 and 2 are in one cluster
        lost = min((truth == 1).sum(), (truth == 2).sum())
        assert study.score(given, setting, rng()) == pytest.approx(1 - lost / (~novel).sum())
    z = given["x" + rows] * 0.7 + 4
    np.testing.assert_array_equal(calls[0], z[novel])  # the count is that of novel rows
    np.testing.assert_allclose(calls[1], z + 7 + novel.sum())


def test_scores_are_of_hidden_classes(monkeypatch):
    """Novel rows are found at random here, hidden ones but for those of the larger class of two."""
    study, problem = mixed(d.Pbn)
    x, labels = problem.given["x"], problem.given["labels"]
    folds, told = iter(problem.given["folds"]), []
    monkeypatch.setattr(study, "trained", lambda given, labels, s, rng: told.append(labels))

    def parted(net, free, judged, rng):
        fold = next(folds)
        hidden = (labels >= 0) & fold[labels]
        np.testing.assert_array_equal(told[-1], np.where(hidden, -1, labels))
        np.testing.assert_array_equal(free, x[told[-1] < 0])
        np.testing.assert_array_equal(judged, free)
        return np.where(hidden, 0, rng.integers(9, size=200))[told[-1] < 0], 9

    monkeypatch.setattr(study, "parted", parted)
    counts = np.bincount(labels[labels >= 0])
    expected = [max(counts[fold]) / sum(counts[fold]) for fold in problem.given["folds"]]
    assert study.score(problem.given, SETTING, rng()) == pytest.approx(np.mean(expected))


def test_pbn_answers_with_all_known_classes(monkeypatch):
    study, problem = mixed(d.Pbn, epochs=20, batch=30)
    given, seen = problem.given, []
    monkeypatch.setattr(d, "count_of", lambda z, most, rng: seen.append(z) or 5)
    monkeypatch.setattr(d, "parts", lambda z, k, rng: seen.append(z) or z.argmax(1))
    answer = study.found(given, SETTING, rng())
    net = study.trained(given, given["labels"], SETTING, rng())
    free, novel = given["labels"] < 0, given["labels_test"] < 0
    z = {k: net.encoder(torch.from_numpy(given[k]).float()).detach() for k in ("x", "x_test")}
    np.testing.assert_allclose(seen[0], functional.normalize(z["x"])[free], rtol=1e-5)  # counted at length 1
    np.testing.assert_allclose(seen[1], z["x_test"][novel], rtol=1e-5)  # parted as they are
    right = net.classifier(functional.normalize(z["x_test"])).argmax(1).numpy() == given["labels_test"]
    model = SimpleNamespace(answered=lambda: [(problem.truth, answer)])
    assert d.known_class_recognition(model, None, {}, None).value == pytest.approx(right[~novel].mean())
    assert right[~novel].mean() > 0.3
    assert d.novel_class_count_error(model, None, {}, None).value == 2


def test_settings():
    study, draws = d.Pbn(INFO), rng()
    drawn = [study.setting(draws, 40) for _ in range(2000)]
    for name, low, high in ("rate", 1e-4, 1e-2), ("dropout", 0, 0.6), ("latent", 10, 40), ("w", 0, 1):
        values = [s[name] for s in drawn]
        assert [min(values), max(values)] == pytest.approx([low, high], abs=0.02 * (high - low))
        assert np.median(values) == pytest.approx(1e-3 if name == "rate" else (low + high) / 2, rel=0.2)
    assert d.Pbn(INFO, weight=0.4).setting(draws, 3)["w"] == 0.4
