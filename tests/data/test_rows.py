"""Rows by named parts: padded, side by side as graphs, with what belongs to the whole problem."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from latentbench.core.types import Batch, DataInfo, Part
from latentbench.data.columns import Ragged
from latentbench.data.parts import parts_of, revealed, role_of, sparse_of, whole_columns
from latentbench.data.registry import Column, Entry
from latentbench.data.rows import RaggedTensor, Rows, on_device

CPU = torch.device("cpu")


def ragged(lengths: list[int], item: tuple[int, ...] = (2,), start: float = 1.0) -> Ragged:
    total = int(np.prod((sum(lengths), *item)))
    values = np.arange(start, start + total, dtype=np.float32).reshape(sum(lengths), *item)
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.data())
def test_selected_and_padded_rows_are_those_of_the_column(lengths, data):
    column = ragged(lengths)
    index = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=9))
    found = on_device(column, CPU).select(torch.tensor(index))
    padded, mask = found.padded(), found.mask
    assert padded.shape == (len(index), max(lengths[i] for i in index), 2)
    for place, row in enumerate(index):
        assert torch.equal(padded[place][mask[place]], torch.from_numpy(column[row]))
        assert not padded[place][~mask[place]].any()
    assert found.lengths.tolist() == [lengths[i] for i in index]


def test_preprocessing_sees_items_and_never_the_padding():
    seen = []

    def values(items):
        seen.append(items.clone())
        return items + 1

    rows = Rows(on_device(ragged([2, 0, 3]), CPU), {}, {})
    x, columns = rows.select(torch.tensor([2, 1]), values)
    assert seen[0].shape == (3, 2)
    assert x.shape == (2, 3, 2)
    assert not x[1].any()
    assert torch.equal(columns["mask"], torch.tensor([[True] * 3, [False] * 3]))


def test_columns_of_the_same_lengths_share_the_mask_and_others_have_their_own():
    """Trajectories: states with an action each, and events of another number."""
    states, actions, events = ragged([2, 3]), ragged([2, 3], ()), ragged([1, 4], ())
    rows = Rows(
        on_device(states, CPU), {"action": on_device(actions, CPU), "events": on_device(events, CPU)}, {}
    )  # fmt: skip
    x, columns = rows.select(torch.tensor([1, 0]), lambda items: items)
    assert x.shape[:2] == columns["action"].shape == columns["mask"].shape
    assert set(columns) == {"lengths", "mask", "action", "events", "events.lengths", "events.mask"}
    assert columns["events.lengths"].tolist() == [4, 1]


def test_many_graphs_lie_side_by_side():
    nodes = ragged([2, 3, 1], (1,))
    edges = Ragged(np.array([[0, 1], [0, 1], [1, 2]], np.int32), np.array([0, 1, 3, 3]))
    label = torch.tensor([7, 8, 9])
    rows = Rows(on_device(nodes, CPU), {"edges": on_device(edges, CPU), "y": label}, {}, "edges")
    x, columns = rows.select(torch.tensor([2, 1, 0]), lambda items: items)
    assert x[:, 0].tolist() == [6, 3, 4, 5, 1, 2]
    assert columns["graph"].tolist() == [0, 1, 1, 1, 2, 2]
    assert columns["nodes"].tolist() == [1, 3, 2]
    assert columns["edges"].tolist() == [[1, 2], [2, 3], [4, 5]]
    assert columns["edges.graph"].tolist() == [1, 1, 2]
    assert columns["y"].tolist() == [9, 8, 7]
    same = columns["graph"][columns["edges"]]
    assert torch.equal(same[:, 0], same[:, 1]), "no edge joins two graphs"


def test_what_belongs_to_the_whole_problem_comes_with_every_batch():
    edges = torch.tensor([[0, 1], [1, 2]])
    rows = Rows(torch.arange(3.0)[:, None], {}, {"edges": edges})
    for index in (None, torch.tensor([1])):
        assert torch.equal(rows.select(index, lambda items: items)[1]["edges"], edges)


def test_a_batch_gives_everything_by_name():
    batch = Batch(torch.zeros(2, 3), 10, columns={"y": torch.ones(2)})
    assert set(batch.parts) == {"x", "y"}
    assert batch.parts["x"] is batch.x


def test_an_info_made_of_shapes_has_parts_as_well():
    info = DataInfo((4,), "discrete", 10, levels=3, columns={"y": ()})
    assert info.parts == {"x": Part((4,), "discrete", 3, "sample"), "y": Part(())}
    assert info.named("sample") == ["x"]


GRAPH = Entry.model_validate(
    {
        "name": "g", "title": "g", "kind": "generated", "modality": "graph", "about": "a", "citation": "c",
        "licence": "l", "generate": "m:f",
        "splits": {
            "nodes": {"rows": 4, "columns": {
                "x": {"shape": [2], "dtype": "float32"}, "y": {"dtype": "int64"},
                "weight": {"dtype": "float32"}, "other_view": {"shape": [2], "dtype": "float32", "role": "view"},
            }},
            "edges": {"rows": 2, "columns": {"edge": {"shape": [2], "dtype": "int32"}}},
            "folds": {"rows": 1, "columns": {"train": {"dtype": "int32", "ragged": True}}},
        },
        "parts": {
            "edges": {"column": "edges.edge", "role": "edges"},
            "labelled": {"column": "folds.train", "row": 0, "role": "rows", "splits": ["train"], "reveals": "y"},
        },
    }
)  # fmt: skip
TABLES = {
    "edges": {"edge": np.array([[0, 1], [2, 3]], np.int32)},
    "folds": {"train": Ragged(np.array([1, 3], np.int32), np.array([0, 2]))},
}


def test_parts_of_one_large_graph():
    info = DataInfo((2,), "real", 4)
    train, test = parts_of(GRAPH, "nodes", info), parts_of(GRAPH, "nodes", info, "test")
    assert train["edges"] == Part((2,), "discrete", None, "edges", whole=True)
    assert [train[name].role for name in ("x", "y", "weight", "other_view")] == ["sample", "label", "weight", "view"]
    assert "labelled" in train
    assert "labelled" not in test
    whole = whole_columns(GRAPH, TABLES.__getitem__, "train")
    assert np.asarray(whole["labelled"]).tolist() == [1, 3]
    assert set(whole_columns(GRAPH, TABLES.__getitem__, "test")) == {"edges"}


def test_labels_that_are_not_given_are_hidden():
    whole = whole_columns(GRAPH, TABLES.__getitem__, "train")
    y = np.array([5, 6, 7, 8])
    assert revealed(GRAPH, {"y": y}, whole)["y"].tolist() == [-1, 6, -1, 8]
    assert y.tolist() == [5, 6, 7, 8]


def test_a_part_that_names_no_column_is_refused():
    with pytest.raises(ValueError, match=r"no column edges\.edges"):
        Entry.model_validate({**GRAPH.model_dump(), "parts": {"e": {"column": "edges.edges"}}})


def test_a_role_is_as_said_or_by_name():
    assert role_of("y", Column(dtype="int64")) == "label"
    assert role_of("y", Column(dtype="int64", role="condition")) == "condition"
    assert role_of("z", Column(dtype="int64")) == "other"


def test_ragged_tensors_know_their_length():
    assert len(RaggedTensor(torch.zeros(3), torch.tensor([0, 1, 3]))) == 2


def test_rows_of_a_sparse_matrix():
    numbers = Ragged(np.array([0, 3, 1], np.int32), np.array([0, 2, 2, 3]))
    entries = Ragged(np.array([5, 4, 1], np.int64), np.array([0, 2, 2, 3]))
    columns = {"films": on_device(numbers, CPU), "stars": on_device(entries, CPU)}
    rated = Rows(torch.zeros(3, 1), columns, {}, sparse={"films": (4, "stars")})
    _, parts = rated.select(torch.tensor([2, 0, 1]), lambda items: items)
    assert set(parts) == {"films"}
    assert parts["films"].layout == torch.sparse_csr
    assert parts["films"].to_dense().tolist() == [[0, 1, 0, 0], [5, 0, 0, 4], [0, 0, 0, 0]]
    seen = Rows(torch.zeros(3, 1), {"films": columns["films"]}, {}, sparse={"films": (4, None)})
    assert seen.select(None, lambda items: items)[1]["films"].to_dense().sum(1).tolist() == [2, 0, 1]


def test_a_sparse_column_is_declared_as_such():
    films = {"dtype": "int32", "ragged": True, "sparse": 4, "entries": "stars"}
    columns = {"x": {"dtype": "int64"}, "films": films, "stars": {"dtype": "int64", "ragged": True}}
    users = Entry.model_validate({**GRAPH.model_dump(), "parts": {}, "splits": {"u": {"rows": 3, "columns": columns}}})
    parts = parts_of(users, "u", DataInfo((), "real", 3))
    assert parts["films"] == Part((4,), "real", None, "other", sparse=True)
    assert "stars" not in parts
    assert sparse_of(users, "u") == {"films": (4, "stars")}
    wrong = {**columns, "films": {**films, "entries": "x"}}
    with pytest.raises(ValueError, match="names a ragged column"):
        Entry.model_validate({**GRAPH.model_dump(), "parts": {}, "splits": {"u": {"rows": 3, "columns": wrong}}})
