"""Rows of a split on a device, by named parts: fixed-size rows, ragged ones, graphs, and what all of them share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from latentbench.data.columns import AnyColumn, Ragged


@dataclass(frozen=True)
class RaggedTensor:
    """Rows of varying length, laid end to end: row i is ``values[offsets[i]:offsets[i + 1]]``."""

    values: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """(rows,) int64."""
        return self.offsets.diff()

    def select(self, index: Tensor) -> RaggedTensor:
        """The rows at `index`, in its order."""
        lengths = self.lengths.index_select(0, index)
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        shift = (self.offsets.index_select(0, index) - offsets[:-1]).repeat_interleave(lengths)
        return RaggedTensor(self.values.index_select(0, shift + torch.arange(len(shift), device=shift.device)), offsets)

    @property
    def mask(self) -> Tensor:
        """(rows, longest) bool: where a padded row holds an item."""
        lengths = self.lengths
        longest = int(lengths.max()) if len(lengths) else 0
        return torch.arange(longest, device=lengths.device) < lengths[:, None]

    def padded(self) -> Tensor:
        """(rows, longest, *item): zeros behind the end of a row."""
        mask = self.mask
        out = self.values.new_zeros((*mask.shape, *self.values.shape[1:]))
        out[mask] = self.values
        return out


def on_device(column: AnyColumn, device: torch.device) -> Tensor | RaggedTensor:
    """A column as tensors."""
    if isinstance(column, Ragged):
        return RaggedTensor(
            torch.from_numpy(column.values.copy()).to(device),
            torch.from_numpy(column.offsets.astype("int64")).to(device),
        )
    return torch.from_numpy(column[:].copy()).to(device)


@dataclass(frozen=True)
class Rows:
    """A split.

    Attributes:
        main: the main part.
        columns: further parts, a row each for every row of the main one.
        whole: parts of the whole problem.
        edges: name of the column that holds the edges of each row, where rows are graphs.
        sparse: columns that are rows of a sparse matrix: name -> its width, and the column of the entries, if any.
    """

    main: Tensor | RaggedTensor
    columns: Mapping[str, Tensor | RaggedTensor]
    whole: Mapping[str, Tensor]
    edges: str | None = None
    sparse: Mapping[str, tuple[int, str | None]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.main)

    def select(self, index: Tensor | None, values: Callable[[Tensor], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The main part and all others of the rows at `index` (of all rows, where it is None), as a `Batch` has them.

        Args:
            values: preprocessing of items of the main part, (items, *stored) to (items, *shape).
        """
        main = _select(self.main, index)
        others = {name: _select(column, index) for name, column in self.columns.items()}
        for name, (width, entries) in self.sparse.items():
            others[name] = _csr(others[name], width, others.pop(entries) if entries else None)
        if isinstance(main, Tensor):
            return values(main), {**_padded(others, None), **self.whole}
        main = RaggedTensor(values(main.values), main.offsets)
        if self.edges is not None:
            return main.values, {**_side_by_side(others, main, self.edges), **self.whole}
        return main.padded(), {"lengths": main.lengths, "mask": main.mask, **_padded(others, main), **self.whole}


def _select(column: Tensor | RaggedTensor, index: Tensor | None) -> Tensor | RaggedTensor:
    if index is None:
        return column
    # far faster than column[index]
    return column.select(index) if isinstance(column, RaggedTensor) else column.index_select(0, index)


def _csr(numbers: Tensor | RaggedTensor, width: int, entries: Tensor | RaggedTensor | None) -> Tensor:
    """(N, width) float32 in compressed rows."""
    assert isinstance(numbers, RaggedTensor)
    columns = numbers.values.long()
    values = entries.values.float() if isinstance(entries, RaggedTensor) else torch.ones_like(columns).float()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        size = (len(numbers), width)
        return torch.sparse_csr_tensor(numbers.offsets, columns, values, size, check_invariants=True)


def _padded(columns: Mapping[str, Tensor | RaggedTensor], main: RaggedTensor | None) -> dict[str, Tensor]:
    """Ragged columns padded; those whose lengths are not the main part's have their own beside them."""
    out: dict[str, Tensor] = {}
    for name, column in columns.items():
        if isinstance(column, Tensor):
            out[name] = column
            continue
        out[name] = column.padded()
        if main is None or not torch.equal(column.offsets, main.offsets):
            out |= {f"{name}.lengths": column.lengths, f"{name}.mask": column.mask}
    return out


def _side_by_side(columns: Mapping[str, Tensor | RaggedTensor], nodes: RaggedTensor, edges: str) -> dict[str, Tensor]:
    """Graphs as one graph of several components: node numbers go on counting from graph to graph."""
    out: dict[str, Tensor] = {}
    graphs = torch.arange(len(nodes), device=nodes.offsets.device)
    for name, column in columns.items():
        if isinstance(column, Tensor):
            out[name] = column
        elif name == edges:
            out[name] = column.values + nodes.offsets[:-1].repeat_interleave(column.lengths)[:, None]
            out[f"{name}.graph"] = graphs.repeat_interleave(column.lengths)
        else:
            out[name] = column.values
    return {**out, "graph": graphs.repeat_interleave(nodes.lengths), "nodes": nodes.lengths}
