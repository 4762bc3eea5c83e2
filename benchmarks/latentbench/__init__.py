"""latentbench: rerun the benchmarks of latent-variable and generative-model papers.

From Python, what the commands show comes as pandas DataFrames and what they run as models: see docs/python.md, and the
functions of `latentbench.api`, which are here under their own names. None is imported before it is used.
"""

from importlib import import_module as _import_module

from latentbench.core import loaded as _loaded  # noqa: F401 - from here on it notes what modules are made from

__version__ = "0.1.0"

#: Functions of `latentbench.api` that are reached from here.
__all__ = [
    "compare",
    "dataset",
    "leaderboard",
    "load",
    "metric",
    "papers",
    "records",
    "run",
    "scoreboard",
    "suites",
    "verdicts",
]
#: Those that share their name with a package, which is callable.
_PACKAGES = ("papers", "records")


def __getattr__(name: str) -> object:
    if name in _PACKAGES:
        return _import_module(f"{__name__}.{name}")
    if name in __all__:
        return getattr(_import_module(f"{__name__}.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
