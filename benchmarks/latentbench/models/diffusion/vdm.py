"""Variational diffusion with a schedule that does not look at the data.

Kingma et al. 2021, "VDM" (arXiv 2107.00630), and the ablation of MuLAN (2312.13236) without its latent variable.
"""

from __future__ import annotations

from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.diffusion.bound import Diffusion
from latentbench.models.diffusion.schedules import SCHEDULES, build_schedule


@model(
    "vdm",
    "Trainable BoundTerms Sampler PathSampler",
    "variational diffusion with a fixed, a learned scalar or a learned multivariate noise schedule",
    examples=(
        Example(
            "real-vector",
            {"gamma": [-2.0, 4.0], "sampling_steps": 2, "network": {"mlp": {"width": 16, "layers": 2}}},
            "bound",
        ),
        Example(
            "discrete-vector",
            {
                "gamma": [-2.0, 4.0],
                "sampling_steps": 3,
                "network": {"mlp": {"width": 16, "layers": 2}},
                "schedule": "scalar",
            },
        ),
        Example(
            "binary-image",
            {
                "gamma": [-2.0, 4.0],
                "sampling_steps": 4,
                "network": {"unet": {"width": 8, "multipliers": [1], "fourier": [1]}},
                "schedule": "multivariate",
            },
            "bound",
        ),
    ),
)
class VDM(Diffusion):
    """A diffusion model trained on its continuous-time variational bound.

    Args:
        info, network, gamma, sampling_steps: as for `Diffusion`.
        schedule: ``linear`` (fixed), ``scalar`` (one learned polynomial, trained to the least variance of the bound's
            estimate, which is all that it can change) or ``multivariate`` (one a coordinate, trained on the bound).
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        network: checks.Choice = "mlp",
        schedule: str = "linear",
        gamma: tuple[float, float] | list[float] = (-13.3, 5.0),
        sampling_steps: int = 100,
    ) -> None:
        super().__init__(info, network, gamma, sampling_steps)
        kind = checks.one_of("schedule", schedule, SCHEDULES)
        self.least_variance = kind == "scalar"
        self.schedule = build_schedule(kind, self.low, self.high, info.dims)
