"""The schema of claims: what a paper says that a rerun can hold against its own numbers."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from latentbench.spec.protocol import Strict

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+=,-]*$", max_length=80)]
Tier = Literal["smoke", "cpu", "paper"]


class _Claim(Strict):
    id: Identifier
    text: str
    where: str
    metric: str
    dataset: str
    tiers: list[Tier] = ["cpu", "paper"]


class ValueClaim(_Claim):
    """Metric of a method equals the reported value within a tolerance, in the metric's unit."""

    kind: Literal["value"]
    method: str
    tolerance: float = Field(gt=0)
    reported: float | None = Field(None, description="taken from the suite's `reported` if absent")


class OrderClaim(_Claim):
    """`better` beats `worse` on the metric, by `margin` (metric's unit) if the paper says so."""

    kind: Literal["order"]
    better: str
    worse: str
    margin: float = Field(0.0, ge=0)


class TrendClaim(_Claim):
    """The metric rises or falls along `methods`, each step of it (`strict`) or overall."""

    kind: Literal["trend"]
    methods: list[str] = Field(min_length=2, max_length=200)
    direction: Literal["rises", "falls"]
    form: Literal["strict", "overall"] = "strict"


class BoundClaim(_Claim):
    """The metric of a method stays above or below a number."""

    kind: Literal["bound"]
    method: str
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_side(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give one of `at_least` and `at_most`")
        return self


Claim = Annotated[ValueClaim | OrderClaim | TrendClaim | BoundClaim, Field(discriminator="kind")]
