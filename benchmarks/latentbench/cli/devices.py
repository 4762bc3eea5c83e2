"""The device that an option names."""

from __future__ import annotations

import os
import sys
from typing import Literal

from latentbench.core.errors import UserError

#: What a driver of GPUs that torch can use brings on Linux; where there is none, seconds of importing it are saved.
_GPU_DRIVERS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/nvgpu", "/dev/nvhost-ctrl", "/dev/kfd")


def device_for(wanted: str, count: int = 1) -> Literal["cpu", "cuda"]:
    """The device behind ``auto``, ``cpu`` or ``cuda``.

    Raises:
        UserError: there is no such one, or there are fewer than `count` GPUs.
    """
    if wanted == "cpu" or (wanted == "auto" and os.environ.get("CUDA_VISIBLE_DEVICES") == ""):
        return "cpu"
    if wanted == "auto" and sys.platform == "linux" and not any(map(os.path.exists, _GPU_DRIVERS)):
        return "cpu"
    import torch

    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise UserError(
            "no CUDA GPU can be used here",
            where="--device cuda",
            fix="use --device cpu, or see what `latentbench doctor` says of the GPU",
        )
    if there and torch.cuda.device_count() < count:
        raise UserError(
            f"{count} GPUs are wanted and {torch.cuda.device_count()} can be used here",
            where="--devices",
            fix="ask for fewer, or for processes of this machine with --device cpu",
        )
    return "cuda" if there else "cpu"
