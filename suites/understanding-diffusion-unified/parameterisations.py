"""A diffusion whose network predicts the clean sample, the noise or the score.

Luo 2022, "Understanding diffusion models: a unified perspective" (arXiv 2208.11970). With z = alpha x + sigma eps,

    x = (z - sigma eps) / alpha = (z + sigma^2 score) / alpha   (eq. 115 and Tweedie, eq. 133),    score = -eps / sigma,

so that one prediction gives the two others, and the bound's terms are the squared error of any of them with a weight of
its own (eq. 99, 130 and 148). Of the two, `latentbench.models.diffusion.bound` has the limit of infinitely many steps.
"""

from __future__ import annotations

from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.diffusion.bound import Diffusion, amplitudes
from latentbench.models.diffusion.schedules import Linear
from torch import Tensor

TARGETS = ("data", "noise", "score")


def velocity(target: str, predicted: Tensor, z: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """v = alpha eps - sigma x, of the x and eps that go with z and a prediction of its `target`; all (N, *shape)."""
    if target == "data":
        return (alpha * z - predicted) / sigma
    eps = predicted if target == "noise" else -sigma * predicted
    return (eps - sigma * z) / alpha


@model(
    "targeted-diffusion",
    "Trainable BoundTerms Sampler PathSampler",
    "diffusion whose network predicts the clean sample, the noise or the score",
    examples=(
        Example("real-vector", {"gamma": [-2.0, 4.0], "sampling_steps": 2, "network": {"mlp": {"width": 16}}}, "bound"),
        Example(
            "real-vector",
            {"gamma": [-3.0, 4.0], "sampling_steps": 3, "network": {"mlp": {"width": 16}}, "target": "data"},
            "bound",
        ),
        Example(
            "real-vector",
            {"gamma": [-1.0, 3.0], "network": {"mlp": {"width": 8}}, "target": "score"},
        ),
    ),
)
class TargetedDiffusion(Diffusion):
    """A diffusion model with a fixed linear schedule, trained on the bound.

    Args:
        info, network, gamma, sampling_steps: as for `Diffusion`; the network's output is the target itself.
        target: what it predicts: ``data``, ``noise`` or ``score``.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        network: checks.Choice = "mlp",
        target: str = "noise",
        gamma: tuple[float, float] | list[float] = (-7.0, 7.0),
        sampling_steps: int = 100,
    ) -> None:
        super().__init__(info, network, gamma, sampling_steps)
        self.target = checks.one_of("target", target, TARGETS)
        self.schedule = Linear(self.low, self.high)

    def predict(self, z: Tensor, gamma: Tensor, context: Tensor | None = None) -> Tensor:
        return velocity(self.target, super().predict(z, gamma, context), z, *amplitudes(gamma))

    def score(self, z: Tensor, gamma: Tensor) -> Tensor:
        """The predicted gradient of log p(z_t), (N, *shape), at z_t and gamma as `noise` gives it."""
        alpha, sigma = amplitudes(gamma)
        return -(sigma * z + alpha * self.predict(z, gamma)) / sigma
