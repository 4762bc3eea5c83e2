"""What a model can do, as small protocols. A metric names those it needs; `validate` matches the two.

Conventions, for all of them: ``x`` is (N, *shape) float32 after preprocessing; likelihoods are in nats per
sample, (N,) float32, in the space of the preprocessed data (the metric adds the preprocessing's log-Jacobian);
every random draw comes from the `torch.Generator` that is passed, and from nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from benchmarks.core.types import Batch


@dataclass(frozen=True)
class Elbo:
    """The two halves of an evidence lower bound, in nats per sample, each (N,): elbo = -(rate + distortion).

    `rate` is KL(q(z|x) || p(z)) or its one-sample estimate, `distortion` is -E_q log p(x|z).
    """

    rate: Tensor
    distortion: Tensor

    @property
    def value(self) -> Tensor:
        return -(self.rate + self.distortion)


@runtime_checkable
class Trainable(Protocol):
    """Trained by gradient descent."""

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Scalars averaged over the batch; key ``loss`` is minimised, the others are logged."""
        ...


@runtime_checkable
class Fittable(Protocol):
    """Fitted in closed form or by its own algorithm; `x` is the whole training set (N, *shape)."""

    def fit(self, x: Tensor, generator: Generator) -> None: ...


@runtime_checkable
class ExactLikelihood(Protocol):
    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log-density or log-probability, (N,) nats."""
        ...


@runtime_checkable
class VariationalBound(Protocol):
    """Bounds on log p(x) through an approximate posterior."""

    def elbo(self, x: Tensor, generator: Generator) -> Elbo:
        """One-sample estimate of the evidence lower bound."""
        ...

    def posterior(self, x: Tensor) -> Any:
        """What the encoder says of x, computed once a datum and handed to `log_importance_weights`."""
        ...

    def log_importance_weights(self, x: Tensor, posterior: Any, k: int, generator: Generator) -> Tensor:
        """log p(x, z_i) - log q(z_i | x) for k fresh draws z_i, (k, N) nats."""
        ...


@runtime_checkable
class Sampler(Protocol):
    def sample(self, n: int, generator: Generator) -> Tensor:
        """(n, *shape) samples in the space of the preprocessed data (means for Bernoulli pixels are not samples)."""
        ...


@runtime_checkable
class Encoder(Protocol):
    def encode(self, x: Tensor) -> Tensor:
        """Posterior mean of the code, (N, D) float32; all stochastic layers side by side, bottom first."""
        ...

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        """One posterior draw, (N, D) float32."""
        ...


@runtime_checkable
class Decoder(Protocol):
    def decode(self, z: Tensor) -> Tensor:
        """Mean of p(x|z) for the topmost code, (N, *shape)."""
        ...


@runtime_checkable
class Reconstructor(Protocol):
    def reconstruct(self, x: Tensor) -> Tensor:
        """(N, *shape): the mean of p(x | posterior mean)."""
        ...


@runtime_checkable
class GaussianEncoder(Protocol):
    """A diagonal Gaussian posterior over one code, as aggregate-posterior metrics need it."""

    def encode_gaussian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, each (N, D)."""
        ...


CAPABILITIES: dict[str, type] = {
    c.__name__: c
    for c in (
        Trainable,
        Fittable,
        ExactLikelihood,
        VariationalBound,
        Sampler,
        Encoder,
        Decoder,
        Reconstructor,
        GaussianEncoder,
    )
}


def capabilities_of(model: object) -> frozenset[str]:
    """Names of the protocols that `model` implements."""
    return frozenset(name for name, protocol in CAPABILITIES.items() if isinstance(model, protocol))
