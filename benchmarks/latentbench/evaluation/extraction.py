"""Extractors of features at hand for a dataset: raw pixels, a random network, a LeNet trained on it, and Inception."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latentbench.core.errors import UserError
from latentbench.core.paths import data_dir
from latentbench.core.seeds import generator
from latentbench.evaluation.space import require_images, stored
from latentbench.evaluation.view import View
from latentbench.metrics.extractors.base import Extractor
from latentbench.metrics.extractors.inception import WEIGHTS_SHA256_PREFIX, inception
from latentbench.metrics.extractors.networks import (
    VERSION,
    lenet,
    load_lenet,
    pixels,
    random_network,
    save_lenet,
    train_lenet,
)

if TYPE_CHECKING:
    import numpy as np

EXTRACTORS = ("pixels", "random", "lenet", "inception")
CLASSIFIERS = ("lenet", "inception")
#: Training rows and epochs of a LeNet: part of what its features are.
LENET_ROWS, LENET_EPOCHS = 20_000, 3
INCEPTION_FILE = f"weights-inception-2015-12-05-{WEIGHTS_SHA256_PREFIX}.pth"
INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"


def extractor(name: str, view: View) -> Extractor:
    """The extractor `name` for a view's dataset.

    Raises:
        UserError: no such extractor, data that are no images (but for `pixels`), no labels to train a LeNet by, or
            Inception weights that are neither here nor to be fetched.
    """
    if name not in EXTRACTORS:
        raise UserError(f"unknown extractor {name!r}", fix=", ".join(EXTRACTORS))
    if name == "pixels":
        return pixels()
    require_images(view)
    if name == "random":
        return random_network(int(images(view, view.x[:1]).shape[1]))
    return _lenet(view) if name == "lenet" else inception(inception_weights())


def features(chosen: Extractor, view: View, y: Tensor) -> np.ndarray:
    """(N, D) features of rows of model space; raw pixels of data that are no images are the stored values."""
    if chosen.name == "pixels":
        return stored(view, y).flatten(1).numpy()
    return chosen.features(images(view, y), device=view.device)


def images(view: View, y: Tensor) -> Tensor:
    """(N, C, H, W) float32, pixels 0 … 255, of rows of model space."""
    return stored(view, y) * 255


def _lenet(view: View) -> Extractor:
    """A LeNet trained on the dataset under its preprocessing, one for all seeds, kept in the data folder."""
    train = view.train
    if "y" not in train.columns:
        raise UserError("a LeNet is trained by labels", where="extractor lenet", fix="use a dataset with a column `y`")
    draws = generator(0, "data", "lenet")  # not the run's seed: all runs must share one extractor
    rows = torch.randperm(len(train), generator=draws)[:LENET_ROWS].sort().values.numpy()
    y, _ = train.pipeline.forward(train.raw[rows], draws)
    x, labels = images(view, y).round().to(torch.uint8), train.columns["y"][rows]
    key = hashlib.sha256(f"{VERSION}:{LENET_ROWS}:{LENET_EPOCHS}:{tuple(x.shape)}".encode())
    key.update(x.numpy().tobytes())
    key.update(labels.tobytes())
    name = getattr(view.entry, "name", "data")
    path = data_dir() / "cache" / "extractors" / f"lenet_{name}_{key.hexdigest()[:16]}.safetensors"
    return _trained_once(path, name, x, labels)


def _trained_once(path: Path, name: str, x: Tensor, labels: np.ndarray) -> Extractor:
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if path.is_file():
            try:
                return load_lenet(path)
            except UserError:  # damaged: made anew below
                path.unlink()
        with torch.enable_grad():
            network = train_lenet(x, labels, generator=generator(0, "init", "lenet"), epochs=LENET_EPOCHS)
        part = path.with_suffix(".part")
        save_lenet(network, name, part)
        os.replace(part, path)
    return lenet(network, name)


def inception_weights() -> Path:
    """torch-fidelity's weights file: in the data folder's cache, where torch.hub keeps it, or fetched (91 MB).

    Raises:
        UserError: it is nowhere, and cannot be fetched.
    """
    here = data_dir() / "cache" / INCEPTION_FILE
    for path in (here, Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE):
        if path.is_file():
            return path
    part = here.with_suffix(".part")
    try:
        here.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(INCEPTION_URL, timeout=30) as source:
            part.write_bytes(source.read())
        os.replace(part, here)
    except OSError as error:
        raise UserError(
            f"no Inception weights, and they cannot be fetched: {error}",
            where="extractor inception",
            fix=f"put {INCEPTION_URL} into {here.parent}",
        ) from None
    return here
