"""Extractors that need no download: raw pixels, random networks, and a LeNet trained on the data set itself."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from latentbench.core.errors import UserError
from latentbench.metrics.arrays import integers
from latentbench.metrics.extractors.base import Extractor, as_images, weights_identity

VERSION = 1  # of the architectures below: raise it when what they compute changes


def pixels() -> Extractor:
    """Raw pixels, divided by 255 and flattened."""
    return Extractor("pixels", weights_identity("pixels", VERSION, {}), lambda x: x.flatten(1) / 255)


class ConvNet(nn.Module):
    """Three strided convolutions and a mean over positions: works for images of any size, (N, C, H, W) -> (N, 256)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (channels, 64, 128, 256)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        x = x / 127.5 - 1
        for layer in self.layers:
            x = functional.relu(layer(x))
        return x.mean((2, 3))


def random_network(channels: int, *, seed: int = 0) -> Extractor:
    """An untrained convolutional network (Naeem et al. 2020: no bias towards any data set).

    He-normal weights from a generator of its own: the same features on every machine for the same `seed`.
    """
    network = ConvNet(channels).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
        else:
            parameter.zero_()
    name = "random" if seed == 0 else f"random{seed}"
    return Extractor(name, weights_identity(name, VERSION, network.state_dict()), network)


class LeNet(nn.Module):
    """Two convolutions and two linear layers, (N, C, H, W) -> (N, 84) features -> (N, classes) (LeCun et al. 1998)."""

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.shape, self.classes = shape, classes
        self.conv1, self.conv2 = nn.Conv2d(shape[0], 32, 5, padding=2), nn.Conv2d(32, 64, 5, padding=2)
        self.hidden = nn.Linear(64 * (shape[1] // 4) * (shape[2] // 4), 84)
        self.output = nn.Linear(84, classes)

    def features(self, x: Tensor) -> Tensor:
        if tuple(x.shape[1:]) != self.shape:
            raise UserError(f"has shape {tuple(x.shape[1:])}", where="images", fix=f"this LeNet takes {self.shape}")
        x = functional.max_pool2d(functional.relu(self.conv1(x / 127.5 - 1)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        return functional.relu(self.hidden(x.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.features(x))


def train_lenet(
    images: Any,
    labels: Any,
    *,
    generator: Generator,
    epochs: int = 3,
    batch: int = 128,
    learning_rate: float = 1e-3,
    device: str | torch.device = "cpu",
) -> LeNet:
    """A LeNet trained to classify `images` (N, ...), pixels 0 … 255, by `labels` (N,) int from 0 (Adam).

    Initial weights and order come from `generator` (on the CPU) alone.
    """
    x, y = as_images(images), torch.from_numpy(integers(labels, "labels"))
    if len(x) != len(y) or int(y.min()) < 0:
        raise UserError(f"{len(x)} images, {len(y)} labels from {int(y.min())}", where="labels")
    shape = (int(x.shape[1]), int(x.shape[2]), int(x.shape[3]))
    network = LeNet(shape, int(y.max()) + 1)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
        else:
            nn.init.zeros_(parameter)
    network.to(device).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator).split(batch):
            optimiser.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(network(x[rows].to(device, torch.float32)), y[rows].to(device))
            loss.backward()
            optimiser.step()
    return network.cpu().eval().requires_grad_(False)


def lenet(network: LeNet, dataset: str) -> Extractor:
    """A trained LeNet as the extractor `lenet_<dataset>`."""
    name = f"lenet_{dataset}"
    identity = weights_identity(name, VERSION, network.state_dict())
    return Extractor(name, identity, network.features, network)


def save_lenet(network: LeNet, dataset: str, path: Path) -> None:
    """Write weights and shape as safetensors."""
    from safetensors.torch import save_file

    header = json.dumps({"shape": network.shape, "classes": network.classes, "dataset": dataset, "version": VERSION})
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, path, metadata={"lenet": header})


def load_lenet(path: Path) -> Extractor:
    """The extractor that `save_lenet` wrote; `UserError` if it is none, or of another version."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["lenet"])
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        if header["version"] != VERSION:
            raise UserError(f"is of version {header['version']}, not {VERSION}", where=path, fix="train it again")
        network = LeNet(tuple(header["shape"]), int(header["classes"]))
        network.load_state_dict(weights)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"is no LeNet of ours: {error}", where=path, fix="train it again") from None
    return lenet(network.eval().requires_grad_(False), str(header["dataset"]))
