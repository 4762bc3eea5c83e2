"""The metrics that ask one trained model for each of its scores, against scikit-learn and scores asked by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.seeds import generator
from latentbench.core.types import DataInfo
from latentbench.evaluation import outliers
from latentbench.models.baselines import Factorised
from latentbench.papers.hvae_ood import scores
from latentbench.papers.hvae_ood.skip_hvae import SkipHVAE
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from tests.evaluation.views import pixels, view_of

CONTENT = "0123456789abcdef" * 4
SETTINGS = {**scores.OTHER, **scores.SCORE, "other": "other", "content": CONTENT[:12], "over": "likelihood"}
#: Each score with settings of its own: none is another one's number.
ASKED = [
    {"score": "likelihood", "samples": 3},
    {"score": "above", "skip": 2, "samples_above": 2},
    {"score": "llr", "skip": 1},
    {"score": "llr", "skip": 2, "below": "sample"},
    {"score": "complexity"},
]


def draws() -> torch.Generator:
    return generator(0, "evaluation")


@pytest.fixture
def view(monkeypatch):
    rows = pixels(30, (8, 8), seed=1) // 2
    store = SimpleNamespace(
        content_hash=CONTENT,
        entry=SimpleNamespace(content_hash=CONTENT, kind="real"),
        split=lambda name: {"x": rows} if name == "test" else {},
    )
    monkeypatch.setattr(outliers, "open_dataset", lambda name: store)
    return view_of(pixels(40, (8, 8)), [{"binarise": "dynamic"}], levels=256)


@pytest.fixture
def model():
    torch.manual_seed(1)
    net = SkipHVAE(DataInfo((1, 8, 8), "binary", 40), latents=(2, 3, 2), channels=4, kernels=(3, 3, 3), blocks=1)
    return net.eval()


def by_hand(model: SkipHVAE, view, asked: dict) -> tuple[np.ndarray, np.ndarray]:
    """Scores of both sets and which are outliers, at the draws that the metric makes."""
    g = draws()
    other, _ = outliers.other_rows(view, SETTINGS, g)
    found = torch.cat([model.outlier_score(view.x, g, **asked), model.outlier_score(other, g, **asked)])
    return found.detach().numpy(), np.repeat([0, 1], [len(view), len(other)])


@pytest.mark.parametrize("asked", ASKED, ids=lambda a: "-".join(map(str, a.values())))
def test_each_metric_is_of_the_score_that_it_names(view, model, asked):
    with torch.no_grad():
        found, outside = by_hand(model, view, asked)
        auroc, ap, fpr80 = (
            m(model, view, {**SETTINGS, **asked}, draws())
            for m in (scores.score_auroc, scores.score_ap, scores.score_fpr80)
        )
    assert auroc.value == pytest.approx(roc_auc_score(outside, found), abs=1e-9)
    assert ap.value == pytest.approx(average_precision_score(outside, found), abs=1e-9)
    false, true, _ = roc_curve(outside, found, drop_intermediate=False)
    assert fpr80.value == pytest.approx(false[true >= 0.8][0], abs=1e-9)
    assert auroc.n == 70


@pytest.mark.parametrize("over", ["likelihood", "above"])
def test_the_gain_is_that_of_one_score_over_another_on_the_same_rows(view, model, over):
    asked = {**SETTINGS, "skip": 2, "samples": 3}
    seed = int(torch.randint(2**62, (), generator=draws()))
    with torch.no_grad():
        llr, other = (
            scores.score_auroc(model, view, {**asked, "score": s}, torch.Generator().manual_seed(seed)).value
            for s in ("llr", over)
        )
        found = scores.score_gain(model, view, {**asked, "over": over}, draws())
        none = scores.score_gain(model, view, {**asked, "score": over, "over": over}, draws())
    assert llr != other
    assert found.value == llr - other
    assert (found.details["score"], found.details["over"]) == (llr, other)
    assert none.value == 0.0


def test_a_model_with_a_density_is_scored_by_it(view):
    plain = Factorised(DataInfo((1, 8, 8), "binary", 40))
    plain.fit(view.x, draws())
    asked = {**SETTINGS, "score": "likelihood"}
    other, _ = outliers.other_rows(view, SETTINGS, draws())
    found = -torch.cat([plain.log_prob(view.x), plain.log_prob(other)])
    outside = np.repeat([0, 1], [len(view), len(other)])
    assert scores.score_auroc(plain, view, asked, draws()).value == pytest.approx(roc_auc_score(outside, found))
    with pytest.raises(UserError, match="has no score 'llr'"):
        scores.score_auroc(plain, view, SETTINGS, draws())
    with pytest.raises(UserError, match="has no score 'likelihood'"):
        scores.score_auroc(SimpleNamespace(), view, asked, draws())
