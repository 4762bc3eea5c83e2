"""The contract over a model's declared examples: what `latentbench check`, the tests and an author of a model run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from latentbench.contracts import synthetic
from latentbench.contracts.finding import Finding, source_of
from latentbench.contracts.models import check_model
from latentbench.contracts.subject import Subject
from latentbench.contracts.training import check_training
from latentbench.core.errors import UserError
from latentbench.core.imports import load
from latentbench.core.types import DataInfo
from latentbench.data.preprocess import build
from latentbench.data.registry import Column
from latentbench.declare import Example, ModelEntry
from latentbench.training.source import Source


def check_examples(name: str, entry: ModelEntry) -> Iterator[Finding]:
    """The findings on each example of a model; where it declares none, on all data that its defaults take."""
    author = load(entry.target)
    examples = {f"{name} on {e.data}" if i == 0 else f"{name} on {e.data} ({i + 1})": e for i, e in numbered(entry)}
    if not examples:
        examples = {f"{name} on {kind}": Example(kind) for kind in accepted(author)}
    if not examples:
        why = "it takes none of the made-up data with its defaults: declare an example with parameters that do"
        yield Finding(name, "it has an example to be tested with", why, where=source_of(author))
    for title, example in examples.items():
        try:
            subject = subject_of(author, entry, example)
        except UserError as e:
            yield Finding(title, "its example names made-up data", str(e), where=source_of(author))
            continue
        yield from check_model(title, subject, author)
        if example.training or not entry.can & {"Trainable", "Fittable"}:
            yield from _by_the_engine(title, subject, example)


def _by_the_engine(title: str, subject: Subject, example: Example) -> Iterator[Finding]:
    """The tests of training that is more than one loss: through the engine, interrupted at every step."""
    rows, info = subject.rows, subject.rows.info
    pipeline = build([], Column(shape=info.shape, dtype="float32"))
    pipeline.fit(rows.x.numpy())

    def source() -> Source:
        cpu = torch.device("cpu")
        return Source(rows.x, rows.columns, pipeline, cpu, info.dims, augment=True, whole=rows.whole or None)

    training = {**({"batch_size": "whole"} if rows.whole else {}), **example.training}
    yield from check_training(title, lambda: subject.make(info), source, subject.declared, training)


def numbered(entry: ModelEntry) -> Iterator[tuple[int, Example]]:
    """Examples with their place among those of the same kind of data."""
    seen: dict[str, int] = {}
    for example in entry.examples:
        yield seen.get(example.data, 0), example
        seen[example.data] = seen.get(example.data, 0) + 1


def subject_of(author: Any, entry: ModelEntry, example: Example, rows: synthetic.Rows | None = None) -> Subject:
    """A model's example as a subject, on its own kind of rows where none are given.

    Raises:
        UserError: there are no made-up data of that name.
    """

    def make(info: DataInfo) -> Any:
        return author(info, **example.params)

    stages = example.training.get("in_stages", ())
    if rows is not None:
        return Subject(make, rows, entry.can, synthetic.KINDS.get(example.data), example.objective, stages)
    kind = synthetic.kind(example.data)
    return Subject(make, synthetic.rows(kind), entry.can, kind, example.objective, stages)


def accepted(author: Any) -> Iterator[str]:
    """Names of the made-up data that a model takes with its default parameters."""
    for name, kind in synthetic.KINDS.items():
        try:
            author(synthetic.rows(kind).info)
        except UserError:
            continue
        yield name
