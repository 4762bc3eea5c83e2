"""Where a benchmark ran: what a reader needs to know before comparing two of them."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "torch", "lightning", "numpy", "scipy", "scikit-learn", "datasets", "pandas", "pydantic", "rich", "click",
    "PyYAML", "torchmetrics", "zuko",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """CPU, load, threads and versions, as JSON holds them."""
    import torch

    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "threads": torch.get_num_threads(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
