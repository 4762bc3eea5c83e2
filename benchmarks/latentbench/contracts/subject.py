"""A model under test: how it is built and trained, on which rows, and what it says of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor, nn

from latentbench.contracts import synthetic
from latentbench.contracts.finding import NotApplicable
from latentbench.core.capabilities import Fittable, Iterative, Players, Preparable, Staged, Trainable, capabilities_of
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo

#: Steps of Adam before anything is asked of a model, and their learning rate.
STEPS, RATE = 3, 1e-3
#: Draws for each row where weights or estimates are asked for; steps of a sampler that takes any number.
DRAWS, PATH = 5, (2, 3, 4)
#: Rows of small data, and how long and fast a model learns where its posterior is to come near.
SMALL, LEARNT, LEARNT_RATE = 64, 80, 1e-2
#: Rows of a gradient that is enumerated.
EXACT = 2

Answers = dict[str, Tensor]


def generator(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class Subject:
    """A model's declaration on some rows.

    Attributes:
        make: builds the model for a `DataInfo`; initial weights come from torch's global generator.
        rows: preprocessed training rows, 16 or more.
        declared: the capabilities that its declaration names.
        kind: the made-up kind that the rows are of, or are likest to: in its small shapes densities are summed.
        steps: of training before anything is asked of it.
        kept: what has been made of it once, by name.
        objective: what its loss is said to be: ``likelihood`` or ``elbo``, negative and the mean over the batch.
        stages: of a `Staged` model, as a protocol has them: ``name``, and ``rows`` where these are not the data's.
    """

    make: Callable[[DataInfo], Any]
    rows: synthetic.Rows
    declared: frozenset[str] = frozenset()
    kind: synthetic.Kind | None = None
    objective: str = ""
    stages: Sequence[Mapping[str, Any]] = ()
    steps: int = STEPS
    kept: dict[Any, Any] = field(default_factory=dict)

    @property
    def x(self) -> Tensor:
        return self.rows.x

    def fresh(self, seed: int = 0) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.make(self.rows.info)

    @cached_property
    def can(self) -> frozenset[str]:
        return capabilities_of(self.fresh())

    def batch(self, step: int = 0, progress: float = 0.0, rows: slice = slice(None)) -> Batch:
        columns = {k: v[rows].clone() for k, v in self.rows.columns.items()}
        columns |= {k: v.clone() for k, v in self.rows.whole.items()}
        return Batch(self.x[rows].clone(), self.rows.info.n_train, step, progress, columns)

    def prepared(self, seed: int = 0) -> Any:
        """A new model that has seen the training rows, if it wants to, but has not been trained by gradients."""
        model = self.fresh(seed)
        if isinstance(model, Preparable):
            model.prepare(self.x.clone(), generator())
        return model

    @torch.enable_grad()
    def train(
        self, model: Any, steps: int = STEPS, progress: float = 0.0, seed: int | None = None, rate: float = RATE
    ) -> list[float]:
        """Steps of Adam on all rows, or `fit`; the losses. With a `seed`, all steps make the same draws."""
        if isinstance(model, Staged):
            for stage in self.stages:
                self._stage(model, stage, steps, rate)
            return []
        if isinstance(model, Fittable):
            model.fit(self.x.clone(), generator())
            return []
        if isinstance(model, Iterative):
            draws = generator()
            model.start(self.batch(), draws)
            for _ in range(steps):
                model.advance(self.batch(), draws)
            return []
        if isinstance(model, Players) and isinstance(model, nn.Module):
            _play(model, self, steps, rate)
            return []
        if not trainable(model):
            return []
        optimizer, draws, losses = torch.optim.Adam(model.parameters(), rate), generator(), []
        model.train()
        for step in range(steps):
            draws = draws if seed is None else generator(seed)
            loss = model.loss(self.batch(step, progress), draws)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        model.eval()
        return losses

    def _stage(self, model: Any, stage: Mapping[str, Any], steps: int, rate: float) -> None:
        """Train one part, on codes where the stage says so."""
        rows = self.rows
        if "rows" in stage:
            with torch.no_grad():
                rows = replace(rows, x=model.encode(self.x))
        part = Subject(self.make, rows, steps=self.steps)
        part.train(model.stages()[stage["name"]], steps, rate=rate)

    def trained(self) -> Any:
        """A model after a few steps, made once; whoever changes it takes a `copy`."""
        if "trained" not in self.kept:
            model = self.prepared()
            self.train(model, self.steps, rate=RATE if self.steps == STEPS else LEARNT_RATE)
            self.kept["trained"] = model
        return self.kept["trained"]

    def copy(self) -> Any:
        return copy.deepcopy(self.trained())

    def scaled(self, factor: float = 3.0, seed: int = 5) -> Any:
        """The trained model with weights `factor` times as large, and but for a very small factor none of them zero:
        noise of that seed is added."""
        key = f"{factor:g} times, {seed}"
        if key not in self.kept:
            model, draws = self.copy(), generator(seed)
            noise = 0.2 if factor > 1.0 else 0.1 if factor > 0.2 else 0.0
            if isinstance(model, nn.Module):
                with torch.no_grad():
                    for p in model.parameters():
                        p.mul_(factor).add_(noise * torch.randn(p.shape, generator=draws))
            self.kept[key] = model
        return self.kept[key]

    def redrawn(self) -> Any:
        """A copy with weights of two or more axes drawn anew, normal and twice as wide as keeps a layer's output at its
        input's size: coordinates then depend on each other, which a few steps from small weights, or from a start at
        the identity, do not bring about."""
        model, draws = self.copy(), generator(5)
        with torch.no_grad():
            for p in model.parameters():
                if p.dim() > 1 and p.numel():
                    p.copy_(2.0 * torch.randn(p.shape, generator=draws) * (len(p) / p.numel()) ** 0.5)
        return model

    def small(self) -> Subject | None:
        """The same model on the smallest shape of its kind that it takes, trained; None if it takes none of them."""
        if "small" not in self.kept:
            self.kept["small"] = next(self._smaller(), None)
        return self.kept["small"]

    def _smaller(self) -> Iterator[Subject]:
        for kind in synthetic.smaller(self.kind) if self.kind else ():
            # a posterior must come near for importance weights to be even
            steps = LEARNT if "VariationalBound" in self.can and "ExactLikelihood" not in self.can else STEPS
            small = replace(self, rows=synthetic.rows(kind, SMALL), kind=kind, steps=steps, kept={})
            try:
                small.trained()
            except Exception:  # too small for it, in whatever words; on data of its own size nothing is forgiven
                continue
            yield small


def _play(model: Any, subject: Subject, steps: int, rate: float) -> None:
    """Steps of every player in turn, by Adam."""
    optimizers = {name: torch.optim.Adam(list(moved), rate) for name, moved in model.players().items()}
    draws = generator()
    model.train()
    for step in range(steps):
        for name, optimizer in optimizers.items():
            optimizer.zero_grad()
            model.player_loss(name, subject.batch(step), draws)["loss"].backward()
            optimizer.step()
    model.zero_grad()
    model.eval()


def trainable(model: Any) -> bool:
    """Whether it is trained by gradients."""
    return isinstance(model, Trainable) and isinstance(model, nn.Module)


def require_trainable(model: Any) -> None:
    if not trainable(model):
        raise NotApplicable("it is not trained by gradients")


def require(subject: Subject, *capabilities: str) -> None:
    """Go on only if the model can do all of it."""
    if lacks := [c for c in capabilities if c not in subject.can]:
        raise NotApplicable(f"it is no {' '.join(lacks)}")


@torch.no_grad()
def answers(subject: Subject, model: Any, batch: Batch | None = None) -> Answers:
    """What a model says of rows, by default the subject's, without draws of its own."""
    batch = batch or subject.batch()
    can, x, out = subject.can, batch.x, Answers()
    if "ExactLikelihood" in can:
        out["log_prob"] = model.log_prob(x)
    if "Encoder" in can:
        out["encode"] = model.encode(x)
    if "GaussianEncoder" in can:
        out["mean"], out["log_variance"] = model.encode_gaussian(x)
    if {"CodeLikelihood", "Encoder"} <= can:
        out["log_likelihood"] = model.log_likelihood(x, out["encode"])
    if {"CodePrior", "Encoder"} <= can:
        out["log_prior"] = model.log_prior(out["encode"])
    if "Reconstructor" in can:
        out["reconstruct"] = model.reconstruct(x)
    if "Classifier" in can:
        out["classify"] = model.classify(x)
    if "Forecaster" in can:
        out["forecast"] = model.forecast(x, batch.columns, 3)
    if "Marginals" in can:
        out["log_marginal"] = model.log_marginal(x, every_other(x))
    if "KnownTarget" in can:
        out["log_model"] = model.log_model(model.target()[0][: len(x)])
    if "ExpectedCost" in can:
        out["expected_cost"] = model.expected_cost()
    if "Decoder" in can and "GaussianEncoder" in can:
        out["decode"] = model.decode(out["mean"])
    if "EstimatedGradient" in can and (exact := _exact_gradient(model, x[:EXACT])) is not None:
        out["exact_gradient"] = exact
    return out


@torch.no_grad()
def drawn(subject: Subject, model: Any, seed: int = 0, batch: Batch | None = None) -> Answers:
    """What a model says of rows, by default the subject's, with draws."""
    batch = batch or subject.batch()
    can, x, g, out = subject.can, batch.x, generator(seed), Answers()
    n = len(x)
    if "VariationalBound" in can:
        bound = model.elbo(x, g)
        out["rate"], out["distortion"] = bound.rate, bound.distortion
        out["log_weights"] = model.log_importance_weights(x, model.posterior(x), DRAWS, g)
    if "BoundTerms" in can:
        out |= {f"bound {name}": term for name, term in model.bound_terms(x, g).items()}
    if "Sampler" in can:
        out["sample"] = model.sample(n, g)
    if "PathSampler" in can:
        out |= {f"path of {steps}": model.sample_path(n, steps, generator(seed)) for steps in PATH}
    if "Encoder" in can:
        out["encode_sample"] = model.encode_sample(x, g)
    if "Transporter" in can:
        out |= {f"transport to {t}": model.transport(x[:, 0], g, t) for t in (0.0, 0.5, 1.0)}
    if "OutlierScorer" in can:
        out["outlier_score"] = model.outlier_score(x, g)
    if "ConditionalBound" in can:
        out["conditional weights"] = model.log_conditional_weights(x, DRAWS, g)
    if "Marginals" in can:
        out["log_marginal_ensemble"] = model.log_marginal_ensemble(x, every_other(x), 2, g)
    if "EstimatedGradient" in can:
        out["gradient_estimates"] = model.gradient_estimates(x, DRAWS, g)
    return out


def every_other(x: Tensor) -> Tensor:
    """Flags (N, D) of the coordinates 0, 2, 4 …"""
    return (torch.arange(x.shape[1]) % 2 == 0).to(x.dtype).expand_as(x)


def _exact_gradient(model: Any, x: Tensor) -> Tensor | None:
    try:
        found: Tensor = model.exact_gradient(x)
    except UserError:  # it cannot be enumerated
        return None
    return found
