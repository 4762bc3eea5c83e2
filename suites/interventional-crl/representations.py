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

from .steps import constancy, decomposed, supported, trained
from .worlds import World

SMALL = {"rows": 60, "latents": 4, "features": 9, "steps": 3, "points": 30}
EXAMPLES = (
    Example("real-vector", {**SMALL, "step": "support"}),
    Example("real-vector", {**SMALL, "step": "constancy", "interventions": True, "law": "dense"}),
)
Arrays = Mapping[str, Any]


@model("interventional-crl", "Iterative Study LatentEstimator", examples=EXAMPLES)
class Representations(Study):
    """Answers hold ``codes`` and ``latents`` (2 rows, d) of observational rows that nothing was learnt from.

    Args:
        info: of the data, which are not looked at.
        law, latents, degree, features: see `World`; d and D.
        rows: observational ones to learn from, and as many interventional ones.
        interventions: rows under do-interventions are there, on latents that are drawn uniformly.
        step: from codes to latents: ``none``; ``constancy``; ``components``, principal ones; ``ica``; ``support``.
        rate, steps: of Adam, for the autoencoder and for the step on supports alike.
        batch: of the autoencoder.
        support_batch, points: see `supported`.

    Raises:
        UserError: an odd number of latents for ``blocks``, fewer than two, constancy without interventions.
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
        interventions: bool = False,
        step: Literal["none", "constancy", "components", "ica", "support"] = "none",
        rate: PositiveFloat = 1e-3,
        steps: PositiveInt = 125_000,
        batch: PositiveInt = 16,
        support_batch: PositiveInt = 16,
        points: PositiveInt = 10_000,
    ) -> None:
        super().__init__(info, problems=1)
        if latents < 2 or (law == "blocks" and latents % 2):
            raise UserError(f"latents is {latents}", fix="2 or more, for blocks an even number")
        if step == "constancy" and not interventions:
            raise UserError("nothing is constant without interventions", fix="interventions: true")
        self.world, self.rows, self.interventions = (law, latents, degree, features), rows, interventions
        self.step = step
        self.adam: Arrays = {"rate": rate, "steps": steps}
        self.training = {"d": latents, "degree": degree, "batch": batch}
        self.support = {"batch": support_batch, "points": points}

    def problem(self, rng: np.random.Generator) -> Problem:
        """Features ``x`` (rows, D) and ``tests`` (2 rows, D); ``held`` (rows, D) under do on ``targets`` (rows,)."""
        world, n = World(rng, *self.world), self.rows
        x, tests = world.latents(rng, n), world.latents(rng, 2 * n)
        given = {"x": world.show(x), "tests": world.show(tests)}
        if self.interventions:
            targets = rng.integers(world.d, size=n)
            given |= {"held": world.show(world.latents(rng, n, targets)), "targets": targets}
        return Problem(given, {"latents": tests})

    @torch.enable_grad()
    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        draws = Generator().manual_seed(int(rng.integers(2**62)))
        parts = {k: torch.tensor(given[k], dtype=torch.float32) for k in ("x", "held", "tests") if k in given}
        learnt = torch.cat([part for k, part in parts.items() if k != "tests"])
        encode = trained(learnt, draws, **self.training, **self.adam).encode
        codes = {k: encode(part).detach().double().numpy() for k, part in parts.items()}
        x, tests = codes["x"], codes["tests"]
        if self.step == "constancy":
            latents = tests @ constancy(codes["held"], given["targets"])
        elif self.step == "support":
            latents = supported(x, tests, draws, **self.support, **self.adam)
        else:
            latents = tests if self.step == "none" else decomposed(x, tests, self.step, int(rng.integers(2**31)))
        return {"latents": latents, "codes": tests}


@metric("codes_latents_r2", "Study", "1", "higher", within=(None, 1.0))
def codes_latents_r2(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """R^2 of true latents in an affine map of the codes, averaged over latents (see `explained`): 1 if affine."""
    return over_problems(model, lambda truth, answer: explained(truth["latents"], answer["codes"]))


def explained(z: ndarray, codes: ndarray) -> float:
    """Mean over latents of the R^2 of z (n, d) regressed on codes (n, k): fitted on even rows, scored on odd ones."""
    from sklearn.linear_model import LinearRegression

    return float(LinearRegression().fit(codes[::2], z[::2]).score(codes[1::2], z[1::2]))
