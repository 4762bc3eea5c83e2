"""Each line of the registry against the class or function that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from latentbench.core.capabilities import CAPABILITIES, PROPERTIES
from latentbench.core.errors import UserError
from latentbench.core.imports import load
from latentbench.core.seeds import generator
from latentbench.core.types import Batch, DataInfo, MetricValue, Part
from latentbench.data.generated.oracles import Gaussian
from latentbench.data.preprocess import build
from latentbench.data.registry import Column
from latentbench.evaluation import extraction, outliers
from latentbench.evaluation.view import View, make_view
from latentbench.metrics.extractors.base import Extractor
from latentbench.models.study import Problem, Study
from latentbench.papers.light_schrodinger_bridge.plans import EntropicPlan
from latentbench.spec.registry import ModelEntry, find_metric, find_model, metrics, models, parameters
from latentbench.spec.validation import STUDIES, missing

#: Forms of data, the commonest first: a model is built on the first that it accepts.
FORMS = [
    DataInfo((6,), "real", 60, mean=torch.zeros(6)),
    DataInfo((6,), "binary", 60, mean=torch.full((6,), 0.5)),
    DataInfo((1, 8, 8), "real", 60, mean=torch.zeros(1, 8, 8)),
    DataInfo((3, 16, 16), "real", 60, mean=torch.zeros(3, 16, 16)),
    DataInfo((1, 8, 8), "binary", 60, mean=torch.full((1, 8, 8), 0.5)),
    DataInfo((6,), "discrete", 60, levels=4, mean=torch.zeros(6)),
    DataInfo((2, 4), "real", 60, mean=torch.zeros(2, 4)),
    DataInfo((12, 2), "real", 60, mean=torch.zeros(12, 2)),
    DataInfo((6,), "unit", 60, mean=torch.full((6,), 0.5)),
]


#: What a metric of images is measured on: bits, large enough for windows of eleven pixels.
IMAGES = DataInfo((1, 12, 12), "binary", 60, mean=torch.full((1, 12, 12), 0.5))


#: Rows with a label, for models that predict it.
LABELLED = DataInfo((6,), "real", 60, mean=torch.zeros(6), columns={"y": ()})


#: One graph, whose nodes are the rows.
GRAPH = DataInfo((5,), "real", 60, parts={"edges": Part((2,), "discrete", role="edges", whole=True)})


#: Rows of words, as their numbers.
WORDS = DataInfo((6,), "discrete", 60, levels=4, mean=torch.zeros(6))

#: What metrics that need something of the data are measured on.
SUITED = {"images": [IMAGES], "links": [GRAPH], "words": [WORDS]}


class Guesses(Study):
    """Answers at random what a metric of studies may ask for."""

    def problem(self, rng: np.random.Generator) -> Problem:
        return Problem({}, self.answer({}, rng))

    def answer(self, given: Mapping[str, Any], rng: np.random.Generator) -> Mapping[str, Any]:
        graph = np.triu(rng.random((6, 6)) < 0.5, 1)
        labels, latents = np.arange(9) % rng.integers(2, 5), rng.standard_normal((9, 2))
        return {"graph": graph, "scores": rng.random((6, 6)), "labels": labels, "latents": latents}


STUDY = ModelEntry("", STUDIES, "")


def built(name: str, forms: Sequence[DataInfo] = FORMS) -> tuple[Any, DataInfo]:
    """A model of the registry with small parameters, on data that it accepts."""
    entry = models()[name]
    small = {"latent_dim": 2, "hidden": [8], "components": 2, "maps": 2, "couplings": 2, "blocks": 1}
    params = {k: v for k, v in small.items() if k in parameters(entry.target)}
    if "latent_dims" in parameters(entry.target):
        params |= {"latent_dims": [3, 2], "hidden": [[8], [8]]}
    if GRAPH in forms:
        params = dict(entry.examples[0].params)
    said = []
    for info in (*forms, LABELLED):
        try:
            return load(entry.target)(info, **params), info
        except UserError as e:
            said.append(str(e))
    raise AssertionError(f"no form of data suits {name}: {said}")


class Reads(Mapping[str, Any]):
    """Settings that remember which of them were asked for."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values, self.asked = dict(values), set()

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        self.asked.update(self._values)
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def view_for(info: DataInfo) -> View:
    """Sixty rows of a known Gaussian with factors and labels, as metrics see them."""
    n, dims = 60, info.dims
    oracle: Any = Gaussian(np.zeros(dims), 0.5 * np.eye(dims) + 0.5)
    raw = oracle.sample(n, np.random.default_rng(0)).astype(np.float32)
    factors = np.stack([raw[:, 0] > 0, np.digitize(raw[:, 1], [-0.5, 0.5])], 1).astype(np.int64)
    if info.support != "real":
        raw = (raw > 0).astype(np.float32)
    raw = raw.reshape(n, *info.shape)
    column = Column(shape=info.shape, dtype="float32")
    if info is IMAGES:
        raw, column = raw[:, 0].astype(np.uint8), Column(shape=info.shape[1:], dtype="uint8", levels=2)
    pipeline = build([], column)
    pipeline.fit(raw)
    columns = {"factors": factors, "y": factors[:, 0], "future": raw}
    ring = np.stack([np.arange(59), np.arange(1, 60)], 1)
    links = {
        "edges": ring,
        "links": np.concatenate([ring[:9], ring[:9] // 2 + [0, 31]]),
        "linked": np.repeat([1, 0], 9),
    }
    if len(info.shape) == 2 and info.shape[0] == 2:
        oracle = EntropicPlan(info.shape[1], 2, 1.0, 1.0, (0.2, 0.8), rotated=True, structure_seed=0)

    def make(split: str, train: Any = None) -> View:
        device, whole = torch.device("cpu"), links if info is GRAPH else {}
        return make_view(raw, columns, pipeline, info, None, oracle, 0, split, device, train, whole)

    return make("test", lambda: make("train"))


def suited(metric: str) -> tuple[Any, DataInfo]:
    """A model that has what a metric needs, trained a little: the plainest there is."""
    needs = metrics()[metric].data
    if STUDY.can & {*metrics()[metric].needs}:
        study, draws = Guesses(FORMS[0]), generator(0, "noise")
        study.start(Batch(torch.zeros(1, 6), 1), draws)
        while not study.done():
            study.advance(Batch(torch.zeros(1, 6), 1), draws)
        return study, FORMS[0]
    forms = next((forms for need, forms in SUITED.items() if need in needs), FORMS)
    for name in ("vae", "gaussian", "polynomial-programme", "vgae", *models()):
        if not missing(models()[name], metrics()[metric], {}):
            model, info = built(name, forms)
            view = view_for(info)
            x, columns = view.x, view.batch().columns
            if hasattr(model, "fit"):
                model.fit(x, generator(0, "noise"))
            else:
                model.loss(Batch(x, len(x), columns=columns), generator(0, "noise"))["loss"].backward()
                model.eval()
            return model, info
    raise AssertionError(f"no model has what {metric} needs")


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the LeNet that all its metrics share is trained once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def extractors(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Extractors keep to a folder of the test's own, and a small classifier stands in for Inception's 91 MB."""
    monkeypatch.setenv("LATENTBENCH_DATA", str(data_folder))
    small = Extractor("inception", "stand-in", lambda x: x.flatten(1)[:, :8] + 1, lambda x: x.flatten(1)[:, :4] / 255)
    monkeypatch.setattr(extraction, "inception_weights", lambda: Path("weights"))
    monkeypatch.setattr(extraction, "inception", lambda path: small)


class Another:
    """Stands in for the second dataset of a metric: rows like those of `view_for`."""

    content_hash = "0" * 64

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def split(self, _: str) -> dict[str, np.ndarray]:
        return {"x": self.rows}


@pytest.mark.parametrize("name", metrics())
def test_a_metric_measures_and_reads_the_settings_of_its_line(name, extractors, monkeypatch):
    entry = metrics()[name]
    if (STUDY.can | {"Staged"}) & {*entry.needs} and entry.target.startswith("latentbench.papers."):
        pytest.skip("it is of its paper's own studies or stages, and tested beside them")
    model, info = suited(name)
    small = {k: min(v, 30) if isinstance(v, int) and v > 1000 else v for k, v in entry.settings.items()}
    settings = Reads({k: min(v, 2) if k in ("cells", "smallest") else v for k, v in small.items()})
    if "other" in entry.settings:
        monkeypatch.setattr(outliers, "open_dataset", lambda _: Another(view_for(info).raw))
        settings = Reads({**entry.settings, "other": "another", "content": Another.content_hash})
    with torch.no_grad():
        try:
            value = load(entry.target)(model, view_for(info), settings, generator(0, "evaluation", name))
        except UserError as e:
            if not entry.target.startswith("latentbench.papers."):
                raise
            pytest.skip(f"it is of its paper's own models, and tested beside them: {e}")
    assert isinstance(value, MetricValue)
    assert np.isfinite(value.value)
    assert value.se is None or value.se >= 0
    assert settings.asked == set(entry.settings), "every setting is read"


@pytest.mark.parametrize("name", metrics())
def test_a_metrics_line_is_coherent(name):
    entry = metrics()[name]
    assert all(option in {*CAPABILITIES, *PROPERTIES} for need in entry.needs for option in need.split("|"))
    assert set(entry.data) <= {"oracle", "factors", "labels", "images", "words", "links"}
    assert set(entry.lowest) <= set(entry.settings)
    assert all(entry.settings[k] >= least for k, least in entry.lowest.items()), "defaults are in range"
    numeric = {k for k, v in entry.settings.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    assert numeric <= set(entry.lowest), "every number has its least value, so that k = 0 is refused"
    if entry.likelihood == "importance-weighted":
        assert entry.kind({"k": 50}) == "importance-weighted, K=50"
    else:
        assert entry.kind(entry.settings) == (entry.likelihood or "")


def test_exact_likelihoods_and_bounds_are_of_different_kinds():
    kinds = {metrics()[n].kind(metrics()[n].settings) for n in ("nll", "nll_iw", "elbo")}
    assert len(kinds) == 3


def test_unknown_names():
    with pytest.raises(UserError, match=r"unknown model 'vea' \(did you mean 'vae'"):
        find_model("vea")
    with pytest.raises(UserError, match=r"unknown metric 'nil' \(did you mean 'nll'"):
        find_metric("nil")


def test_plug_ins_are_found_and_cannot_replace_ours(toys):
    assert find_model("toy").target == "latentbench_toy_model:Toy"
    assert find_metric("toy_metric").settings == {"as": "it is", "scale": 1.0, "pause": 0.0}
    assert set(parameters("latentbench_toy_model:Toy")) == {"spoil", "pause", "spread", "rank"}


def test_a_plug_in_that_is_none_says_so(tmp_path, monkeypatch):
    info = tmp_path / "wrong-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wrong\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[latentbench.models]\nwrong = math:pi\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    models.cache_clear()
    try:
        with pytest.raises(UserError, match=r"math:pi: plug-in 'wrong' .* is no ModelEntry"):
            models()
    finally:
        models.cache_clear()
