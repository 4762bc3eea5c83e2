"""What a model can do, as small protocols. A metric names those it needs; `validate` matches the two.

Conventions, for all of them: ``x`` is (N, *shape) float32 after preprocessing; likelihoods are in nats per
sample, (N,) float32, in the space of the preprocessed data (the metric adds the preprocessing's log-Jacobian);
every random draw comes from the `torch.Generator` that is passed, and from nowhere else.

Declarations only: nothing here can change a number, so code hashes leave this module out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from latentbench.core.types import Elbo as Elbo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Generator, Tensor

    from latentbench.core.types import Batch


@runtime_checkable
class Trainable(Protocol):
    """Trained by gradient descent."""

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Scalars averaged over the batch; key ``loss`` is minimised, the others are logged."""
        ...


@runtime_checkable
class Preparable(Protocol):
    """Trained by gradient descent after one look at the whole training set: structures, starting values from data."""

    def prepare(self, x: Tensor, generator: Generator) -> None:
        """`x` is the whole training set (N, *shape), on the model's device; called once, before the first `loss`."""
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


@runtime_checkable
class CodeLikelihood(Protocol):
    """p(x | z) of codes that `encode_sample` draws."""

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z), (N, *shape) and (N, D) to (N,) nats."""
        ...


@runtime_checkable
class Transporter(Protocol):
    """Sends a source distribution to a target; samples are rows (2, D) of a source and a target point, unpaired."""

    def transport(self, x: Tensor, generator: Generator, time: float = 1.0) -> Tensor:
        """(N, D) source points to (N, D): a draw each at `time` in [0, 1] on the way, at 1 where it arrives."""
        ...


@runtime_checkable
class EstimatedGradient(Protocol):
    """Trained through estimates of a gradient that is known, so that bias and spread can be measured."""

    def gradient_estimates(self, x: Tensor, draws: int, generator: Generator) -> Tensor:
        """Independent estimates for each row, (draws, N, P)."""
        ...

    def exact_gradient(self, x: Tensor) -> Tensor:
        """What they estimate, (N, P); `UserError` where it cannot be enumerated."""
        ...


@runtime_checkable
class ExpectedCost(Protocol):
    """An optimisation problem without data."""

    def expected_cost(self) -> Tensor:
        """The objective at the present parameters, exact, scalar."""
        ...


@runtime_checkable
class ConditionalBound(Protocol):
    """Predicts one part of a sample from the rest through latent variables."""

    def log_conditional_weights(self, x: Tensor, k: int, generator: Generator) -> Tensor:
        """log p(part | rest, h_i) for k fresh draws h_i given the rest, (k, N) nats."""
        ...


@runtime_checkable
class OutlierScorer(Protocol):
    def outlier_score(self, x: Tensor, generator: Generator) -> Tensor:
        """(N,), higher for samples that look less like the training data."""
        ...


@runtime_checkable
class Classifier(Protocol):
    def classify(self, x: Tensor) -> Tensor:
        """Logits of the classes, (N, classes)."""
        ...


@runtime_checkable
class Forecaster(Protocol):
    """Goes on with a series of T values; samples are (T, D)."""

    def forecast(self, x: Tensor, columns: Mapping[str, Tensor], length: int) -> Tensor:
        """(N, T, D) and its further columns to the expected next `length` values, (N, length, D)."""
        ...


@runtime_checkable
class Marginals(Protocol):
    """Probabilities of any part of a binary vector."""

    def log_marginal(self, x: Tensor, observed: Tensor) -> Tensor:
        """log p(x_observed), (N,) nats; `observed` (N, D) of zeros and ones."""
        ...

    def log_marginal_ensemble(self, x: Tensor, observed: Tensor, orders: int, generator: Generator) -> Tensor:
        """The model's best estimate, at whatever cost: the mean over chains of conditionals in `orders` orders."""
        ...


@runtime_checkable
class KnownTarget(Protocol):
    """Trained towards a distribution over binary vectors that can be summed over."""

    def target(self) -> tuple[Tensor, Tensor]:
        """All states (S, D) and their exact log-probabilities (S,)."""
        ...

    def log_model(self, x: Tensor) -> Tensor:
        """The model's own log-probability, normalised, (N,) nats."""
        ...

    def log_marginal(self, x: Tensor, observed: Tensor) -> Tensor:
        """log p(x_observed), (N,) nats; `observed` (N, D) of zeros and ones."""
        ...


@runtime_checkable
class BoundTerms(Protocol):
    """Bounds -log p(x) from above by a sum of parts, without an importance-weighted form (diffusion models)."""

    def bound_terms(self, x: Tensor, generator: Generator) -> Mapping[str, Tensor]:
        """Parts of an unbiased estimate of the bound, each (N,) nats; their sum is the estimate."""
        ...


@runtime_checkable
class PathSampler(Protocol):
    """Samples by a deterministic path from noise, of as many steps as one likes."""

    def sample_path(self, n: int, steps: int, generator: Generator) -> Tensor:
        """States (steps + 1, n, *shape) at even times from noise to samples, in the space of the preprocessed data."""
        ...


CAPABILITIES: dict[str, type] = {
    c.__name__: c
    for c in (
        Trainable,
        Preparable,
        Fittable,
        ExactLikelihood,
        VariationalBound,
        Sampler,
        Encoder,
        Decoder,
        Reconstructor,
        GaussianEncoder,
        CodeLikelihood,
        Transporter,
        Classifier,
        Forecaster,
        EstimatedGradient,
        ExpectedCost,
        BoundTerms,
        PathSampler,
        ConditionalBound,
        OutlierScorer,
        Marginals,
        KnownTarget,
    )
}


def capabilities_of(model: object) -> frozenset[str]:
    """Names of the protocols that `model` implements."""
    return frozenset(name for name, protocol in CAPABILITIES.items() if isinstance(model, protocol))
