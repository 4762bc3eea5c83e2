"""Deterministic sampling from noise at t = 1 to data at t = 0."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def euler(drift: Callable[[Tensor, Tensor], Tensor], start: Tensor, steps: int) -> Tensor:
    """States (steps + 1, N, …) of dz/dt = drift(t, z) at even times from 1 to 0, by as many Euler steps."""
    from torchdiffeq import odeint

    times = torch.linspace(1.0, 0.0, steps + 1, device=start.device, dtype=start.dtype)
    states: Tensor = odeint(drift, start, times, method="euler")
    return states
