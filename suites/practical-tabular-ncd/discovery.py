"""Novel classes of a table: rows of known classes have labels, rows of novel ones are to be parted.

How many classes are novel is open. Settings are chosen as in section 4 of Troisemaine et al. 2023: in each fold some
known classes are hidden, a method runs as if they were novel and is judged on their rows.
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
from scipy.cluster.hierarchy import linkage
from scipy.linalg import eigh
from scipy.sparse.csgraph import laplacian
from scipy.spatial.distance import cdist, pdist, squareform
from sklearn.cluster import KMeans
from torch import Generator, Tensor

from .nets import PbnNet, train

EXAMPLES = (Example("real-vector", {"rows": 90, "test": 60, "trials": 2, "most": 4, "epochs": 2}),)
Rng = np.random.Generator
By = Literal["random", "kmeans", "ncd-kmeans"]


def mixture(rng: Rng, n: int, classes: int = 10) -> tuple[ndarray, ndarray]:
    """(n, 12) rows and labels: normal groups in four columns, and values near -1 or 1, which tell nothing, in eight."""
    y = rng.permutation(np.arange(n) % classes)
    means, bits = 5.0 * rng.standard_normal((classes, 4)), rng.integers(0, 2, (n, 8)) * 2.0 - 1.0
    return np.hstack([means[y] + rng.standard_normal((n, 4)), bits + 0.2 * rng.standard_normal((n, 8))]), y


class Discovery(Study):
    """Answers are ``labels`` (N,) of novel test rows and the ``count`` of novel clusters; networks add ``classified``,
    their accuracy on test rows of known classes.

    Args:
        info: of rows with labels ``y``; of no matter for the mixture.
        design: ``rows`` of the data, or the `mixture`.
        novel: how many classes are novel, drawn at random.
        novel_classes: the novel ones, if they are not to be drawn.
        rows, test: numbers of training and test rows.
        folds, hidden: how often known classes are hidden, and how many at a time.
        trials: settings that are tried.
        most: largest number of clusters that is considered.
        epochs, batch: of networks.

    Raises:
        UserError: rows without labels, or too few of them or of classes.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        design: Literal["rows", "mixture"] = "mixture",
        novel: PositiveInt = 5,
        novel_classes: list[int] | None = None,
        rows: PositiveInt = 1000,
        test: PositiveInt = 700,
        folds: PositiveInt = 2,
        hidden: PositiveInt = 2,
        trials: PositiveInt = 5,
        most: PositiveInt = 12,
        epochs: PositiveInt = 60,
        batch: PositiveInt = 128,
    ) -> None:
        super().__init__(info, problems=1)
        if design == "rows" and info.columns.get("y") != ():
            raise UserError("rows have no column `y` of labels", fix="choose data with classes")
        self.design, self.novel, self.novel_classes = design, novel, novel_classes
        self.rows, self.test, self.folds, self.hidden, self.trials = rows, test, folds, hidden, trials
        self.most, self.epochs, self.batch = checks.whole("most", most, 2), epochs, checks.whole("batch", batch, 2)
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
        """``x``, ``x_test`` standardised by training rows, ``labels``, ``labels_test`` (-1 of novel rows), and which of
        the C known classes ``folds`` (folds, C) hide."""
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
        folds = np.array([rng.permutation(len(known)) < self.hidden for _ in range(self.folds)])
        train, test = slice(self.rows), slice(self.rows, None)
        given = {"x": x[train], "labels": labels[train], "x_test": x[test], "labels_test": labels[test]}
        truth = {"labels": y[test][labels[test] < 0], "novel": len(classes) - len(known)}
        return Problem({**given, "folds": folds}, truth)


class Tuned(Discovery):
    """Of several random settings the one with the best score answers."""

    def answer(self, given: Arrays, rng: Rng) -> Arrays:
        tried = [self.setting(rng, given["x"].shape[1]) for _ in range(self.trials)]
        scores = [self.score(given, setting, rng) for setting in tried]
        return self.found(given, tried[int(np.argmax(scores))], rng)

    @abstractmethod
    def setting(self, rng: Rng, d: int) -> dict[str, Any]:
        """One at random, for d columns."""

    @abstractmethod
    def score(self, given: Arrays, setting: dict[str, Any], rng: Rng) -> float:
        """How well known classes are found, without labels of novel ones."""

    @abstractmethod
    def found(self, given: Arrays, setting: dict[str, Any], rng: Rng) -> Arrays:
        """The answer with this setting."""


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


def far_rows(x: ndarray, known: ndarray, k: int, rng: Rng) -> ndarray:
    """k rows of x (n, d), drawn as by k-means++, but far from `known` centroids (C, d) too (section 3.2)."""
    centres = known
    for _ in range(k):
        apart = cdist(x, centres, "sqeuclidean").min(1) if len(centres) else np.ones(len(x))
        centres = np.vstack([centres, x[rng.choice(len(x), p=apart / apart.sum())]])
    return centres[len(known) :]


def novel_kmeans(x: ndarray, known: ndarray, k: int, rng: Rng, starts: int = 10) -> KMeans:
    """k-means of x from `far_rows`, the best of several starts by inertia; no row is a known centroid's."""
    fits = [KMeans(k, init=far_rows(x, known, k, rng), n_init=1).fit(x) for _ in range(starts)]
    return min(fits, key=lambda fit: fit.inertia_)


@model("ncd-by-rows", "Iterative Study Clusterer", "novel rows parted as they are", examples=EXAMPLES)
class ByRows(Discovery):
    """At random, or by k-means of training rows, from starts that known centroids push away or not.

    Args:
        info: of the data.
        by: which of these.
        design: as in `Discovery`.
    """

    def __init__(self, info: DataInfo, *, by: By = "kmeans", **design: Any) -> None:
        super().__init__(info, **design)
        self.by = by

    def answer(self, given: Arrays, rng: Rng) -> Arrays:
        x, labels, judged = given["x"], given["labels"], given["x_test"][given["labels_test"] < 0]
        free, known = x[labels < 0], x[:0]
        k = count_of(free, self.most, rng)
        if self.by == "random":
            return {"labels": rng.integers(0, k, len(judged)), "count": k}
        if self.by == "ncd-kmeans":
            known = np.stack([x[labels == c].mean(0) for c in range(labels.max() + 1)])
        return {"labels": novel_kmeans(free, known, k, rng).predict(judged), "count": k}


def spectrum(x: ndarray, least: float, components: int) -> ndarray:
    """(n, components) eigenvectors of the normalised Laplacian's smallest eigenvalues, without the first (section 3.3).

    Affinities are exp(-d^2 / (2 s^2)), s^2 = -m^2 / log(least), m the longest edge of the minimum spanning tree.
    """
    distances = pdist(x)
    longest = linkage(distances, "single")[-1, 2]  # single linkage joins along the minimum spanning tree
    affinity = squareform(np.exp((distances / longest) ** 2 * np.log(least) / 2))
    return eigh(laplacian(affinity, normed=True), subset_by_index=[1, min(components, len(x) - 1)])[1]


@model("ncd-spectral", "Iterative Study Clusterer", "spectral clustering tuned on known classes", examples=EXAMPLES)
class NovelSpectral(Tuned):
    """All rows, known and novel, are clustered by their spectrum; it counts how known ones fall on their classes."""

    def setting(self, rng: Rng, d: int) -> dict[str, Any]:
        return {"least": rng.uniform(0.01, 0.99), "components": int(rng.integers(2, 65))}

    def parted(self, x: ndarray, novel: ndarray, classes: int, setting: Any, rng: Rng) -> tuple[ndarray, int]:
        """Clusters (n,) of x (n, d), and how many of them are for the rows that are `novel` (n,)."""
        z = spectrum(x, **setting)
        count = count_of(z[novel], self.most, rng)
        return parts(z, classes + count, rng), count

    def score(self, given: Arrays, setting: dict[str, Any], rng: Rng) -> float:
        novel = given["labels"] < 0
        labels, _ = self.parted(given["x"], novel, given["folds"].shape[1], setting, rng)
        return clustering_accuracy(labels[~novel], given["labels"][~novel]).value

    def found(self, given: Arrays, setting: dict[str, Any], rng: Rng) -> Arrays:
        novel = given["labels_test"] < 0
        labels, count = self.parted(given["x_test"], novel, given["folds"].shape[1], setting, rng)
        return {"labels": labels[novel], "count": count}


@model("pbn", "Iterative Study Clusterer", "k-means in a space of known classes and all rows", examples=EXAMPLES)
class Pbn(Tuned):
    """k-means of latents; the number of clusters is that of latents of length 1 (both as in the authors' code).

    Args:
        info: of the data.
        weight: w of the known classes' loss, in [0, 1], tuned if not given; at 1 it is a classifier alone.
        design: as in `Discovery`.
    """

    def __init__(self, info: DataInfo, *, weight: float | None = None, **design: Any) -> None:
        super().__init__(info, **design)
        self.weight = None if weight is None else checks.number("weight", weight, most=1.0)

    def setting(self, rng: Rng, d: int) -> dict[str, Any]:
        rate, dropout, w = 10 ** rng.uniform(-4, -2), rng.uniform(0.0, 0.6), rng.uniform()
        latent = int(rng.integers(max(2, d // 4), d + 1))
        return {"rate": rate, "dropout": dropout, "latent": latent, "w": w if self.weight is None else self.weight}

    def trained(self, given: Arrays, labels: ndarray, setting: dict[str, Any], rng: Rng) -> PbnNet:
        """A network that saw training rows under these labels (n,)."""
        x, s = torch.from_numpy(given["x"]).float(), setting
        with torch.random.fork_rng(devices=[]):  # layers and dropout draw from torch's own generator
            torch.manual_seed(int(rng.integers(2**62)))
            net = PbnNet(x.shape[1], given["folds"].shape[1], s["latent"], s["dropout"])
            train(net, x, torch.from_numpy(labels), s["w"], s["rate"], self.epochs, self.batch)
        return net

    def parted(self, net: PbnNet, free: ndarray, judged: ndarray, rng: Rng) -> tuple[ndarray, int]:
        """Clusters (m,) of rows `judged` (m, d), and their number, of unlabelled training rows `free`."""
        with torch.no_grad():
            seen, z = net.unit(torch.from_numpy(free).float()), net.encoder(torch.from_numpy(judged).float())
        k = count_of(seen.double().numpy(), self.most, rng)
        return parts(z.double().numpy(), k, rng), k

    def score(self, given: Arrays, setting: dict[str, Any], rng: Rng) -> float:
        """Mean over folds of the accuracy on rows of hidden classes, which are clustered together with novel ones."""
        x, labels, accuracies = given["x"], given["labels"], []
        for fold in given["folds"]:
            hidden = (labels >= 0) & fold[labels]
            told = np.where(hidden, -1, labels)
            free = x[told < 0]
            found, _ = self.parted(self.trained(given, told, setting, rng), free, free, rng)
            accuracies.append(clustering_accuracy(found[hidden[told < 0]], labels[hidden]).value)
        return float(np.mean(accuracies))

    def found(self, given: Arrays, setting: dict[str, Any], rng: Rng) -> Arrays:
        labels, novel, x = given["labels"], given["labels_test"] < 0, given["x_test"]
        net = self.trained(given, labels, setting, rng)
        found, count = self.parted(net, given["x"][labels < 0], x[novel], rng)
        with torch.no_grad():
            classes = net.classifier(net.unit(torch.from_numpy(x[~novel]).float())).argmax(1).numpy()
        return {"labels": found, "count": count, "classified": np.mean(classes == given["labels_test"][~novel])}


@metric("novel_class_count_error", "Study", "classes", "lower", within=(0.0, None))
def novel_class_count_error(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Absolute difference between the number of clusters and of novel classes."""
    return over_problems(model, lambda truth, answer: abs(int(answer["count"]) - truth["novel"]))


@metric("known_class_recognition", "Study", "1", "higher", within=(0.0, 1.0))
def known_class_recognition(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Accuracy of the network's own classifier on test rows of known classes."""
    return over_problems(model, lambda _, answer: float(answer["classified"]))
