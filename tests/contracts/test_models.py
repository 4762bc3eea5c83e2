"""Each contract test of a model holds for a sound one and catches the fault that it is for.

The faults are planted in our own models: each is a subclass that says something wrong.
"""

from __future__ import annotations

import inspect
import itertools
import math

import pytest
import torch
from latentbench.contracts import densities, models
from latentbench.contracts.examples import check_examples, subject_of
from latentbench.contracts.masses import Mass
from latentbench.contracts.models import TESTS, check_model
from latentbench.core.imports import load
from latentbench.core.types import Elbo
from latentbench.declare import Example, ModelEntry
from latentbench.models import likelihoods
from latentbench.models.autoregressive_flow import AutoregressiveFlow
from latentbench.models.baselines import Factorised, Gaussian
from latentbench.models.coupling import CouplingFlow
from latentbench.models.diffusion.vdm import VDM
from latentbench.models.pixel_vae import PixelVAE
from latentbench.models.pixelcnn import PixelCNN
from latentbench.models.vae import VAE, HierarchicalVAE
from latentbench.spec.registry import find_model
from torch import Tensor, nn

#: Of papers' folders, which nothing imports by path.
DSBM, LatticeARM, MuLAN, SentenceVAE, StructuredPredictor = (
    load(find_model(name).target) for name in ("dsbm", "lattice-arm", "mulan", "sentence-vae", "structured-predictor")
)
SMALL = {"latent_dim": 2, "hidden": (8,)}
FLOW = {"couplings": 3, "hidden": (8,)}
NET = {"network": {"mlp": {"width": 16, "layers": 2}}}
NOISY = {**NET, "gamma": [-2.0, 4.0], "sampling_steps": 2}


def findings(cls: type, name: str, data: str, params: dict | None = None, objective: str = "") -> list:
    """Those on `cls`, declared like our model `name`."""
    entry = find_model(name)
    return list(check_model("it", subject_of(cls, entry, Example(data, params or {}, objective)), cls))


def broken(*args: object) -> dict[str, str]:
    return {f.test: f.why for f in findings(*args) if not f.holds}


class TestDensities:
    def test_sound_models_hold_all(self):
        for name, data, params, objective in (
            ("vae", "binary-vector", SMALL, "elbo"),
            ("coupling-flow", "real-vector", FLOW, "likelihood"),
            ("factorised", "discrete-vector", {}, ""),
        ):
            assert broken(load(find_model(name).target), name, data, params, objective) == {}

    def test_no_mass_at_all(self):
        class Nothing(CouplingFlow):
            def log_prob(self, x: Tensor) -> Tensor:
                return super().log_prob(x) - 1e4

        assert "they sum to 0" in broken(Nothing, "coupling-flow", "real-vector", FLOW)[models.NORMALISED]

    def test_what_only_more_coordinates_than_are_integrated_over_tell(self):
        class Flow(CouplingFlow):
            def log_prob(self, x: Tensor) -> Tensor:
                return super().log_prob(x) + 0.1 * (x.shape[1] - 2)

        assert "of 5 coordinates" in broken(Flow, "coupling-flow", "real-vector", FLOW)[models.SAMPLES]

        class NoiseInOneDimension(load(find_model("ppca").target)):
            def log_prob(self, x: Tensor) -> Tensor:
                lost = self.dims - self.latent_dim - 1
                return super().log_prob(x) + 0.5 * lost * self.noise.log().float()

        found = broken(NoiseInOneDimension, "ppca", "real-vector", {"latent_dim": 1})
        assert "of 5 coordinates" in found[models.SAMPLES]

    @pytest.mark.parametrize("short", [True, False])
    def test_estimates_that_fall_short_of_one_say_nothing_of_samples(self, short, monkeypatch):
        """Uneven weights miss some of a state; what is another's instead sums to one all the same."""
        subject = subject_of(VAE, find_model("vae"), Example("binary-vector", SMALL))
        model, space, mass, when = next(densities.masses(subject))
        p = mass.p / mass.p.sum()
        missed = 0.5 * p[0]
        p[:2] += torch.stack([-missed, 0.0 * missed if short else missed])
        found = Mass(p, 1e-8 * torch.ones_like(p), 500.0, 0.03)
        monkeypatch.setattr(densities, "masses", lambda _: [(model, space, found, when)])
        monkeypatch.setattr(densities, "_decoded", lambda _: None)
        assert (densities.samples(subject) is None) == short

    def test_small_data_are_trained_on_wherever_they_are_asked_for(self):
        with torch.no_grad():
            assert subject_of(VAE, find_model("vae"), Example("binary-vector", SMALL)).small() is not None

    def test_mass_that_lies_between_all_points_with_larger_weights_is_no_fault(self):
        class Needles(CouplingFlow):
            def __init__(self, info, **params):
                super().__init__(info, **params)
                self.size = nn.Parameter(torch.ones(()))

            def log_prob(self, x: Tensor) -> Tensor:
                return super().log_prob(x) - 1e4 * (self.size.detach() > 2)

        said = [f.why for f in findings(Needles, "coupling-flow", "real-vector", FLOW) if not f.holds]
        assert not any("sum to" in why or "law of coordinate" in why for why in said), said

    def test_seven_nats_too_many(self):
        class Flow(CouplingFlow):
            def log_prob(self, x: Tensor) -> Tensor:
                return super().log_prob(x) + 7.0

        class Product(Factorised):
            def log_prob(self, x: Tensor) -> Tensor:
                return super().log_prob(x) + 7.0

        assert "sum to 1096" in broken(Flow, "coupling-flow", "real-vector", FLOW)[models.NORMALISED]
        found = broken(Product, "factorised", "binary-vector")
        assert list(found) == [models.NORMALISED], "one cause, one finding"
        assert "all 16 states" in found[models.NORMALISED]

    def test_a_prior_that_sums_to_fifty(self):
        class Fifty(VAE):
            def elbo(self, x, generator):
                bound = super().elbo(x, generator)
                return Elbo(bound.rate - math.log(50), bound.distortion)

            def log_importance_weights(self, x, posterior, k, generator):
                return super().log_importance_weights(x, posterior, k, generator) + math.log(50)

        found = broken(Fifty, "vae", "binary-vector", SMALL)
        assert list(found) == [models.NORMALISED]
        assert "sum to 49.9" in found[models.NORMALISED] or "sum to 50" in found[models.NORMALISED]

    @pytest.mark.parametrize("data", ["binary-vector", "real-vector"])
    def test_a_halved_likelihood(self, data):
        """Everywhere at once: bound, weights and loss still agree."""
        head = {"binary-vector": likelihoods.Bernoulli, "real-vector": likelihoods.Gaussian}[data]

        class Half(head):
            def log_prob(self, x, out):
                return 0.5 * super().log_prob(x, out)

        class Halved(VAE):
            def __init__(self, info, **params):
                super().__init__(info, **params)
                self.likelihood.__class__ = Half

        assert models.NORMALISED in broken(Halved, "vae", data, SMALL, "elbo")

    def test_a_halved_kl_in_the_bound(self):
        class Halved(VAE):
            def _analytic_terms(self, x, posterior, noise):
                log_px, rate = super()._analytic_terms(x, posterior, noise)
                return log_px, 0.5 * rate

        assert "nats from the mean log-weight" in broken(Halved, "vae", "binary-vector", SMALL)[models.WEIGHTS]

    def test_a_halved_kl_in_bound_and_weights(self):
        class Halved(HierarchicalVAE):
            def _terms(self, x, posterior, noise):
                log_px, rate = super()._terms(x, posterior, noise)
                return log_px, 0.5 * rate

        params = {"latent_dims": (2, 2), "hidden": ((6,), (4,))}
        assert models.NORMALISED in broken(Halved, "hierarchical-vae", "binary-vector", params)

    def test_a_flow_without_its_determinant(self):
        class Flat(CouplingFlow):
            def log_prob(self, x: Tensor) -> Tensor:
                z, _ = self(x)
                return -0.5 * z.square().sum(-1) - 0.5 * self.dims * math.log(2 * math.pi)

        assert models.NORMALISED in broken(Flat, "coupling-flow", "real-vector", FLOW)

    def test_samples_of_another_law(self):
        class Wide(VAE):
            def sample(self, n, generator):
                h = 3.0 * self._noise(n, generator=generator, like=next(self.parameters()))
                return self.likelihood.sample(self.decoder(h), generator).unflatten(1, self.shape)

        class Shifted(CouplingFlow):
            def sample(self, n, generator):
                return super().sample(n, generator) + 0.1

        test = "its samples follow its density"
        assert list(broken(Wide, "vae", "binary-vector", SMALL)) == [test]
        assert list(broken(Shifted, "coupling-flow", "real-vector", FLOW)) == [test]

    def test_a_bound_that_bounds_nothing(self):
        class Half(VDM):
            def _terms(self, x, generator):
                terms, noise, error = super()._terms(x, generator)
                return {**terms, "diffusion": 0.5 * terms["diffusion"]}, noise, error

        assert "its bound lies below a density" in broken(Half, "vdm", "real-vector", NOISY)

    def test_samples_that_leave_out_the_priors_flow(self):
        class Plain(PixelVAE):
            def sample(self, n, generator):
                z = self._noise(n, generator=generator, like=self.q.head.weight)
                return self.likelihood.sample(self.decoder(z), generator).unflatten(1, self.shape)

        test, params = "its samples follow its density", {**SMALL, "prior_flow": 2, "flow_hidden": (8,)}
        assert "p(z) p(x | z)" in broken(Plain, "pixel-vae", "binary-vector", params)[test]
        assert broken(PixelVAE, "pixel-vae", "binary-vector", params) == {}

    def test_samples_of_another_order_or_root(self):
        class ByColumns(PixelCNN):
            def sample(self, n, generator):
                x = torch.zeros(n, *self.shape)
                for j, i in itertools.product(range(self.shape[2]), range(self.shape[1])):
                    drawn = self.likelihood.sample(self.net(x), generator).unflatten(1, self.shape)
                    x[:, :, i, j] = drawn[:, :, i, j]
                return x

        class Transposed(Gaussian):
            def sample(self, n, generator):
                return self._shaped(self.mean + self._normal(n, self.dims, generator=generator) @ self.root)

        class HalfInverted(PixelVAE):
            def __init__(self, info, **params):
                super().__init__(info, **params)
                self.prior.inverse = lambda v: AutoregressiveFlow.inverse(self.prior, v) * 1.1

        test, net = "its samples follow its density", {"window": 5, "channels": 4, "layers": 2}
        assert "weights drawn anew" in broken(ByColumns, "pixelcnn", "binary-image", net)[test]
        assert "coordinate 0" in broken(Transposed, "gaussian", "real-vector")[test]
        params = {**SMALL, "prior_flow": 2, "flow_hidden": (8,)}
        assert "p(z) p(x | z)" in broken(HalfInverted, "pixel-vae", "binary-vector", params)[test]

    def test_rows_whose_codes_are_mixed_up(self):
        class Mixed(PixelVAE):
            def log_likelihood(self, x, z):
                return super().log_likelihood(x, z.flip(0))

        assert (
            "log_likelihood"
            in broken(Mixed, "pixel-vae", "binary-vector", SMALL)["a row's answer does not depend on the other rows"]
        )

    def test_conditional_distributions(self):
        class Forgetful(SentenceVAE):
            def log_likelihood(self, x, z, seen=None):  # the end mark costs nothing
                tokens, _ = self._tokens(x)
                return super().log_likelihood(x, z, seen) + 0.5 * (tokens == 0).any(1)

        class Sure(StructuredPredictor):
            def log_conditional_weights(self, x, k, generator):
                return 0.5 * super().log_conditional_weights(x, k, generator)

        class Cold(LatticeARM):
            def target(self):
                states, log_p = super().target()
                return states, 2.0 * log_p

        class Fifty(PixelVAE):
            def log_prior(self, z):
                return super().log_prior(z) + math.log(50)

        test = "its conditional distributions sum to one"
        assert "integrates to 49." in broken(Fifty, "pixel-vae", "binary-vector", SMALL)[test]
        assert "p(x | z) sums" in broken(Forgetful, "sentence-vae", "tokens", {"embedding": 4, "width": 6})[test]
        assert "p of the rest" in broken(Sure, "structured-predictor", "binary-vector", {"layout": "2x3"})[test]
        assert "target sums" in broken(Cold, "lattice-arm", "binary-vector", {"side": 3, "hidden": (8,)})[test]


class TestTraining:
    OBJECTIVE = "its loss is the objective that its example states, in value and in gradient"

    def test_a_halved_kl_in_the_loss(self):
        class Halved(VAE):
            def loss(self, batch, generator):
                terms = super().loss(batch, generator)
                return {**terms, "loss": terms["loss"] - 0.5 * terms["rate"]}

        found = broken(Halved, "vae", "binary-vector", SMALL, "elbo")
        assert "nats from the elbo" in found[self.OBJECTIVE], found

    def test_a_gradient_that_is_cut_or_doubled(self):
        class Cut(VAE):
            def loss(self, batch, generator):
                noise = self._training_noise(batch.x, generator)
                log_px, rate = self._terms(batch.x, self.q[0](batch.x), noise)
                return {"loss": (rate - log_px).mean() + (rate - rate.detach()).mean()}

        found = broken(Cut, "vae", "binary-vector", SMALL, "elbo")
        assert "along a direction" in found[self.OBJECTIVE]

    def test_an_objective_that_it_does_not_have(self):
        assert "no such quantity" in broken(VAE, "vae", "binary-vector", SMALL, "likelihood")[self.OBJECTIVE]

    def test_a_term_that_comes_later_gives_its_gradient_later(self):
        class Warm(VAE):
            def loss(self, batch, generator):
                noise = self._training_noise(batch.x, generator)
                log_px, rate = self._terms(batch.x, self.q[0](batch.x), noise)
                return {"loss": batch.progress * rate.mean() - log_px.mean()}

        assert broken(Warm, "vae", "binary-vector", SMALL) == {}

    def test_which_expert_learns_may_hang_on_the_first_weights(self):
        class Experts(Sound):
            """Two offsets, of which the nearer one learns; a third one never does."""

            idle = False

            def __init__(self, info):
                super().__init__(info)
                self.offsets = nn.Parameter(torch.randn(info.dims))
                self.others = nn.Parameter(torch.randn(info.dims))
                self.third = nn.Parameter(torch.randn(info.dims)) if self.idle else None

            def loss(self, batch, generator):
                far = torch.stack([(batch.x.flatten(1) - o).square().mean() for o in (self.offsets, self.others)])
                return {"loss": super().loss(batch, generator)["loss"] + far.min()}

        class Idle(Experts):
            idle = True

            def loss(self, batch, generator):
                return {"loss": super().loss(batch, generator)["loss"] + 0.0 * self.third.sum()}

        test = "gradients reach every parameter"
        assert test not in wrong(Experts)
        assert wrong(Idle)[test] == "zero for third"

    def test_a_loss_that_sees_its_neighbours_numbers(self):
        class Odd(VAE):
            def __init__(self, info, **params):
                super().__init__(info, **params)
                self.hidden = [torch.randn(3)]  # no parameter, no buffer: each seed's own, and nobody knows

            def loss(self, batch, generator):
                terms = super().loss(batch, generator)
                return {"loss": terms["loss"] * (2.0 + self.hidden[0].sum())}

        assert (
            "beside another"
            in broken(Odd, "vae", "binary-vector", SMALL)["seeds that train side by side get what each gets alone"]
        )


class Sound(nn.Module):
    """x = w z + noise in closed form, with a bound whose posterior is the prior."""

    def __init__(self, info):
        super().__init__()
        self.w = nn.Parameter(0.1 * torch.randn(info.dims))
        self.log_std = nn.Parameter(torch.zeros(info.dims))

    def log_px(self, x, z):
        return torch.distributions.Normal(z[..., None] * self.w, self.log_std.exp()).log_prob(x).sum(-1)

    def log_prob(self, x):
        covariance = self.w[:, None] * self.w + (2 * self.log_std).exp().diag()
        return torch.distributions.MultivariateNormal(torch.zeros_like(self.w), covariance).log_prob(x)

    def loss(self, batch, generator):
        return {"loss": -self.elbo(batch.x, generator).value.mean()}

    def elbo(self, x, generator):
        z = torch.randn(len(x), generator=generator, dtype=x.dtype)
        return Elbo(rate=torch.zeros_like(z), distortion=-self.log_px(x, z))

    def posterior(self, x):
        return None

    def log_importance_weights(self, x, posterior, k, generator):
        return self.log_px(x, torch.randn(k, len(x), generator=generator))

    def sample(self, n, generator):
        z, e = torch.randn(n, 1, generator=generator), torch.randn(n, len(self.w), generator=generator)
        return z * self.w + e * self.log_std.exp()

    def encode(self, x):
        return (x @ self.w)[:, None]

    def encode_sample(self, x, generator):
        return self.encode(x) + torch.randn(len(x), 1, generator=generator)


CAN = frozenset({"Trainable", "ExactLikelihood", "VariationalBound", "Sampler", "Encoder"})


def wrong(cls: type, can: frozenset[str] = CAN, objective: str = "elbo") -> dict[str, str]:
    entry = ModelEntry("tests:it", can, "")
    found = check_model("it", subject_of(cls, entry, Example("real-vector", {}, objective)), cls)
    return {f.test: f.why for f in found if not f.holds}


class TestBehaviour:
    def test_a_sound_model(self):
        assert wrong(Sound) == {}

    def test_capabilities(self):
        test = "it can do what its declaration says"
        assert "lacks Decoder" in wrong(Sound, CAN | {"Decoder"})[test]
        assert "also implements Encoder" in wrong(Sound, CAN - {"Encoder"})[test]

    def test_each_fault_is_caught_by_its_test(self):
        class GlobalDraws(Sound):
            def sample(self, n, generator):
                return torch.randn(n, len(self.w))

        class NoDraws(Sound):
            def encode_sample(self, x, generator):
                return self.encode(x) + 1.0

        class IdleParameter(Sound):
            def __init__(self, info):
                super().__init__(info)
                self.idle = nn.Parameter(torch.ones(3))

        class Stuck(Sound):
            def loss(self, batch, generator):
                return {"loss": batch.x.mean() + 0.0 * sum(p.sum() for p in self.parameters())}

        class Writes(Sound):
            def encode(self, x):
                return super().encode(x.mul_(0.5))

        class WrongShape(Sound):
            def log_prob(self, x):
                return super().log_prob(x)[:, None]

        class OneRow(Sound):
            def encode(self, x):
                return super().encode(x).squeeze(0) if len(x) == 1 else super().encode(x)

        class Neighbours(Sound):
            def encode(self, x):
                return super().encode(x - x.mean(0))

        class BoundTooHigh(Sound):
            def elbo(self, x, generator):
                bound = super().elbo(x, generator)
                return Elbo(bound.rate, bound.distortion - 5.0)

        class SumNotMean(Sound):
            def loss(self, batch, generator):
                return {"loss": -self.elbo(batch.x, generator).value}

        class Forgets(Sound):
            def __init__(self, info):
                super().__init__(info)
                self.shift = torch.randn(1)

            def encode(self, x):
                return super().encode(x) + self.shift

        class Counts(Sound):
            calls = 0

            def encode(self, x):
                Counts.calls += 1
                return super().encode(x) + Counts.calls

        class AlwaysAlike(Sound):
            def __init__(self, info):
                super().__init__(info)
                start = torch.randn(16, generator=torch.Generator().manual_seed(0))
                self.w = nn.Parameter(0.1 * start[: info.dims])
                self.scale = nn.Parameter(start)

            def loss(self, batch, generator):
                return {"loss": super().loss(batch, generator)["loss"] + (self.scale - 1.0).square().sum()}

        cases = {
            GlobalDraws: "it draws from the generator that it is given, and from nothing else",
            NoDraws: "it draws from the generator that it is given, and from nothing else",
            IdleParameter: "gradients reach every parameter",
            Stuck: "training lowers the loss",
            Writes: "its input and its state are left as they were",
            WrongShape: models.SHAPES,
            OneRow: models.SHAPES,
            Neighbours: "a row's answer does not depend on the other rows",
            BoundTooHigh: models.WEIGHTS,
            SumNotMean: models.LOSS,
            Forgets: "weights saved and loaded give the same answers",
            Counts: "the same seed gives the same numbers, and initial weights depend on it",
            AlwaysAlike: "the same seed gives the same numbers, and initial weights depend on it",
        }
        for model, test in cases.items():
            assert test in wrong(model), model.__name__

    def test_backwards(self):
        class Backwards(Sound):
            def loss(self, batch, generator):
                return {"loss": self.elbo(batch.x, generator).value.mean()}

        entry = ModelEntry("tests:it", CAN, "")
        found = check_model("it", subject_of(Backwards, entry, Example("real-vector")), Backwards)
        assert "training raises the likelihood, or its bound" in {f.test for f in found if not f.holds}

    def test_uniform_draws_at_their_ends(self, monkeypatch):
        def bare(like, generator):
            return -torch.log(-torch.log(torch.rand(like.shape, generator=generator)))

        params = {**NOISY, "encoder": NET["network"], "latents": 5, "chosen": 2, "schedule_width": 8}
        monkeypatch.setattr(inspect.getmodule(MuLAN), "gumbel", bare)
        found = broken(MuLAN, "mulan", "real-vector", params)
        assert "where a uniform draw is 0" in found["uniform draws at their ends give finite numbers"]

    def test_values_at_the_ends_of_the_range(self):
        class Fragile(Sound):
            def encode(self, x):
                return (x.exp() / x.exp()).mean(1, keepdim=True)

        assert "encode" in wrong(Fragile)["values at the ends of the data's range give no NaN"]

    def test_an_exact_likelihoods_posterior_averages_to_its_prior(self):
        class Wide(load(find_model("ppca").target)):
            def encode_gaussian(self, x: Tensor) -> tuple[Tensor, Tensor]:
                mean, _ = super().encode_gaussian(x)
                return mean, self.noise.log().float().expand_as(mean)

        class Shrunk(load(find_model("ppca").target)):
            def encode_gaussian(self, x: Tensor) -> tuple[Tensor, Tensor]:
                mean, log_variance = super().encode_gaussian(x)
                return 0.8 * mean, log_variance

        for cls in (Wide, Shrunk):
            found = broken(cls, "ppca", "real-vector", {"latent_dim": 2})
            assert "where their prior has one" in found["capabilities that say the same thing agree"]

    def test_what_is_said_twice_agrees(self):
        class Loose(VAE):
            def encode_sample(self, x, generator):
                mean, log_std = self.posterior(x)
                return mean + 1.5 * log_std.exp() * self._noise(len(x), generator=generator, like=x)

        class Early(DSBM):
            def transport(self, x, generator, time=1.0):
                return super().transport(x, generator, max(time, 0.3))

        test = "capabilities that say the same thing agree"
        assert "the variance of encode_gaussian" in broken(Loose, "vae", "binary-vector", SMALL)[test]
        found = broken(Early, "dsbm", "pairs", {"hidden": (8,), "frequencies": 2, "steps": 4})
        assert "has left the source" in found[test]

    def test_samples_outside_the_support(self):
        class Grey(VAE):
            def sample(self, n, generator):
                return 0.5 * super().sample(n, generator)

        assert "samples lie in the data's support" in broken(Grey, "vae", "binary-vector", SMALL)


class Game(nn.Module):
    """Two players on one plane: one fits the mean of the rows, one the mean of the other's."""

    def __init__(self, info):
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.randn(info.dims)) for _ in range(2))

    def players(self):
        return {"first": [self.a], "second": [self.b]}

    def player_loss(self, player, batch, generator):
        if player == "first":
            return {"loss": (batch.x - self.a).square().mean()}
        return {"loss": (self.a - self.b).square().sum()}


class Walk(nn.Module):
    """A chain that adds noise to a sum, and remembers its last step."""

    def __init__(self, info):
        super().__init__()
        self.register_buffer("total", torch.zeros(info.dims))
        self.last = torch.zeros(info.dims)

    def start(self, data, generator):
        self.total.zero_()

    def advance(self, data, generator):
        self.last = 0.5 * self.last + torch.randn(self.total.shape, generator=generator)
        self.total += data.x.mean(0) + self.last
        return {"loss": self.total.sum()}

    def done(self):
        return False

    def own_state(self):
        return {"last": self.last.clone()}

    def load_own_state(self, state):
        self.last = state["last"].clone()


class TestRegimes:
    PLAYERS = "each player's loss moves its own parameters, and all of them"
    GOES_ON = "iterations go on from a saved state to the same bits"

    def test_sound_ones(self):
        for cls, can in ((Game, {"Players"}), (Walk, {"Iterative", "OwnState"})):
            assert wrong(cls, frozenset(can), "") == {}

    def test_players(self):
        class Shared(Game):
            def players(self):
                return {"first": [self.a, self.b], "second": [self.b]}

        class Idle(Game):
            def players(self):
                return {"first": [self.a]}

        class Deaf(Game):
            def player_loss(self, player, batch, generator):
                return {"loss": (batch.x - self.a).square().mean() + 0.0 * self.b.sum()}

        class Infinite(Game):
            def player_loss(self, player, batch, generator):
                return {"loss": super().player_loss(player, batch, generator)["loss"] / 0.0}

        for cls, said in (
            (Shared, "moved by first and by second"),
            (Idle, "nobody moves b"),
            (Deaf, "no gradient for its b"),
            (Infinite, "no finite scalars"),
        ):
            assert said in wrong(cls, frozenset({"Players"}), "")[self.PLAYERS], cls.__name__

    def test_iterations_that_forget(self):
        class Forgets(Walk):
            def own_state(self):
                return {"last": torch.zeros_like(self.last)}

        class Loses(Walk):
            def load_own_state(self, state):
                pass

        can = frozenset({"Iterative", "OwnState"})
        assert "ends elsewhere" in wrong(Forgets, can, "")[self.GOES_ON]
        assert "is another" in wrong(Loses, can, "")["state of its own is handed out and taken back"]


class TestReports:
    def test_a_model_that_cannot_be_built_is_one_finding_with_its_line(self):
        class Raises(VAE):
            def __init__(self, info, **params):
                raise RuntimeError("no such thing")

        found = findings(Raises, "vae", "binary-vector")
        (fault,) = [f for f in found if not f.holds]
        assert (fault.test, fault.why) == (models.BUILT, "RuntimeError: no such thing")
        assert fault.where == f"{__file__}:{inspect.getsourcelines(Raises)[1] + 2}"
        assert len(found) == len(TESTS)
        assert all(f.skipped for f in found if f is not fault)

    def test_an_error_that_several_tests_meet_is_reported_once_at_its_line(self):
        class Raises(Sound):
            def encode_sample(self, x, generator):
                return x[:, 999]

        entry = ModelEntry("tests:it", CAN, "")
        found = list(check_model("it", subject_of(Raises, entry, Example("real-vector")), Raises))
        (fault,) = [f for f in found if not f.holds]
        assert fault.test == models.SHAPES
        assert fault.where == f"{__file__}:{inspect.getsourcelines(Raises)[1] + 2}"

    def test_a_wrong_number_has_the_line_of_its_class(self):
        class Seven(Factorised):
            def log_prob(self, x):
                return super().log_prob(x) + 7.0

        (fault,) = [f for f in findings(Seven, "factorised", "binary-vector") if not f.holds]
        assert fault.where == f"{__file__}:{inspect.getsourcelines(Seven)[1]}"

    def test_unknown_data(self):
        entry = ModelEntry("latentbench.models.vae:VAE", find_model("vae").can, "", examples=(Example("binary-vectr"),))
        (found,) = check_examples("it", entry)
        assert "binary-vector" in found.why

    def test_a_model_without_examples_is_tested_where_its_defaults_fit(self):
        entry = find_model("bernoulli-mixture")
        bare = ModelEntry(entry.target, entry.can, "")
        assert {f.subject for f in check_examples("mixture", bare)} == {
            "mixture on binary-vector",
            "mixture on binary-image",
        }
        never = ModelEntry("tests.contracts.test_models:Never", frozenset(), "")
        (found,) = check_examples("never", never)
        assert "declare an example" in found.why


class Never:
    def __init__(self, info):
        from latentbench.core.errors import UserError

        raise UserError("never")
