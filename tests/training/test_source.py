"""A source hands out the rows that are asked for, preprocessed as the pipeline does it by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.data.preprocess import Pipeline, build
from latentbench.data.registry import Column
from latentbench.training import source as module
from latentbench.training.source import Source

COLOUR = Column(shape=(4, 3, 3), dtype="uint8", levels=256)
VECTOR = Column(shape=(5,), dtype="float32")
CPU = torch.device("cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(column: Column, n: int = 40) -> np.ndarray:
    rng = np.random.default_rng(0)
    if column.levels is None:
        return rng.standard_normal((n, *column.shape)).astype(np.float32)
    return rng.integers(0, column.levels, (n, *column.shape)).astype(np.uint8)


def made(steps: list, column: Column, *, augment: bool = False) -> tuple[Source, Pipeline, np.ndarray]:
    x = rows(column)
    pipeline = build(steps, column)
    pipeline.fit(x)
    columns = {"y": torch.arange(len(x)) * 10, "factors": torch.arange(len(x))[:, None] + torch.zeros(2)}
    return Source(torch.tensor(x), columns, pipeline, CPU, x[0].size, augment=augment), pipeline, x


@pytest.mark.parametrize("keep", [0, module.KEEP_BYTES])
@pytest.mark.parametrize(
    ("steps", "column"),
    [
        (["to_unit"], COLOUR),
        (["flatten", "dequantise", {"logit": 0.05}], COLOUR),
        (["flatten", {"binarise": "dynamic"}], COLOUR),
        ([{"binarise": "static"}, "flatten"], COLOUR),
        (["standardise"], VECTOR),
        ([], VECTOR),
    ],
)
def test_a_batch_is_the_pipeline_s_own_result(steps, column, keep, monkeypatch):
    """Whether the split is preprocessed beforehand or batch by batch, whatever order the rows come in."""
    monkeypatch.setattr(module, "KEEP_BYTES", keep)
    source, pipeline, x = made(steps, column)
    index = torch.tensor([7, 3, 3, 39, 0])
    batch = source.batch(index, seeded(1), step=5, progress=0.25)
    expected, _ = pipeline.forward(x[index.numpy()], seeded(1))
    assert torch.equal(batch.x, expected)
    assert batch.x.is_contiguous()
    assert batch.columns["y"].tolist() == [70, 30, 30, 390, 0]
    assert batch.columns["factors"].tolist() == [[k, k] for k in (7, 3, 3, 39, 0)]
    assert (batch.n_train, batch.step, batch.progress, len(source)) == (40, 5, 0.25, 40)


@pytest.mark.parametrize("steps", [["to_unit"], ["to_unit", {"binarise": "dynamic"}]])
def test_a_batch_may_be_written_into(steps):
    """What a model does to a batch never reaches the rows that later batches come from."""
    source, _, _ = made(steps, COLOUR)
    index = torch.arange(8)
    first = source.batch(index, seeded(), 0, 0.0).x.clone()
    source.batch(index, seeded(), 0, 0.0).x.fill_(-1)
    assert torch.equal(source.batch(index, seeded(), 0, 0.0).x, first)


def test_noise_is_drawn_anew_from_the_generator_that_is_passed():
    source, _, _ = made(["dequantise", "to_unit"], COLOUR)
    index, noise = torch.arange(8), seeded()
    one, two = (source.batch(index, noise, 0, 0.0).x for _ in range(2))
    assert not torch.equal(one, two)
    assert torch.equal(one, source.batch(index, seeded(), 0, 0.0).x)


def test_augmentation_is_for_sources_that_ask_for_it():
    index = torch.arange(40)
    plain, _, _ = made(["flip", "to_unit"], COLOUR)
    turned, _, _ = made(["flip", "to_unit"], COLOUR, augment=True)
    still = plain.batch(index, seeded(), 0, 0.0).x
    moved = turned.batch(index, seeded(), 0, 0.0).x
    mirrored = (moved == still.flip(-1)).flatten(1).all(1)
    same = (moved == still).flatten(1).all(1)
    assert (mirrored | same).all()
    assert 5 < int((mirrored & ~same).sum()) < 35
