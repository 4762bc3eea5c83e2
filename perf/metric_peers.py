"""Peers that the metrics are compared with, made importable: they are in the bench environment only.

disentanglement_lib needs gin and TensorFlow for its configuration, torch-fidelity needs torchvision for extractors that
are not used here. Both get stand-ins: none of their numbers passes through them.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import sys
import types
from typing import Any


class _Standin(types.ModuleType):
    """A module whose every attribute is a submodule that stands in too, or else an empty class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return sys.modules.get(f"{self.__name__}.{name}") or type(name, (), {})


def _stand_in(*names: str) -> None:
    for name in names:
        module = _Standin(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.__path__ = []
        sys.modules.setdefault(name, module)


@functools.cache
def disentanglement_lib(metric: str) -> types.ModuleType:
    """A module of `disentanglement_lib.evaluation.metrics`, with the published 20-bin histogram discretiser."""
    if "gin" not in sys.modules:
        gin, tf = types.ModuleType("gin"), types.ModuleType("gin.tf")

        def configurable(*args: Any, **_: Any) -> Any:
            return args[0] if args and callable(args[0]) else lambda function: function

        for module in (gin, tf):
            module.configurable, module.REQUIRED = configurable, object()  # type: ignore[attr-defined]
        gin.tf = tf  # type: ignore[attr-defined]
        sys.modules |= {"gin": gin, "gin.tf": tf}
    package = "disentanglement_lib.evaluation.metrics"
    utils = importlib.import_module(f"{package}.utils")
    utils.make_discretizer = lambda target: utils._histogram_discretize(target, 20)
    return importlib.import_module(f"{package}.{metric}")


@functools.cache
def torch_fidelity(module: str) -> types.ModuleType:
    """A module of torch-fidelity, which imports torchvision for extractors that are not used here."""
    try:
        importlib.import_module("torchvision")
    except ImportError:
        _stand_in(
            "torchvision",
            "torchvision.models",
            "torchvision.transforms",
            "torchvision.transforms.functional",
            "torchvision.datasets",
        )
    return importlib.import_module(f"torch_fidelity.{module}")
