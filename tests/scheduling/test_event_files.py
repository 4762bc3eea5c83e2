"""TensorBoard's event files, read back record by record."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from latentbench.running.settings import Settings
from latentbench.scheduling.event_files import EventFiles
from PIL import Image

pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
from tensorboardX.proto.event_pb2 import Event, SessionLog

RUN = ("small", "--method", "wide", "--seeds", "1", "--jobs", "1", "--device", "cpu", "--quiet", "--wandb", "disabled")


def events(folder: Path) -> Iterator[Event]:
    """Of all files in order of time: length, its checksum, so many bytes, their checksum, and so on."""
    for path in sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]


def curves(folder: Path) -> dict[str, dict[int, float]]:
    """Scalars by name and step, as TensorBoard shows them: a session's start drops what came before of its steps on."""
    found: dict[str, dict[int, float]] = {}
    for event in events(folder):
        if event.HasField("session_log") and event.session_log.status == SessionLog.START:
            found = {k: {s: x for s, x in v.items() if s < event.step} for k, v in found.items()}
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


@pytest.mark.slow
def test_curve_numbers_and_pictures_of_a_run(project):
    project.suite()
    answer = project("run", *RUN, "--tensorboard")
    assert answer.code == 0, answer.err
    (record,) = project.records().values()
    (folder,) = (project.results / "tensorboard/small").iterdir()
    assert folder.name == record.run_id
    found = curves(folder)
    rows = (project.results / "runs/small" / record.run_id / "curve.csv").read_text().splitlines()
    names = rows[0].split(",")
    losses = {int(float(r["step"])): float(r["loss"]) for r in (dict(zip(names, row.split(","))) for row in rows[1:])}
    assert len(losses) > 1
    assert found["loss"] == pytest.approx(losses, rel=1e-6)
    last = max(losses)
    for metric in record.metrics:
        assert found[f"metric/{metric.name}"] == {last: pytest.approx(metric.value, rel=1e-6)}
    values = [v for e in events(folder) for v in e.summary.value]
    assert {v.tag for v in values if v.metadata.plugin_data.plugin_name == "hparams"} >= {
        "_hparams_/experiment",
        "_hparams_/session_start_info",
    }


@pytest.mark.slow
def test_pictures_are_those_beside_the_record(project):
    project.suite()
    assert project("run", *RUN).code == 0
    ((cell, record),) = project.records().items()
    pictures = project.results / "runs/small" / record.run_id / "pictures"
    pictures.mkdir(exist_ok=True)
    Image.new("RGB", (7, 5), (10, 200, 30)).save(pictures / "anything.png")
    (spec,) = [s for s in project.plan("cpu") if s.cell == cell]
    EventFiles(spec, Settings(project.results, tensorboard=True), record.run_id).ended(record)
    values = [v for e in events(project.results / "tensorboard/small" / record.run_id) for v in e.summary.value]
    found = {v.tag: v.image for v in values if v.HasField("image")}
    assert set(found) == {f"pictures/{path.stem}" for path in pictures.glob("*.png")}
    drawn = Image.open(io.BytesIO(found["pictures/anything"].encoded_image_string))
    assert (drawn.size, drawn.convert("RGB").getpixel((6, 4))) == ((7, 5), (10, 200, 30))


def test_no_files_unless_asked(project):
    project.suite()
    assert project("run", *RUN).code == 0
    assert not (project.results / "tensorboard").exists()


def follower(folder: Path) -> EventFiles:
    return EventFiles(SimpleNamespace(suite="small"), Settings(folder, tensorboard=True), "a-run")  # type: ignore[arg-type]


def test_a_run_that_goes_on_has_one_curve(tmp_path):
    """From its last checkpoint, which lies before the last row that was written."""
    first = follower(tmp_path)
    for step in (5, 10, 15):
        first.log({"step": step, "loss": 100.0 + step, "phase": "training", "validation": None})
    first.interrupted()
    second = follower(tmp_path)
    for step in (10, 15, 20):
        second.log({"step": step, "loss": float(step)})
    second.interrupted()
    assert curves(tmp_path / "tensorboard/small/a-run") == {"loss": {5: 105.0, 10: 10.0, 15: 15.0, 20: 20.0}}


def test_what_cannot_be_written_is_said_once(tmp_path, capsys):
    (tmp_path / "tensorboard").write_text("no folder")
    one = follower(tmp_path)
    for step in (1, 2):
        one.log({"step": step, "loss": 1.0})
    one.interrupted()
    assert capsys.readouterr().err.count("TensorBoard") == 1


def test_runs_elsewhere_and_a_missing_package_are_refused(project, monkeypatch):
    project.suite()
    answer = project("run", *RUN, "--tensorboard", "--executor", "slurm")
    assert (answer.code, "--tensorboard" in answer.err) == (2, True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    answer = project("run", *RUN, "--tensorboard")
    assert answer.code == 2
    assert "latentbench[tensorboard]" in answer.err
