"""Outlier metrics: the contract of the second dataset, and the three numbers on scores that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.seeds import generator
from latentbench.evaluation import outliers

from tests.evaluation.views import pixels, view_of


class Column:
    pass


class Store:
    """Stands in for the data store: one dataset of given rows."""

    content_hash = "0123456789abcdef" * 4

    def __init__(self, rows: np.ndarray, declared: str | None = content_hash) -> None:
        self.rows = rows
        self.entry = Column()
        self.entry.content_hash, self.entry.kind = declared, "real"

    def split(self, name: str) -> dict[str, np.ndarray]:
        assert name == "test"
        return {"x": self.rows}


class Bright:
    def outlier_score(self, x, generator):
        return x.flatten(1).mean(1)


SETTINGS = {"other": "bright", "content": Store.content_hash[:12], "split": "test", "reduce": 1}


def draws():
    return generator(0, "evaluation")


@pytest.fixture
def view():
    return view_of(pixels(40, (4, 4)) // 4, ["to_unit"], levels=256)


def given(monkeypatch, rows, **kwargs):
    monkeypatch.setattr(outliers, "open_dataset", lambda name: Store(rows, **kwargs))


def test_the_three_numbers(monkeypatch, view):
    given(monkeypatch, 255 - pixels(30, (4, 4), seed=1) // 4)
    found = outliers.auroc(Bright(), view, SETTINGS, draws())
    assert found.value == 1.0
    assert found.n == 70
    assert found.details["average_precision"] == 1.0
    assert found.details["fpr80"] == 0.0
    assert found.details["content"] == Store.content_hash
    assert outliers.average_precision(Bright(), view, SETTINGS, draws()).value == 1.0
    assert outliers.fpr80(Bright(), view, SETTINGS, draws()).value == 0.0


def test_false_positives_where_four_in_five_outliers_are_found(monkeypatch):
    """By hand: the eighth of ten outliers has 55, which four of ten rows exceed; the tenth has 5, as do nine."""

    def plain(values):
        return np.repeat(np.array(values, np.uint8), 16).reshape(-1, 4, 4)

    given(monkeypatch, plain([95, 94, 5, 93, 92, 91, 35, 85, 84, 55]))
    view = view_of(plain(range(0, 100, 10)), ["to_unit"], levels=256)
    assert outliers.fpr80(Bright(), view, SETTINGS, draws()).value == pytest.approx(0.4)
    assert outliers.auroc(Bright(), view, SETTINGS, draws()).details["fpr80"] == pytest.approx(0.4)


def test_the_same_data_give_chance(monkeypatch, view):
    given(monkeypatch, view.raw)
    assert outliers.auroc(Bright(), view, SETTINGS, draws()).value == pytest.approx(0.5)


def test_rows_pass_through_the_fitted_preprocessing_and_are_no_more_than_the_views(monkeypatch):
    view = view_of(pixels(20, (4, 4)), ["to_unit", "standardise"], train=pixels(100, (4, 4), seed=3), levels=256)
    other = pixels(50, (4, 4), seed=1)
    given(monkeypatch, other)
    x, details = outliers.other_rows(view, SETTINGS, draws())
    expected, _ = view.pipeline.forward(other[:20])
    torch.testing.assert_close(x, expected)
    assert details["rows"] == 20


def test_reducing_takes_area_means(monkeypatch, view):
    big = pixels(5, (8, 8), seed=2)
    given(monkeypatch, big)
    x, _ = outliers.other_rows(view, {**SETTINGS, "reduce": 2}, draws())
    mean = big[:, :2, :2].astype(float).mean((1, 2)).round() / 255
    np.testing.assert_allclose(x[:, 0, 0, 0].numpy(), mean, atol=1e-6)


def test_stochastic_preprocessing_draws_from_the_generator(monkeypatch):
    view = view_of(pixels(10, (4, 4)), [{"binarise": "dynamic"}], levels=256)
    given(monkeypatch, pixels(10, (4, 4), seed=4))
    first, again = (outliers.other_rows(view, SETTINGS, draws())[0] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, outliers.other_rows(view, SETTINGS, generator(1, "evaluation"))[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"other": ""}, "second dataset"),
        ({"content": ""}, "content: 0123456789ab"),
        ({"content": "ffffffffffff"}, "content: 0123456789ab"),
        ({"content": "0123"}, "content: 0123456789ab"),
        ({"content": "unknown"}, "content: 0123456789ab"),
        ({"reduce": 3}, "cannot be reduced"),
        ({"reduce": 2}, "not uint8"),
    ],
)
def test_refusals(monkeypatch, view, changes, message):
    given(monkeypatch, pixels(5, (4, 4)))
    with pytest.raises(UserError, match=message):
        outliers.auroc(Bright(), view, {**SETTINGS, **changes}, draws())


def test_an_unknown_content_is_for_data_that_declare_none(monkeypatch, view):
    given(monkeypatch, pixels(5, (4, 4)), declared=None)
    _, details = outliers.other_rows(view, {**SETTINGS, "content": "unknown"}, draws())
    assert details["content"] == Store.content_hash
