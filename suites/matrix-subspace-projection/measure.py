"""Edits of attributes before a judge, which no model sees, and what the rest of a code still says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from latentbench.core.capabilities import Encoder
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View
from latentbench.metrics.representation import linear_probe
from torch import Generator, Tensor

from .editors import Editor
from .pictures import ATTRIBUTES, GRID, HEIGHT, WIDTH, render

NOISE = 0.3  # standard deviation, of pixels in [0, 1], at which the judge's own accuracy is told
SHARE: dict[str, Any] = {"data": ("factors",), "within": (0.0, 1.0)}


def judged(pictures: Tensor) -> np.ndarray:
    """Factors (N, 7) of the real pictures nearest to some in [0, 1], (N, ...): the best classifier in white noise."""
    values = GRID.factors(np.arange(GRID.size))
    real = torch.from_numpy(render(values)).flatten(1).to(pictures) / 255.0
    return np.asarray(values[torch.cdist(pictures.flatten(1), real).argmin(1).cpu().numpy()])


def known(model: object, view: View, asked: object, *of: str) -> tuple[Editor, np.ndarray]:
    """The model, and factors (N, 7). UserError: it edits no attributes, the data are others, `asked` is none `of`."""
    if not isinstance(model, Editor) or (model.attributes, view.info.dims) != (ATTRIBUTES, HEIGHT * WIDTH):
        raise UserError(f"{type(model).__name__} edits no sprites-attributes", fix="measure a model of this suite")
    if asked not in of:
        raise UserError(f"{asked!r} is not measured", fix=", ".join(of))
    return model, np.asarray(view.columns["factors"][:])


@metric("attribute_edits", "Encoder", "1", "higher", "share of edits as asked", settings={"of": "exact"}, **SHARE)
def attribute_edits(model: Encoder, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """Mean over rows and attributes: ``flipped``, the one; ``kept``, share of the others; ``exact``, all at once; or
    ``unedited``, all factors as before where nothing is asked for. Details are the values of each attribute, and the
    judge's accuracy (all factors right) on real pictures with noise."""
    editor, truth = known(model, view, of := settings["of"], "exact", "flipped", "kept", "unedited")
    y, rows, width = editor.labels(view.parts), [], truth.shape[1]
    for flip in np.zeros((1, width)) if of == "unedited" else np.eye(ATTRIBUTES, width):
        with torch.no_grad():
            made = editor.edit(view.x, y, y * torch.from_numpy(1.0 - 2.0 * flip[:ATTRIBUTES]).to(y))
        right = judged(made) == np.where(flip, 1 - truth, truth)
        parts = {"flipped": right[:, flip == 1], "kept": right[:, flip == 0]}
        rows.append(parts.get(of, right.all(1, keepdims=True)).mean(1))
    noisy = view.x + NOISE * torch.randn(view.x.shape, generator=generator, device=view.x.device)
    each, own = np.mean(rows, 0), (judged(noisy) == truth).all(1)
    details = {"judge": float(own.mean()), **{str(j): float(row.mean()) for j, row in enumerate(rows)}}
    return MetricValue(float(each.mean()), float(each.std() / len(each) ** 0.5), len(each), details)


@metric("attribute_leakage", "Encoder", "1", "lower", "accuracy of a probe", settings={"part": "rest"}, **SHARE)
def attribute_leakage(model: Encoder, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """Mean over attributes of a logistic regression's accuracy on the second half of the rows, learnt from the first,
    where attributes are independent (chance is 0.5); `part` is ``rest``, or ``whole`` for the whole code."""
    editor, truth = known(model, view, part := settings["part"], "rest", "whole")
    with torch.no_grad():
        z = editor.encode(view.x)
        codes = (editor.rest(z) if part == "rest" else z).double().cpu().numpy()
    old, new = slice(None, len(z) // 2), slice(len(z) // 2, None)
    found = [linear_probe(codes[old], a[old], codes[new], a[new]).value for a in truth.T[:ATTRIBUTES]]
    return MetricValue(float(np.mean(found)), None, len(z[new]), {str(j): float(v) for j, v in enumerate(found)})
