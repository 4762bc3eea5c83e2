"""The schema of a suite file: one paper's models, data, metrics, protocol, reported numbers and claims."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from latentbench.core.seeds import LARGEST_SEED, MOST_SEEDS
from latentbench.spec.claims import Claim, Identifier, Tier
from latentbench.spec.protocol import Strict, Training

#: A split expression: its numbers stay within what can be computed with.
Expression = Annotated[str, Field(max_length=200)]
TIERS = ("smoke", "cpu", "paper")


def _one(value: Any) -> Any:
    """A pattern standing alone is a list of one."""
    return [value] if isinstance(value, str) else value


Globs = Annotated[list[str], BeforeValidator(_one), Field(max_length=200)]


def _step(value: Any) -> Any:
    if isinstance(value, str) or (isinstance(value, dict) and len(value) == 1 and isinstance(next(iter(value)), str)):
        return value
    raise ValueError("a preprocessing step is a name, or one name with its parameters: {binarise: dynamic}")


Step = Annotated[str | dict[str, Any], BeforeValidator(_step)]


def selects(patterns: list[str], name: str) -> bool:
    """Whether a name is among those that the patterns match."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


class Code(Strict):
    url: str
    licence: str


class Paper(Strict):
    """The paper that a suite reruns; `quickstart` and users' own suites may describe what they are instead."""

    title: str
    authors: list[str] = Field(min_length=1)
    year: int = Field(ge=1900, le=2100)
    arxiv: str | None = None
    venue: str | None = None
    bibtex: str | None = None
    code: Code | None = None


class Limit(Strict):
    """The first so many rows of a split."""

    train: int | None = Field(None, ge=1)
    valid: int | None = Field(None, ge=1)
    test: int | None = Field(None, ge=1)


class Override(Strict):
    """Changes for the methods and datasets that the patterns match, laid over what stands above."""

    methods: Globs = ["*"]
    datasets: Globs = ["*"]
    params: dict[str, Any] = {}
    training: dict[str, Any] = {}
    metrics: dict[str, dict[str, Any]] = {}
    limit: Limit | None = None
    preprocess: list[Step] | None = None

    def matches(self, method: str, dataset: str) -> bool:
        return selects(self.methods, method) and selects(self.datasets, dataset)


class HoldOut(Strict):
    """Edges of one graph that are hidden from training, drawn anew for each seed (axis `data`)."""

    part: str = Field("edges", description="the part of the data that has the edges")
    valid: float | None = Field(None, gt=0, lt=1, description="share of the edges")
    test: float = Field(gt=0, lt=1, description="share of the edges")


class Dataset(Strict):
    """A dataset of the registry with the preprocessing under which this suite uses it."""

    source: str | None = Field(None, description="name in the registry, if it differs from the key")
    protocol: str | None = Field(None, description="a split scheme of the registry entry")
    split: dict[Literal["train", "valid", "test"], Expression] | None = None
    preprocess: list[Step] = []
    hold_out: HoldOut | None = Field(None, description="links of one graph that training does not see")
    overlap: bool = Field(False, description="the paper itself measures on rows that it trains on")
    params: dict[str, Any] = Field({}, description="parameters of every method on it: what a simulated problem is like")
    note: str | None = None

    @model_validator(mode="after")
    def _one_split(self) -> Self:
        if self.protocol is not None and self.split is not None:
            raise ValueError("`protocol` and `split` are both given; keep one")
        return self


class Method(Strict):
    """A model with its parameters."""

    model: str
    params: dict[str, Any] = {}
    training: dict[str, Any] = {}
    label: str | None = None
    baseline: bool = False
    exact: bool = Field(False, description="no randomness at all, so one seed says everything")
    datasets: Globs = Field(["*"], description="the datasets that it is run on")

    def runs_on(self, dataset: str) -> bool:
        return selects(self.datasets, dataset)


class Metric(Strict):
    """A metric of the registry with its settings; without `methods` it is measured on every method."""

    metric: str | None = Field(None, description="name in the registry, if it differs from the key")
    settings: dict[str, Any] = {}
    methods: Globs = ["*"]
    datasets: Globs = ["*"]

    def applies(self, method: str, dataset: str) -> bool:
        return selects(self.methods, method) and selects(self.datasets, dataset)


def _seeds(value: Any) -> Any:
    """``3`` means seeds 0, 1, 2."""
    if isinstance(value, bool) or not isinstance(value, int | list):
        raise ValueError("seeds are a number of seeds or a list of them")
    if isinstance(value, int):
        if value < 1:
            raise ValueError("at least one seed is needed")
        if value > MOST_SEEDS:
            raise ValueError(f"at most {MOST_SEEDS} seeds")
        return list(range(value))
    return value


class TierSpec(Strict):
    """What one tier runs, and how it differs from the suite's own protocol."""

    seeds: Annotated[list[int], BeforeValidator(_seeds)] = [0]
    methods: Globs = ["*"]
    datasets: Globs = ["*"]
    training: dict[str, Any] = {}
    metrics: dict[str, dict[str, Any]] = {}
    limit: Limit = Limit()
    overrides: list[Override] = Field([], max_length=200)
    deviations: list[str] = Field([], description="how this tier departs from the paper's protocol")
    cost: str | None = Field(None, description="measured or estimated cost, in words")

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if not seeds:
            raise ValueError("at least one seed is needed")
        if len(set(seeds)) != len(seeds) or min(seeds) < 0:
            raise ValueError("seeds must be distinct and not negative")
        if len(seeds) > MOST_SEEDS or max(seeds) > LARGEST_SEED:
            raise ValueError(f"at most {MOST_SEEDS} seeds, none above {LARGEST_SEED}")
        return seeds


class Reported(Strict):
    """A number that the paper (or, with its origin named, somebody else) prints."""

    method: str
    dataset: str
    metric: str
    value: float
    std: float | None = Field(None, ge=0)
    runs: int | None = Field(None, ge=1)
    unit: str
    table: str
    source: str
    origin: str = "paper_text"
    note: str | None = None
    row: str | None = Field(None, description="where it stands in a table written as `rows`: the row's name")
    column: str | None = Field(None, description="and the column's")

    @property
    def own(self) -> bool:
        """Whether it is the paper's own number."""
        return self.origin in ("paper_text", "paper_table_extract", "authors_repo", "abstract")


class ProtocolItem(Strict):
    """One thing that a rerun needs to know, and how we know it.

    `settings` says it in numbers, by their places in the runs that tier `paper` plans for `methods` on `datasets`.
    """

    item: str
    value: str
    status: Literal["stated", "inferred", "unknown"]
    source: str | None = None
    settings: dict[str, Any] = Field({}, max_length=50)
    methods: Globs = ["*"]
    datasets: Globs = ["*"]

    @model_validator(mode="after")
    def _sourced(self) -> Self:
        if self.status == "inferred" and not self.source:
            raise ValueError("an inferred item names its source")
        return self


class Suite(Strict):
    """One suite file, whose short forms `latentbench.spec.expansion` has written out."""

    id: Identifier
    version: int = Field(ge=1)
    paper: Paper
    summary: str | None = None
    datasets: dict[Identifier, Dataset] = Field(min_length=1, max_length=200)
    methods: dict[Identifier, Method] = Field(min_length=1, max_length=2000)
    metrics: dict[Identifier, Metric] = Field(min_length=1, max_length=100)
    training: Training = Training()
    overrides: list[Override] = Field([], max_length=200)
    tiers: dict[Tier, TierSpec] = Field(min_length=1)
    preferred_tier: Tier | None = Field(None, description="what `latentbench run` takes if no tier is asked for")
    reported: list[Reported] = Field([], max_length=5000)
    claims: list[Claim] = Field([], max_length=1000)
    analogue: bool = Field(False, description="its scale differs in kind from the paper's: verdicts on the mechanism")
    no_optimum: str | None = Field(None, description="why no dataset of its likelihoods has a known optimum")
    protocol: list[ProtocolItem] = []

    @model_validator(mode="after")
    def _tier_exists(self) -> Self:
        if self.preferred_tier is not None and self.preferred_tier not in self.tiers:
            raise ValueError(f"preferred_tier {self.preferred_tier!r} is not among the tiers")
        return self

    @property
    def default_tier(self) -> Tier:
        """The tier of `latentbench run SUITE`: the preferred one, else cpu, else what there is."""
        if self.preferred_tier is not None:
            return self.preferred_tier
        return next(t for t in ("cpu", "paper", "smoke") if t in self.tiers)

    def metric_name(self, key: str) -> str:
        """Registry name of a metric of this suite."""
        return self.metrics[key].metric or key

    def reported_for(self, method: str, dataset: str, metric: str) -> Reported | None:
        """The paper's own number for a cell if there is one, else somebody else's."""
        found = [r for r in self.reported if (r.method, r.dataset, r.metric) == (method, dataset, metric)]
        return next((r for r in found if r.own), found[0] if found else None)

    def reported_by_cell(self) -> dict[tuple[str, str, str], Reported]:
        """`reported_for` of every method, dataset and metric that it has a number for."""
        found: dict[tuple[str, str, str], Reported] = {}
        for r in self.reported:
            cell = (r.method, r.dataset, r.metric)
            if cell not in found or (r.own and not found[cell].own):
                found[cell] = r
        return found
