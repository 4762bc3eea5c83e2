"""Packages that are called as functions of `latentbench.api`, whose names they have: `latentbench.records(...)`.

Python makes a package an attribute of the one around it as soon as anything in it is imported, so a function of the
same name has to be the package itself.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

API = "latentbench.api"


class CallablePackage(ModuleType):
    """A package that, called, is the function of its name in `latentbench.api`."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return getattr(import_module(API), self.__name__.rpartition(".")[2])(*args, **options)


def callable_as_api(package: str) -> None:
    """Let the package of that name, which is being imported, be called."""
    sys.modules[package].__class__ = CallablePackage
