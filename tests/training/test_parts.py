"""Trainings on rows of other kinds than one tensor: what the model sees, and that they resume to the same bits."""

from __future__ import annotations

from itertools import chain, repeat
from typing import Any

import numpy as np
import pytest
import torch
from latentbench.data.columns import Ragged
from latentbench.data.preprocess import build
from latentbench.data.registry import Column
from latentbench.data.rows import on_device
from latentbench.training.source import Source
from torch import nn

from tests.training.test_loop import CPU, DIMS, source
from tests.training.test_resume import Task, assert_same

GRAPHS = 24


def pipeline(shape: tuple[int, ...], items: np.ndarray, *steps: Any) -> Any:
    made = build(list(steps), Column(shape=shape, dtype="float32"))
    made.fit(items)
    return made


def sequences() -> Source:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 7, 25)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    x = Ragged(rng.standard_normal((lengths.sum(), DIMS)).astype(np.float32), offsets)
    actions = Ragged(rng.integers(0, 3, lengths.sum()), offsets)
    steps = pipeline((DIMS,), x.values, "standardise")
    return Source(on_device(x, CPU), {"action": on_device(actions, CPU)}, steps, CPU, DIMS, augment=True)


def one_graph() -> Source:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, DIMS)).astype(np.float32)
    y = torch.where(torch.arange(20) < 6, torch.arange(20) % 2, -1)
    edges = torch.from_numpy(rng.integers(0, 20, (40, 2)))
    return Source(torch.from_numpy(x), {"y": y}, pipeline((DIMS,), x), CPU, DIMS, augment=True, whole={"edges": edges})


def many_graphs() -> Source:
    rng = np.random.default_rng(0)
    nodes, edges = rng.integers(2, 6, GRAPHS), rng.integers(0, 5, GRAPHS)
    x = Ragged(rng.standard_normal((nodes.sum(), DIMS)).astype(np.float32), np.concatenate([[0], np.cumsum(nodes)]))
    pairs = np.concatenate([rng.integers(0, n, (e, 2)) for n, e in zip(nodes, edges, strict=True)])
    columns = {
        "edges": on_device(Ragged(pairs, np.concatenate([[0], np.cumsum(edges)])), CPU),
        "y": torch.arange(GRAPHS) % 2,
    }
    return Source(on_device(x, CPU), columns, pipeline((DIMS,), x.values), CPU, DIMS, augment=True, edges="edges")


def pairs() -> Source:
    rng = np.random.default_rng(0)
    x, other = (rng.standard_normal((25, DIMS)).astype(np.float32) for _ in range(2))
    return Source(torch.from_numpy(x), {"view": torch.from_numpy(other)}, pipeline((DIMS,), x), CPU, DIMS, augment=True)


class Recurrent(nn.Module):
    """Predicts the next state from state and action, where there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRU(DIMS + 3, 6, batch_first=True), nn.Linear(6, DIMS)

    def loss(self, batch, generator):
        assert batch.x.shape[:2] == batch.parts["mask"].shape
        assert not batch.x[~batch.parts["mask"]].any(), "padding is zero after preprocessing, too"
        acted = nn.functional.one_hot(batch.parts["action"], 3).float()
        hidden, _ = self.cell(torch.cat([batch.x, acted], 2))
        error = (self.head(hidden[:, :-1]) - batch.x[:, 1:]).square().mean(2)
        seen = batch.parts["mask"][:, 1:]
        return {"loss": (error * seen).sum() / seen.sum().clamp(min=1)}


class GraphNet(nn.Module):
    """One round of messages; classifies the nodes whose label is given, or graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.message, self.head = nn.Linear(DIMS, 6), nn.Linear(6, 2)

    def loss(self, batch, generator):
        nodes, edges = self.message(batch.x), batch.parts["edges"].long()
        nodes = nn.functional.dropout(torch.relu(nodes.index_add(0, edges[:, 0], nodes[edges[:, 1]])), 0.2)
        if "graph" in batch.parts:
            sums = torch.zeros(len(batch.parts["nodes"]), 6).index_add(0, batch.parts["graph"], nodes)
            nodes = sums / batch.parts["nodes"][:, None]
        known = batch.parts["y"] >= 0
        return {"loss": nn.functional.cross_entropy(self.head(nodes)[known], batch.parts["y"][known])}


class Agreement(nn.Module):
    """Two views of a row are drawn together; rows have a code of their own, looked up by number."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.codes = nn.Linear(DIMS, 4), nn.Embedding(25, 4)

    def loss(self, batch, generator):
        a, b = self.net(batch.x), self.net(batch.parts["view"])
        return {"loss": (a - b).square().mean() + (a - self.codes(batch.index)).square().mean()}


TASKS = {
    "ragged rows with actions": Task({"epochs": 4, "ema": 0.8, "gradient_clip_norm": 0.5}, Recurrent, sequences, None),
    "one large graph, few labels": Task({"steps": 8, "batch_size": "whole"}, GraphNet, one_graph, one_graph),
    "one graph, best weights": Task(
        {"epochs": 8, "batch_size": "whole", "select": "best", "ema": 0.5},
        GraphNet, one_graph, one_graph,
    ),
    "many graphs": Task({"epochs": 4, "ema": 0.5, "select": "best"}, GraphNet, many_graphs, many_graphs),
    "pairs, and a code for each row": Task({"epochs": 3}, Agreement, pairs, pairs),
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_asked_to_stop_after_every_step(tmp_path, task):
    model, out, interrupted = task.in_pieces(tmp_path, repeat(1))
    assert_same(task, model, out)
    assert interrupted >= 5


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_dead_without_warning_since_some_steps(tmp_path, task):
    model, out, interrupted = task.in_pieces(tmp_path, chain([1, 4, 3], repeat(1000)), saves=2)
    assert_same(task, model, out)
    assert interrupted >= 2


@pytest.mark.parametrize(
    ("model", "data"),
    [(Recurrent, sequences), (GraphNet, one_graph), (GraphNet, many_graphs), (Agreement, pairs)],
    ids=["ragged", "one graph", "many graphs", "pairs"],
)
def test_they_learn(model, data):
    _, out = Task({"steps": 150, "batch_size": "whole" if data is one_graph else 10}, model, data, None).once()
    losses = [row["loss"] for row in out.curve]
    assert sum(losses[-10:]) < 0.98 * sum(losses[:10])


def test_a_whole_problem_is_seen_in_its_own_order_at_every_step():
    seen: list[torch.Tensor] = []

    class Watch(Agreement):
        def loss(self, batch, generator):
            seen.append(batch.index)
            return super().loss(batch, generator)

    _, out = Task({"epochs": 3, "batch_size": "whole"}, Watch, pairs, None).once()
    assert (out.steps, out.samples) == (3, 75)
    assert all(index.tolist() == list(range(25)) for index in seen)


def test_a_batch_says_which_rows_it_holds():
    data = source()
    batch = data.batch(torch.tensor([4, 2]), torch.Generator(), 0, 0.0)
    assert batch.index.tolist() == batch.parts["row"].tolist() == [4, 2]
