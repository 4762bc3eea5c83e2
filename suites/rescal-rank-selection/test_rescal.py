"""Updates against sums slice by slice, clusters and silhouettes by hand, choices on curves whose answer is plain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.rescal_rank_selection import factors, selection

INFO = DataInfo((1,), "real", 1)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_an_update_is_the_ratio_of_the_gradient_s_parts():
    """Negative over positive part of the gradient of sum |X_i - A R_i A'|^2, in R and then in A."""
    x = rng().random((2, 3, 5, 5))
    both = np.concatenate([x, np.swapaxes(x, 2, 3)], axis=1).swapaxes(1, 2)
    a, r = rng(1).random((2, 5, 4)), rng(2).random((2, 3, 4, 4))
    new_a, new_r = factors.step(both, a, r.swapaxes(1, 2))
    for p in range(2):
        cores = [c * (a[p].T @ s @ a[p]) / (a[p].T @ a[p] @ c @ a[p].T @ a[p]) for s, c in zip(x[p], r[p], strict=True)]
        np.testing.assert_allclose(new_r[p].swapaxes(0, 1), cores)
        up = sum(s @ a[p] @ c.T + s.T @ a[p] @ c for s, c in zip(x[p], cores, strict=True))
        gram = a[p].T @ a[p]
        down = sum(a[p] @ (c @ gram @ c.T + c.T @ gram @ c) for c in cores)
        np.testing.assert_allclose(new_a[p], a[p] * up / down)
        root = torch.tensor(a[p], requires_grad=True)
        pairs = zip(torch.tensor(x[p]), torch.tensor(np.stack(cores)), strict=True)
        loss = sum(((s - root @ c @ root.T) ** 2).sum() for s, c in pairs)
        loss.backward()
        np.testing.assert_allclose(root.grad.numpy(), 2 * (down - up))


def test_fits_find_exact_factors_each_of_its_own_tensor():
    true = [selection.bumps(12, 3, 0.1), selection.bumps(12, 3, 0.2)]
    x = np.stack([a @ rng(i).random((4, 3, 3)) @ a.T for i, a in enumerate(true)])
    found, cores = factors.factorise(x, 3, 1500, rng(3))
    assert found.shape == (2, 12, 3)
    assert cores.shape == (2, 4, 3, 3)
    for one, a, r in zip(x, found, cores, strict=True):
        assert factors.relative_errors(one, a[None], r[None])[0] < 0.02
    assert factors.relative_errors(x[0], found, cores)[1] > 0.1


def test_relative_error():
    x, a, r = np.ones((2, 3, 3)), np.ones((1, 3, 1)), np.array([[[[1.0]], [[3.0]]]])
    assert factors.relative_errors(x, a, r)[0] == pytest.approx((4 * 9 / 18) ** 0.5)


def test_perturbed_entries_are_uniform_about_their_own():
    x = np.array([[[0.0, 2.0], [5.0, 1.0]]])
    copies = factors.perturbed(x, 20_000, 0.3, rng())
    assert copies.shape == (20_000, 1, 2, 2)
    assert not copies[:, 0, 0, 0].any()
    ratio = copies[:, 0, 1, 0] / 5.0
    assert 0.7 <= ratio.min() < 0.701 < 1.299 < ratio.max() <= 1.3
    assert ratio.mean() == pytest.approx(1.0, abs=0.005)
    assert abs(np.corrcoef(ratio, copies[:, 0, 0, 1])[0, 1]) < 0.03


def test_matching_is_greedy_and_one_to_one():
    first = np.eye(3)
    second = np.array([[0.9, 0.8, 0.0], [0.85, 0.1, 0.0], [0.0, 0.0, 1.0]])
    assert factors.matched(first, second).tolist() == [0, 1, 2], "the best pair first, though 0.8 + 0.85 is more"
    assert factors.matched(first, first[:, [2, 0, 1]]).tolist() == [1, 2, 0]


def test_clusters_put_shuffled_features_together():
    base = selection.bumps(20, 4, 0.1)
    scales = rng(5).random((6, 1, 4)) + 0.5
    orders = [rng(i).permutation(4) for i in range(6)]
    noisy = np.stack([base[:, o] for o in orders]) * scales + 0.01 * rng(7).random((6, 20, 4))
    noisy[3] = 1.0  # one fit that failed does not move the medians
    centroids, features = factors.clustered(noisy)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=0), 1.0)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1.0)
    expected = base[:, orders[0]] / np.linalg.norm(base[:, orders[0]], axis=0)
    np.testing.assert_allclose((expected * centroids).sum(0), 1.0, atol=2e-3)
    for i in (0, 1, 2, 4, 5):
        np.testing.assert_allclose((features[i] * centroids).sum(0), 1.0, atol=2e-3)


def test_silhouettes_by_hand():
    """Angles on a circle: cluster 0 at 0 and 10 degrees, cluster 1 at 60 and 90."""
    turns = np.radians([[0.0, 60.0], [10.0, 90.0]])
    features = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    first = np.mean([1 - 10 / 75, 1 - 10 / 65])
    second = np.mean([1 - 30 / 55, 1 - 30 / 85])
    np.testing.assert_allclose(factors.silhouettes(features), [first, second])
    assert factors.silhouettes(features[:, :, :1]).tolist() == [1.0]


def curve(*levels, spread=0.01, fits=8):
    return np.array(levels)[:, None] + spread * np.linspace(0, 1, fits)


@pytest.mark.parametrize(
    ("least", "errors", "rank"),
    [
        ([1, 0.9, 0.95, 0.2], curve(0.9, 0.5, 0.1, 0.05), 3),
        ([1, 0.3, 0.95, 0.2], curve(0.9, 0.5, 0.1, 0.05), 3),  # an unstable rank is passed over
        ([1, 0.9, 0.8, 0.2], curve(0.9, 0.5, 0.1, 0.05), 2),  # the threshold itself does not do
        ([1, 0.9, 0.95, 0.9], curve(0.9, 0.5, 0.51, 0.6), 2),  # nor does stability without a lower error
        ([1, 0.9, 0.95, 0.9], curve(0.9, 0.5, 0.51, 0.1), 4),
        ([1, 0.2, 0.3, -0.2], curve(0.9, 0.5, 0.1, 0.05), 1),
    ],
)
def test_stable_rank(least, errors, rank):
    assert selection.stable_rank(np.array(least, dtype=float), errors, 0.8) == rank


def test_stable_rank_wants_errors_that_fall_more_often_than_by_chance():
    errors = curve(0.5, 0.5, spread=0.0)
    errors[1] += np.array([-1, -1, -1, -1, -1, 1, 1, 1]) * 1e-3 * np.arange(1, 9)
    assert selection.stable_rank(np.array([1.0, 1.0]), errors, 0.8) == 1


class TestCriteria:
    errors = np.array([0.8, 0.5, 0.1, 0.09, 0.08, 0.07])

    def found(self, cls, errors, x=None):
        study = cls(INFO, entities=10, relations=2, most=6, ranks=(2, 3))
        study.single = lambda x, rng: np.array(errors)
        x = np.ones((2, 10, 10)) if x is None else x
        return int(study.answer({"x": x}, rng())["rank"])

    def test_elbow(self):
        assert self.found(selection.Elbow, self.errors) == 3
        assert self.found(selection.Elbow, [0.8, 0.2, 0.15, 0.1, 0.05, 0.0]) == 2

    def test_bic_pays_for_parameters(self):
        """From rank k to k + 1 there are n + m (2 k + 1) - 1 parameters more: worth a fall of error by this factor."""
        worth = [np.exp(-(10 + 2 * (2 * k + 1) - 1) * np.log(200) / 400) for k in range(1, 6)]
        for last in range(1, 6):
            steps = [w * (0.99 if k <= last else 1.01) for k, w in enumerate(worth, start=1)]
            assert self.found(selection.Bic, np.cumprod([0.5, *steps])) == last + 1

    def test_gap_sees_rows_and_columns(self):
        """Communities that only receive are in the rows' space of no slice."""
        a = selection.bumps(10, 3, 0.1)
        x = np.stack([np.outer(a[:, 0], a[:, 1]), np.outer(a[:, 0], a[:, 2])])
        assert self.found(selection.Gap, self.errors, x) == 3

    def test_single_is_the_best_of_its_fits(self):
        study = selection.Elbow(INFO, entities=9, most=4, ranks=(2, 3), iterations=60, fits=4)
        problem = study.problem(rng(2))
        best = study.single(problem.given["x"], rng(3))
        again = rng(3)
        for k, error in enumerate(best, start=1):
            a, r = factors.factorise(np.repeat(problem.given["x"][None], 4, axis=0), k, 60, again)
            assert error == factors.relative_errors(problem.given["x"], a, r).min()


def test_problems_are_those_of_the_design():
    study = selection.Elbow(INFO, entities=20, relations=3, ranks=(2, 4), most=5, width=0.15, noise=0.2)
    problems = [study.problem(rng(i)) for i in range(60)]
    assert {p.truth["rank"] for p in problems} == {2, 3, 4}
    a = selection.bumps(20, 4, 0.15)
    np.testing.assert_allclose(a.argmax(0), [2, 7, 12, 17])
    assert a[5, 1] == pytest.approx(np.exp(-4 * 2.0**2 / 9))
    whole = next(p for p in problems if p.truth["rank"] == 3)
    np.testing.assert_allclose(whole.truth["features"], selection.bumps(20, 3, 0.15))
    clean = selection.Elbow(INFO, entities=20, relations=3, ranks=(3, 3), most=5, width=0.15, noise=0.0)
    exact = clean.problem(rng(1)).given["x"]
    assert np.linalg.matrix_rank(exact[0]) == 3
    assert not np.allclose(exact[0], exact[0].T)
    noisy = selection.Elbow(INFO, entities=20, relations=3, ranks=(3, 3), most=5, width=0.15, noise=0.2).problem(rng(1))
    assert 0.15 < np.abs(noisy.given["x"] / exact - 1.0).max() <= 0.2


def test_all_find_the_rank_where_it_is_plain():
    design = {"entities": 12, "ranks": (3, 3), "most": 4, "noise": 0.01, "iterations": 600}
    problem = selection.Gap(INFO, **design).problem(rng(4))
    for cls in (selection.Stability, selection.Elbow, selection.Bic, selection.Gap):
        answer = cls(INFO, fits=6, **design).answer(problem.given, rng(1))
        assert int(answer["rank"]) == 3, cls.__name__
    stable = selection.Stability(INFO, fits=6, **design).answer(problem.given, rng(1))
    assert stable["least"][2] > 0.9 > 0.5 > stable["least"][3]
    assert stable["errors"].shape == (4, 6)


class Fixed(selection.RankStudy):
    """Right the first time, one too many the second."""

    def answer(self, given, rng):
        i = len(self._answers)
        features = np.zeros((4, self.entities, 4))
        features[1, :, :2] = np.eye(self.entities)[:, [1, 0]]
        return {"rank": 2 + i, "least": np.array([1.0, 0.9 - 0.2 * i, 0.1, 0.0]), "features": features}

    def problem(self, rng):
        given = super().problem(rng)
        features = np.eye(self.entities)[:, :2] * 3.0
        features[2, 1] = 4.0
        return selection.Problem(given.given, {"rank": 2, "features": features})


def test_measurements():
    study = Fixed(INFO, entities=5, ranks=(2, 3), most=4, problems=2)
    study.start(None, torch.Generator().manual_seed(0))
    while not study.done():
        study.advance(None, None)
    found = selection.rank_found(study, None, {}, None)
    assert (found.value, found.details["signed_error"]) == (0.5, 0.5)
    drop = selection.stability_drop(study, None, {}, None)
    assert drop.value == pytest.approx(0.7)
    assert drop.details == pytest.approx({"at": 0.8, "beyond": 0.1})
    assert selection.features_cosine(study, None, {}, None).value == pytest.approx((1.0 + 0.6) / 2)


def test_designs_that_cannot_be():
    for design in {"ranks": (3, 5)}, {"ranks": (4, 3)}, {"entities": 4}, {"noise": 1.5}:
        with pytest.raises(UserError):
            selection.Gap(INFO, **design)
