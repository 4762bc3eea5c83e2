"""Hidden Chow-Liu trees with free tables (Liu & Van den Broeck 2021, arXiv 2106.02264)."""

from __future__ import annotations

from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.circuits.em import Tables, em_loss, normalised
from latentbench.models.circuits.latent_tree import LatentTree, simplex
from pydantic import PositiveFloat
from torch import Generator, Tensor, nn


@model(
    "hclt",
    "Trainable Preparable ExactLikelihood Sampler",
    "hidden Chow-Liu tree with free tables, by EM or gradient descent",
    whole_batch=True,
    examples=(
        Example("binary-vector", {"states": 3}, "likelihood"),
        Example("discrete-image", {"states": 3, "em": True}),
    ),
)
class HCLT(LatentTree):
    """A hidden Chow-Liu tree with a free table for each variable, trained by EM or by gradient descent.

    Args:
        states: hidden states K.
        em: the parameters are the probabilities themselves, and `loss` carries the gradient of an EM step (see `em`):
            train with plain ``sgd``, whose learning rate is EM's step size. Otherwise they are logits, for any
            optimiser.
        pseudocount: added by EM to the expected counts of each row of a table in a batch.
        smoothing: added to each count behind the tree's mutual information.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        states: int = 16,
        em: bool = False,
        pseudocount: PositiveFloat = 1e-4,
        smoothing: float = 0.01,
    ) -> None:
        super().__init__(info, states=states, smoothing=smoothing)
        self.em = checks.flag("em", em)
        self.pseudocount = checks.number("pseudocount", pseudocount, above=True)
        k = self.states
        start = {
            "prior": simplex(k),
            "weights": simplex(self.dims - 1, k, k),
            "leaves": simplex(self.dims, k, self.levels),
        }
        self.free = nn.ParameterDict({name: p if self.em else p.log() for name, p in start.items()})

    def tables(self) -> Tables:
        if self.em:
            return normalised(self.free)
        return {name: logits.softmax(-1) for name, logits in self.free.items()}

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        if not self.em:
            return super().loss(batch, generator)
        rows = self._rows(batch.x)
        return {"loss": em_loss(lambda tables: self.evaluate(rows, tables), dict(self.free.items()), self.pseudocount)}
