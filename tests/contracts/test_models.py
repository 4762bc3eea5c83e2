"""Each contract test of a model holds for a sound one and catches the fault that it is for."""

from __future__ import annotations

import torch
from latentbench.contracts.models import check_model
from latentbench.contracts.synthetic import check_on_synthetic_data, rows
from latentbench.core.types import Elbo
from latentbench.spec.registry import ModelEntry, find_model
from torch import nn

X = rows((4,), "real", None)
CAN = frozenset({"Trainable", "ExactLikelihood", "VariationalBound", "Sampler", "Encoder"})


class Sound(nn.Module):
    """x = w z + noise in closed form, with a bound whose posterior is the prior."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(0.1 * torch.randn(4))
        self.log_std = nn.Parameter(torch.zeros(4))

    def log_px(self, x, z):
        std = self.log_std.exp()
        return torch.distributions.Normal(z[..., None] * self.w, std).log_prob(x).sum(-1)

    def log_prob(self, x):
        covariance = self.w[:, None] * self.w + (2 * self.log_std).exp().diag()
        return torch.distributions.MultivariateNormal(torch.zeros(4), covariance).log_prob(x)

    def loss(self, batch, generator):
        return {"loss": -self.elbo(batch.x, generator).value.mean()}

    def elbo(self, x, generator):
        z = torch.randn(len(x), generator=generator)
        return Elbo(rate=torch.zeros(len(x)), distortion=-self.log_px(x, z))

    def posterior(self, x):
        return None

    def log_importance_weights(self, x, posterior, k, generator):
        return self.log_px(x, torch.randn(k, len(x), generator=generator))

    def sample(self, n, generator):
        z, e = torch.randn(n, 1, generator=generator), torch.randn(n, 4, generator=generator)
        return z * self.w + e * self.log_std.exp()

    def encode(self, x):
        return (x @ self.w)[:, None]

    def encode_sample(self, x, generator):
        return self.encode(x) + torch.randn(len(x), 1, generator=generator)


def broken(build=Sound, can=CAN, x=X):
    return {f.test: f.why for f in check_model("it", build, x, can, {}) if not f.holds}


def test_a_sound_model_holds_all_of_them():
    found = list(check_model("it", Sound, X, CAN, {}))
    assert [f for f in found if not f.holds] == []
    assert [f for f in found if f.skipped] == []
    assert len(found) == 13


def test_capabilities():
    assert "lacks Decoder" in broken(can=CAN | {"Decoder"})["it can do what its entry says"]
    assert "also implements Encoder" in broken(can=CAN - {"Encoder"})["it can do what its entry says"]


class GlobalDraws(Sound):
    def sample(self, n, generator):
        return torch.randn(n, 4)


class NoDraws(Sound):
    def sample(self, n, generator):
        return torch.zeros(n, 4) + self.w


class IdleParameter(Sound):
    def __init__(self):
        super().__init__()
        self.idle = nn.Parameter(torch.ones(3))


class Backwards(Sound):
    def loss(self, batch, generator):
        return {"loss": self.elbo(batch.x, generator).value.mean()}


class Stuck(Sound):
    def loss(self, batch, generator):
        return {"loss": batch.x.mean() + 0.0 * sum(p.sum() for p in self.parameters())}


class Writes(Sound):
    def log_prob(self, x):
        return super().log_prob(x.sub_(1.0))


class WrongShape(Sound):
    def log_prob(self, x):
        return super().log_prob(x)[:, None]


class Neighbours(Sound):
    def log_prob(self, x):
        return super().log_prob(x - x.mean(0))


class BoundTooHigh(Sound):
    def elbo(self, x, generator):
        bound = super().elbo(x, generator)
        return Elbo(bound.rate, bound.distortion - 50.0)


class SumNotMean(Sound):
    def loss(self, batch, generator):
        return {"loss": -self.elbo(batch.x, generator).value}


class Forgets(Sound):
    def __init__(self):
        super().__init__()
        self.shift = torch.randn(4)

    def log_prob(self, x):
        return super().log_prob(x - self.shift)


class Counts(Sound):
    calls = 0

    def encode(self, x):
        Counts.calls += 1
        return super().encode(x) + Counts.calls


def test_each_fault_is_caught_by_its_test():
    cases = {
        GlobalDraws: "it draws from the generator that it is given, and from nothing else",
        NoDraws: "it draws from the generator that it is given, and from nothing else",
        IdleParameter: "gradients reach every parameter",
        Backwards: "training raises the likelihood, or its bound",
        Stuck: "training lowers the loss",
        Writes: "its input is left as it was",
        WrongShape: "answers have the right shapes and are finite",
        Neighbours: "a row's answer does not depend on the other rows",
        BoundTooHigh: "the bound lies below the exact likelihood",
        SumNotMean: "its loss is a finite scalar",
        Forgets: "weights saved and loaded give the same answers",
        Counts: "the same seed gives the same numbers",
    }
    for model, test in cases.items():
        assert test in broken(model), model.__name__


def test_more_samples_that_lower_the_bound():
    class Wrong(Sound):
        def log_importance_weights(self, x, posterior, k, generator):
            return super().log_importance_weights(x, posterior, k, generator) - 30.0

    assert "more importance samples do not lower the bound" in broken(Wrong)


def test_shipped_models_hold_on_made_up_data():
    for name in ("vae", "coupling-flow", "ppca", "factorised"):
        found = list(check_on_synthetic_data(name, find_model(name)))
        assert any(f.holds and not f.skipped for f in found), name
        assert [f for f in found if not f.holds] == []


def test_a_model_that_refuses_everything():
    entry = ModelEntry("latentbench.models.mixtures:BernoulliMixture", find_model("bernoulli-mixture").can, "")
    assert any(f.skipped.startswith("refused") for f in check_on_synthetic_data("mixture", entry))
