"""A run's data: the splits that its specification names, as training and evaluation take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from latentbench.core.errors import UserError
from latentbench.core.seeds import Seeds, derive
from latentbench.core.types import DataInfo
from latentbench.data.columns import Ragged
from latentbench.data.dataset import open_dataset
from latentbench.data.links import held_out_links
from latentbench.data.parts import (
    edges_of,
    items_of,
    longest_of,
    parts_of,
    revealed,
    sparse_of,
    table_of,
    whole_columns,
)
from latentbench.data.preprocess import Pipeline, build
from latentbench.data.rows import on_device
from latentbench.evaluation.view import View, make_view
from latentbench.training.source import Source

if TYPE_CHECKING:
    from latentbench.planning.plan import RunSpec


@dataclass(frozen=True)
class Data:
    """A run's data: raw splits, fitted preprocessing, and what models are told of it.

    `whole` has the parts of the whole problem that come with each split, `edges` names the column with the edges of
    each row where rows are graphs, `sparse` those that are rows of a sparse matrix.
    """

    splits: Mapping[str, Any]
    columns: Mapping[str, Mapping[str, Any]]
    pipeline: Pipeline
    info: DataInfo
    entry: Any
    oracle: Any
    whole: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    edges: str | None = None
    sparse: Mapping[str, tuple[int, str | None]] = field(default_factory=dict)

    def fixed_rows(self, method: str) -> Any:
        """All training rows, of a size that a tensor can hold, for a model's `method`."""
        if isinstance(self.splits["train"], Ragged):
            raise UserError(
                f"rows of varying length cannot be handed to `{method}`",
                fix="give the model `start` and `advance` instead",
            )
        return self.splits["train"][:]


def load_data(spec: RunSpec) -> Data:
    """The splits that a specification names, cut to its limits, with preprocessing fitted on the training split."""
    wanted = spec.data
    dataset = open_dataset(wanted["source"])
    scheme = wanted["split"] or dataset.protocol(wanted["protocol"])
    entry = dataset.entry
    splits, columns, whole = {}, {}, {}
    for role in ("train", "valid", "test"):
        if role not in scheme:
            continue
        table = dataset.split(scheme[role])
        limit = wanted["limit"].get(role)
        rows = slice(None, limit)
        columns[role] = {k: v[rows] for k, v in table.items() if k != entry.main}
        splits[role] = table[entry.main][rows]
        if entry.parts and scheme[role] in entry.splits and limit is None:
            whole[role] = whole_columns(entry, dataset.table, role)
            columns[role] = dict(revealed(entry, columns[role], whole[role]))
    if "hold_out" in wanted:
        _hide_links(whole, len(splits["train"]), wanted["hold_out"], spec.seeds)
    name = table_of(entry, scheme["train"])
    pipeline = build(wanted["preprocess"], items_of(dataset.column(entry.main, name)))
    train = splits["train"]
    items = train.values if isinstance(train, Ragged) else train
    pipeline.fit(items)
    info = pipeline.info(items, columns["train"])
    known = parts_of(entry, name, info, "train" if "train" in whole else "", longest_of(splits))
    info = replace(info, n_train=len(train), parts=known)
    edges, sparse = edges_of(entry, name), sparse_of(entry, name)
    return Data(splits, columns, pipeline, info, entry, dataset.oracle, whole, edges, sparse)


def _hide_links(whole: dict[str, dict[str, Any]], nodes: int, wanted: Mapping[str, Any], seeds: Seeds) -> None:
    """Take the held-out links from the graph that each role sees, and give them to the roles that are measured."""
    shares = {role: wanted[role] for role in ("valid", "test") if role in wanted}
    name, rng = wanted["part"], np.random.default_rng(derive(seeds, "data", "links"))
    for role, parts in held_out_links(np.asarray(whole["train"][name][:]), nodes, shares, rng).items():
        whole[role] = {**whole.get(role, {}), name: parts.pop("edges"), **parts}


def source_of(data: Data, split: str, device: torch.device) -> Source:
    """The rows of a split for a training; those of the training split are augmented."""
    cpu = torch.device("cpu")
    return Source(
        on_device(data.splits[split], cpu),
        {k: on_device(v, cpu) for k, v in data.columns[split].items()},
        data.pipeline,
        device,
        data.info.dims,
        augment=split == "train",
        whole={k: torch.from_numpy(v[:].copy()) for k, v in data.whole.get(split, {}).items()},
        edges=data.edges,
        sparse=data.sparse,
    )


def view_of(data: Data, seed: int | Seeds, device: torch.device) -> View:
    """The test split for an evaluation, which can ask for the training split too."""

    def make(split: str, train: Any = None) -> View:
        return make_view(
            data.splits[split],
            data.columns[split],
            data.pipeline,
            data.info,
            data.entry,
            data.oracle,
            seed,
            split,
            device,
            train,
            data.whole.get(split, {}),
            data.edges,
            data.sparse,
        )

    return make("test", lambda: make("train"))
