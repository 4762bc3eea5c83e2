"""E[Y | do(a)] beyond the support of the actions: control functions on learnt or known latents, or Y on A alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.view import View
from latentbench.metrics.arrays import mean_and_se
from latentbench.models.study import Problem, Study
from numpy import ndarray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from scipy.spatial.distance import cdist
from sklearn.linear_model import RidgeCV
from torch import Generator

from .encoders import Autoencoders
from .worlds import World, beyond

TARGETS, REACH, AVERAGED = 64, 1.5, 1000
LANDMARKS, WIDTH, PENALTIES = 100, 2.0, np.logspace(0, 3, 13)
SMALL = {"worlds": 2, "rows": 70}
Arrays = Mapping[str, Any]


class Smooth:
    """Functions of whitened x (n, d): linear ones, and those of a Matern kernel (3/2) of width `WIDTH` at landmarks."""

    def __init__(self, x: ndarray, rng: np.random.Generator) -> None:
        self.mean = x.mean(0)
        _, lengths, axes = np.linalg.svd(x - self.mean, full_matrices=False)
        self.whitener = axes.T * (np.sqrt(len(x)) / lengths)
        self.landmarks = (rng.choice(x, min(LANDMARKS, len(x)), replace=False) - self.mean) @ self.whitener
        values, vectors = np.linalg.eigh(self._kernel(self.landmarks))
        self.turn = vectors / np.sqrt(np.maximum(values, 1e-9))

    def __call__(self, x: ndarray) -> ndarray:
        x = (x - self.mean) @ self.whitener
        return np.hstack([x, self._kernel(x) @ self.turn])

    def _kernel(self, x: ndarray) -> ndarray:
        distance = np.sqrt(3.0) * cdist(x, self.landmarks) / WIDTH
        return (1.0 + distance) * np.exp(-distance)


def extrapolated(
    codes: ndarray, a: ndarray, y: ndarray, targets: ndarray, rng: np.random.Generator, *, control: bool
) -> ndarray:
    """E[Y | do(a)] at the targets, (T,), from codes (n, d), actions and outcomes.

    Codes are regressed on actions, phi = alpha + W a + v; Y on nu(phi) + psi(v), or without `control` on nu(phi), by
    ridge with a penalty chosen by leaving one out; and nu(alpha + W a + v) is averaged over v of `AVERAGED` rows at
    each target, with the mean of Y less that of nu(phi) added.
    """
    affine = np.column_stack([np.ones(len(a)), a])
    fit = np.linalg.lstsq(affine, codes, rcond=None)[0]
    v = codes - affine @ fit
    nu = Smooth(codes, rng)
    features = nu(codes)
    both = np.hstack([features, Smooth(v, rng)(v)]) if control else features
    coefficients = RidgeCV(PENALTIES).fit(both, y).coef_[: features.shape[1]]
    at = np.column_stack([np.ones(len(targets)), targets]) @ fit
    moved = np.array([nu(row + v[:AVERAGED]).mean(0) for row in at]) - features.mean(0)
    return moved @ coefficients + y.mean()


@model(
    "rep4ex",
    "Iterative Study",
    examples=(Example("real-vector", SMALL), Example("real-vector", {**SMALL, "codes": "learnt", "steps": 3})),
)
class Rep4Ex(Study):
    """A problem is several worlds; answers hold ``effects`` at targets, (worlds, T), uniform on [-REACH, REACH]^d less
    the actions' support. If codes are learnt, they hold ``codes`` and ``rebuilt`` features of test rows as well.

    Args:
        info: of the data, which are not looked at.
        codes: learnt ones; the latents, which nobody has; or actions, which leave no residual and take no control.
        control: whether there is a control function.
        variational, weight, steps: see `Autoencoders`.
        latents: d, of Z and of A.
        rows: to learn from; codes are judged on half as many others.
        strength: of A on Z, whose noise has a standard deviation of about 1.
        worlds: of a problem, which are learnt side by side.
        problems: how many.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        codes: Literal["learnt", "latents", "actions"] = "latents",
        control: bool = True,
        variational: bool = False,
        weight: NonNegativeFloat = 0.0,
        steps: PositiveInt = 2000,
        latents: PositiveInt = 2,
        rows: PositiveInt = 4000,
        strength: PositiveFloat = 2.0,
        worlds: PositiveInt = 4,
        problems: PositiveInt = 1,
    ) -> None:
        super().__init__(info, problems=problems)
        self.codes, self.control = codes, control and codes != "actions"
        self.training: dict[str, Any] = {"variational": variational, "weight": weight, "steps": steps}
        self.latents, self.rows, self.strength, self.worlds = latents, rows, strength, worlds

    def problem(self, rng: np.random.Generator) -> Problem:
        drawn = []
        for _ in range(self.worlds):
            world, targets = World(rng, self.latents, self.strength), beyond(rng, TARGETS, self.latents, REACH)
            _, z, x, _ = world.rows(rng, self.rows // 2)
            drawn.append((*world.rows(rng, self.rows), targets, x, z, world.effects(targets)))
        a, z, x, y, targets, tests, *hidden = (np.stack(one) for one in zip(*drawn, strict=True))
        truth = {"z": hidden[0], "effects": hidden[1], "x": tests}
        return Problem({"actions": a, "latents": z, "x": x, "y": y, "targets": targets, "tests": tests}, truth)

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        if self.codes != "learnt":
            return {"effects": self.effects(given[self.codes], given, rng)}
        trained = Autoencoders(given["x"], given["actions"], rng, **self.training)
        codes, effects = trained.encode(given["tests"]), self.effects(trained.encode(given["x"]), given, rng)
        return {"effects": effects, "codes": codes, "rebuilt": trained.decode(codes)}

    def effects(self, codes: ndarray, given: Arrays, rng: np.random.Generator) -> ndarray:
        parts = zip(codes, given["actions"], given["y"], given["targets"], strict=True)
        return np.stack([extrapolated(*one, rng, control=self.control) for one in parts])


def _over_worlds(model: Any, truth: str, answer: str, measure: Callable[[ndarray, ndarray], float]) -> MetricValue:
    pairs = [pair for t, a in model.answered() for pair in zip(t[truth], a[answer], strict=True)]
    value, se = mean_and_se(np.array([measure(*pair) for pair in pairs]))
    return MetricValue(value, se if len(pairs) > 1 else None, len(pairs))


@metric("extrapolation_error", "Study", "1", "lower", within=(0.0, None))
def extrapolation_error(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Root of the mean squared error of E[Y | do(a)] over targets outside of the support, averaged over worlds."""
    return _over_worlds(model, "effects", "effects", lambda t, found: float(np.sqrt(np.mean((found - t) ** 2))))


def unexplained(truth: ndarray, found: ndarray) -> float:
    """Squared error of `found` over the squares of centred `truth`, both (n, k)."""
    return float(((truth - found) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum())


def affine_fit(z: ndarray, codes: ndarray) -> float:
    """R^2 of latents (n, d), each scaled to unit variance, regressed on codes (n, d)."""
    z, affine = z / z.std(0), np.column_stack([np.ones(len(codes)), codes])
    return 1.0 - unexplained(z, affine @ np.linalg.lstsq(affine, z, rcond=None)[0])


@metric("latents_affine_r2", "Study", "1", "higher", within=(0.0, 1.0))
def latents_affine_r2(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """R^2 of true latents regressed on codes of test rows, averaged over worlds: 1 if one is an affine map."""
    return _over_worlds(model, "z", "codes", affine_fit)


@metric("features_unexplained", "Study", "1", "lower", within=(0.0, None))
def features_unexplained(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Share of the test features' variance that reconstruction leaves, averaged over worlds."""
    return _over_worlds(model, "x", "rebuilt", unexplained)
