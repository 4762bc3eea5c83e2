"""Sample metrics in suites: names, spaces, controls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import Diverged, UserError
from latentbench.core.seeds import generator
from latentbench.data.registry import Column
from latentbench.evaluation import extraction, samples, space
from latentbench.metrics import samples as metric
from latentbench.spec.registry import metrics

from tests.evaluation.views import view_of

#: All sample metrics of the registry that need no download.
NAMES = [n for n, e in metrics().items() if ".samples:" in e.target and not n.endswith("inception")]


class Draws:
    """Samples from rows that it was given, in model space."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def sample(self, n, g):
        return self.rows[torch.randint(len(self.rows), (n,), generator=g)]


def digits(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 12, 12) uint8 images with a bright bar whose place is the class; classes in turn."""
    y = np.arange(n) % 3
    x = np.random.default_rng(seed).integers(0, 60, (n, 12, 12))
    for k in range(3):
        x[y == k, 4 * k : 4 * k + 3] += 150
    return x.astype(np.uint8), y


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def view(folder, monkeypatch):
    monkeypatch.setenv("LATENTBENCH_DATA", str(folder))
    x, y = digits(300, 0)
    return view_of(x, ["to_unit", "flatten"], train=digits(300, 1)[0], columns={"y": y}, levels=256)


def settings_of(name: str, **changes):
    small = {"samples": 250, "projections": 50, "classifier": "linear", "subset_size": 100, "subsets": 20}
    own = metrics()[name].settings
    return {**own, **{k: v for k, v in small.items() if k in own}, **changes}


def measure(name, model, view, **changes):
    return getattr(samples, name)(model, view, settings_of(name, **changes), generator(0, "evaluation", name))


@pytest.mark.parametrize("name", NAMES)
def test_real_rows_as_samples_score_as_the_control_and_noise_does_not(name, view):
    """A sampler of held-out rows is as good as real; one of noise is worse, by the metric's own direction."""
    fresh = view_of(digits(300, 2)[0], ["to_unit", "flatten"], levels=256).x
    good = measure(name, Draws(fresh), view)
    noise = measure(name, Draws(torch.rand(300, 144, generator=generator(1, "noise"))), view)
    control = good.details["real_against_real"]
    assert good.details["extractor_identity"]
    if name.startswith("copying"):  # noise is far from the training rows: no copying
        assert abs(good.value) < 3 < noise.value
    elif name.startswith("vendi"):
        assert good.value == pytest.approx(control, rel=0.1)
    elif name.startswith("density") and name.endswith("pixels"):
        assert good.value > noise.value
    else:
        sign = 1 if metrics()[name].better == "higher" else -1
        assert sign * (good.value - noise.value) > 0
        assert abs(good.value - control) < abs(noise.value - control)


def test_copies_of_the_training_set_are_told(view):
    copies = measure("copying_pixels", Draws(view.train.x), view, cells=1)
    assert copies.value < -3
    assert abs(copies.details["real_against_real"]) < 3


def test_features_are_those_of_the_stored_rows_after_preprocessing(view):
    found = measure("fid_pixels", Draws(view.train.x), view, samples=300, reference="train")
    x, z = (v.raw.reshape(300, -1) / 255 for v in (view.train, view))
    assert found.details["real_against_real"] == pytest.approx(metric.frechet_distance(x, z), rel=1e-4)
    assert found.details["n_real"] == 300
    # bits are compared with bits: the same rows, binarised, are no distance away
    bits = view_of(view.raw, ["flatten", {"binarise": "deterministic"}], levels=256)
    same = samples.fid_pixels(Draws(bits.x[:1]), bits, settings_of("fid_pixels"), generator(0, "evaluation"))
    assert same.value > same.details["real_against_real"]
    assert set(np.unique(space.stored(bits, bits.x))) == {0.0, 1.0}


def test_vectors_are_compared_in_stored_units():
    x = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32) * [1, 100] + 7
    view = view_of(x.astype(np.float32), ["standardise"])
    assert np.allclose(space.stored(view, view.x), x, rtol=1e-4)
    shifted = measure("sliced_wasserstein", Draws(view.x + torch.tensor([0.0, 1.0])), view, samples=400)
    assert shifted.value > 30 > shifted.details["real_against_real"]
    with pytest.raises(UserError, match="needs images"):
        measure("fid_random", Draws(view.x), view)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_pixels_run_to_255_whatever_the_levels(levels):
    x = np.random.default_rng(0).integers(0, levels, (20, 8, 8)).astype(np.uint8)
    x[0, 0, 0] = levels - 1
    view = view_of(x, ["dequantise", {"logit": 0.01}] if levels == 256 else ["flatten"], levels=levels)
    images = extraction.images(view, view.x)
    assert images.shape == (20, 1, 8, 8)
    assert float(images.max()) == pytest.approx(255, abs=0.1)
    assert np.allclose(images[:, 0], x * (255 / (levels - 1)), atol=0.1)


def test_a_lenet_is_trained_once_for_all_seeds(view, folder):
    first = extraction.extractor("lenet", view)
    files = sorted((folder / "cache" / "extractors").glob("*.safetensors"))
    times = [f.stat().st_mtime_ns for f in files]
    again = extraction.extractor("lenet", view)
    assert (first.name, first.identity) == (again.name, again.identity)
    assert [f.stat().st_mtime_ns for f in files] == times
    logits = first.logits(extraction.images(view, view.x))
    assert (logits.argmax(1) == view.columns["y"]).mean() > 0.9
    for file in files:
        file.write_bytes(b"damaged")
    assert extraction.extractor("lenet", view).identity == first.identity, "made anew, bit for bit"
    unlabelled = view_of(view.raw, ["to_unit"], levels=256)
    with pytest.raises(UserError, match="labels"):
        extraction.extractor("lenet", unlabelled)


def test_absent_inception_weights_are_said(view, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(extraction, "INCEPTION_URL", (tmp_path / "nothing.pth").as_uri())
    with pytest.raises(UserError, match=r"weights-inception|no Inception weights"):
        measure("fid_inception", Draws(view.x), view)


def test_broken_samples_are_an_outcome_and_wrong_settings_a_mistake(view):
    with pytest.raises(Diverged):
        measure("fid_pixels", Draws(torch.full((5, 144), torch.nan)), view)
    with pytest.raises(Diverged, match="direction"):
        measure("vendi_pixels", Draws(torch.zeros(5, 144)), view)
    with pytest.raises(UserError, match="test or train"):
        measure("fid_pixels", Draws(view.x), view, reference="valid")
    for name in ("fid_nothing", "nothing", "inception_score_pixels"):
        with pytest.raises(AttributeError):
            getattr(samples, name)
    with pytest.raises(UserError, match="unknown extractor"):
        extraction.extractor("vgg", view)


def test_the_column_decides_what_an_image_is():
    floats = view_of(np.random.default_rng(0).random((9, 1, 4, 4)).astype(np.float32))
    assert not space.is_image(floats)
    assert Column(shape=(4, 4), dtype="uint8", levels=2)
