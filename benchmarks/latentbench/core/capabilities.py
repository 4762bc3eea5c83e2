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
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from torch import Generator, Tensor, nn

    from latentbench.core.types import Batch


@runtime_checkable
class Trainable(Protocol):
    """Trained by gradient descent."""

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Scalars averaged over the batch; key ``loss`` is minimised, the others are logged."""
        ...


@runtime_checkable
class Players(Protocol):
    """Trained by gradient descent of several players, each of which lowers a loss of its own (GANs, minimax games)."""

    def players(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Name -> what the player moves, in the order in which they move where the protocol says nothing else."""
        ...

    def player_loss(self, player: str, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """As `Trainable.loss`, of one player; the parameters of the others want no gradient while it moves."""
        ...


@runtime_checkable
class Updates(Protocol):
    """Has steps that are no gradient steps (EM steps, moving averages of a codebook, moves of an agent)."""

    def update(self, name: str, batch: Batch, generator: Generator) -> Mapping[str, Tensor | float]:
        """Do the update that the protocol's phases call `name`, without gradients; numbers to log."""
        ...


@runtime_checkable
class Iterative(Protocol):
    """Trained by iterations of its own on the whole training set: EM, MCMC, coordinate ascent, boosting.

    All that changes lies in `state_dict` (or `OwnState`), so that a training goes on from a checkpoint.
    """

    def start(self, data: Batch, generator: Generator) -> None:
        """Called once, before the first iteration; `data` is the whole training set, the same in every call."""
        ...

    def advance(self, data: Batch, generator: Generator) -> Mapping[str, Tensor | float]:
        """One iteration; numbers to log, of which ``loss``, if there is one, must stay finite."""
        ...

    def done(self) -> bool:
        """Whether further iterations would change nothing that matters."""
        ...

    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state: dict[str, Tensor]) -> Any: ...


@runtime_checkable
class Staged(Protocol):
    """Made of parts that train one after the other."""

    def stages(self) -> Mapping[str, Any]:
        """Stage -> what is trained in it: a `Trainable`, `Players`, `Iterative` or `Fittable` part of this model.

        A stage that takes over another model's weights names the part that has them.
        """
        ...


@runtime_checkable
class StageRows(Protocol):
    """Makes what a later stage is trained on, where these are not the codes of an `Encoder`."""

    def stage_rows(self, name: str, batch: Batch, generator: Generator) -> Tensor | Mapping[str, Tensor]:
        """(N, ...) rows, or named parts of which ``x`` is the main one; called block by block, without gradients."""
        ...


@runtime_checkable
class OwnState(Protocol):
    """Keeps more from step to step than its `state_dict` holds: a replay buffer, generated rows, persistent chains."""

    def own_state(self) -> Any:
        """A nest of dicts, lists, tuples, numbers, strings and tensors; it goes into every checkpoint."""
        ...

    def load_own_state(self, state: Any) -> None: ...


@runtime_checkable
class Validated(Protocol):
    """Says itself what early stopping and the choice of weights look at, in place of its training loss."""

    def validation_loss(self, batch: Batch, generator: Generator) -> Tensor:
        """Scalar, lower is better; means over batches are weighted by rows."""
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
class CodePrior(Protocol):
    """p(z) of the codes that `CodeLikelihood` is given."""

    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z), (..., D) to (...) nats."""
        ...


@runtime_checkable
class LikelihoodHead(Protocol):
    """p(x | z) through a head of `latentbench.models.likelihoods`, which knows whether it is normalised on these data.

    Metrics of bounds ask it, so that no cross-entropy with grey values passes for a likelihood.
    """

    likelihood: Any


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
class LinkPredictor(Protocol):
    """Says how likely pairs of nodes of one graph are to be joined."""

    def link_scores(self, batch: Batch, pairs: Tensor) -> Tensor:
        """(M,) for pairs (M, 2) of node numbers, higher where an edge is likelier; `batch` is the training graph."""
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


@runtime_checkable
class Study(Protocol):
    """A procedure that is tried on problems whose truth is known (`latentbench.models.study`)."""

    problems: int

    def answered(self) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """(truth, answer) of each problem, arrays and numbers by name."""
        ...

    def again(self, i: int) -> Callable[[], Any]:
        """A call that answers problem `i` once more."""
        ...


#: Every protocol above, by name.
CAPABILITIES: dict[str, type] = {
    name: kind
    for name, kind in list(globals().items())
    if getattr(kind, "_is_protocol", False) and kind is not Protocol
}

#: What answers of a `Study` hold that metrics of them measure.
ANSWERS: dict[str, str] = {
    "StructureLearner": "its answers hold `graph`, (V, V), not zero at [i, j] for an edge i -> j",
    "EdgeScorer": "its answers hold `scores`, (V, V), higher at [i, j] where an edge i -> j is likelier",
    "Clusterer": "its answers hold `labels`, (N,), the cluster of each item",
    "LatentEstimator": "its answers hold `latents`, (N, D)",
}

#: What a model may be declared to be that cannot be seen from its methods: a metric that assumes it names it.
PROPERTIES: dict[str, str] = {
    "StandardNormalPrior": "its codes have the prior N(0, I)",
    "NormalisedLikelihood": "the likelihoods in its bounds are normalised, whatever the data",
    **ANSWERS,
}


def capabilities_of(model: object) -> frozenset[str]:
    """Names of the protocols that `model` implements."""
    return frozenset(name for name, protocol in CAPABILITIES.items() if isinstance(model, protocol))
