"""What every model must do, whoever wrote it: tested on rows that it may be trained on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Generator, Tensor, nn

from latentbench.contracts.finding import Finding, NotApplicable, attempts
from latentbench.core.capabilities import PROPERTIES, Fittable, Preparable, Trainable, capabilities_of
from latentbench.core.types import Batch

#: Steps of Adam before anything is asked of a model.
STEPS = 3
#: Standard errors that a bound may seem to lie above the exact likelihood.
ERRORS = 4.0


def check_model(
    subject: str, build: Callable[[], Any], x: Tensor, declared: frozenset[str], columns: dict[str, Tensor]
) -> Iterator[Finding]:
    """The contract tests of a model.

    Args:
        subject: what to call it.
        build: makes it; initial weights come from torch's global generator.
        x: (N, *shape) float32 preprocessed training rows, N of 16 or more.
        declared: the capabilities that its registry entry names.
        columns: further columns of these rows.
    """
    tests = _Tests(build, x, declared, columns)
    return attempts(
        subject,
        {
            "it can do what its entry says": tests.capabilities,
            "its loss is a finite scalar": tests.loss,
            "gradients reach every parameter": tests.gradients,
            "training lowers the loss": tests.learning,
            "training raises the likelihood, or its bound": tests.likelihood,
            "the same seed gives the same numbers": tests.determinism,
            "it draws from the generator that it is given, and from nothing else": tests.draws,
            "its input is left as it was": tests.untouched,
            "answers have the right shapes and are finite": tests.shapes,
            "a row's answer does not depend on the other rows": tests.rows,
            "the bound lies below the exact likelihood": tests.bound,
            "more importance samples do not lower the bound": tests.tightening,
            "weights saved and loaded give the same answers": tests.saving,
        },
    )


def _generator(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


class _Tests:
    def __init__(
        self, build: Callable[[], Any], x: Tensor, declared: frozenset[str], columns: dict[str, Tensor]
    ) -> None:
        self._build, self._x, self._declared, self._columns = build, x, declared, columns
        self._kept: Any = None

    def _fresh(self, seed: int = 0) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self._build()

    def _batch(self, step: int = 0) -> Batch:
        return Batch(self._x.clone(), len(self._x), step, 0.0, dict(self._columns))

    def _train(self, model: Any, steps: int = STEPS) -> list[float]:
        if isinstance(model, Preparable):
            model.prepare(self._x.clone(), _generator())
        if isinstance(model, Fittable):
            model.fit(self._x.clone(), _generator())
            return []
        self._trainable(model)
        optimizer, draws, losses = torch.optim.Adam(model.parameters(), 1e-3), _generator(), []
        model.train()
        for step in range(steps):
            loss = model.loss(self._batch(step), draws)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        model.eval()
        return losses

    def _trained(self) -> Any:
        """A model after a few steps, made once; tests leave it as it is."""
        if self._kept is None:
            model = self._fresh()
            self._train(model)
            self._kept = model
        return self._kept

    @staticmethod
    def _trainable(model: Any) -> None:
        if not (isinstance(model, Trainable) and isinstance(model, nn.Module)):
            raise NotApplicable("it is not trained by gradients")

    @torch.no_grad()
    def _answers(self, model: Any, x: Tensor) -> dict[str, Tensor]:
        """What it says of `x` by itself, without draws of its own."""
        can, out = capabilities_of(model), {}
        if "ExactLikelihood" in can:
            out["log_prob"] = model.log_prob(x)
        if "Encoder" in can:
            out["encode"] = model.encode(x)
        if "GaussianEncoder" in can:
            out["mean"], out["log_variance"] = model.encode_gaussian(x)
        if "Reconstructor" in can:
            out["reconstruct"] = model.reconstruct(x)
        return out

    @torch.no_grad()
    def _drawn(self, model: Any, x: Tensor, seed: int = 0) -> dict[str, Tensor]:
        """What it says of `x` with draws."""
        can, out = capabilities_of(model), {}
        if "VariationalBound" in can:
            bound = model.elbo(x, _generator(seed))
            out["rate"], out["distortion"] = bound.rate, bound.distortion
            out["log_weights"] = model.log_importance_weights(x, model.posterior(x), 5, _generator(seed))
        if "Sampler" in can:
            out["sample"] = model.sample(len(x), _generator(seed))
        if "Encoder" in can:
            out["encode_sample"] = model.encode_sample(x, _generator(seed))
        return out

    def capabilities(self) -> str | None:
        found = capabilities_of(self._fresh())
        declared = self._declared - PROPERTIES.keys()
        if lacks := sorted(declared - found):
            return f"it lacks {', '.join(lacks)}"
        more = sorted(found - declared)
        return f"it also implements {', '.join(more)}: name them in its entry" if more else None

    def loss(self) -> str | None:
        model = self._fresh()
        if isinstance(model, Preparable):
            model.prepare(self._x.clone(), _generator())
        self._trainable(model)
        terms = model.loss(self._batch(), _generator())
        if "loss" not in terms:
            return "no key `loss`"
        wrong = [k for k, v in terms.items() if v.shape != () or not bool(v.isfinite())]
        return f"no finite scalars: {', '.join(wrong)}" if wrong else None

    def gradients(self) -> str | None:
        model = copy.deepcopy(self._trained())  # zero starting values may block a gradient at the first step
        self._trainable(model)
        model.train()
        model.zero_grad()
        for step in range(3):  # a unit may be silent on one batch
            model.loss(self._batch(step), _generator(step))["loss"].backward()
        without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        broken = [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
        if without or broken:
            return f"none for {', '.join(without[:5])}" if without else f"not finite for {', '.join(broken[:5])}"
        still = [n for n, p in model.named_parameters() if p.grad is not None and p.numel() > 1 and not p.grad.any()]
        return f"zero for {', '.join(still[:5])}" if still else None

    def learning(self) -> str | None:
        losses = self._train(self._fresh(), 40)
        if not losses:
            raise NotApplicable("it is not trained by gradients")
        first, last = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
        return None if last < first else f"{first:.6g} before, {last:.6g} after 40 steps of Adam on the same rows"

    @torch.no_grad()
    def _fit(self, model: Any) -> float:
        """Mean log-likelihood of the rows, or its bound, nats."""
        if "ExactLikelihood" in capabilities_of(model):
            return float(model.log_prob(self._x).mean())
        return float(torch.stack([model.elbo(self._x, _generator(i)).value for i in range(10)]).mean())

    def likelihood(self) -> str | None:
        model = self._fresh()
        self._trainable(model)
        if not {"ExactLikelihood", "VariationalBound"} & capabilities_of(model):
            raise NotApplicable("it has neither")
        model.eval()
        before = None if isinstance(model, Preparable) else self._fit(model)
        self._train(model, 1 if before is None else 40)
        if before is None:
            before = self._fit(model)
            self._train(model, 40)
        after = self._fit(model)
        return None if after > before else f"{before:.6g} nats before, {after:.6g} after 40 steps of Adam"

    def determinism(self) -> str | None:
        first, second, other = self._fresh(0), self._fresh(0), self._fresh(1)
        if isinstance(first, nn.Module) and any(p.numel() for p in first.parameters()):
            pairs = zip(first.parameters(), second.parameters(), strict=True)
            if not all(torch.equal(a, b) for a, b in pairs):
                return "initial weights differ"
        if self._train(first) != self._train(second):
            return "losses differ"
        del other
        a, b = ({**self._answers(m, self._x), **self._drawn(m, self._x)} for m in (first, second))
        wrong = [k for k in a if not torch.equal(a[k], b[k])]
        return f"{', '.join(wrong)} differ" if wrong else None

    def draws(self) -> str | None:
        results = []
        for seed in (0, 1):
            with torch.random.fork_rng():
                model = self._fresh()
                model = model.eval() if isinstance(model, nn.Module) else model
                torch.manual_seed(seed)
                before = torch.get_rng_state()
                self._train(model)
                out = self._drawn(model, self._x)
                if not torch.equal(torch.get_rng_state(), before):
                    return "it draws from torch's global generator"
                results.append(out)
        wrong = [k for k in results[0] if not torch.equal(results[0][k], results[1][k])]
        if wrong:
            return f"{', '.join(wrong)} depend on something else"
        again = self._drawn(self._trained(), self._x, seed=3)
        same = [k for k in ("sample", "encode_sample") if k in again and torch.equal(again[k], results[0][k])]
        return f"{', '.join(same)} draw nothing from it" if same else None

    def untouched(self) -> str | None:
        model, x = self._trained(), self._x.clone()
        self._answers(model, x)
        self._drawn(model, x)
        if not torch.equal(x, self._x):
            return "an answer writes into x"
        if isinstance(model, nn.Module) and isinstance(model, Trainable):
            batch = Batch(x, len(x), 0, 0.0, dict(self._columns))
            copy.deepcopy(model).train().loss(batch, _generator())
        return None if torch.equal(x, self._x) else "the loss writes into batch.x"

    def shapes(self) -> str | None:
        x, model = self._x, self._trained()
        n, out = len(x), {**self._answers(model, x), **self._drawn(model, x)}
        if not out:
            raise NotApplicable("it answers nothing about rows")
        expected: dict[str, tuple[int, ...]] = dict.fromkeys(("log_prob", "rate", "distortion"), (n,))
        expected |= {"sample": tuple(x.shape), "reconstruct": tuple(x.shape), "log_weights": (5, n)}
        for name, value in out.items():
            if value.dtype != torch.float32:
                return f"{name} is {value.dtype}, not float32"
            if name in expected and tuple(value.shape) != expected[name]:
                return f"{name} is {tuple(value.shape)}, not {expected[name]}"
            if not value.isfinite().all():
                return f"{name} is not finite"
        codes = {tuple(out[k].shape) for k in ("encode", "encode_sample", "mean", "log_variance") if k in out}
        if len(codes) > 1 or any(len(s) != 2 or s[0] != n for s in codes):
            return f"codes are {', '.join(map(str, sorted(codes)))}, not (N, D) alike"
        return None

    def rows(self) -> str | None:
        model = self._trained()
        whole, part = self._answers(model, self._x), self._answers(model, self._x[:3])
        if not whole:
            raise NotApplicable("it answers nothing about rows")
        wrong = [k for k in whole if not torch.allclose(whole[k][:3], part[k], rtol=1e-3, atol=1e-4)]
        return f"{', '.join(wrong)} change with the batch" if wrong else None

    @torch.no_grad()
    def bound(self) -> str | None:
        model = self._trained()
        if not {"ExactLikelihood", "VariationalBound"} <= capabilities_of(model):
            raise NotApplicable("it has no bound beside an exact likelihood")
        gap = torch.stack([model.elbo(self._x, _generator(i)).value for i in range(30)]) - model.log_prob(self._x)
        means = gap.mean(1)
        above, error = float(means.mean()), float(means.std() / len(means) ** 0.5)
        return f"by {above:.4g} nats above it" if above > ERRORS * error + 1e-4 else None

    @torch.no_grad()
    def tightening(self) -> str | None:
        model = self._trained()
        if "VariationalBound" not in capabilities_of(model):
            raise NotApplicable("it has no variational bound")
        posterior = model.posterior(self._x)
        one = torch.stack([model.elbo(self._x, _generator(i)).value for i in range(20)])
        weights = torch.stack(
            [torch.as_tensor(model.log_importance_weights(self._x, posterior, 20, _generator(i))) for i in range(20)]
        )
        many = weights.logsumexp(1) - torch.log(torch.tensor(20.0))
        means = (many - one).mean(1)
        gain, error = float(means.mean()), float(means.std() / len(means) ** 0.5)
        return f"20 samples give {-gain:.4g} nats less than one" if gain < -ERRORS * error - 1e-3 else None

    def saving(self) -> str | None:
        model = self._trained()
        if not hasattr(model, "state_dict") or not model.state_dict():
            raise NotApplicable("it has no weights")
        from safetensors.torch import load, save

        state = {k: v.detach().contiguous().clone() for k, v in model.state_dict().items()}
        other = self._fresh(7)
        if isinstance(other, Preparable):
            other.prepare(self._x.clone(), _generator())
        other.load_state_dict(load(save(state)))
        if isinstance(other, nn.Module):
            other.eval()
        a, b = ({**self._answers(m, self._x), **self._drawn(m, self._x)} for m in (model, other))
        wrong = [k for k in a if not torch.equal(a[k], b[k])]
        return f"{', '.join(wrong)} differ: something that they depend on is not in its state" if wrong else None
