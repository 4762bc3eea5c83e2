"""What is measured at places: the wind at stations, the tracks of pedestrians."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from latentbench.core.errors import UserError
from latentbench.data import archive
from latentbench.data.columns import Chunk, Ragged
from latentbench.data.loaders.common import find, table
from latentbench.declare import loader

Files = Mapping[str, Path]
_ANGLE = re.compile(r"""(\d+)d(\d+)'(?:([\d.]+)")?([NSEW])""")


@loader("wind-stations")
def load_wind_stations(files: Files) -> Iterator[Chunk]:
    """Irish wind (Haslett & Raftery 1989), a day a row: x (N, stations) in knots; date (3,) int32: year, month, day.

    Split stations, in the order of x: code and name; place (2,) float64: degrees north and east; mean in m/s.
    """
    path = find(files, "wind.csv")
    codes = archive.text(path).splitlines()[0].split(",")[3:]
    values = table(path, ",", skip=1)
    date = values[:, :3] + np.array([1900, 0, 0])
    yield Chunk("all", {"x": np.ascontiguousarray(values[:, 3:]), "date": date.astype(np.int32)})
    path = find(files, "wind.loc.csv")
    rows = {row["Code"]: row for row in csv.DictReader(io.StringIO(archive.text(path)))}
    if set(rows) != set(codes):
        raise UserError("its stations are not those of the wind", where=path)
    ordered = [rows[code] for code in codes]
    yield Chunk(
        "stations",
        {
            "code": Ragged.of_text(codes),
            "name": Ragged.of_text(row["Station"] for row in ordered),
            "place": np.array([[degrees(row[k], path) for k in ("Latitude", "Longitude")] for row in ordered]),
            "mean": np.array([float(row["MeanWind"]) for row in ordered]),
        },
    )


def degrees(angle: str, where: Path) -> float:
    """Degrees of ``52d16'56.8"N``, of which seconds may be left out; negative in the south and the west."""
    match = _ANGLE.fullmatch(angle)
    if match is None:
        raise UserError(f"no latitude or longitude: {angle!r}", where=where)
    whole, minutes, seconds, side = match.groups()
    size = int(whole) + int(minutes) / 60 + float(seconds or 0) / 3600
    return -size if side in "SW" else size


@loader("pedestrians")
def load_pedestrians(files: Files, splits: Mapping[str, str]) -> Iterator[Chunk]:
    """ETH and UCY (Pellegrini et al. 2009; Lerner et al. 2007), a split a scene, a row a person in a frame.

    x (2,) float64 in metres; frame and person int32. Rows are in the order of their frames.

    Args:
        splits: file -> split.
    """
    for name, split in splits.items():
        path = files[name]
        values = table(path)
        whole = values[:, :2].astype(np.int32)
        if values.shape[1] != 4 or (whole != values[:, :2]).any() or (np.diff(whole[:, 0]) < 0).any():
            raise UserError("not frame, person, x and y, in the order of frames", where=path)
        columns = {"x": np.ascontiguousarray(values[:, 2:]), "frame": whole[:, 0].copy(), "person": whole[:, 1].copy()}
        yield Chunk(split, columns)
