"""Made-up data of every kind that a model may be declared for: few rows, with structure, in awkward shapes.

Height, width and number of coordinates differ, so that axes which are mixed up show. `Example.data` names a kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Generator, Tensor

from latentbench.core.errors import UserError, did_you_mean
from latentbench.core.types import DataInfo, Part, Support

#: Rows of a made-up training set.
N = 24

Shape = tuple[int, ...]
Columns = dict[str, Tensor]


@dataclass(frozen=True)
class Rows:
    """Preprocessed training rows.

    Attributes:
        x: (N, *shape) float32.
        info: what a model may know of them.
        columns, whole: further parts, of each row, and of all rows together.
    """

    x: Tensor
    info: DataInfo
    columns: Columns = field(default_factory=dict)
    whole: Columns = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """A kind of made-up data.

    Attributes:
        shape, support, levels: as in `DataInfo`.
        make: from the number of rows, this kind and a generator to rows and their columns.
        whole: likewise the parts that belong to all rows together; where there are some, rows refer to one another.
        small: shapes and levels of the same kind over which a density can be summed or integrated, the smallest first.
    """

    shape: Shape
    support: Support
    levels: int | None = None
    make: Callable[[int, Kind, Generator], tuple[Tensor, Columns]] = lambda n, kind, g: (clusters(n, kind, g), {})
    small: tuple[tuple[Shape, int | None], ...] = ()
    whole: Callable[[int, Generator], Columns] | None = None


def clusters(n: int, kind: Kind, generator: Generator) -> Tensor:
    """Two clusters of values of the kind's support, (n, *shape); real coordinates depend on the one before."""
    middle = torch.randn(2, *kind.shape, generator=generator)[torch.arange(n) % 2]
    y = middle + 0.5 * torch.randn(n, *kind.shape, generator=generator)
    if kind.support == "real":
        y = y.flatten(1)
        y[:, 1:] += 0.8 * y[:, :-1].clone()
        y = y.view(n, *kind.shape)
    if kind.support == "binary":
        return (y > 0).float()
    if kind.support == "unit":
        return torch.sigmoid(y)
    return torch.floor(torch.sigmoid(y) * (kind.levels or 1)) if kind.support == "discrete" else y


def _pairs(n: int, kind: Kind, generator: Generator) -> tuple[Tensor, Columns]:
    """Unpaired points of two distributions, (n, 2, D): about the origin, and in two clusters."""
    source = torch.randn(n, kind.shape[1], generator=generator)
    return torch.stack([source, clusters(n, replace(kind, shape=kind.shape[1:]), generator) + 1.0], 1), {}


def _labelled(n: int, kind: Kind, generator: Generator) -> tuple[Tensor, Columns]:
    """Rows whose label is the cluster that they come from."""
    return clusters(n, kind, generator), {"y": torch.arange(n) % 2}


def _series(n: int, kind: Kind, generator: Generator) -> tuple[Tensor, Columns]:
    """Turning points (n, T, 2) with two directions `y`, of which as many as `observed` flags say are observed."""
    time, start = torch.linspace(0.0, 3.0, kind.shape[0]), torch.rand(n, 1, generator=generator)
    way = torch.arange(n) % 2
    angle = 3.0 * start + (2.0 * way[:, None] - 1.0) * time
    x = torch.stack([angle.cos(), angle.sin()], -1) + 0.1 * torch.randn(n, *kind.shape, generator=generator)
    seen = torch.rand(n, kind.shape[0], generator=generator).argsort(1).argsort(1) < (kind.shape[0] + 1) // 2
    return x, {"observed": seen.float(), "y": way}


def _tokens(n: int, kind: Kind, generator: Generator) -> tuple[Tensor, Columns]:
    """Sentences of words 1 .. levels - 1, padded with the end mark 0; one is empty, one has no end mark."""
    words = clusters(n, replace(kind, levels=(kind.levels or 2) - 1), generator) + 1.0
    lengths = torch.randint(1, kind.shape[0] + 1, (n,), generator=generator)
    lengths[:2] = torch.tensor([0, kind.shape[0]])
    return words * (torch.arange(kind.shape[0]) < lengths[:, None]), {}


def _edges(n: int, generator: Generator) -> Columns:
    """A ring with some chords, each edge once, its smaller node first, (E, 2); no node is without neighbours."""
    ring = torch.stack([torch.arange(n - 1), torch.arange(1, n)], 1)
    chords = torch.randint(0, n, (n, 2), generator=generator).sort(1).values
    chords = chords[chords[:, 1] - chords[:, 0] > 1]
    return {"edges": torch.cat([ring, chords]).unique(dim=0)}


KINDS: dict[str, Kind] = {
    "binary-vector": Kind((12,), "binary", small=(((4,), None), ((6,), None))),
    "binary-image": Kind((1, 9, 8), "binary", small=(((1, 2, 3), None), ((1, 2, 4), None), ((1, 4, 4), None))),
    "unit-vector": Kind((10,), "unit", small=(((1,), None), ((2,), None))),
    "unit-image": Kind((1, 9, 8), "unit", small=(((1, 1, 2), None), ((1, 2, 2), None))),
    "real-vector": Kind((5,), "real", small=(((2,), None), ((3,), None))),
    "real-image": Kind((1, 8, 8), "real", small=(((1, 1, 2), None), ((1, 2, 2), None), ((1, 4, 4), None))),
    "rgb-image": Kind((3, 8, 8), "real", small=(((3, 1, 1), None), ((3, 2, 2), None))),
    "discrete-vector": Kind((7,), "discrete", 6, small=(((3,), 3), ((4,), 3))),
    "discrete-image": Kind((1, 8, 8), "discrete", 4, small=(((1, 2, 3), 3), ((1, 2, 4), 3), ((1, 4, 4), 2))),
    "tokens": Kind((6,), "discrete", 5, _tokens, small=(((3,), 3),)),
    "pairs": Kind((2, 3), "real", None, _pairs),
    "labelled": Kind((1, 13, 12), "unit", None, _labelled),
    "graph": Kind((5,), "real", whole=_edges),
    "sequence": Kind((11, 2), "real", None, _series),
}


def kind(name: str) -> Kind:
    """The kind that an example names.

    Raises:
        UserError: there is none of that name.
    """
    if name not in KINDS:
        raise UserError(f"no made-up data of kind {name!r}", fix=did_you_mean(name, KINDS))
    return KINDS[name]


def rows(of: Kind, n: int = N, seed: int = 1) -> Rows:
    """`n` rows of a kind, the same for the same seed."""
    draws = torch.Generator().manual_seed(seed)
    x, columns = of.make(n, of, draws)
    whole = of.whole(n, draws) if of.whole else {}
    shapes: Mapping[str, Shape] = {k: tuple(v.shape[1:]) for k, v in columns.items()}
    parts = {k: Part(tuple(v.shape[1:]), role="edges", whole=True) for k, v in whole.items()}
    return Rows(x, DataInfo(of.shape, of.support, n, of.levels, x.mean(0), shapes, parts), columns, whole)


def smaller(of: Kind) -> Iterator[Kind]:
    """The same kind in its small shapes."""
    for shape, levels in of.small:
        yield replace(of, shape=shape, levels=levels, small=())
