"""The schema of claims: what a paper says that a rerun can hold against its own numbers.

A claim is a heading (id, text, place in the paper, tiers) and a statement about cells of the suite; a pooled claim has
one heading and a statement for each of its cells.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from latentbench.spec.protocol import Strict

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+=,-]*$", max_length=80)]
Tier = Literal["smoke", "cpu", "paper"]
Pooling = Literal["mean", "sign", "rank", "all"]


def _listed(value: Any) -> Any:
    """One standing alone is a list of one."""
    return value if isinstance(value, list) else [value]


class Gate(Strict):
    """What methods must have reached before a claim about them is judged: the mean over seeds of a metric."""

    metric: str
    methods: Annotated[list[str], BeforeValidator(_listed), Field(max_length=200)] | None = Field(
        None, description="the claim's own, as far as they have the metric, if absent"
    )
    dataset: str | None = Field(None, description="the claim's if absent")
    part: str | None = Field(None, description="one of the parts that the metric's records hold beside its value")
    at_least: float | None = None
    at_most: float | None = None
    better_than: str | None = Field(None, description="a method, by the metric's direction")
    reference: str | None = Field(None, description="metric of `better_than`, if it is another one of the same unit")

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        if sum(x is not None for x in (self.at_least, self.at_most, self.better_than)) != 1:
            raise ValueError("give one of `at_least`, `at_most` and `better_than`")
        if self.better_than is None and self.reference is not None:
            raise ValueError("`reference` is the metric of `better_than`, which is missing")
        if self.better_than is not None and self.part is not None:
            raise ValueError("`part` is held against a number: give `at_least` or `at_most`")
        return self


class _Statement(Strict):
    metric: str
    dataset: str
    gate: Annotated[list[Gate], BeforeValidator(_listed), Field(max_length=20)] = []
    exact: bool = Field(False, description="of numbers without spread, such as counts of parameters: one seed says all")
    label: str = Field("", description="what tells a cell of a pooled claim from the others")


class Value(_Statement):
    """Metric of a method equals the reported value within a tolerance, in the metric's unit."""

    kind: Literal["value"]
    method: str
    tolerance: float = Field(gt=0)
    reported: float | None = Field(None, description="taken from the suite's `reported` if absent")


class Order(_Statement):
    """`better` beats `worse` on the metric, by `margin` (metric's unit) if the paper says so."""

    kind: Literal["order"]
    better: str
    worse: str
    margin: float = Field(0.0, ge=0)
    reported_effect: float | None = Field(None, description="better minus worse in the paper, metric's unit")


class Trend(_Statement):
    """The metric rises or falls along `methods`, each step of it (`strict`) or overall."""

    kind: Literal["trend"]
    methods: list[str] = Field(min_length=2, max_length=200)
    direction: Literal["rises", "falls"]
    form: Literal["strict", "overall"] = "strict"
    reported_effect: float | None = Field(None, description="last minus first in the paper, metric's unit")


class _Limited(_Statement):
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_side(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give one of `at_least` and `at_most`")
        return self

    @property
    def side(self) -> Literal["above", "below"]:
        """Where the number is claimed to lie."""
        return "above" if self.at_least is not None else "below"

    @property
    def limit(self) -> float:
        """`at_least` or `at_most`, whichever is given."""
        limit = self.at_least if self.at_least is not None else self.at_most
        assert limit is not None  # the schema asks for one of the two
        return limit


class Bound(_Limited):
    """The metric of a method stays above or below a number."""

    kind: Literal["bound"]
    method: str


class _OfRuns(_Limited):
    """One number of all runs of many methods together: see `latentbench.stats.across_runs`."""

    @model_validator(mode="after")
    def _spread(self) -> Self:
        if self.exact:
            raise ValueError("`exact` is for numbers of one method, not for what runs differ by")
        if not self.lowest < self.limit < 1:
            raise ValueError(f"the limit lies between {self.lowest:g} and 1, which say nothing themselves")
        return self

    @property
    def lowest(self) -> float:
        """The least value that the number can have."""
        return 0.0


class Correlation(_OfRuns):
    """Spearman's rank correlation of `metric` and `other` over all runs of `methods` lies above or below a number.

    Numbers count as they are: an error that falls while a score rises has a negative one.
    """

    kind: Literal["correlation"]
    other: str = Field(description="the second metric")
    methods: list[str] = Field(min_length=3, max_length=200)

    @property
    def lowest(self) -> float:
        return -1.0

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.other == self.metric or len(set(self.methods)) != len(self.methods):
            raise ValueError("name two metrics, and each method once")
        return self


class Variance(_OfRuns):
    """The share of the metric's variance over all runs that groups of methods explain lies above or below a number:
    R^2 of the regression on the group, with seeds without end."""

    kind: Literal["variance"]
    groups: dict[str, list[str]] = Field({}, max_length=200)
    methods: list[str] = Field([], max_length=200, description="instead of `groups`: each by itself")

    @property
    def parts(self) -> dict[str, list[str]]:
        """Names of groups to their methods."""
        return self.groups or {m: [m] for m in self.methods}

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        listed = [m for group in self.groups.values() for m in group] or self.methods
        if bool(self.groups) == bool(self.methods) or len(self.parts) < 2:
            raise ValueError("give two `groups` or more, or two `methods`")
        if len(set(listed)) != len(listed) or not all(self.parts.values()):
            raise ValueError("each method is named once, and no group is empty")
        return self


class Rank(_Statement):
    """The mean rank of a method among some, over the cells of a pooled claim, is better than chance gives."""

    kind: Literal["rank"]
    method: str
    among: list[str] = Field(min_length=2, max_length=200)

    @model_validator(mode="after")
    def _itself(self) -> Self:
        if self.method not in self.among or len(set(self.among)) != len(self.among):
            raise ValueError("`among` names `method` and each of the others once")
        return self


Statement = Annotated[Value | Order | Trend | Bound | Rank | Correlation | Variance, Field(discriminator="kind")]


class _Heading(Strict):
    id: Identifier
    text: str
    where: str
    tiers: list[Tier] = ["cpu", "paper"]
    sanity: bool = Field(False, description="it must hold, and is no reproduction")


class ValueClaim(_Heading, Value):
    """A value."""


class OrderClaim(_Heading, Order):
    """An order."""


class TrendClaim(_Heading, Trend):
    """A trend."""


class BoundClaim(_Heading, Bound):
    """A bound."""


class CorrelationClaim(_Heading, Correlation):
    """A rank correlation of two metrics."""


class VarianceClaim(_Heading, Variance):
    """A share of variance."""


class PooledClaim(_Heading):
    """One claim over several cells, whose statements are of one kind: see `latentbench.stats.pooling`."""

    kind: Literal["pooled"]
    pool: Pooling
    cells: list[Statement] = Field(min_length=2, max_length=200)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        kinds = {cell.kind for cell in self.cells}
        if len(kinds) > 1:
            raise ValueError(f"its cells are of {len(kinds)} kinds: {', '.join(sorted(kinds))}")
        kind = kinds.pop()
        if (self.pool == "rank") != (kind == "rank"):
            raise ValueError("`pool: rank` and `kind: rank` go together")
        said = [cell.model_dump(exclude={"label"}) for cell in self.cells]
        if any(one in said[:i] for i, one in enumerate(said)):
            raise ValueError("two of its cells are the same, and one would count twice")
        ranked = [cell for cell in self.cells if isinstance(cell, Rank)]
        if len({(len(cell.among), cell.among.index(cell.method)) for cell in ranked}) > 1:
            raise ValueError("every cell ranks as many methods, in the same order")
        if self.pool == "mean" and kind != "order":
            raise ValueError(f"`pool: mean` is for orders, not for claims of kind {kind}")
        if self.pool == "sign" and kind == "value":
            raise ValueError("`pool: sign` is for claims with a direction; values are pooled by `all`")
        return self


Claim = Annotated[
    ValueClaim | OrderClaim | TrendClaim | BoundClaim | CorrelationClaim | VarianceClaim | PooledClaim,
    Field(discriminator="kind"),
]


def statements(claim: Claim) -> list[Statement]:
    """What a claim says of each of its cells."""
    return list(claim.cells) if isinstance(claim, PooledClaim) else [claim]


def kind_of(claim: Claim) -> Literal["value", "order", "trend", "bound", "rank", "correlation", "variance"]:
    """The kind of its statements."""
    return statements(claim)[0].kind


def methods_of(said: Statement) -> list[str]:
    """The methods that a statement is about."""
    match said:
        case Order():
            return [said.better, said.worse]
        case Trend() | Correlation():
            return list(said.methods)
        case Variance():
            return [m for group in said.parts.values() for m in group]
        case Rank():
            return list(said.among)
        case _:
            return [said.method]


def metrics_of(said: Statement) -> list[str]:
    """The metrics that a statement is about."""
    return [said.metric, said.other] if isinstance(said, Correlation) else [said.metric]


def pairs_of(claim: Claim) -> list[tuple[str, str]]:
    """The methods that a claim is about, each with its dataset, once."""
    return list(dict.fromkeys((m, said.dataset) for said in statements(claim) for m in methods_of(said)))


def is_judged(claim: Claim, tier: Tier) -> bool:
    """Whether a claim is judged at a tier: those that it names, but values, save sanity checks, at tier paper alone."""
    return tier in claim.tiers and tier != "smoke" and (kind_of(claim) != "value" or tier == "paper" or claim.sanity)
