"""Stacked networks against torch's own; losses and pairs against loops; choices against their definitions."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.metrics.representation import clustering_accuracy
from latentbench.papers.practical_tabular_ncd import discovery as d
from latentbench.papers.practical_tabular_ncd import nets
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist
from torch import nn
from torch.nn import functional

INFO = DataInfo((5,), "real", 24)
DROPOUT = torch.zeros(3, 1, 1)


def rng(seed=0):
    return np.random.default_rng(seed)


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def normals(*shape, seed=0):
    return torch.randn(shape, generator=draws(seed))


def alone(layers, e):
    """Copy e as modules of torch."""
    built = []
    for i, weight in enumerate(layers.weights):
        linear = nn.Linear(*weight.shape[1:])
        linear.weight.data, linear.bias.data = weight[e].T.detach().clone(), layers.biases[i][e, 0].detach().clone()
        built.append(linear)
        if i < len(layers.gains):
            norm = nn.BatchNorm1d(weight.shape[2])
            norm.weight.data, norm.bias.data = layers.gains[i][e].detach().clone(), layers.shifts[i][e].detach().clone()
            built += [nn.ReLU(), norm]
    return nn.Sequential(*built)


def stacked(sizes=(4, 5, 3, 2), seed=1):
    layers = nets.Layers(3, sizes, draws(seed))
    for p in (*layers.gains, *layers.shifts):
        p.data += 0.3 * normals(*p.shape, seed=2)
    return layers


class TestNets:
    def test_copies_are_networks_of_their_own(self):
        layers, x = stacked(), normals(3, 7, 4)
        singles = [alone(layers, e) for e in range(3)]
        for _ in range(2):
            found = layers(x, DROPOUT, draws())
            for e in range(3):
                torch.testing.assert_close(found[e], singles[e].train()(x[e]))
        for e in range(3):
            torch.testing.assert_close(layers(x, DROPOUT)[e], singles[e].eval()(x[e]))

    def test_start(self):
        layers = nets.Layers(2, (40, 90, 30), draws(), torch.tensor([4, 25]))
        for e, used in enumerate((4, 25)):
            for values, bound in (layers.weights[0][e], used**-0.5), (layers.weights[1][e], 90**-0.5):
                assert 0.97 * bound < values.max() <= bound
                assert -bound <= values.min() < -0.97 * bound
            assert 0.9 * used**-0.5 < layers.biases[0][e].abs().max() <= used**-0.5

    def test_dropout(self):
        layers = nets.Layers(2, (3, 400, 400), draws(1))
        layers.weights[1].data, layers.biases[1].data = torch.eye(400).expand(2, -1, -1).clone(), torch.zeros(2, 1, 400)
        x, rates = normals(2, 50, 3), torch.tensor([0.2, 0.7])[:, None, None]
        whole, found = layers(x, 0 * rates, draws()), layers(x, rates, draws())
        for e, rate in enumerate((0.2, 0.7)):
            kept = found[e] != 0
            assert 1 - kept.float().mean() == pytest.approx(rate, abs=0.02)
            torch.testing.assert_close(found[e][kept], whole[e][kept] / (1 - rate))
        torch.testing.assert_close(layers(x, rates), layers(x, 0 * rates))

    def test_latents_beyond_a_copys_own_are_zero(self):
        s = {"latent": torch.tensor([2, 5]), "dropout": torch.zeros(2)}
        net = nets.Nets(9, s, {"decoder": (4, 6, 9)}, draws())
        z = net.encode(normals(11, 9), draws())
        assert [(z[e] != 0).any(0).sum() for e in range(2)] == [2, 5]
        assert [tuple(w.shape[1:]) for w in net.encoder.weights] == [(9, 6), (6, 4), (4, 5)]
        assert net.head("decoder", z).shape == (2, 11, 9)
        assert (nets.hidden_sizes(16), nets.hidden_sizes(1)) == ((12, 8), (1, 1))

    def test_training_is_adamw_of_each_copy_at_its_own_rate(self):
        layers, x, y = stacked((4, 2)), normals(10, 4), normals(3, 10, 2, seed=3)
        singles, rates, order = [alone(layers, e) for e in range(3)], torch.tensor([0.1, 0.02, 0.003]), []

        def losses(rows):
            order.append(rows)
            return ((layers(x[rows].expand(3, -1, -1), DROPOUT) - y[:, rows]) ** 2).mean((1, 2))

        nets.train(layers, rates, losses, 10, 4, 3, draws())
        assert [len(rows) for rows in order] == [3] * 12  # rows left alone are left out
        assert len(torch.cat(order[:3]).unique()) == 9
        for e, single in enumerate(singles):
            adam = torch.optim.AdamW(single.parameters(), lr=float(rates[e]))
            for rows in order:
                adam.zero_grad()
                ((single(x[rows]) - y[e, rows]) ** 2).mean().backward()
                adam.step()
            torch.testing.assert_close(layers.weights[0][e].T, single[0].weight, atol=1e-5, rtol=1e-4)


class TestLosses:
    labels = torch.tensor([[0, 3, -1, 1, -1, 3, 0], [0, -1, -1, 1, -1, -1, 0]])
    shut = torch.tensor([[0, 0, 1, 0], [0, 0, 0, 1]]).bool()[:, None]
    s = {"latent": torch.tensor([3, 2]), "dropout": torch.zeros(2)}

    def test_pbn(self):
        net = nets.Nets(6, self.s, {"classes": (4,), "decoder": (3, 4, 6)}, draws(1))
        x, w = normals(7, 6), torch.tensor([0.8, 0.3])
        found = nets.pbn_losses(net, x, self.labels, self.shut, w, None)
        z = net.encode(x)
        z = z / z.norm(dim=2, keepdim=True)
        for e, known in enumerate(([0, 1, 3], [0, 1, 2])):
            seen = self.labels[e] >= 0
            logits = net.head("classes", z)[e][seen][:, known]
            ce = functional.cross_entropy(logits, torch.tensor([known.index(int(c)) for c in self.labels[e][seen]]))
            mse = functional.mse_loss(net.head("decoder", z)[e], x, reduction="sum") / 7
            torch.testing.assert_close(found[e], w[e] * ce + (1 - w[e]) * mse)
        found[0].backward()
        assert all((p.grad[1] == 0).all() for p in net.parameters())
        assert all((p.grad[0] != 0).any() for p in net.parameters())
        nothing = nets.cross_entropies(normals(1, 2, 4), torch.tensor([[-1, -1]]))
        assert nothing.tolist() == [0.0]

    def test_pairs(self):
        z, free, share = normals(2, 9, 3), torch.ones(2, 9).bool(), torch.tensor([0.5, 0.01])
        free[0, [2, 5]], free[1, 4] = False, False
        same, pairs = nets.alike(z, free, share)
        logits = 2 * normals(2, 9, 4, seed=5)
        losses, p = nets.pair_losses(logits, same, pairs), logits.softmax(2)
        for e, count in enumerate((3, 1)):
            rows, near = [i for i in range(9) if free[e, i]], set()
            for i in rows:
                cosines = {j: float(functional.cosine_similarity(z[e, i], z[e, j], 0)) for j in rows if j != i}
                near |= {frozenset((i, j)) for j in sorted(cosines, key=cosines.get)[-count:]}
            each = [frozenset((i, j)) for i in rows for j in rows if i < j]
            assert {frozenset(map(int, ij)) for ij in same[e].nonzero()} == near
            assert {frozenset(map(int, ij)) for ij in pairs[e].nonzero()} == set(each)
            together = {ij: float((p[e, min(ij)] * p[e, max(ij)]).sum()) for ij in each}
            expected = -np.mean([np.log(q if ij in near else 1 - q) for ij, q in together.items()])
            assert float(losses[e]) == pytest.approx(expected, rel=1e-4)

    def test_tabular(self):
        net = nets.Nets(6, self.s, {"classes": (5,), "clusters": (3,)}, draws(1))
        x, moved = normals(7, 6), normals(2, 7, 6, seed=4)
        s = {"w1": torch.tensor([0.8, 0.3]), "w2": torch.tensor([0.6, 0.1]), "share": torch.tensor([0.5, 0.6])}
        shut = {"classes": functional.pad(self.shut, (0, 1)), "clusters": torch.zeros(2, 1, 3).bool()}
        shut["clusters"][1, 0, 2] = True
        found = nets.tabular_losses(net, x, moved, self.labels, shut, s, None)
        z, other = net.encode(x), net.encode(moved)
        for e in range(2):
            free, open_ = self.labels[e] < 0, ~shut["classes"][e, 0]
            logits, again = (net.head("classes", code)[e][:, open_] for code in (z, other))
            numbers = open_.cumsum(0) - 1
            targets = numbers[torch.where(free, 4, self.labels[e])]
            ce, apart = functional.cross_entropy(logits, targets), functional.mse_loss(logits, again)
            k = 3 - e
            logits, again = (net.head("clusters", code)[e][free][:, :k] for code in (z, other))
            same, pairs = nets.alike(z[e : e + 1, free], torch.ones(1, int(free.sum())).bool(), s["share"][e : e + 1])
            bce = nets.pair_losses(logits[None], same, pairs)[0]
            expected = s["w1"][e] * ce + (1 - s["w1"][e]) * apart + s["w2"][e] * bce
            expected = expected + (1 - s["w2"][e]) * functional.mse_loss(logits, again)
            torch.testing.assert_close(found[e], expected)

    def test_neighbours(self):
        x, free = normals(12, 3), torch.arange(12) % 3 == 0
        found = nets.neighbours(x, free, 2)
        assert nets.neighbours(x, free).shape == (12, 3)
        for i in range(12):
            like = [j for j in range(12) if j != i and free[j] == free[i]]
            like.sort(key=lambda j: -float(functional.cosine_similarity(x[i], x[j], 0)))
            assert found[i].tolist() == like[:2]


class TestClustering:
    def test_spectrum(self):
        x = rng(1).standard_normal((20, 3)) * [1, 2, 3]
        for least, components in (0.3, 4), (0.8, 2):
            distances = cdist(x, x)
            longest = minimum_spanning_tree(distances).data.max()
            affinity = least ** (distances**2 / (2 * longest**2)) - np.eye(20)
            assert affinity[np.isclose(distances, longest)] == pytest.approx(least**0.5)
            degree = affinity.sum(1) ** -0.5
            values, vectors = np.linalg.eigh(np.eye(20) - degree[:, None] * affinity * degree)
            assert values[0] == pytest.approx(0, abs=1e-9)
            found = d.spectrum(x, least, components)
            np.testing.assert_allclose(np.abs(found.T @ vectors[:, 1 : components + 1]), np.eye(components), atol=1e-6)

    def test_count(self):
        centres = 9 * np.array([[0, 0], [1, 0], [0, 1.2], [1.3, 1.4]])
        x = (centres[:, None] + rng().standard_normal((4, 30, 2))).reshape(-1, 2)
        assert (d.count_of(x, 9, rng()), d.count_of(x, 9, rng(), judged=60), d.count_of(x, 3, rng())) == (4, 4, 3)

    def test_starts_are_far_from_known_centroids(self, monkeypatch):
        """One novel centroid beside a known one: a row is drawn by its squared distance to the nearest of them."""
        x, known = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]), np.array([[0.0, 0.0], [3.0, 1.0]])
        starts = []

        class Fake:
            def __init__(self, k, init, n_init):
                starts.append(init)
                self.inertia_ = float((init[0] ** 2).sum())

            def fit(self, rows):
                return self

        monkeypatch.setattr(d, "KMeans", Fake)
        best = d.novel_kmeans(x, known, 1, rng(), 3000)
        share = np.mean([start[0] @ start[0] == np.array([1, 4, 9]) for start in starts], axis=0)
        np.testing.assert_allclose(share, np.array([1, 4, 1]) / 6, atol=0.04)
        assert best.inertia_ == 1.0
        starts.clear()
        d.novel_kmeans(x, known, 2, rng(), 50)
        assert all(len(np.unique(start, axis=0)) == 2 for start in starts)
        starts.clear()
        d.novel_kmeans(x, known[:0], 1, rng(), 600)
        assert np.mean([start[0] @ start[0] == 4 for start in starts]) == pytest.approx(1 / 3, abs=0.07)


def mixed(cls=d.Untuned, seed=1, **design):
    study = cls(INFO, **{"rows": 200, "test": 150, "novel": 3, "hidden": 2, "folds": 4, **design})
    return study, study.problem(rng(seed))


class TestProblem:
    def test_rows(self):
        problem = mixed()[1]
        given, truth = problem.given, problem.truth
        np.testing.assert_allclose(given["x"].mean(0), 0, atol=1e-9)
        np.testing.assert_allclose(given["x"].std(0), 1)
        assert np.abs(given["x_test"].mean(0)).max() > 1e-3
        assert (len(given["x"]), len(given["x_test"]), given["novel"], truth["novel"]) == (200, 150, 3, 3)
        assert set(given["labels"]) == set(given["labels_test"]) == set(range(-1, 7))
        assert given["folds"].shape == (5, 7)
        assert given["folds"].sum(1).tolist() == [2, 2, 2, 2, 0]
        assert len(np.unique(given["folds"], axis=0)) > 2
        assert len(truth["labels"]) == (given["labels_test"] < 0).sum()
        assert len(set(truth["labels"])) == 3
        other = mixed(d.Pbn)[1]
        assert (other.given["x"] == given["x"]).all()
        assert (other.given["folds"] == given["folds"]).all()

    def test_rows_of_data(self):
        x, y = normals(60, 2, 3), torch.arange(60) % 6
        x[:, 1, 1], x[:, 0, 0] = 4.0, y.float()
        info = DataInfo((2, 3), "real", 60, columns={"y": ()})
        study = d.Untuned(info, design="rows", novel_classes=[1, 4], rows=40, test=20)
        study.start(Batch(x, 60, columns={"y": y}), draws())
        given, truth = (problem := study.problem(rng())).given, problem.truth
        assert given["x"].shape == (40, 5)
        raw = {round(float(v), 6): c for v, c in zip(given["x"][:, 0], given["labels"], strict=True)}
        assert [raw[v] for v in sorted(raw)] == [0, -1, 1, 2, -1, 3]
        assert set(truth["labels"]) == {1, 4}
        with pytest.raises(UserError, match="fewer"):
            d.Untuned(info, rows=40, test=20, novel=5, design="rows").problem(rng())
        with pytest.raises(UserError, match="labels"):
            d.Untuned(INFO, design="rows")


class Staged(d.Pbn):
    """Trial t finds hidden classes the better, the nearer t is to 1, and novel ones the better, the larger t is."""

    seen: list = []

    def made(self, x, labels, shut, s, numbers, draws):
        self.labels, self.shut, self.numbers = labels, shut, numbers
        self.net = net = nets.Nets(x.shape[1], s, {"classes": (shut.shape[2],)}, draws)
        return net, lambda rows: net.encode(x[rows], draws).sum((1, 2))

    def parted(self, net, e, seen, z, number, rng):
        t, f = divmod(e, self.folds + 1)
        self.seen.append((f, len(seen), len(z), number))
        truth = self.unseen if f < self.folds else self.novel_test
        labels = truth[f] if f < self.folds else truth
        far = abs(t - 1) * 0.4
        chance = np.where(labels < 0, 0.4 - far, far) if f < self.folds else 0.6 - 0.3 * t
        wrong = rng.random(len(labels)) < chance
        return np.where(wrong, 99, labels), t + 4


def test_settings_are_chosen_on_hidden_classes():
    study, problem = mixed(Staged, trials=3, epochs=1)
    given = problem.given
    study.unseen, study.seen = [], []
    for hidden in given["folds"][:-1]:
        free = (given["labels"] < 0) | hidden[given["labels"]]
        study.unseen.append(given["labels"][free])
    study.novel_test = problem.truth["labels"]
    scores, _, counts, classified = study.tried(given, rng())
    latents = study.net.encode(torch.from_numpy(given["x_test"]).float())
    found = study.net.head("classes", functional.normalize(latents, dim=2)).argmax(2)[4::5].numpy()
    right = (found == given["labels_test"])[:, given["labels_test"] >= 0].mean(1)
    assert classified == pytest.approx(right)
    assert len(set(right)) > 1
    assert scores == pytest.approx([0.6, 1.0, 0.6], abs=0.12)
    assert counts == [4, 5, 6]
    answer = study.answer(given, rng())
    assert (answer["count"], answer["tried"].shape) == (5, (3, len(problem.truth["labels"])))
    assert (answer["labels"] == answer["tried"][1]).all()
    for e, (f, free, rows, number) in enumerate(study.seen[:15]):
        unlabelled = int((study.labels[e] < 0).sum())
        assert (f, free) == (e % 5, unlabelled)
        assert rows == (len(problem.truth["labels"]) if f == 4 else unlabelled)
        assert number == 3 + 2 * (f < 4)
        assert study.shut[e, 0].tolist() == given["folds"][f].tolist()
        hidden = given["folds"][f][given["labels"]] & (given["labels"] >= 0)
        assert ((study.labels[e] < 0).numpy() == (hidden | (given["labels"] < 0))).all()
    model = SimpleNamespace(answered=lambda: [(problem.truth, answer)])
    each = [clustering_accuracy(found, problem.truth["labels"]).value for found in answer["tried"]]
    assert each[0] < each[1] < each[2]
    assert d.hidden_class_regret(model, None, {}, None).value == pytest.approx(each[2] - each[1])
    assert d.novel_class_count_error(model, None, {}, None).value == 2
    assert d.known_class_recognition(model, None, {}, None).value == answer["classified"] == classified[1]


def test_k_means_is_of_novel_training_rows(monkeypatch):
    calls = []

    def fake(x, known, k, rng):
        calls.append((x, known, k))
        return SimpleNamespace(predict=lambda rows: rows)

    monkeypatch.setattr(d, "novel_kmeans", fake)
    monkeypatch.setattr(d, "count_of", lambda z, most, rng: len(z))
    for by, number in ("kmeans", "given"), ("ncd-kmeans", "estimated"):
        study, problem = mixed(by=by, number=number)
        given = problem.given
        x, labels = given["x"], given["labels"]
        _, (rows,), (k,), _ = study.tried(given, rng())
        (seen, known, clusters), free = calls.pop(), x[labels < 0]
        assert (seen == free).all()
        assert (rows == given["x_test"][given["labels_test"] < 0]).all()
        assert k == clusters == (3 if number == "given" else len(free))
        expected = [x[labels == c].mean(0) for c in range(7)] if by == "ncd-kmeans" else np.zeros((0, 12))
        np.testing.assert_allclose(known, expected)


@pytest.mark.parametrize("number", ["given", "estimated"])
def test_spectral_settings_are_chosen_on_known_rows(monkeypatch, number):
    study, problem = mixed(d.NovelSpectral, trials=2, number=number)
    given, calls = problem.given, []
    novel = int((given["labels_test"] < 0).sum())

    def fake(z, k, rng, restarts=10):
        calls.append((len(z), k))
        return given["labels"] if len(calls) == 3 else np.arange(len(z))

    monkeypatch.setattr(d, "spectrum", lambda x, least, components: x)
    monkeypatch.setattr(d, "parts", fake)
    monkeypatch.setattr(d, "count_of", lambda z, most, rng: len(z))
    scores, labels, counts, _ = study.tried(given, rng())
    assert scores[0] < scores[1] == 1.0
    free = int((given["labels"] < 0).sum())
    wanted = ([(200, 10), (novel, 3)], 3) if number == "given" else ([(200, 7 + free), (150, 7 + novel)], novel)
    assert (calls, counts) == (2 * wanted[0], [wanted[1]] * 2)
    rows = np.arange(novel) if number == "given" else np.flatnonzero(given["labels_test"] < 0)
    assert (labels[1] == rows).all()


def test_rows_move_towards_neighbours_of_their_kind(monkeypatch):
    study, problem = mixed(d.TabularNcd, trials=2, folds=1, epochs=1, batch=50, rows=120)
    x = torch.from_numpy(problem.given["x"]).float()
    seen = []

    def fake(net, rows, moved, labels, shut, s, draws):
        seen.append((rows, moved, labels, shut, s))
        return net.encode(rows, draws).sum((1, 2))

    monkeypatch.setattr(nets, "tabular_losses", fake)
    monkeypatch.setattr(d, "count_of", lambda z, most, rng: len(z))
    _, labels, counts, _ = study.tried(problem.given, rng())
    free = int((problem.given["labels"] < 0).sum())
    assert counts == [free, free]
    rows, moved, known, shut, s = seen[0]
    told = (~shut["clusters"]).sum((1, 2)).tolist()
    assert told[1::2] == [free, free]
    assert (
        told[0]
        == told[2]
        == free + int(problem.given["folds"][0][problem.given["labels"]][problem.given["labels"] >= 0].sum())
    )
    assert shut["classes"][..., :-1].sum((1, 2)).tolist() == [2, 0, 2, 0]
    assert not shut["classes"][..., -1].any()
    numbers = torch.cdist(rows, x).argmin(1)
    every = torch.from_numpy(problem.given["labels"])
    for e in range(4):
        hidden = torch.from_numpy(problem.given["folds"][e % 2])[every] | (every < 0)
        assert ((known[e] < 0) == hidden[numbers]).all()
        near = nets.neighbours(x, hidden)[numbers, : int(s["neighbours"][e])]
        along, step = x[near] - rows[:, None], (moved[e] - rows)[:, None]
        share = (step * along).sum(2) / (along**2).sum(2)
        off = (step - share[..., None] * along).norm(dim=2) + (share < 0) + (share > 1.0001)
        assert off.min(1).values.max() < 1e-4
    assert max(labels[0]) < free


def test_clusters_are_the_first_logits():
    s = {"latent": torch.tensor([2, 3]), "dropout": torch.zeros(2)}
    net, z = nets.Nets(6, s, {"clusters": (5,)}, draws()), normals(40, 3)
    found, k = d.TabularNcd(INFO).parted(net, 1, z, z, 3, rng())
    assert (k, (found == net.head("clusters", z.expand(2, -1, -1))[1, :, :3].argmax(1).numpy()).all()) == (3, True)


def test_latents_of_pbn_are_parted_as_they_are_and_counted_at_length_one(monkeypatch):
    monkeypatch.setattr(d, "count_of", lambda z, most, rng: round(float(np.linalg.norm(z, axis=1).sum())))
    monkeypatch.setattr(d, "parts", lambda z, k, rng: z)
    seen, z = 5 * normals(7, 3), normals(11, 3)
    for number, k in ("estimated", 7), ("given", 4):
        found = d.Pbn(INFO, number=number).parted(None, 0, seen, z, 4, rng())
        assert ((found[0] == z.double().numpy()).all(), found[1]) == (True, k)


def test_settings():
    drawn = d.TabularNcd(INFO, trials=2000).settings(rng(), 40)
    ranges = {"rate": (1e-4, 1e-2), "dropout": (0, 0.6), "latent": (10, 40), "w1": (0, 1), "neighbours": (2, 100)}
    for name, (low, high) in ranges.items():
        assert low <= drawn[name].min() < low + 0.02 * (high - low)
        assert high >= drawn[name].max() > high - 0.02 * (high - low)
    assert np.median(drawn["rate"]) == pytest.approx(1e-3, rel=0.2)
    assert (d.Pbn(INFO, trials=9, weight=0.4).settings(rng(), 40)["w"] == np.full(9, 0.4)).all()
    assert len(set(d.Pbn(INFO, trials=9).settings(rng(), 3)["w"])) == 9
    with pytest.raises(UserError):
        d.Pbn(INFO, weight=1.2)
