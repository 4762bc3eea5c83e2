"""The state of a training, a nest of values, as flat tensors and JSON: what safetensors can hold, and nothing runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def pack(state: Any) -> tuple[dict[str, Tensor], str]:
    """A nest of dicts, lists, tuples, numbers, strings and tensors as flat tensors and JSON."""
    import torch

    tensors: dict[str, Tensor] = {}

    def walk(node: Any) -> Any:
        if isinstance(node, torch.Tensor):
            key = str(len(tensors))
            tensors[key] = node.detach().cpu().contiguous().clone()
            return {"tensor": key}
        if isinstance(node, Mapping):
            return {"dict": [[walk(k), walk(v)] for k, v in node.items()]}
        if isinstance(node, tuple):
            return {"tuple": [walk(v) for v in node]}
        if isinstance(node, list):
            return [walk(v) for v in node]
        if node is None or isinstance(node, bool | int | float | str):
            return node
        raise TypeError(f"a checkpoint cannot hold a {type(node).__name__}")

    return tensors, json.dumps(walk(state))


def unpack(tensors: Mapping[str, Tensor], structure: str) -> Any:
    """The inverse of `pack`.

    Raises:
        ValueError, KeyError, TypeError: not the structure of a state.
    """

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(v) for v in node]
        if not isinstance(node, dict):
            return node
        [(kind, inner)] = node.items()
        match kind:
            case "tensor":
                return tensors[inner]
            case "dict":
                return {walk(k): walk(v) for k, v in inner}
            case "tuple":
                return tuple(walk(v) for v in inner)
        raise ValueError(f"unknown node {kind!r}")

    return walk(json.loads(structure))
