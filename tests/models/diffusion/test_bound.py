"""The variational bound of diffusion: against exact likelihoods, whatever the schedule, and its fixed ends."""

from __future__ import annotations

import math

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.models.diffusion import schedules
from latentbench.models.diffusion.bound import amplitudes
from latentbench.models.diffusion.ends import Ends, prior_kl, stratified
from latentbench.models.diffusion.vdm import VDM
from latentbench.papers.nfdm.nfdm import NFDM, Map
from torch import Tensor, nn

from .gaussians import COVARIANCE, MEAN, gen, log_prob, posterior_mean, rows

D = 3
REAL = DataInfo((D,), "real", 100)
GAMMA = (-12.0, 9.0)


class ExactV(nn.Module):
    """v = alpha eps - sigma x, expected given z_t, for Gaussian data and any shared gamma."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor, s: Tensor, context: Tensor | None = None) -> Tensor:
        alpha, sigma = amplitudes((GAMMA[0] + (GAMMA[1] - GAMMA[0]) * s)[:, None])
        x = posterior_mean(z, alpha, sigma)
        return (alpha * (z - alpha * x) / sigma - sigma * x)[:, None]


def exact(schedule: str, free: list[float] | None = None) -> VDM:
    model = VDM(REAL, schedule=schedule, gamma=GAMMA)
    model.network = ExactV()
    if free is not None:
        model.schedule.free.data = torch.tensor(free)
    return model


def bound(model: nn.Module, x: Tensor, draws: int) -> Tensor:
    """(N,) nats, a mean of `draws` draws a row with times spread over them."""
    with torch.no_grad():
        many = sum(model.bound_terms(x.repeat(draws, 1), gen()).values())  # type: ignore[operator]
    return many.double().view(draws, len(x)).mean(0)


@pytest.mark.parametrize("free", [None, [0.0, 0.0, 0.0], [1.5, -0.7, 0.4], [0.0, 1.0, 2.0]], ids=str)
def test_exact_denoiser_gives_the_exact_likelihood_whatever_the_schedules_shape(free: list[float] | None):
    """Continuous-time VDM: the bound is tight where the denoiser is, and depends on gamma's ends alone (eq. 18)."""
    x = rows(8)
    assert log_prob(x).std() > 0.6
    model = exact("linear") if free is None else exact("scalar", free)
    gap = bound(model, x, 40_000) + log_prob(x)
    assert gap.abs().max() < 0.4  # one draw's deviation is 10 to 20 nats
    assert gap.mean().item() == pytest.approx(0.0, abs=0.12)


class ExactFor(VDM):
    """One schedule a coordinate, and E[eps | z] of Gaussian data whatever gamma is."""

    def predict(self, z: Tensor, gamma: Tensor, context: Tensor | None = None) -> Tensor:
        alpha, sigma = (a.double() for a in amplitudes(gamma))
        joint = alpha[:, :, None] * COVARIANCE.double() * alpha[:, None] + torch.diag_embed(sigma**2)
        off = (z.double() - alpha * MEAN)[:, :, None]
        eps = sigma * torch.linalg.solve(joint, off)[:, :, 0]
        return ((eps - sigma * z) / alpha).float()


def test_schedules_that_differ_between_coordinates_are_exact_too():
    """The forward process is still Markov in z alone, so the exact denoiser reverses it (MuLAN, section 3.2)."""
    model = ExactFor(REAL, schedule="multivariate", gamma=GAMMA)
    model.schedule.free.data = torch.tensor([1.5, 0.0, -2.0, -0.7, 0.0, 2.0, 0.4, 1.0, 0.5])
    assert model.noise(torch.tensor([0.5])).gamma.std() > 0.5
    x = rows(8)
    gap = bound(model, x, 40_000) + log_prob(x)
    assert gap.abs().max() < 0.4
    assert gap.mean().item() == pytest.approx(0.0, abs=0.12)


def test_a_wrong_denoiser_costs_nats():
    x = rows(50)
    right, wrong = (bound(model, x, 4000).mean() for model in (exact("linear"), VDM(REAL, gamma=GAMMA)))  # wrong: v = 0
    assert wrong > right + 0.4


def test_the_bound_is_its_formula():
    """VDM eq. 13 to 17, term by term, on one batch with the same draws."""
    torch.manual_seed(0)
    model = VDM(REAL, network={"mlp": {"width": 8}}, schedule="multivariate", gamma=GAMMA)
    for p in model.parameters():
        p.data = 0.3 * torch.randn(p.shape)
    x = rows(16)
    terms = model.bound_terms(x, gen(4))
    g = gen(4)
    t, eps = stratified(16, g, x), torch.randn(x.shape, generator=g)
    raw_a, raw_b, raw_c = model.schedule.free.chunk(3)
    a, b, c = raw_a, raw_b, 1e-3 + nn.functional.softplus(raw_c + 0.539742)

    def gamma_at(t: Tensor) -> Tensor:
        grid = torch.linspace(0, 1, 4001, dtype=torch.float64)[:, None]
        slope = (a * grid**2 + b * grid + c).square()
        area = torch.cumulative_trapezoid(slope, grid, dim=0)
        area = torch.cat([torch.zeros_like(area[:1]), area])
        at = (t * 4000).long().clamp(max=3999)
        part = (t * 4000 - at)[:, None]
        return GAMMA[0] + (GAMMA[1] - GAMMA[0]) * (area[at] * (1 - part) + area[at + 1] * part) / area[-1]

    t = t.double()
    gamma = gamma_at(t)
    slope = (gamma_at((t + 1e-3).clamp(max=1)) - gamma_at((t - 1e-3).clamp(min=0))) / (
        (t + 1e-3).clamp(max=1) - (t - 1e-3).clamp(min=0)
    )[:, None]
    var = torch.sigmoid(gamma)
    z = (1 - var).sqrt() * x + var.sqrt() * eps
    v = model.network(z.float(), ((gamma.mean(1) - GAMMA[0]) / (GAMMA[1] - GAMMA[0])).float())[:, 0]
    eps_hat = var.sqrt() * z + (1 - var).sqrt() * v
    expected = 0.5 * (slope * (eps - eps_hat).square()).sum(1)
    torch.testing.assert_close(terms["diffusion"].double(), expected, rtol=5e-3, atol=5e-3)
    end = torch.sigmoid(torch.tensor(GAMMA[1]))
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal((1 - end).sqrt() * x, end.sqrt()), torch.distributions.Normal(0.0, 1.0)
    ).sum(1)
    torch.testing.assert_close(terms["prior"], kl, rtol=1e-4, atol=1e-4)


def test_scalar_schedules_learn_the_least_variance_and_do_not_touch_the_bound():
    """The surrogate's gradient against quadrature of E[L^2] = integral of (gamma' m)^2 / 4 dt."""
    schedule = schedules.Polynomial(-5.0, 4.0, 1)
    schedule.free.data = torch.tensor([0.8, -0.5, 0.3])

    def m(gamma: Tensor) -> Tensor:
        return 1.0 + torch.exp(-0.5 * (gamma - 1.0).square())

    t = (torch.arange(20_000) + 0.5) / 20_000
    noise = schedule(t)
    schedules.least_variance(noise, m(noise.gamma[:, 0])).backward()
    ours, schedule.free.grad = schedule.free.grad, None
    noise = schedule(t)
    torch.log((0.5 * noise.rate * m(noise.gamma)).square().mean()).backward()
    torch.testing.assert_close(ours, schedule.free.grad, rtol=1e-3, atol=1e-5)

    model = VDM(REAL, schedule="scalar", gamma=GAMMA)
    out = model.loss(Batch(rows(32), 32), gen())
    assert out["loss"].item() == pytest.approx(sum(out[k].item() for k in ("prior", "reconstruction", "diffusion")))
    out["loss"].backward()
    assert model.schedule.free.grad.abs().max() > 0


@pytest.mark.parametrize("outputs", [1, 4])
def test_polynomials_rise_between_their_ends(outputs: int):
    torch.manual_seed(1)
    schedule = schedules.Polynomial(-13.3, 5.0, outputs)
    start = schedule(torch.linspace(0, 1, 11))
    torch.testing.assert_close(start.gamma, (-13.3 + 18.3 * torch.linspace(0, 1, 11))[:, None].expand(11, outputs))
    schedule.free.data = torch.randn(3 * outputs)
    noise = schedule(torch.linspace(0, 1, 101))
    assert (noise.gamma.diff(dim=0) >= 0).all()
    torch.testing.assert_close(noise.gamma[[0, -1]], torch.tensor([[-13.3], [5.0]]).expand(2, outputs))
    for i, of in enumerate(("gamma", "rate")):
        for at in (0.2, 0.7):
            t = torch.tensor([at])
            got = torch.func.jvp(lambda t, of=of: getattr(schedule(t), of), (t,), (torch.ones(1),))[1]
            torch.testing.assert_close(got, schedule(t)[i + 1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("levels", "gamma_0"), [(2, 0.0), (4, -1.0), (16, -6.0), (256, -13.3)])
def test_reconstruction_is_the_expected_cost_of_the_level(levels: int, gamma_0: float):
    """The table against draws of z_0 under the normalised likelihood written out (VDM eq. 12)."""
    support = "binary" if levels == 2 else "discrete"
    ends = Ends(DataInfo((5,), support, 9, levels=levels), gamma_0)
    x = torch.randint(levels, (4, 5), generator=gen()).float()
    x[0] = 0.0
    values = ends.scale(torch.arange(levels).float()).double()
    assert values.abs().max() < 1
    torch.testing.assert_close(values, -values.flip(0))
    z = ends.scale(x).double() + math.exp(gamma_0 / 2) * torch.randn(2500, 4, 5, generator=gen(), dtype=torch.float64)
    logits = -0.5 * math.exp(-gamma_0) * (z[..., None] - values).square()
    drawn = -torch.distributions.Categorical(logits=logits).log_prob(x).sum(-1)
    se = drawn.std(0) / 4000**0.5
    assert ((ends.reconstruction(x) - drawn.mean(0)).abs() < 4.5 * se + 1e-5).all()
    torch.testing.assert_close(ends.unscale(ends.scale(x)), x)
    assert torch.equal(ends.decode(ends.scale(x) + 0.2 / levels, gen()), x)


def test_real_data_are_decoded_with_the_noise_of_the_coarse_end():
    """z_0 / alpha_0 has the variance exp(gamma_0) of its noise about x."""
    ends = Ends(DataInfo((5,), "real", 9), -1.5)
    drawn = ends.decode(torch.full((20_000, 5), 2.0), gen())
    torch.testing.assert_close(drawn.mean(0), torch.full((5,), 2.0), rtol=0, atol=0.02)
    torch.testing.assert_close(drawn.var(0), torch.full((5,), math.exp(-1.5)), rtol=0.05, atol=0)


def test_a_coarse_end_still_bounds_from_above():
    """Two fair bits: with noise that hides them, the bound is at least the entropy, 2 ln 2."""
    info = DataInfo((2,), "binary", 9)
    model = VDM(info, gamma=(3.0, 5.0))
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    assert bound(model, x, 2000).mean() > 2 * math.log(2)
    assert model.ends.reconstruction(x).min() > 0


def test_prior_kl_and_spread_times():
    torch.testing.assert_close(prior_kl(torch.zeros(2, 3), torch.zeros(2, 3)), torch.zeros(2))
    mean, log_var = torch.randn(2, 4, 3, generator=gen(1))  # far from what a sound schedule ends at
    q = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(prior_kl(mean, log_var), expected)
    t = stratified(50, gen(), torch.zeros(1))
    assert t.min() >= 0
    assert t.max() < 1
    assert torch.allclose(t.sort().values.diff(), torch.full((49,), 0.02), atol=1e-5)
    first = torch.stack([stratified(50, gen(i), torch.zeros(1))[7] for i in range(400)])
    assert first.mean().item() == pytest.approx(0.5, abs=0.06)  # each row's time is uniform


def test_vdm_is_nfdm_at_the_same_map():
    """With mu = alpha x, sigma of a shared schedule and g^2 = sigma^2 gamma', NFDM's integrand is VDM's."""
    gamma, rate = torch.linspace(-4, 3, 7)[:, None], torch.full((7, 1), 18.3)
    alpha, sigma = amplitudes(gamma)
    x, x_hat, eps = (torch.randn(7, D, generator=gen(i)) for i in range(3))
    z = alpha * x + sigma * eps

    def path(x: Tensor) -> Map:
        # alpha' / alpha = -sigma^2 gamma' / 2, sigma' / sigma = alpha^2 gamma' / 2
        return Map(
            alpha * x,
            sigma.log().expand_as(x),
            -0.5 * sigma**2 * rate * alpha * x,
            (0.5 * alpha**2 * rate).expand_as(x),
        )

    g2 = sigma**2 * rate
    gap = (path(x).flow(z) - 0.5 * g2 * path(x).score(z)) - (path(x_hat).flow(z) - 0.5 * g2 * path(x_hat).score(z))
    eps_hat = (z - alpha * x_hat) / sigma
    torch.testing.assert_close(gap.square() / (2 * g2), 0.5 * rate * (eps - eps_hat).square(), rtol=1e-3, atol=1e-3)


class ExactX(nn.Module):
    """What NFDM's network must say so that x_hat is E[x | z_t], on the map that it starts from."""

    def __init__(self, log_delta: float) -> None:
        super().__init__()
        self.log_delta = log_delta
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = 1 - t[:, None], torch.exp((1 - t[:, None]) * self.log_delta)
        x = posterior_mean(z, alpha, sigma)
        return ((alpha * z - (alpha**2 + sigma**2) * x) / sigma)[:, None]


def test_nfdm_gives_the_exact_likelihood_of_gaussians_at_the_one_volatility_that_is_markovian():
    """Where g^2 = sigma^2 d/dt log(sigma^2 / mu^2) the reversal given x forgets x, and the bound can be tight.

    (Another g makes the forward process of z alone depend on x, which no equation in z can follow.)
    """

    class Best(NFDM):
        factor = 1.0

        def squared_volatility(self, t: Tensor) -> Tensor:
            t = t[:, None].clamp(max=1 - 1e-4)
            rate = -2 * self.log_delta + 2 / (1 - t)
            return self.factor * torch.exp(2 * (1 - t) * self.log_delta) * rate

    model = Best(REAL, delta=0.003, forward_network={"mlp": {"width": 2, "layers": 1}})
    model.network = ExactX(model.log_delta)
    x = rows(8)
    gap = bound(model, x, 40_000) + log_prob(x)
    assert gap.abs().max() < 0.4
    assert gap.mean().item() == pytest.approx(0.0, abs=0.12)
    for model.factor in (0.5, 2.0):
        assert (bound(model, x, 10_000) + log_prob(x)).mean() > 0.5


def test_samplers_of_exact_denoisers_reach_the_data():
    model, flow = (
        exact("linear"),
        NFDM(REAL, delta=0.003, sampling_steps=300, forward_network={"mlp": {"width": 2, "layers": 1}}),
    )
    model.steps, flow.network = 300, ExactX(flow.log_delta)
    with torch.no_grad():
        for drawn in (
            model.sample(2500, gen()),
            flow.sample(2500, gen()),
            model.sample_path(2500, 400, gen())[-1],
            flow.sample_path(2500, 300, gen())[-1],
        ):
            torch.testing.assert_close(drawn.mean(0), MEAN, atol=0.08, rtol=0)
            torch.testing.assert_close(drawn.T.cov(), COVARIANCE, atol=0.12, rtol=0)


@pytest.mark.parametrize(
    ("info", "params", "fix"),
    [
        (DataInfo((4,), "unit", 9), {}, "support"),
        (DataInfo((4,), "discrete", 9, levels=2000), {}, "1024"),
        (REAL, {"gamma": [5.0, -13.3]}, "above"),
        (REAL, {"gamma": 3.0}, "values at t = 0"),
        (REAL, {"schedule": "cosine"}, "scalar"),
        (REAL, {"network": "unet"}, "flatten"),
        (DataInfo((1, 6, 6), "binary", 9), {"network": {"unet": {"multipliers": [1, 1, 1]}}}, "patch"),
        (REAL, {"network": {"mlp": {"depth": 3}}}, "width"),
        (REAL, {"sampling_steps": 0}, "1 or more"),
    ],
)
def test_what_it_cannot_take_is_named(info: DataInfo, params: dict, fix: str):
    with pytest.raises(UserError, match=fix):
        VDM(info, **params)
