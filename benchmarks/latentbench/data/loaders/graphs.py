"""Graphs. A single graph has the splits nodes and edges; of a collection, a row is a graph. Edges are undirected, each
once with the lower node first, without self-loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from latentbench.core.errors import UserError
from latentbench.data.columns import Chunk, Ragged
from latentbench.data.loaders.common import matlab, npz, table
from latentbench.data.unpickle import Sparse, arrays, dense_rows
from latentbench.declare import loader

Files = Mapping[str, Path]


def undirected(pairs: np.ndarray) -> np.ndarray:
    """Distinct edges (E, 2) int32, lower node first, sorted, without self-loops."""
    ends = np.sort(np.asarray(pairs, np.int64).reshape(-1, 2), axis=1)
    return np.unique(ends[ends[:, 0] != ends[:, 1]], axis=0).astype(np.int32)


def _folds(train: np.ndarray, test: np.ndarray) -> Chunk:
    """The Planetoid node split; its validation nodes are the 500 that follow the training nodes."""
    valid = np.arange(len(train), len(train) + 500)
    parts = {"train": train, "valid": valid, "test": test}
    return Chunk("folds", {name: Ragged.of([np.sort(rows)], np.int32) for name, rows in parts.items()})


@loader("planetoid")
def load_planetoid(files: Files) -> Iterator[Chunk]:
    """Cora, Citeseer or PubMed (Sen et al. 2008) in the Planetoid split (Yang et al. 2016), as a numpy archive."""
    path = next(iter(files.values()))
    found = npz(path)
    columns: dict[str, np.ndarray] = {"y": found["labels"].astype(np.int64)}
    if "x_data" in found:
        parts = (found["x_data"], found["x_indices"], found["x_indptr"])
        columns["x"] = _dense(lambda: dense_rows(*parts, found["x_shape"]), path).astype(np.float32)
    yield Chunk("nodes", columns)
    yield Chunk("edges", {"edge": undirected(found["edges"])})
    yield _folds(found["train_index"], found["test_index"])


@loader("planetoid-pickles", pickles=True)
def load_planetoid_pickles(files: Files) -> Iterator[Chunk]:
    """The official files ind.<name>.{x,y,tx,ty,allx,ally,graph,test.index}, of whose pickles nothing is called.

    Nodes of the test set stand in the order of test.index; those missing from it (Citeseer) have no features and
    label -1.
    """
    part: dict[str, Any] = {}
    for name, path in files.items():
        key = name.split(".", 2)[2]
        part[key] = table(path, dtype=np.int64).reshape(-1) if key == "test.index" else arrays(path.read_bytes(), path)
    for key in ("allx", "tx"):
        if not isinstance(part[key], Sparse):
            raise UserError(f"{key} is not a sparse matrix", where=files[next(iter(files))].parent)
    folder = files[next(iter(files))].parent
    known, rest = (_dense(part[key].dense, folder) for key in ("allx", "tx"))
    test = part["test.index"]
    if len(test) != len(rest) or test.min() < len(known) or test.max() >= len(known) + 2 * len(rest) + 1000:
        raise UserError("the nodes of test.index are not those of tx", where=folder)
    total = max(len(known) + len(rest), int(test.max()) + 1)
    x = np.zeros((total, known.shape[1]), np.float32)
    y = np.full(total, -1, np.int64)
    x[: len(known)], x[test] = known, rest
    y[: len(known)], y[test] = _classes(part["ally"]), _classes(part["ty"])
    yield Chunk("nodes", {"x": x, "y": y})
    try:
        pairs = np.array([(node, other) for node, others in part["graph"].items() for other in others], np.int64)
    except (AttributeError, TypeError, ValueError, OverflowError) as e:
        raise UserError(f"graph is no mapping of nodes to nodes: {e}", where=folder) from e
    yield Chunk("edges", {"edge": undirected(pairs)})
    yield _folds(np.arange(len(part["y"])), test)


def _dense(made: Callable[[], np.ndarray], where: Path) -> np.ndarray:
    try:
        return made()
    except (ValueError, TypeError, KeyError, IndexError) as e:
        raise UserError(f"damaged: {e}", where=where) from e


def _classes(one_hot: np.ndarray) -> np.ndarray:
    """(N, classes) of 0 and 1 -> (N,) int64, -1 where no class is marked."""
    return np.where(one_hot.any(axis=1), one_hot.argmax(axis=1), -1).astype(np.int64)


@loader("blogcatalog")
def load_blogcatalog(files: Files) -> Iterator[Chunk]:
    """BlogCatalog (Tang & Liu 2009): y (N, 39) uint8 marks the groups of a blogger."""
    content = matlab(files["blogcatalog.mat"], "network", "group")
    network = content["network"].tocoo()
    yield Chunk("nodes", {"y": content["group"].toarray().astype(np.uint8)})
    yield Chunk("edges", {"edge": undirected(np.column_stack([network.row, network.col]))})


@loader("tu")
def load_tu(files: Files) -> Iterator[Chunk]:
    """A collection of the TU benchmark (Morris et al. 2020): edges, node labels and a class for each graph.

    edges (E, 2) int32 number the nodes of their own graph from 0; labels and classes count from 0.
    """

    def part(kind: str) -> Path:
        return next(path for name, path in files.items() if name.removesuffix(".gz").endswith(f"_{kind}.txt"))

    pairs = table(part("A"), ",", dtype=np.int64) - 1
    graph = table(part("graph_indicator"), dtype=np.int64)[:, 0] - 1
    node_labels = table(part("node_labels"), dtype=np.int64)[:, 0]
    labels_of_graphs = table(part("graph_labels"), dtype=np.int64)[:, 0]
    n = len(labels_of_graphs)
    first = np.searchsorted(graph, np.arange(n + 1))
    if len(node_labels) != len(graph) or (np.diff(graph) < 0).any() or graph[-1] != n - 1:
        raise UserError("node and graph numbers do not fit together", where=part("A").parent)
    edges = undirected(pairs).astype(np.int64)
    owner = graph[edges[:, 0]]
    if (owner != graph[edges[:, 1]]).any():
        raise UserError("an edge joins two graphs", where=part("A"))
    local = (edges - first[owner][:, None]).astype(np.int32)
    starts = np.searchsorted(owner, np.arange(n + 1)).astype(np.int64)
    yield Chunk(
        "all",
        {
            "edges": Ragged(local, starts),
            "node_labels": Ragged(_from_zero(node_labels).astype(np.int32), first.astype(np.int64)),
            "y": _from_zero(labels_of_graphs),
        },
    )


def _from_zero(labels: np.ndarray) -> np.ndarray:
    numbers: np.ndarray = np.unique(labels, return_inverse=True)[1]
    return numbers.reshape(-1).astype(np.int64)
