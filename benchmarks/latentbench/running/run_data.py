"""A run's data: the splits that its specification names, as training and evaluation take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from latentbench.core.seeds import Seeds
from latentbench.core.types import DataInfo
from latentbench.data.dataset import open_dataset
from latentbench.data.preprocess import Pipeline, build
from latentbench.evaluation.view import View, make_view
from latentbench.training.source import Source

if TYPE_CHECKING:
    import numpy as np

    from latentbench.planning.plan import RunSpec


@dataclass(frozen=True)
class Data:
    """A run's data: raw splits, fitted preprocessing, and what models are told of it."""

    splits: Mapping[str, np.ndarray]
    columns: Mapping[str, Mapping[str, np.ndarray]]
    pipeline: Pipeline
    info: DataInfo
    entry: Any
    oracle: Any


def load_data(spec: RunSpec) -> Data:
    """The splits that a specification names, cut to its limits, with preprocessing fitted on the training split."""
    wanted = spec.data
    dataset = open_dataset(wanted["source"])
    scheme = wanted["split"] or dataset.protocol(wanted["protocol"])
    splits, columns = {}, {}
    for role in ("train", "valid", "test"):
        if role not in scheme:
            continue
        table = dataset.split(scheme[role])
        limit = wanted["limit"].get(role)
        rows = slice(None, limit)
        columns[role] = {k: v[rows] for k, v in table.items() if k != "x"}
        splits[role] = table["x"][rows]
    pipeline = build(wanted["preprocess"], dataset.column())
    pipeline.fit(splits["train"])
    info = pipeline.info(splits["train"], columns["train"])
    return Data(splits, columns, pipeline, info, dataset.entry, dataset.oracle)


def source_of(data: Data, split: str, device: torch.device) -> Source:
    """The rows of a split for a training; those of the training split are augmented."""
    columns = {k: torch.from_numpy(v[:].copy()) for k, v in data.columns[split].items()}
    return Source(
        torch.from_numpy(data.splits[split][:].copy()),
        columns,
        data.pipeline,
        device,
        data.info.dims,
        augment=split == "train",
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
        )

    return make("test", lambda: make("train"))
