"""How near a model's samples come to real rows, each figure beside the same one for real rows against real rows.

A metric of features is called by its own name and its extractor's: ``fid_lenet``, ``kid_inception``. Samples and real
rows are compared as stored, both after the preprocessing (bits with bits), at equal numbers. `fid_…` and the others
are made from the two tables below when they are asked for; `docs/metrics.md` says what each is.
"""

# ruff: noqa: ARG001, ARG005 (the functions of a table share one signature)

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from latentbench.core.capabilities import Sampler
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import metric as declared_metric
from latentbench.evaluation.extraction import CLASSIFIERS, EXTRACTORS, extractor, features, images
from latentbench.evaluation.space import samples, some_rows
from latentbench.evaluation.view import View
from latentbench.metrics import samples as metric
from latentbench.metrics.arrays import NotFiniteError

Settings = Mapping[str, Any]
Score = Callable[[Any, Any, Settings, np.random.Generator], MetricValue | float]
Evaluator = Callable[[Sampler, View, Settings, Generator], MetricValue]


def _kid(real: Any, fake: Any, s: Settings, rng: np.random.Generator) -> MetricValue:
    size = min(int(s["subset_size"]), len(real), len(fake))
    return metric.kid(real, fake, subsets=int(s["subsets"]), subset_size=size, rng=rng)


def _vendi(real: Any, fake: Any, s: Settings, rng: np.random.Generator) -> float:
    if not np.asarray(fake).any(axis=1).all():
        raise NotFiniteError("a row without any feature (a black image) has no direction", where="Vendi score")
    return metric.vendi_score(fake)


#: Metrics of features: what compares two arrays (N, D), given settings and a source of randomness.
OF_FEATURES: dict[str, Score] = {
    "fid": lambda real, fake, s, rng: metric.frechet_distance(real, fake),
    "kid": _kid,
    "precision": lambda real, fake, s, rng: metric.precision_recall(real, fake, k=int(s["k"])).precision,
    "recall": lambda real, fake, s, rng: metric.precision_recall(real, fake, k=int(s["k"])).recall,
    "density": lambda real, fake, s, rng: metric.density_coverage(real, fake, k=int(s["k"])).density,
    "coverage": lambda real, fake, s, rng: metric.density_coverage(real, fake, k=int(s["k"])).coverage,
    "vendi": _vendi,
}
#: Metrics of stored values, for data of any kind.
OF_VALUES: dict[str, Score] = {
    "mmd": lambda real, fake, s, rng: metric.gaussian_mmd(real, fake),
    "energy_distance": lambda real, fake, s, rng: metric.energy_distance(real, fake),
    "sliced_wasserstein": lambda real, fake, s, rng: metric.sliced_wasserstein(
        real, fake, projections=int(s["projections"]), rng=rng
    ),
    "c2st": lambda real, fake, s, rng: metric.c2st(
        real, fake, classifier=s["classifier"], folds=int(s["folds"]), seed=int(rng.integers(2**31))
    ),
}


#: What features are of, and what a dataset must have for them.
_CLASSIFIERS = {
    "lenet": {"of": "a LeNet trained on the dataset", "data": ("images", "labels")},
    "inception": {"of": "Inception, as torch-fidelity has it", "data": ("images",)},
}
_FEATURES = {
    "pixels": {"of": "raw pixels (stored values)", "data": ()},
    "random": {"of": "an untrained network", "data": ("images",)},
    **_CLASSIFIERS,
}


@declared_metric(
    "fid",
    "Sampler",
    "squared feature unit",
    "lower",
    "Fréchet distance of samples and real rows; features: {of}",
    settings={"samples": 10_000, "reference": "test"},
    lowest={"samples": 10},
    each=_FEATURES,
    within=(0.0, None),
)
@declared_metric(
    "kid",
    "Sampler",
    "squared MMD",
    "lower",
    "kernel distance of samples and real rows; features: {of}",
    settings={"samples": 10_000, "reference": "test", "subsets": 100, "subset_size": 1_000},
    lowest={"samples": 10, "subsets": 1, "subset_size": 2},
    each=_FEATURES,
)
@declared_metric(
    "precision",
    "Sampler",
    "1",
    "higher",
    "share of samples within the real rows' reach; features: {of}",
    settings={"samples": 10_000, "reference": "test", "k": 3},
    lowest={"samples": 10, "k": 1},
    each=_FEATURES,
    within=(0.0, 1.0),
)
@declared_metric(
    "recall",
    "Sampler",
    "1",
    "higher",
    "share of real rows within the samples' reach; features: {of}",
    settings={"samples": 10_000, "reference": "test", "k": 3},
    lowest={"samples": 10, "k": 1},
    each=_FEATURES,
    within=(0.0, 1.0),
)
@declared_metric(
    "density",
    "Sampler",
    "1",
    "higher",
    "how many real rows reach a sample; features: {of}",
    settings={"samples": 10_000, "reference": "test", "k": 5},
    lowest={"samples": 10, "k": 1},
    each=_FEATURES,
    within=(0.0, None),
)
@declared_metric(
    "coverage",
    "Sampler",
    "1",
    "higher",
    "share of real rows that reach a sample; features: {of}",
    settings={"samples": 10_000, "reference": "test", "k": 5},
    lowest={"samples": 10, "k": 1},
    each=_FEATURES,
    within=(0.0, 1.0),
)
@declared_metric(
    "vendi",
    "Sampler",
    "samples",
    "higher",
    "effective number of different samples; features: {of}",
    settings={"samples": 10_000, "reference": "test"},
    lowest={"samples": 10},
    each=_FEATURES,
    within=(0.0, None),
)
@declared_metric(
    "copying",
    "Sampler",
    "Z score",
    "higher",
    "C_T: below 0 where samples lie nearer to training rows than test rows do; features: {of}",
    settings={"samples": 10_000, "cells": 3, "smallest": 20},
    lowest={"samples": 10, "cells": 1, "smallest": 1},
    each=_FEATURES,
)
@declared_metric(
    "inception_score",
    "Sampler",
    "1",
    "higher",
    "how sure of each sample, and how spread over all, a classifier is; features: {of}",
    settings={"samples": 10_000, "splits": 10},
    lowest={"samples": 10, "splits": 1},
    each=_CLASSIFIERS,
    within=(0.0, None),
)
@declared_metric(
    "mmd",
    "Sampler",
    "squared MMD",
    "lower",
    "Gaussian-kernel distance of samples and real rows as stored",
    settings={"samples": 10_000, "reference": "test"},
    lowest={"samples": 10},
    version=2,
)
@declared_metric(
    "energy_distance",
    "Sampler",
    "root data unit",
    "lower",
    "energy distance of samples and real rows as stored",
    settings={"samples": 10_000, "reference": "test"},
    lowest={"samples": 10},
    within=(0.0, None),
)
@declared_metric(
    "sliced_wasserstein",
    "Sampler",
    "data unit",
    "lower",
    "sliced Wasserstein distance of samples and real rows as stored",
    settings={"samples": 10_000, "reference": "test", "projections": 500},
    lowest={"samples": 10, "projections": 1},
    within=(0.0, None),
)
@declared_metric(
    "c2st",
    "Sampler",
    "1",
    "lower",
    "cross-validated accuracy of telling samples from real rows, 0.5 at best",
    settings={"samples": 2_000, "reference": "test", "classifier": "mlp", "folds": 5},
    lowest={"samples": 10, "folds": 2},
    within=(0.0, 1.0),
    version=2,
)
def __getattr__(name: str) -> Evaluator:
    if name in OF_VALUES:
        return partial(_against_real, OF_VALUES[name], "pixels")
    of, _, chosen = name.rpartition("_")
    if of in OF_FEATURES and chosen in EXTRACTORS:
        return partial(_against_real, OF_FEATURES[of], chosen)
    if of == "copying" and chosen in EXTRACTORS:
        return partial(_copying, chosen)
    if of == "inception_score" and chosen in CLASSIFIERS:
        return partial(_inception_score, chosen)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _against_real(
    score: Score, chosen: str, model: Sampler, view: View, settings: Settings, generator: Generator
) -> MetricValue:
    """`score` of real rows and as many samples; detail `real_against_real` is that of rows of the other split.

    The real rows are of the evaluation split, or of the training split with the setting ``reference: train``.
    """
    taken = extractor(chosen, view)
    real, other = _reference(view, settings)
    rng = _numpy(generator)
    x = features(taken, view, _rows(real, int(settings["samples"]), generator))
    fake = features(taken, view, samples(model, len(x), generator))
    control = features(taken, view, _rows(other, len(x), generator))
    found, floor = (_value(score(x, rows, settings, rng)) for rows in (fake, control))
    return _with_controls(found, floor.value, taken, n_real=len(x), n_control=len(control))


def _copying(chosen: str, model: Sampler, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """C_T of samples against training and evaluation rows; its control is one half of the evaluation rows as samples.

    Meehan et al. 2020: well below 0 for copying of the training rows.
    """
    taken, wanted = extractor(chosen, view), int(settings["samples"])
    seed = int(_numpy(generator).integers(2**31))
    held = features(taken, view, _rows(view, wanted, generator))
    train = features(taken, view, _rows(view.train, wanted, generator))
    fake = features(taken, view, samples(model, len(held), generator))
    cells, smallest = int(settings["cells"]), int(settings["smallest"])
    found = metric.copying_statistic(fake, train, held, cells=cells, smallest=smallest, seed=seed)
    shuffled = held[np.random.default_rng(seed).permutation(len(held))]
    halves = shuffled[: len(held) // 2], shuffled[len(held) // 2 :]
    control = metric.copying_statistic(halves[0], train, halves[1], cells=cells, smallest=1, seed=seed)
    return _with_controls(found, control.value, taken, n_real=len(held), n_train=len(train))


def _inception_score(chosen: str, model: Sampler, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Inception score of samples under the extractor's classes; detail `real_against_real` is that of real rows."""
    taken, splits = extractor(chosen, view), int(settings["splits"])
    rng = _numpy(generator)
    real = _rows(view, int(settings["samples"]), generator)
    fake = samples(model, len(real), generator)
    found, control = (
        metric.inception_score(taken.logits(images(view, y), device=view.device), splits=splits, rng=rng)
        for y in (fake, real)
    )
    return _with_controls(found, control.value, taken, n_real=len(real))


def _reference(view: View, settings: Settings) -> tuple[View, View]:
    choice = settings["reference"]
    if choice not in ("test", "train"):
        raise UserError(f"is {choice!r}", where="reference", fix="test or train")
    return (view, view.train) if choice == "test" else (view.train, view)


def _rows(view: View, n: int, generator: Generator) -> Tensor:
    return view.x[some_rows(view, n, generator).to(view.device)]


def _numpy(generator: Generator) -> np.random.Generator:
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return np.random.default_rng(int(seed))


def _value(found: MetricValue | float) -> MetricValue:
    return found if isinstance(found, MetricValue) else MetricValue(found)


def _with_controls(found: MetricValue, control: float, taken: Any, **counts: int) -> MetricValue:
    details = {
        **found.details,
        "real_against_real": control,
        "extractor": taken.name,
        "extractor_identity": taken.identity,
        **counts,
    }
    return MetricValue(found.value, found.se, counts["n_real"], details)
