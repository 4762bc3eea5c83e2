"""Pictures of what runs have learned: whatever model and data allow, and never at the cost of the run."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentbench.pictures import drawing, making
from latentbench.records.packing import pack_records
from latentbench.records.pictures import FOLDER, KINDS, MOST_BYTES, pictures_in, pictures_of
from PIL import Image

from tests.project import REPOSITORY, Project

METHODS = {
    "vae": {"model": "vae", "params": {"latent_dim": 3, "hidden": [16]}},
    "layers": {"model": "hierarchical-vae", "params": {"latent_dims": [5, 2], "hidden": [[16], [8]]}},
    "flow": {"model": "coupling-flow", "params": {"couplings": 2}},
}
IMAGES = {
    "datasets": {"digits": {"preprocess": ["flatten", {"binarise": "dynamic"}]}},
    "methods": {k: METHODS[k] for k in ("vae", "layers")},
    "metrics": {"elbo": {"metric": "nll_iw", "settings": {"k": 2}}},
    "tiers.smoke": {"seeds": 2, "training": {"epochs": 1}, "limit": {"train": 80, "test": 60}},
}


@pytest.fixture
def plane(own_data: Path) -> dict[str, Any]:
    """Changes to the tests' suite for data of two coordinates."""
    shutil.copy(REPOSITORY / "data/registry/two-moons.yaml", own_data / "registry")
    return {
        "datasets": {"two-moons": {"preprocess": ["standardise"]}},
        "methods": {"flow": METHODS["flow"]},
        "metrics": {"nll": {}},
        "tiers.smoke": {"seeds": 1, "training": {"epochs": 1}, "limit": {"train": 80, "test": 60}},
    }


def run(project: Project, changes: dict[str, Any], *options: str):
    project.suite(changes)
    answer = project.run("small", "--tier", "smoke", *options)
    assert answer.code == 0, answer.err
    return answer


def folders(project: Project) -> dict[str, Any]:
    """The folder of each run by cell."""
    return {p.parent.name.rpartition("--")[0]: p.parent for p in project.results.glob("runs/small/*/record.json")}


def test_images_are_sampled_reconstructed_and_traversed(project):
    run(project, IMAGES)
    found = folders(project)
    for method in ("vae", "layers"):
        pictures = pictures_of(found[f"{method}--digits--smoke--s0"] / "record.json")
        kinds = [p.kind for p in pictures]
        assert kinds == [k for k in KINDS if k in kinds]
        assert {"samples", "reconstructions", "traversals", "interpolations", "codes"} <= set(kinds)
        assert sum(p.path.stat().st_size for p in pictures) <= MOST_BYTES
        for p in pictures:
            with Image.open(p.path) as image:
                image.load()
                assert image.size == (p.width, p.height)
        assert not (found[f"{method}--digits--smoke--s1"] / FOLDER).exists(), "one seed of a method has them"


def test_reconstructions_stand_below_their_rows(project):
    run(project, {**IMAGES, "tiers.smoke.seeds": 1})
    (path,) = folders(project)["vae--digits--smoke--s0"].glob("pictures/reconstructions.png")
    shades = np.asarray(Image.open(path).convert("L")).astype(int)
    side = (shades.shape[1] + drawing.GAP) // making.COLUMNS - drawing.GAP
    real = shades[:side, :side]
    assert set(np.unique(real // 128)) <= {0, 1}
    assert real.max() > 200
    assert real.min() < 50, "a binarised digit has both"


def test_densities_and_samples_of_two_coordinates(project, plane):
    run(project, plane)
    pictures = pictures_of(folders(project)["flow--two-moons--smoke--s0"] / "record.json")
    assert {"plane", "density"} <= {p.kind for p in pictures}
    density = next(p for p in pictures if p.kind == "density")
    assert len(np.unique(np.asarray(Image.open(density.path).convert("L")))) > 10


def test_what_follows_a_series_beside_the_forecast_of_it(project, own_data):
    shutil.copy(REPOSITORY / "suites/neural-ode/data/spirals-two-way.yaml", own_data / "registry")
    changes = {
        "datasets": {"spirals-two-way": {"protocol": "1k-1k"}},
        "methods": {"rnn": {"model": "recurrent-predictor", "params": {"width": 4, "observed": "observed30"}}},
        "metrics": {"forecast_rmse": {}},
        "tiers.smoke": {"seeds": 1, "training": {"epochs": 1}, "limit": {"train": 40, "test": 20}},
    }
    run(project, changes)
    [picture] = pictures_of(folders(project)["rnn--spirals-two-way--smoke--s0"] / "record.json")
    assert picture.kind == "forecast"
    shown = np.asarray(Image.open(picture.path).convert("RGB")).reshape(-1, 3).astype(int)
    for colour in (drawing.COLOURS[i] for i in (7, 1, 0)):
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        assert (np.abs(shown - wanted).max(1) < 24).sum() > 20, f"nothing in {colour}"


def test_a_run_is_the_same_with_and_without(project):
    def made(*options: str) -> dict[str, Any]:
        shutil.rmtree(project.results, ignore_errors=True)
        run(project, IMAGES, *options)
        found = {}
        for cell, folder in folders(project).items():
            record = json.loads((folder / "record.json").read_text())
            told = {k: record[k] for k in ("fingerprint", "hashes", "spec", "status", "outcomes")}
            weights = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
            metrics = [(m["value"], m["se"]) for m in record["metrics"]]
            found[cell] = told, metrics, weights, sorted(record["files"])
        return found

    with_them = made()
    assert list(project.results.rglob("*.png"))
    assert made("--no-pictures") == with_them
    assert not list(project.results.rglob("*.png"))


def test_they_are_made_again_to_the_same_bytes(project):
    run(project, {**IMAGES, "tiers.smoke.seeds": 1})
    folder = folders(project)["vae--digits--smoke--s0"]
    first = {p.name: p.read_bytes() for p in (folder / FOLDER).iterdir()}
    shutil.rmtree(folder / FOLDER)
    answer = project("pictures", folder.name)
    assert answer.code == 0, answer.err
    assert len(answer.out.splitlines()) == len(first)
    assert {p.name: p.read_bytes() for p in (folder / FOLDER).iterdir()} == first


def test_of_a_suite_one_seed_of_each_method(project):
    run(project, IMAGES, "--no-pictures")
    assert project("pictures", "small").code == 0
    having = {cell for cell, folder in folders(project).items() if (folder / FOLDER).is_dir()}
    assert having == {"vae--digits--smoke--s0", "layers--digits--smoke--s0"}


def test_without_weights_it_says_what_to_run(project):
    run(project, {**IMAGES, "tiers.smoke.seeds": 1}, "--no-weights")
    assert not list(project.results.rglob("*.png"))
    answer = project("pictures", "small")
    assert answer.code == 2
    assert "latentbench run small" in answer.err
    assert project("pictures", "nothing-such").code == 2


def test_a_picture_that_cannot_be_made_costs_no_run(project, monkeypatch):
    def broken(*_: Any) -> Any:
        raise ValueError("no picture of this")
        yield

    monkeypatch.setattr(making, "make", broken)
    answer = run(project, {**IMAGES, "tiers.smoke.seeds": 1})
    assert "no pictures of vae--digits" in answer.err
    assert {r.status for r in project.records().values()} == {"finished"}


def test_a_model_that_is_no_module_may_call_its_settings_training():
    data = SimpleNamespace(splits={"test": np.zeros((3, 1))}, entry=SimpleNamespace(modality="table"))
    assert list(making.make(SimpleNamespace(training={"steps": 3}), data, SimpleNamespace(seeds={}))) == []


def test_packing_takes_them_along_and_the_site_shows_them(project, plane):
    changes = {**plane, "tiers.cpu": {"seeds": 1, "training": {"epochs": 1}, "limit": {"train": 80, "test": 60}}}
    project.suite(changes)
    assert project.run("small", "--tier", "cpu").code == 0
    (packed,) = pack_records(project.results.glob("runs/small/*/record.json"), project.results)
    assert packed.pictures >= 2
    shutil.rmtree(project.results / "runs")
    assert project("report").code == 0
    page = (project.results / "site/papers/small.html").read_text()
    copied = list((project.results / "site/pictures").rglob("*.png"))
    assert {p.name for p in copied} >= {"plane.png", "density.png"}
    for p in copied:
        assert f'src="../pictures/small/{p.parent.name}/{p.name}"' in page


@pytest.mark.parametrize("content", [b"", b"<script>", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"GIF89a" + b"\0" * 40])
def test_what_is_no_picture_is_passed_over(tmp_path, content):
    (tmp_path / "samples.png").write_bytes(content)
    (tmp_path / "evil.png").write_bytes(content)
    (tmp_path / "codes.png").symlink_to("/etc/hostname")
    assert pictures_in(tmp_path) == []
    assert pictures_in(tmp_path / "none") == []


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_sheets_hold_what_they_are_given(shape, colour, seed):
    images = np.random.default_rng(seed).integers(0, 2, (*shape, 3) if colour else shape).astype(float)
    png = drawing.sheet(images, 0.0, 1.0, 10**9)
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    rows, columns, height, width = shape
    factor = (pixels.shape[0] + drawing.GAP) // rows - drawing.GAP
    factor //= height
    assert pixels.shape[1] == columns * (width * factor + drawing.GAP) - drawing.GAP
    for i in range(rows):
        for j in range(columns):
            top, left = i * (height * factor + drawing.GAP), j * (width * factor + drawing.GAP)
            own = pixels[top : top + height * factor : factor, left : left + width * factor : factor]
            want = images[i, j] * 255 if colour else np.repeat(images[i, j][..., None], 3, 2) * 255
            assert np.abs(own - want).max() <= 40


def test_sheets_give_up_rows_for_their_budget():
    images = np.random.default_rng(0).random((8, 10, 28, 28))
    whole = drawing.sheet(images, 0, 1, 10**9)
    half = drawing.sheet(images, 0, 1, len(whole) // 2)
    assert len(half) <= len(whole) // 2
    assert Image.open(io.BytesIO(half)).height < Image.open(io.BytesIO(whole)).height
