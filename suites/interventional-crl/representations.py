"""Latents from features under do-interventions: a polynomial autoencoder, then a linear step on its codes.

Codes whose decoder is a polynomial, as x = h(z) is, are affine in z; where an intervention holds z_i, the combination
of codes that is constant is z_i up to its scale (Ahuja et al. 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models.study import Problem, Study
from numpy import ndarray
from pydantic import PositiveFloat, PositiveInt
from torch import Generator

from .steps import completed, constancy, independent, supported, trained
from .worlds import World

SMALL = {"problems": 2, "rows": 60, "latents": 4, "features": 9, "epochs": 1, "rounds": 1, "points": 30}
EXAMPLES = (Example("real-vector", SMALL), Example("real-vector", {**SMALL, "step": "support", "law": "dense"}))
Arrays = Mapping[str, Any]


@model("interventional-crl", "Iterative Study LatentEstimator", examples=EXAMPLES)
class Representations(Study):
    """Answers hold ``codes`` and ``latents`` (2 rows, d) of observational rows that nothing was learnt from.

    There are `rows` observational ones to learn from and a quarter as many to choose on, and as many interventional
    ones (of both) again if there are interventions, whose targets are drawn uniformly.

    Args:
        info: of the data, which are not looked at.
        law, latents, degree, features: see `World`; d and D.
        rows: see above.
        interventions: on no latent, on the first half of them, or on all.
        step: from codes to latents: ``none``; ``constancy``, with `completed`; ``ica``, FastICA; ``support``.
        rates: of learning; the one with the least error on observational validation rows is taken.
        epochs, batch, cooled: see `trained`.
        rate, rounds, support_batch, points: rate, epochs, rows and draws in `supported`.
        problems: how many.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        law: Literal["uniform", "blocks", "mixture", "sparse", "dense"] = "uniform",
        latents: PositiveInt = 6,
        degree: PositiveInt = 2,
        features: PositiveInt = 200,
        rows: PositiveInt = 10_000,
        interventions: Literal["none", "half", "all"] = "none",
        step: Literal["none", "constancy", "ica", "support"] = "none",
        rates: tuple[PositiveFloat, ...] = (1e-3, 5e-4, 1e-4),
        epochs: PositiveInt = 200,
        batch: PositiveInt = 16,
        cooled: bool = False,
        rate: PositiveFloat = 1e-3,
        rounds: PositiveInt = 200,
        support_batch: PositiveInt = 16,
        points: PositiveInt = 10_000,
        problems: PositiveInt = 1,
    ) -> None:
        super().__init__(info, problems=problems)
        if latents < 2 or (law == "blocks" and latents % 2):
            raise UserError(f"latents is {latents}", fix="2 or more, for blocks an even number")
        if step == "constancy" and interventions == "none":
            raise UserError("nothing is constant without interventions", fix="give `interventions`")
        self.world, self.rows, self.step, self.rates = (law, latents, degree, features), rows, step, rates
        self.targets = {"none": 0, "half": latents // 2, "all": latents}[interventions]
        self.training = {"d": latents, "degree": degree, "epochs": epochs, "batch": batch, "cooled": cooled}
        self.support = {"rate": rate, "epochs": rounds, "batch": support_batch, "points": points}

    def problem(self, rng: np.random.Generator) -> Problem:
        world, n, m = World(rng, *self.world), self.rows, self.rows // 4
        x, validation, judge = (world.latents(rng, size) for size in (n, m, 2 * n))
        given = {"x": world.show(x), "validation": world.show(validation), "tests": world.show(judge)}
        if self.targets:
            targets = rng.integers(self.targets, size=n + m)
            held = world.show(world.latents(rng, n + m, targets))
            given |= {"held": held[:n], "targets": targets[:n], "held_validation": held[n:]}
        return Problem(given, {"latents": judge})

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        parts = {k: torch.tensor(v, dtype=torch.float32) for k, v in given.items() if k != "targets"}
        x, validation = parts["x"], parts["validation"]
        if self.targets:
            x, validation = torch.cat([x, parts["held"]]), torch.cat([validation, parts["held_validation"]])
        seed = int(rng.integers(2**62))
        tried = [trained(x, validation, seed, rate=rate, **self.training) for rate in self.rates]
        with torch.no_grad():
            best = min(tried, key=lambda one: float(one(parts["validation"])))
            codes = {k: best.encode(part).double().numpy() for k, part in parts.items()}
        x, tests = codes["x"], codes["tests"]
        if self.step == "constancy":
            latents = completed(constancy(codes["held"], given["targets"]), x, tests)
        elif self.step == "ica":
            latents = independent(x, tests, rng)
        else:
            latents = supported(x, tests, rng, **self.support) if self.step == "support" else tests
        return {"latents": latents, "codes": tests}


def explained(z: ndarray, codes: ndarray) -> float:
    """Mean over latents of the R^2 of z (n, d) regressed on codes (n, k): fitted on even rows, scored on odd ones."""
    affine = np.column_stack([np.ones(len(codes)), codes])
    left = z[1::2] - affine[1::2] @ np.linalg.lstsq(affine[::2], z[::2], rcond=None)[0]
    return float(np.mean(1.0 - (left**2).mean(0) / z[1::2].var(0)))


@metric("codes_latents_r2", "Study", "1", "higher", within=(None, 1.0))
def codes_latents_r2(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """R^2 of true latents in an affine map of the codes, averaged over latents (see `explained`): 1 if affine."""
    return over_problems(model, lambda truth, answer: explained(truth["latents"], answer["codes"]))
