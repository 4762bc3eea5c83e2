"""The data as metrics see it: the same draws whoever asks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.evaluation import view as module

from tests.evaluation.views import pixels, view_of


def test_draws_depend_on_seed_split_and_row_alone():
    raw = pixels(50)
    one, again, other = (view_of(raw, ["dequantise"], levels=256, seed=s) for s in (3, 3, 4))
    assert torch.equal(one.x, again.x)
    assert not torch.equal(one.x, other.x)
    part = view_of(raw[:20], ["dequantise"], levels=256, seed=3)
    assert torch.equal(part.x, one.x[:20]), "further rows change nothing"
    assert not torch.equal(one.train.x, one.x), "the training split has draws of its own"
    assert torch.equal(one.train.x.floor(), one.x.floor())


def test_blocks_are_drawn_apart(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 10)
    raw = np.zeros((30, 1, 2), np.uint8)
    draws = view_of(raw, ["dequantise"], levels=256).x.flatten(1)
    assert len(torch.unique(draws)) == draws.numel(), "no block repeats another's noise"


def test_rows_columns_and_jacobian_stay_together():
    raw = pixels(30)
    view = view_of(raw, ["dequantise", {"logit": 0.05}, "flatten"], levels=256, columns={"row": np.arange(30)})
    assert len(view) == 30
    assert view.dims == 6
    assert view.log_abs_det.shape == (30,)
    assert np.array_equal(view.columns["row"], np.arange(30))
    back = view.pipeline.inverse(view.x)
    assert np.array_equal(back.numpy().astype(np.uint8), view.raw)


def test_blocks_cover_the_split():
    view = view_of(pixels(30), ["to_unit"], levels=256)
    assert [s.indices(30)[:2] for s in view.blocks(12)] == [(0, 12), (12, 24), (24, 30)]


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    view_of(pixels(5), ["dequantise"], levels=256)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_view_without_its_training_split_says_so():
    from dataclasses import replace

    with pytest.raises(LookupError, match="without its training split"):
        _ = replace(view_of(pixels(5), ["to_unit"], levels=256), _train=None).train
