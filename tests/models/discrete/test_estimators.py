"""Gradient estimators against the exact gradient, by enumeration."""

from __future__ import annotations

import math

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.models.discrete.estimator import Hints
from latentbench.models.discrete.estimators import ESTIMATORS, build_estimator
from latentbench.models.discrete.layout import Layout, draw, expectation_gradient, log_prob
from latentbench.models.discrete.pathwise import GappedStraightThrough, GumbelRao, GumbelSoftmax, SlopeAnnealed
from torch import Tensor

from tests.models.discrete.problems import estimates, exact, gen, logits_of, polynomial

SMALL, BINARY, ONE = Layout(3, 2), Layout(2, 3), Layout(4, 1)
DRAWS = 40_000


def deviation(sample: Tensor, target: Tensor) -> float:
    """The largest distance of the mean from the target in standard errors: about 3 for a dozen unbiased numbers."""
    se = sample.std(0) / math.sqrt(len(sample))
    return float(((sample.mean(0) - target).abs() / se.clamp_min(1e-6)).max())


def relative_bias(sample: Tensor, target: Tensor) -> float:
    return float((sample.mean(0) - target).norm() / target.norm())


UNBIASED = {
    "reinforce without baseline": ({"reinforce": {"baseline": "none"}}, 0),
    "reinforce": ("reinforce", 20),
    "nvil": ({"nvil": {"normalise": False}}, 20),
    "muprop": ("muprop", 20),
}


@pytest.mark.parametrize("layout", [SMALL, BINARY, ONE], ids=str)
@pytest.mark.parametrize("name", UNBIASED)
def test_score_function_estimators_are_unbiased(name: str, layout: Layout):
    choice, warm = UNBIASED[name]
    logits, cost = logits_of(layout), polynomial(layout, 3)
    assert deviation(estimates(choice, logits, cost, DRAWS, warm=warm), exact(logits, cost)) < 4.5


@pytest.mark.parametrize("layout", [SMALL, BINARY], ids=str)
def test_enumeration_is_the_gradient_without_noise(layout: Layout):
    logits, cost = logits_of(layout), polynomial(layout, 3)
    sample = estimates("enumerate", logits, cost, 2)
    torch.testing.assert_close(sample[0], exact(logits, cost), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sample[0], sample[1], rtol=0, atol=0)
    costs = torch.stack([cost(s)[None] for s in layout.states()])
    by_states = expectation_gradient(logits, costs, layout.states())
    torch.testing.assert_close(by_states.flatten(), exact(logits, cost), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", [SMALL, BINARY, ONE], ids=str)
def test_reinmax_is_of_second_order_and_straight_through_of_first(layout: Layout):
    """Exact for quadratics (Liu et al. 2023, theorem 4.1), where straight-through is not; neither is for cubics."""
    logits = logits_of(layout)
    for degree, exact_ones, biased in [
        (1, ["reinmax", "straight_through"], []),
        (2, ["reinmax"], ["straight_through", "st_gumbel"]),
        (3, [], ["reinmax", "straight_through"]),
    ]:
        cost = polynomial(layout, degree)
        target = exact(logits, cost)
        for name in exact_ones:
            assert deviation(estimates(name, logits, cost, DRAWS), target) < 4.5, (name, degree)
        for name in biased:
            sample = estimates(name, logits, cost, DRAWS)
            assert deviation(sample, target) > 10, (name, degree)
            assert relative_bias(sample, target) > 0.02, (name, degree)


def test_reinmax_with_temperature_is_algorithm_2():
    """2 J((p_t + z) / 2) g - J(p) g / 2, written out."""
    logits, g = logits_of(ONE).repeat(5, 1, 1), torch.randn(5, 1, 4, generator=gen(8))
    leaf = logits.clone().requires_grad_()
    build_estimator({"reinmax": {"temperature": 1.4}}, 1)(
        leaf, lambda z: (z * g).sum((-1, -2)), gen(5), Hints()
    ).sum().backward()
    z = draw(logits, gen(5))

    def jacobian(p: Tensor) -> Tensor:
        return torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)

    middle = 0.5 * ((logits / 1.4).softmax(-1) + z)
    wanted = 2.0 * jacobian(middle) - 0.5 * jacobian(logits.softmax(-1))
    torch.testing.assert_close(leaf.grad, (wanted @ g.unsqueeze(-1)).squeeze(-1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_straight_through_carries_the_gradient_of_the_tempered_softmax(temperature: float):
    """J(softmax(l / t)) g / t: the derivative of softmax(l / t) itself, no more and no less."""
    logits, g = logits_of(ONE).repeat(5, 1, 1), torch.randn(5, 1, 4, generator=gen(8))
    leaf, plain = (logits.clone().requires_grad_() for _ in range(2))
    build_estimator({"straight_through": {"temperature": temperature}}, 1)(
        leaf, lambda z: (z * g).sum((-1, -2)), gen(5), Hints()
    ).sum().backward()
    ((plain / temperature).softmax(-1) * g).sum().backward()
    torch.testing.assert_close(leaf.grad, plain.grad)


def test_darn_on_bernoulli_variables_is_reinmax_draw_for_draw():
    """d (1 - p) / 2 for a one and d p / 2 for a zero, d the slope: so exact for quadratics, biased beyond."""
    logits = logits_of(BINARY)
    quadratic, cubic = polynomial(BINARY, 2), polynomial(BINARY, 3)
    assert deviation(estimates("darn", logits, quadratic, DRAWS), exact(logits, quadratic)) < 4.5
    darn, reinmax = (estimates(name, logits, cubic, DRAWS) for name in ("darn", "reinmax"))
    assert deviation(darn, exact(logits, cubic)) > 10
    torch.testing.assert_close(darn, reinmax, rtol=1e-4, atol=1e-5)
    categorical = polynomial(SMALL, 2)
    three = logits_of(SMALL)
    assert deviation(estimates("darn", three, categorical, DRAWS), exact(three, categorical)) > 10


def test_straight_through_has_the_mean_of_its_formula():
    """J(p) E[g] for one variable."""
    logits, cost = logits_of(ONE), polynomial(ONE, 3)
    p = logits[0, 0].softmax(-1)
    grads = []
    for state in ONE.states():
        leaf = state.clone().requires_grad_()
        grads.append(torch.autograd.grad(cost(leaf), leaf)[0][0])
    wanted = (torch.diag(p) - p.outer(p)) @ (p @ torch.stack(grads))
    assert deviation(estimates("straight_through", logits, cost, DRAWS), wanted) < 4.5


def test_gumbel_rao_keeps_the_mean_of_straight_through_gumbel_and_lowers_its_variance():
    logits, cost = logits_of(SMALL), polynomial(SMALL, 2)
    plain = estimates({"st_gumbel": {"temperature": 0.5}}, logits, cost, DRAWS)
    one = estimates({"gumbel_rao": {"temperature": 0.5, "draws": 1}}, logits, cost, DRAWS)
    many = estimates({"gumbel_rao": {"temperature": 0.5, "draws": 30}}, logits, cost, DRAWS // 4)
    for sample in (one, many):
        se = (sample.var(0) / len(sample) + plain.var(0) / len(plain)).sqrt()
        assert ((sample.mean(0) - plain.mean(0)).abs() < 4.5 * se.clamp_min(1e-6)).all()
    assert many.var(0).sum() < 0.8 * one.var(0).sum()


def test_gumbel_raos_noise_is_the_posterior_given_the_winner():
    """Its arg max is the winner, and over winners drawn from q the perturbed logits are those of Gumbel noise."""
    logits = logits_of(Layout(3, 1)).expand(6000, -1, -1)
    z = draw(logits, gen(1))
    given = GumbelRao(1, draws=2).perturbed(z, logits, gen(2))
    assert (given.argmax(-1) == z.argmax(-1)).all()
    noise = (given - logits)[:, :, 0]
    assert (noise.mean((0, 1)) - 0.5772).abs().max() < 0.05
    assert (noise.var((0, 1)) - math.pi**2 / 6).abs().max() < 0.12


def test_gumbel_softmax_becomes_its_hard_sample_as_it_cools():
    logits = logits_of(SMALL).expand(500, -1, -1)
    soft = GumbelSoftmax(1, temperature=0.01).code(logits, gen(3), Hints())
    hard = build_estimator("st_gumbel", 1).code(logits, gen(3), Hints())
    assert ((hard == 0) | (hard == 1)).all()
    assert (soft.argmax(-1) == hard.argmax(-1)).all()
    assert (soft - hard).abs().mean() < 0.02
    warm = GumbelSoftmax(1, temperature=5.0).code(logits, gen(3), Hints())
    torch.testing.assert_close(warm.sum(-1), torch.ones(500, 2))
    assert warm.max() < 0.9


def test_schedules():
    """max(0.5, exp(-r t)), held for N steps (Jang et al. 2017, section 4.2)."""
    annealed = GumbelSoftmax(1, rate=1e-4, every=500)
    assert annealed.temperature_at(0) == annealed.temperature_at(499) == 1.0
    assert annealed.temperature_at(1499) == pytest.approx(math.exp(-0.1))
    assert annealed.temperature_at(10**6) == 0.5
    assert GumbelSoftmax(1, temperature=0.1).temperature_at(10**6) == 0.1


def test_gapped_logits_agree_with_the_sample_and_move_no_more_than_they_must():
    logits = 3.0 * torch.randn(200, 2, 5, generator=gen(1))
    gapped, z = GappedStraightThrough(1, temperature=0.7, gap=0.4), draw(logits, gen(2))
    moved = gapped.moved(z, logits)
    own = (moved * z).sum(-1, keepdim=True)
    assert (own - moved)[z == 0].min() >= 0.4 - 1e-6
    torch.testing.assert_close(own, logits.amax(-1, keepdim=True))
    kept = (z == 0) & (logits <= logits.amax(-1, keepdim=True) - 0.4)
    assert kept.any()
    torch.testing.assert_close(moved[kept], logits[kept])
    leaf, g = logits.clone().requires_grad_(), torch.randn(200, 2, 5, generator=gen(3))
    (gapped.code(leaf, gen(2), Hints()) * g).sum().backward()
    at = moved.clone().requires_grad_()
    ((at / 0.7).softmax(-1) * g).sum().backward()
    torch.testing.assert_close(leaf.grad, at.grad)


@pytest.mark.parametrize(("progress", "slope"), [(0.0, 1.0), (0.5, 3.0), (1.0, 5.0)])
def test_the_slope_is_in_the_sample_as_in_its_gradient(progress: float, slope: float):
    """Draws follow softmax(a logits), and its Jacobian carries the gradient; a stays after training."""
    annealed, leaf = SlopeAnnealed(1), logits_of(ONE).requires_grad_()
    g = torch.randn(1, 4, generator=gen(2))
    sharp = annealed.sharpened(leaf, progress)
    annealed(sharp, lambda z: (z * g).sum((-1, -2)), gen(), Hints(progress=progress)).sum().backward()
    again = logits_of(ONE).requires_grad_()
    ((again * slope).softmax(-1) * g).sum().backward()
    torch.testing.assert_close(leaf.grad, again.grad)
    drawn = annealed.code(sharp.detach().expand(DRAWS, 1, 4), gen(), Hints(progress=progress)).mean(0)
    torch.testing.assert_close(drawn, (logits_of(ONE)[0] * slope).softmax(-1), rtol=0.0, atol=0.012)
    restored = SlopeAnnealed(1)
    restored.load_state_dict(annealed.state_dict())
    for again_annealed in (annealed.eval(), restored):
        torch.testing.assert_close(again_annealed.sharpened(logits_of(ONE)), logits_of(ONE) * slope)
    assert annealed.sharpened(logits_of(ONE), 0.25).equal(logits_of(ONE) * slope), "annealed outside of training"


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_surrogates_value_is_the_cost_at_its_code_and_the_cost_gets_its_gradient(name: str):
    logits = logits_of(SMALL).repeat(7, 1, 1)
    scale = torch.ones((), requires_grad=True)
    seen = []

    def cost(z: Tensor) -> Tensor:
        if z.shape == logits.shape:
            seen.append(z.detach())
        return scale * polynomial(SMALL, 2)(z)

    torch.manual_seed(0)
    value = build_estimator(name, 3)(logits, cost, gen(2), Hints(features=torch.ones(7, 3)))
    assert value.shape == (7,)
    (slope,) = torch.autograd.grad(value.sum(), scale)
    torch.testing.assert_close(slope, value.detach().sum(), rtol=1e-4, atol=1e-4)
    if name != "enumerate":
        torch.testing.assert_close(value.detach(), polynomial(SMALL, 2)(seen[-1]), rtol=1e-4, atol=1e-5)


def test_baselines_lower_the_variance_and_normalisation_only_rescales():
    logits, cost = logits_of(SMALL), polynomial(SMALL, 2)

    def high(z: Tensor) -> Tensor:
        return 100.0 + cost(z)

    def spread(choice: object) -> float:
        return float(estimates(choice, logits, high, 4000, warm=40).var(0).sum())

    plain, mean, nvil, muprop = (
        spread(c) for c in ({"reinforce": {"baseline": "none"}}, "reinforce", {"nvil": {"normalise": False}}, "muprop")
    )
    assert mean < plain / 100
    assert nvil < plain / 100
    assert muprop < mean
    scaled = estimates({"reinforce": {"normalise": True}}, logits, high, 4000, warm=40)
    unscaled = estimates("reinforce", logits, high, 4000, warm=40)
    ratio = scaled[unscaled.abs() > 1e-3] / unscaled[unscaled.abs() > 1e-3]
    torch.testing.assert_close(ratio, ratio[0].expand_as(ratio), rtol=1e-3, atol=1e-3)
    assert 0.0 < ratio[0] < 1.0


def test_normalisation_divides_by_the_standard_deviation():
    """Of the costs of the batch before, 12 apart, by hand; by nothing where it is below one."""
    g = torch.tensor([0.0, 12.0, -24.0, 36.0])
    logits = logits_of(ONE).repeat(500, 1, 1)
    for share in (1.0, 1e-3):
        estimator = build_estimator({"reinforce": {"baseline": "none", "normalise": True}}, 1)
        estimator(logits, lambda z, s=share: s * (z[..., 0, :] @ g), gen(1), Hints())
        std = (share * (draw(logits, gen(1))[:, 0] @ g)).std(correction=0).item()
        assert (std > 10) == (share == 1.0)
        leaf = logits.clone().requires_grad_()
        estimator.eval()(leaf, lambda z, s=share: s * (z[..., 0, :] @ g), gen(2), Hints()).sum().backward()
        z = draw(logits, gen(2))
        expected = share * (z[:, 0] @ g)[:, None, None] / max(1.0, std) * (z - logits.softmax(-1))
        torch.testing.assert_close(leaf.grad, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batches", [1, 3])
def test_the_baseline_is_the_mean_of_the_batches_so_far(batches: int):
    """Weighed by the decay, from the first batch on: (f - b)(z - p) with b written out."""
    g = torch.tensor([100.0, 108.0, 96.0, 103.0])
    logits = logits_of(ONE).repeat(50, 1, 1)
    estimator = build_estimator({"reinforce": {"decay": 0.8}}, 1)
    means, weights = [], [0.8 ** (batches - 1 - i) for i in range(batches)]
    for i in range(batches):
        estimator(logits, lambda z: z[..., 0, :] @ g, gen(i), Hints())
        means.append((draw(logits, gen(i))[:, 0] @ g).mean().item())
    baseline = sum(w * m for w, m in zip(weights, means)) / sum(weights)
    leaf, z = logits.clone().requires_grad_(), draw(logits, gen(9))
    estimator.eval()(leaf, lambda z: z[..., 0, :] @ g, gen(9), Hints()).sum().backward()
    expected = (z[:, 0] @ g - baseline)[:, None, None] * (z - logits.softmax(-1))
    torch.testing.assert_close(leaf.grad, expected, rtol=1e-4, atol=1e-3)


def test_nvils_baseline_learns_the_cost():
    """A cost that depends on the datum alone is taken off whole."""
    torch.manual_seed(0)
    estimator = build_estimator({"nvil": {"normalise": False}}, 1)
    optimiser = torch.optim.Adam(estimator.parameters(), 0.02)
    logits = logits_of(ONE).repeat(64, 1, 1)
    left = []
    for i in range(300):
        x = torch.randn(64, 1, generator=gen(i))
        leaf = logits.clone().requires_grad_()
        estimator(leaf, lambda z, x=x: z[..., 0, 0] * 0 + 10 * x[:, 0], gen(i), Hints(features=x)).sum().backward()
        left.append(float(leaf.grad.norm()))
        optimiser.step()
        optimiser.zero_grad()
    assert sum(left[-20:]) < 0.15 * sum(left[5:25])


def test_exact_draws_follow_the_softmax():
    logits = logits_of(SMALL)[0]
    z = draw(logits, gen(), 40_000)
    assert ((z == 0) | (z == 1)).all()
    torch.testing.assert_close(z.mean(0), logits.softmax(-1), rtol=0, atol=0.012)
    assert log_prob(z, logits).exp().min() > 0


def test_bad_input():
    for text in ("8", "1x4", "8x0", "x", 8, "8x4x2"):
        with pytest.raises(UserError, match="layout"):
            Layout.parse(text)
    with pytest.raises(UserError, match="states"):
        Layout(4, 24).states()
    for choice in (
        "reinmaxx",
        {"reinmax": {"tau": 1}},
        {"reinmax": {"temperature": 0}},
        {"gumbel_rao": {"draws": 0}},
        {"slope_annealed": {"slope": 0.5}},
        {"nvil": {"hidden": 0}},
        {"reinforce": {"baseline": "best"}},
    ):
        with pytest.raises(UserError, match="estimator"):
            build_estimator(choice, 3)
    with pytest.raises(UserError, match="nvil"):
        build_estimator("nvil", 3)(logits_of(ONE), polynomial(ONE, 1), gen(), Hints())
