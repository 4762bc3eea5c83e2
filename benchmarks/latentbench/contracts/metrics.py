"""The contract tests of a metric that suites may name: run on small models and data that have what it needs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from latentbench.contracts.finding import Finding, NotApplicable, attempts
from latentbench.core.errors import Diverged, UserError
from latentbench.core.imports import load
from latentbench.core.types import Batch, DataInfo, MetricValue
from latentbench.data.dataset import open_dataset
from latentbench.data.preprocess import build
from latentbench.evaluation.view import View, make_view
from latentbench.spec.registry import MetricEntry, find_model

#: Models that stand for a capability, the cheapest first, with parameters that suit small vectors.
STAND_INS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("factorised", {}),
    ("ppca", {"latent_dim": 2}),
    ("vae", {"latent_dim": 2, "hidden": (16,), "likelihood": "gaussian"}),
    ("coupling-flow", {"couplings": 2, "hidden": (16,)}),
)
#: Data that stand for what a metric needs of them.
DATA = {"oracle": "linear-gaussian", "factors": "sprites2d-small", "labels": "digits", "images": "digits"}
ROWS = 200


def check_metric(name: str, entry: MetricEntry) -> Iterator[Finding]:
    """The findings on a metric's registry entry."""
    tests = _Tests(entry)
    return attempts(
        name,
        {
            "it gives a finite number with a standard error that is none or positive": tests.value,
            "the same draws give the same bits": tests.determinism,
            "it leaves model and data as they were": tests.untouched,
            "every default of its settings is used under its own name": tests.settings,
        },
    )


class _Tests:
    def __init__(self, entry: MetricEntry) -> None:
        self._entry = entry

    def _subject(self) -> tuple[Any, View]:
        if unknown := sorted(set(self._entry.data) - set(DATA)):
            raise NotApplicable(f"no small data have {', '.join(unknown)}; a suite that uses it tests it")
        needs = [set(n.split("|")) for n in self._entry.needs]
        for model, params in STAND_INS:
            if all(n & find_model(model).can for n in needs):
                data = next((DATA[d] for d in self._entry.data if d in DATA), "digits")
                return _trained(model, tuple(sorted(params.items(), key=str)), data)
        raise NotApplicable(f"no small model can do {', '.join(self._entry.needs)}; a suite that uses it tests it")

    def _measure(self, settings: dict[str, Any] | None = None) -> MetricValue:
        model, view = self._subject()
        with torch.no_grad():
            chosen = dict(self._entry.settings) if settings is None else settings
            try:
                found = load(self._entry.target)(model, view, chosen, torch.Generator().manual_seed(0))
            except UserError as e:
                raise NotApplicable(f"it refuses the small model: {e}; a suite that uses it tests it") from e
        if not isinstance(found, MetricValue):
            raise TypeError(f"it returns a {type(found).__name__}, not a MetricValue")
        return found

    def value(self) -> str | None:
        try:
            found = self._measure()
        except Diverged as e:
            return f"it diverges on a well-behaved model: {e}"
        if not math.isfinite(found.value):
            return f"its value is {found.value}"
        if found.se is not None and not found.se >= 0:
            return f"its standard error is {found.se}"
        return None if found.n is None or found.n > 0 else f"its n is {found.n}"

    def determinism(self) -> str | None:
        first, second = self._measure(), self._measure()
        return None if first.value == second.value else f"{first.value} and {second.value}"

    def untouched(self) -> str | None:
        model, view = self._subject()
        x, state = view.x.clone(), _state(model)
        self._measure()
        if not torch.equal(view.x, x):
            return "it writes into view.x"
        return None if all(torch.equal(a, b) for a, b in zip(state, _state(model))) else "it changes the model"

    def settings(self) -> str | None:
        if not self._entry.settings:
            raise NotApplicable("it has no settings")
        asked: set[str] = set()

        class Watched(dict[str, Any]):
            def __getitem__(self, key: str) -> Any:
                asked.add(key)
                return super().__getitem__(key)

            def get(self, key: str, default: Any = None) -> Any:
                asked.add(key)
                return super().get(key, default)

        self._measure(Watched(self._entry.settings))
        idle = sorted(set(self._entry.settings) - asked)
        unknown = sorted(asked - set(self._entry.settings))
        if idle:
            return f"{', '.join(idle)} changes nothing: it is never read"
        return f"it reads {', '.join(unknown)}, which its entry does not declare" if unknown else None


def _state(model: Any) -> list[torch.Tensor]:
    return [v.clone() for v in model.state_dict().values()] if hasattr(model, "state_dict") else []


@cache
def _trained(name: str, params: tuple[tuple[str, Any], ...], source: str) -> tuple[Any, View]:
    """A small model on a small part of a dataset, with a view of its test rows."""
    dataset = open_dataset(source)
    splits = dataset.protocol()
    steps = ["dequantise", "flatten", "standardise"] if dataset.column().levels else ["flatten"]
    steps = [s for s in steps if s != "flatten" or len(dataset.column().shape) > 1]
    pipeline = build(steps, dataset.column())
    tables = {role: {k: v[:ROWS] for k, v in dataset.split(splits[role]).items()} for role in ("train", "test")}
    train = tables["train"]["x"]
    pipeline.fit(train)
    columns = {role: {k: v for k, v in t.items() if k != "x"} for role, t in tables.items()}
    info: DataInfo = pipeline.info(train, columns["train"])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = load(find_model(name).target)(info, **dict(params))
    draws = torch.Generator().manual_seed(0)
    x, _ = pipeline.forward(train, draws)
    if hasattr(model, "fit"):
        model.fit(x, draws)
    else:
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        for step in range(20):
            optimizer.zero_grad()
            model.loss(Batch(x, len(x), step), draws)["loss"].backward()
            optimizer.step()
        model.eval()
    cpu = torch.device("cpu")

    def view(role: str) -> View:
        table = tables[role]["x"]
        return make_view(table, columns[role], pipeline, info, dataset.entry, dataset.oracle, 0, role, cpu)

    return model, replace(view("test"), _train=view("train"))
