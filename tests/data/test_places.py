"""Wind at stations and tracks of pedestrians, on small files of their form."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.data.loaders.places import degrees, load_pedestrians, load_wind_stations

WIND = "year,month,day,ROS,DUB\n61,1,2,15.04,14.96\n78,12,31,0,1.5\n"
PLACES = """Station,Code,Latitude,Longitude,MeanWind
Dublin,DUB,53d26'N,6d15'W,5.05
Rosslare,ROS,"52d16'56.791""N","6d21'25.056""E",6.0
"""


def written(folder, **texts):
    files = {f"{name.replace('__', '.')}.gz": text for name, text in texts.items()}
    for name, text in files.items():
        (folder / name).write_bytes(gzip.compress(text.encode(), mtime=0))
    return {name: folder / name for name in files}


def test_stations_stand_in_the_order_of_their_columns(tmp_path):
    days, stations = load_wind_stations(written(tmp_path, wind__csv=WIND, wind__loc__csv=PLACES))
    assert days.columns["x"].tolist() == [[15.04, 14.96], [0, 1.5]]
    assert days.columns["date"].tolist() == [[1961, 1, 2], [1978, 12, 31]]
    assert stations.columns["code"].texts() == ["ROS", "DUB"]
    assert stations.columns["name"].texts() == ["Rosslare", "Dublin"]
    assert stations.columns["mean"].tolist() == [6.0, 5.05]
    np.testing.assert_allclose(
        stations.columns["place"],
        [[52 + 16 / 60 + 56.791 / 3600, 6 + 21 / 60 + 25.056 / 3600], [53 + 26 / 60, -6.25]],
        rtol=1e-15,
    )


@pytest.mark.parametrize("angle", ["", "53", "53d26'", "53d26'Q", "53d26'10N", "-53d26'N"])
def test_what_is_no_angle(tmp_path, angle):
    assert degrees("10d30'S", tmp_path) == -10.5
    with pytest.raises(UserError):
        degrees(angle, tmp_path)


def test_stations_of_another_file(tmp_path):
    with pytest.raises(UserError):
        list(load_wind_stations(written(tmp_path, wind__csv=WIND, wind__loc__csv=PLACES.replace("ROS,", "RPT,"))))


def test_a_scene_a_split(tmp_path):
    files = written(tmp_path, one__txt="780\t1.0\t8.46\t-3.59\n780 2.0 9 1\n790 1.0 9.57 3.79\n", two__txt="0 7 1 2\n")
    one, two = load_pedestrians(files, {"one.txt.gz": "eth", "two.txt.gz": "hotel"})
    assert (one.split, two.split) == ("eth", "hotel")
    assert one.columns["x"].tolist() == [[8.46, -3.59], [9, 1], [9.57, 3.79]]
    assert one.columns["frame"].tolist() == [780, 780, 790]
    assert one.columns["person"].tolist() == [1, 2, 1]
    assert two.columns["person"].tolist() == [7]


@pytest.mark.parametrize("text", ["780 1 8\n", "790 1 8 3\n780 1 8 3\n", "780 1.5 8 3\n", "780 one 8 3\n"])
def test_what_are_no_tracks(tmp_path, text):
    with pytest.raises(UserError):
        list(load_pedestrians(written(tmp_path, one__txt=text), {"one.txt.gz": "eth"}))
