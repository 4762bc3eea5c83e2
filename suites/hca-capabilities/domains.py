"""Domains that share a linear mixing of causally ordered latents, and how near rows are to those latents.

In domain k, z = A_k z + D_k e + m_k with A_k strictly lower triangular, independent e of variance one, and x = G z +
noise, so that the sources D_k^-1 (I - A_k) z are B_k H x with B_k lower triangular and H the pseudo-inverse of G. What
can be known of H is how it nests: its first row, the span of its first two, and so on, since a latent may be replaced
by itself and a mixture of those before it (the ambiguity that the authors' notebook uses to interpret latents).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from itertools import permutations
from typing import Any, Literal

import numpy as np
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import metric
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models.study import Problem, Study
from numpy import ndarray
from pydantic import NonNegativeFloat, PositiveInt
from torch import Generator

Arrays = Mapping[str, Any]
#: Standardised laws of the sources.
LAWS = {
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1.0,
    "laplace": lambda rng, shape: rng.laplace(scale=0.5**0.5, size=shape),
    "uniform": lambda rng, shape: rng.uniform(-(3**0.5), 3**0.5, shape),
    "normal": lambda rng, shape: rng.standard_normal(shape),
}


class Domains(Study):
    """Answers hold ``rows`` (latents, variables), each a latent as a combination of x, causes first.

    Args:
        info: of the data, which are not looked at.
        world: ``shared``, one causal order and weights and variances of each domain's own; ``unshared``, an order of
            each domain's own; ``same``, one order, and one draw of weights and variances for all domains.
        law: of the sources.
        rows: of each domain.
        variables: p.
        latents: d, which procedures are told.
        noise: its standard deviation, over the root mean square of the variables' deviations in a domain.
        shift: standard deviation of the sources' means over domains, in units of a source's own deviation.
        problems: how many.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        world: Literal["shared", "unshared", "same"] = "shared",
        law: Literal["exponential", "laplace", "uniform", "normal"] = "exponential",
        rows: tuple[PositiveInt, ...] = (757, 332, 238, 156),
        variables: PositiveInt = 6,
        latents: PositiveInt = 3,
        noise: NonNegativeFloat = 0.0,
        shift: NonNegativeFloat = 1.0,
        problems: PositiveInt = 10,
    ) -> None:
        super().__init__(info, problems=problems)
        if not 2 <= latents <= variables or min(rows) <= variables:
            raise UserError(f"{latents} latents of {variables} variables in {min(rows)} rows", fix="give fewer latents")
        self.world, self.law, self.rows, self.noise, self.shift = world, LAWS[law], tuple(rows), noise, shift
        self.variables, self.latents = variables, latents

    def problem(self, rng: np.random.Generator) -> Problem:
        d, x = self.latents, []
        mixing = rng.standard_normal((self.variables, d))
        mixing /= np.linalg.norm(mixing, axis=0)
        orders = rng.permutation(list(permutations(range(d))))  # of unshared domains: no two alike, where d! suffice
        effects, covariance = np.zeros((d, d)), np.zeros((d, d))
        for k, n in enumerate(self.rows):
            if k == 0 or self.world != "same":
                order = orders[k % len(orders)] if self.world == "unshared" else np.arange(d)
                weights = np.tril(rng.choice([-1.0, 1.0], (d, d)) * rng.uniform(0.5, 1.5, (d, d)), -1)
                deviations = np.exp(rng.uniform(-0.7, 0.7, d))
                effects[np.ix_(order, order)] = np.linalg.inv(np.eye(d) - weights) * deviations
            sources = self.law(rng, (n, d)) + self.shift * rng.standard_normal(d)
            clean = sources @ effects.T @ mixing.T
            x.append(clean + self.noise * clean.std(0).mean() * rng.standard_normal(clean.shape))
            covariance += effects @ effects.T * n / sum(self.rows)
        domain = np.repeat(np.arange(len(self.rows)), self.rows)
        return Problem({"x": np.concatenate(x), "domain": domain}, {"mixing": mixing, "covariance": covariance})

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        return self.components([given["x"][given["domain"] == k] for k in range(len(self.rows))], rng)

    @abstractmethod
    def components(self, x: list[ndarray], rng: np.random.Generator) -> Arrays:
        """An answer to domains (n_k, p)."""


def up_to_causes(rows: ndarray, mixing: ndarray, covariance: ndarray) -> float:
    """Mean absolute partial correlation of the i-th row's latent and the i-th true one, given true ones before, 0 … 1.

    One for any H that nests as the true one does. The last row, of which it is always one, is left out.

    Args:
        rows: (d, p).
        mixing: (p, d), causes first.
        covariance: (d, d) of the true latents.
    """
    weights = rows @ mixing @ np.linalg.cholesky(covariance)  # on latents without what those before them explain
    left = np.linalg.norm(np.triu(weights), axis=1)
    return float((np.abs(np.diag(weights)) / np.maximum(left, 1e-300))[:-1].mean())


def by_order(rows: ndarray, truth: Arrays) -> dict[tuple[int, ...], float]:
    """`up_to_causes` with the true latents in each of their orders."""
    g, s = truth["mixing"], truth["covariance"]
    return {o: up_to_causes(rows, g[:, list(o)], s[np.ix_(o, o)]) for o in permutations(range(len(rows)))}


@metric("nested_correlation", "Study", "1", "higher", settings={"order": "own"}, within=(0.0, 1.0))
def nested_correlation(model: Study, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean over problems of `up_to_causes`; `order` is a procedure's ``own``, or the ``best``, as if told."""

    def measure(truth: Arrays, answer: Arrays) -> float:
        rows = answer["rows"]
        orders = permutations(range(len(rows))) if settings["order"] == "best" else [range(len(rows))]
        return max(up_to_causes(rows[list(order)], **truth) for order in orders)

    return over_problems(model, measure)


@metric("right_causal_order", "Study", "1", "higher", within=(0.0, 1.0))
def right_causal_order(model: Study, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Share of problems in which no other order of the true latents fits the rows better; chance is 1 / d!."""

    def right(truth: Arrays, answer: Arrays) -> float:
        fits = by_order(answer["rows"], truth)
        return float(max(fits, key=fits.__getitem__) == tuple(range(len(answer["rows"]))))

    return over_problems(model, right)


@metric("row_space_overlap", "Study", "1", "higher", within=(0.0, 1.0))
def row_space_overlap(model: Study, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean squared cosine of the angles between the rows' span and that of the mixing's columns."""

    def overlap(truth: Arrays, answer: Arrays) -> float:
        found, true = np.linalg.qr(answer["rows"].T)[0], np.linalg.qr(truth["mixing"])[0]
        return float(((found.T @ true) ** 2).sum() / true.shape[1])

    return over_problems(model, overlap)


@metric("inexactness", "Study", "1", "lower", within=(0.0, 1.0))
def inexactness(model: Study, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean over problems of the greatest `components.inexactness_of` of a domain.

    Details: the mean over domains, and how many ICAs of all did not converge.
    """
    answers = [answer for _, answer in model.answered()]
    value = over_problems(model, lambda _, answer: float(answer["inexactness"].max()))
    details = {
        "mean": float(np.mean([a["inexactness"].mean() for a in answers])),
        "unconverged": float(np.sum([a["unconverged"] for a in answers])),
    }
    return MetricValue(value.value, value.se, value.n, details)
