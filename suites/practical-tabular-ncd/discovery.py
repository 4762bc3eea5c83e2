"""Novel classes of a table: rows of known classes have labels, rows of novel ones are to be parted.

A problem splits classes and rows. Settings are chosen as in section 4: in each fold some known classes are hidden, a
method runs as if they were novel and is judged on their rows, and the best of `trials` random settings is kept.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.metrics.representation import clustering_accuracy, kmeans, silhouette
from latentbench.models import checks
from latentbench.models.study import Arrays, Problem, Study
from numpy import ndarray
from pydantic import PositiveInt
from scipy.linalg import eigh
from scipy.sparse.csgraph import laplacian, minimum_spanning_tree
from scipy.spatial.distance import cdist, pdist, squareform
from sklearn.cluster import KMeans
from torch import Generator, Tensor
from torch.nn import functional

from . import nets

SMALL = {"rows": 90, "test": 60, "trials": 2, "folds": 2, "most": 4, "epochs": 2}
EXAMPLES = (Example("real-vector", SMALL),)
Rng = np.random.Generator
Tried = tuple[ndarray, list[ndarray], list[int], ndarray]


def mixture(rng: Rng, n: int, classes: int = 10) -> tuple[ndarray, ndarray]:
    """(n, 12) rows and labels: normal groups in four columns, and values near -1 or 1, which tell nothing, in eight."""
    y = rng.permutation(np.arange(n) % classes)
    means, bits = 5.0 * rng.standard_normal((classes, 4)), rng.integers(0, 2, (n, 8)) * 2.0 - 1.0
    return np.hstack([means[y] + rng.standard_normal((n, 4)), bits + 0.2 * rng.standard_normal((n, 8))]), y


class Discovery(Study):
    """Answers are, at the setting that was chosen, ``labels`` (N,) of novel test rows, the ``count`` of clusters, and
    ``classified``, the accuracy on test rows of known classes, 0 where a method has none; and the labels at every
    setting that was ``tried`` (trials, N).

    Args:
        info: of rows with labels ``y``; of no matter for the mixture.
        design: ``rows`` of the data, or the `mixture`.
        number: of novel classes: given, or estimated wherever it is needed, in folds too.
        novel: how many classes are novel, drawn at random.
        novel_classes: the novel ones, if they are not to be drawn.
        rows, test: numbers of training and test rows.
        folds, hidden: how often known classes are hidden, and how many at a time.
        trials: settings that are tried.
        most: largest number of clusters that is considered.
        epochs, batch: of networks.
        problems: splits.

    Raises:
        UserError: rows without labels, or too few of them or of classes.
    """

    TUNED = True

    def __init__(
        self,
        info: DataInfo,
        *,
        design: Literal["rows", "mixture"] = "mixture",
        number: Literal["given", "estimated"] = "estimated",
        novel: PositiveInt = 5,
        novel_classes: list[int] | None = None,
        rows: PositiveInt = 1000,
        test: PositiveInt = 700,
        folds: PositiveInt = 2,
        hidden: PositiveInt = 2,
        trials: PositiveInt = 6,
        most: PositiveInt = 12,
        epochs: PositiveInt = 60,
        batch: PositiveInt = 128,
        problems: PositiveInt = 1,
    ) -> None:
        super().__init__(info, problems=problems)
        if design == "rows" and info.columns.get("y") != ():
            raise UserError("rows have no column `y` of labels", fix="choose data with classes")
        self.design, self.number, self.novel, self.novel_classes = design, number, novel, novel_classes
        self.rows, self.test, self.folds, self.hidden = rows, test, folds, hidden
        self.trials, self.most = trials if self.TUNED else 1, checks.whole("most", most, 2)
        self.epochs, self.batch = epochs, checks.whole("batch", batch, 2)
        self._x, self._y = np.zeros((0, 1)), np.zeros(0)

    def start(self, data: Batch, generator: Generator) -> None:
        super().start(data, generator)
        if self.design == "rows":
            self._x, self._y = data.x.double().flatten(1).cpu().numpy(), data.columns["y"].cpu().numpy()

    def state_dict(self) -> dict[str, Tensor]:
        return {**super().state_dict(), "x": torch.from_numpy(self._x), "y": torch.from_numpy(self._y)}

    def load_state_dict(self, state: Arrays) -> None:
        super().load_state_dict(state)
        self._x, self._y = state["x"].numpy(), state["y"].numpy()

    def problem(self, rng: Rng) -> Problem:
        """``x``, ``x_test`` standardised by training rows, their labels (-1 of novel rows), and classes that ``folds``
        (folds + 1, C) hide, none in the last one."""
        n = self.rows + self.test
        x, y = (self._x, self._y) if self.design == "rows" else mixture(rng, n)
        classes = np.unique(y)
        novel = rng.permutation(classes)[: self.novel] if self.novel_classes is None else self.novel_classes
        known = np.setdiff1d(classes, novel)
        if len(y) < n or len(known) <= self.hidden:
            raise UserError(f"{len(y)} rows, {len(known)} known classes", fix="ask for fewer rows, or hide fewer")
        order = rng.permutation(len(y))[:n]
        x, y = x[order], y[order]
        mean, std = x[: self.rows].mean(0), x[: self.rows].std(0)
        x = ((x - mean) / np.where(std > 0, std, 1.0))[:, std > 0]
        labels = np.where(np.isin(y, known), np.searchsorted(known, y), -1)
        folds = [rng.permutation(len(known)) < self.hidden for _ in range(self.folds)] + [np.zeros(len(known), bool)]
        train, test = slice(self.rows), slice(self.rows, None)
        given = {"x": x[train], "labels": labels[train], "x_test": x[test], "labels_test": labels[test]}
        truth = {"labels": y[test][labels[test] < 0], "novel": len(classes) - len(known)}
        return Problem({**given, "folds": np.array(folds), "novel": truth["novel"]}, truth)

    def answer(self, given: Arrays, rng: Rng) -> Arrays:
        scores, labels, counts, classified = self.tried(given, rng)
        best = int(scores.argmax())
        answer = {"labels": labels[best], "count": counts[best], "classified": classified[best]}
        return {**answer, "tried": np.array(labels)}

    @abstractmethod
    def tried(self, given: Arrays, rng: Rng) -> Tried:
        """Scores (trials,) by which to choose, and the rest of the answer."""

    def clusters(self, z: ndarray, number: int, rng: Rng) -> int:
        """The number of novel classes of z (n, d): as given, or estimated."""
        return number if self.number == "given" else count_of(z, self.most, rng)


def parts(z: ndarray, k: int, rng: Rng, restarts: int = 10) -> ndarray:
    """Labels (n,) of k-means."""
    return kmeans(z, k, seed=int(rng.integers(2**31)), restarts=restarts)


def count_of(z: ndarray, most: int, rng: Rng, judged: int = 500) -> int:
    """The number from 2 to `most` at which k-means on z (n, d) has the largest silhouette, of `judged` rows at most."""
    some, values = rng.permutation(len(z))[:judged], []
    for k in range(2, min(most, len(z) - 1) + 1):
        labels = parts(z, k, rng, restarts=2)[some]
        values.append(silhouette(z[some], labels) if 1 < len(np.unique(labels)) < len(some) else -1.0)
    return 2 + int(np.argmax(values))


def novel_kmeans(x: ndarray, known: ndarray, k: int, rng: Rng, starts: int = 10) -> KMeans:
    """k-means from starts drawn as by k-means++, but far from `known` centroids (C, d) too (section 3.2).

    Known centroids do not move, and no row is theirs; of several starts the one of least inertia counts.
    """
    fits = []
    for _ in range(starts):
        centres = known
        for _ in range(k):
            apart = cdist(x, centres, "sqeuclidean").min(1) if len(centres) else np.ones(len(x))
            centres = np.vstack([centres, x[rng.choice(len(x), p=apart / apart.sum())]])
        fits.append(KMeans(k, init=centres[len(known) :], n_init=1).fit(x))
    return min(fits, key=lambda fit: fit.inertia_)


def spectrum(x: ndarray, least: float, components: int) -> ndarray:
    """(n, components) eigenvectors of the normalised Laplacian's smallest eigenvalues, without the first (section 3.3).

    Affinities are exp(-d^2 / (2 s^2)), s^2 = -m^2 / log(least), m the longest edge of the minimum spanning tree.
    """
    squares = squareform(pdist(x, "sqeuclidean"))
    affinity = np.exp(squares * np.log(least) / (2 * minimum_spanning_tree(squares).data.max()))
    np.fill_diagonal(affinity, 0.0)
    return eigh(laplacian(affinity, normed=True), subset_by_index=[1, min(components, len(x) - 1)])[1]


By = Literal["random", "kmeans", "ncd-kmeans", "spectral"]


@model(
    "untuned-clusters", "Iterative Study Clusterer", "novel rows parted without a choice of settings", examples=EXAMPLES
)
class Untuned(Discovery):
    """At random; by k-means of training rows, from starts that known centroids push away or not; or by the spectrum of
    test rows, with as many components as clusters and 0.6 for the least affinity.

    Args:
        info: of the data.
        by: which of these.
        design: as in `Discovery`.
    """

    TUNED = False

    def __init__(self, info: DataInfo, *, by: By = "kmeans", **design: Any) -> None:
        super().__init__(info, **design)
        self.by = by

    def tried(self, given: Arrays, rng: Rng) -> Tried:
        x, labels, novel = given["x"], given["labels"], given["x_test"][given["labels_test"] < 0]
        free, known = x[labels < 0], x[:0]
        k = self.clusters(free, given["novel"], rng)
        if self.by == "ncd-kmeans":
            known = np.stack([x[labels == c].mean(0) for c in range(labels.max() + 1)])
        if self.by == "random":
            found = rng.integers(0, k, len(novel))
        elif self.by == "spectral":
            found = parts(spectrum(novel, 0.6, k), k, rng)
        else:
            found = novel_kmeans(free, known, k, rng).predict(novel)
        return np.zeros(1), [found], [k], np.zeros(1)


@model("ncd-spectral", "Iterative Study Clusterer", "spectral clustering tuned on known classes", examples=EXAMPLES)
class NovelSpectral(Discovery):
    """Chosen are the least affinity and the components with which k-means on all training rows finds known classes."""

    def tried(self, given: Arrays, rng: Rng) -> Tried:
        seen, seen_test = given["labels"] >= 0, given["labels_test"] >= 0
        classes, scores, labels, counts = given["folds"].shape[1], [], [], []
        for _ in range(self.trials):
            least, components = rng.uniform(0.01, 0.99), int(rng.integers(2, 65))
            z = spectrum(given["x"], least, components)
            found = parts(z, classes + self.clusters(z[~seen], given["novel"], rng), rng, restarts=3)
            scores.append(clustering_accuracy(found[seen], given["labels"][seen]).value)
            z = spectrum(given["x_test"], least, components)
            counts.append(self.clusters(z[~seen_test], given["novel"], rng))
            if self.number == "given":
                labels.append(parts(z[~seen_test], counts[-1], rng))
            else:
                labels.append(parts(z, classes + counts[-1], rng)[~seen_test])
        return np.array(scores), labels, counts, np.zeros(self.trials)


@model("pbn", "Iterative Study Clusterer", "k-means in a space of known classes and all rows", examples=EXAMPLES)
class Pbn(Discovery):
    """Clusters are those of latents; their number is estimated from latents of length 1, as in the authors' code.

    Copies of the network are ordered by trial, then fold; answers are of the last folds, which hide nothing.

    Args:
        info: of the data.
        weight: w of the known classes' loss, in [0, 1], tuned if not given; at 1 it is a classifier alone.
        design: as in `Discovery`.
    """

    def __init__(self, info: DataInfo, *, weight: float | None = None, **design: Any) -> None:
        super().__init__(info, **design)
        self.weight = None if weight is None else checks.number("weight", weight, most=1.0)

    def settings(self, rng: Rng, d: int) -> dict[str, ndarray]:
        """(trials,) each, drawn at random."""
        t = self.trials
        rates, latent = 10 ** rng.uniform(-4, -2, t), rng.integers(max(2, d // 4), d + 1, t)
        w = rng.uniform(size=t) if self.weight is None else np.full(t, self.weight)
        return {"rate": rates, "dropout": rng.uniform(0.0, 0.6, t), "latent": latent, "w": w}

    @torch.enable_grad()
    def tried(self, given: Arrays, rng: Rng) -> Tried:
        known, novel, times = given["labels"] >= 0, given["labels_test"] < 0, self.folds + 1
        x, x_test = (torch.from_numpy(given[name]).float() for name in ("x", "x_test"))
        settings = {k: torch.from_numpy(v.repeat(times)) for k, v in self.settings(rng, x.shape[1]).items()}
        s = {k: v.float() if v.is_floating_point() else v for k, v in settings.items()}
        under = known & given["folds"][:, given["labels"]]  # (folds + 1, n)
        labels = torch.from_numpy(np.where(under, -1, given["labels"])).repeat(self.trials, 1)
        shut = torch.from_numpy(given["folds"]).repeat(self.trials, 1)[:, None]
        draws = Generator().manual_seed(int(rng.integers(2**62)))
        numbers = [
            self.before(given["x"][~known | one], given["novel"] + int(hidden.sum()), rng)
            for one, hidden in zip(under, given["folds"], strict=True)
        ]
        net, losses = self.made(x, labels, shut, s, numbers * self.trials, draws)
        nets.train(net, s["rate"], losses, len(x), self.epochs, self.batch, draws)
        scores, found, counts = np.zeros(self.trials), [], []
        with torch.no_grad():
            z, z_test = net.encode(x), net.encode(x_test)
            classes = net.head("classes", self.scaled(z_test))[self.folds :: times].argmax(2).numpy()
            for e in range(len(z)):
                (t, f), free = divmod(e, times), ~known | under[e % times]
                if f == self.folds:
                    labels_e, k = self.parted(net, e, z[e][free], z_test[e][novel], numbers[f], rng)
                    found.append(labels_e)
                    counts.append(k)
                else:
                    labels_e, _ = self.parted(net, e, z[e][free], z[e][free], numbers[f], rng)
                    right = clustering_accuracy(labels_e[under[f][free]], given["labels"][under[f]])
                    scores[t] += right.value / self.folds
        return scores, found, counts, (classes == given["labels_test"])[:, ~novel].mean(1)

    def before(self, x: ndarray, number: int, rng: Rng) -> int:
        """The number of clusters that is told before training, of unlabelled rows x (m, d)."""
        return number

    def scaled(self, z: Tensor) -> Tensor:
        """Latents as the classifier sees them."""
        return functional.normalize(z, dim=-1)

    def made(
        self, x: Tensor, labels: Tensor, shut: Tensor, s: nets.Settings, numbers: list[int], draws: Generator
    ) -> tuple[nets.Nets, nets.Losses]:
        """Copies and their losses, from x (n, d), labels (E, n), hidden classes (E, 1, C), numbers (E,) of clusters."""
        d = x.shape[1]
        net = nets.Nets(d, s, {"classes": (shut.shape[2],), "decoder": (*nets.hidden_sizes(d)[::-1], d)}, draws)
        return net, lambda rows: nets.pbn_losses(net, x[rows], labels[:, rows], shut, s["w"], draws)

    def parted(self, net: nets.Nets, e: int, seen: Tensor, z: Tensor, number: int, rng: Rng) -> tuple[ndarray, int]:
        """Clusters of latents z (m, L) of copy e, and their number; `seen` are those of unlabelled training rows."""
        k = self.clusters(self.scaled(seen).double().numpy(), number, rng)
        return parts(z.double().numpy(), k, rng), k


@model("tabular-ncd", "Iterative Study Clusterer", "clusters by pseudo labels of pairs", examples=EXAMPLES)
class TabularNcd(Pbn):
    """TabularNCD (Troisemaine et al. 2022) without its pre-training, as in the authors' code for this paper.

    It has to be told a number of clusters, which is estimated from the rows as they are.
    """

    def scaled(self, z: Tensor) -> Tensor:
        return z

    def settings(self, rng: Rng, d: int) -> dict[str, ndarray]:
        t = self.trials
        more = {"w1": rng.uniform(size=t), "w2": rng.uniform(size=t), "share": 10 ** rng.uniform(-2.3, -0.7, t)}
        return {**super().settings(rng, d), **more, "neighbours": rng.integers(2, 101, t)}

    def before(self, x: ndarray, number: int, rng: Rng) -> int:
        return self.clusters(x, number, rng)

    def made(
        self, x: Tensor, labels: Tensor, shut: Tensor, s: nets.Settings, numbers: list[int], draws: Generator
    ) -> tuple[nets.Nets, nets.Losses]:
        classes, clusters, times = shut.shape[2], torch.tensor(numbers), self.folds + 1
        net = nets.Nets(x.shape[1], s, {"classes": (classes + 1,), "clusters": (max(numbers),)}, draws)
        fewer = (torch.arange(max(numbers)) >= clusters[:, None])[:, None]
        without = {"classes": functional.pad(shut, (0, 1)), "clusters": fewer}
        near = [nets.neighbours(x, one < 0) for one in labels[:times]]
        near = torch.stack([one[:, : min(n.shape[1] for n in near)] for one in near])
        fold, reach = torch.arange(len(labels))[:, None] % times, s["neighbours"].clamp(max=near.shape[2])

        def losses(rows: Tensor) -> Tensor:
            which = (torch.rand(len(rows), generator=draws) * reach[:, None]).long()
            moved = torch.lerp(x[rows], x[near[fold, rows, which]], torch.rand(len(rows), 1, generator=draws))
            return nets.tabular_losses(net, x[rows], moved, labels[:, rows], without, s, draws)

        return net, losses

    def parted(self, net: nets.Nets, e: int, seen: Tensor, z: Tensor, number: int, rng: Rng) -> tuple[ndarray, int]:
        head = net.heads["clusters"]
        logits = z @ head.weights[0][e] + head.biases[0][e]
        return logits[:, :number].argmax(1).numpy(), number


@metric("hidden_class_regret", "Study", "1", "lower", within=(0.0, 1.0))
def hidden_class_regret(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """How much clustering accuracy the setting chosen on hidden classes lacks of the best that was tried."""

    def measure(truth: Arrays, answer: Arrays) -> float:
        best = max(clustering_accuracy(found, truth["labels"]).value for found in answer["tried"])
        return best - clustering_accuracy(answer["labels"], truth["labels"]).value

    return over_problems(model, measure)


@metric("novel_class_count_error", "Study", "classes", "lower", within=(0.0, None))
def novel_class_count_error(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Absolute difference between the number of clusters and of novel classes."""
    return over_problems(model, lambda truth, answer: abs(int(answer["count"]) - truth["novel"]))


@metric("known_class_recognition", "Study", "1", "higher", within=(0.0, 1.0))
def known_class_recognition(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Accuracy of the network's own classifier on test rows of known classes."""
    return over_problems(model, lambda _, answer: float(answer["classified"]))
