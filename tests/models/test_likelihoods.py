"""Likelihood heads: normalisation, means, samples, starting biases, what they refuse."""

from __future__ import annotations

import itertools

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.models.likelihoods import build_likelihood


def info(support: str, levels: int | None = None, dims: int = 2) -> DataInfo:
    return DataInfo((dims,), support, 10, levels=levels)


def outputs(head: torch.nn.Module, n: int = 3, dims: int = 2) -> torch.Tensor:
    return torch.randn(n, head.outputs * dims, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize(
    ("choice", "support", "levels"),
    [("bernoulli", "binary", 2), ("discretised_logistic", "discrete", 5), ("categorical", "discrete", 5)],
)
def test_probabilities_sum_to_one_and_agree_with_mean_and_samples(choice: str, support: str, levels: int):
    head = build_likelihood(choice, info(support, levels))
    out = outputs(head)
    assert head.normalised
    total, mean = torch.zeros(3), torch.zeros(3, 2)
    for values in itertools.product(range(levels), repeat=2):
        x = torch.tensor(values).float().expand(3, 2)
        p = head.log_prob(x, out).exp()
        total, mean = total + p, mean + p[:, None] * x
    torch.testing.assert_close(total, torch.ones(3))
    torch.testing.assert_close(head.mean(out), mean, rtol=1e-4, atol=1e-5)
    draws = head.sample(out.expand(20000, -1, -1), torch.Generator().manual_seed(0))
    assert set(draws.unique().tolist()) <= set(range(levels))
    torch.testing.assert_close(draws.mean(0), mean, rtol=0, atol=0.05)
    # The frequency of one pair of values is its probability.
    x = torch.tensor([levels - 1.0, 0.0])
    frequency = (draws == x).all(-1).float().mean(0)
    torch.testing.assert_close(frequency, head.log_prob(x.expand(3, 2), out).exp(), rtol=0, atol=0.02)


@pytest.mark.parametrize("scale", ["learned", "shared", 0.3])
def test_gaussian_is_a_density(scale: str | float):
    head = build_likelihood({"gaussian": {"scale": scale}}, info("real"))
    out = 0.3 * outputs(head)
    axis = torch.linspace(-12, 12, 1201)
    grid = torch.cartesian_prod(axis, axis)
    p = head.log_prob(grid, out[:1].expand(len(grid), -1)).double().exp()
    assert (p.sum() * (axis[1] - axis[0]) ** 2).item() == pytest.approx(1.0, abs=1e-4)
    torch.testing.assert_close(head.mean(out), out[:, :2])
    draws = head.sample(out.expand(20000, -1, -1), torch.Generator().manual_seed(0)).detach()
    torch.testing.assert_close(draws.mean(0), out[:, :2], rtol=0, atol=0.05)
    std = {"learned": out[0, 2:].exp(), "shared": torch.ones(2), 0.3: torch.full((2,), 0.3)}[scale]
    torch.testing.assert_close(draws[:, 0].std(0), std, rtol=0.03, atol=0)


def test_grey_cross_entropy_is_marked_as_no_density():
    assert not build_likelihood("bernoulli", info("unit")).normalised


def test_natural_heads():
    names = {s: type(build_likelihood(None, info(s, 4))).__name__ for s in ("binary", "real", "discrete")}
    assert names == {"binary": "Bernoulli", "real": "Gaussian", "discrete": "DiscretisedLogistic"}
    with pytest.raises(UserError, match="likelihood"):
        build_likelihood(None, info("unit"))


@pytest.mark.parametrize(
    ("choice", "support", "tolerance"),
    [
        ("bernoulli", "binary", 1e-5),
        ("gaussian", "real", 1e-6),
        ({"gaussian": {"scale": 1.0}}, "real", 1e-6),
        ("discretised_logistic", "discrete", 0.05),
    ],
)
def test_output_bias_centres_the_prediction(choice: object, support: str, tolerance: float):
    mean = torch.tensor([0.2, 0.7]) * (10 if support == "discrete" else 1)
    head = build_likelihood(choice, info(support, 11))
    torch.testing.assert_close(head.mean(head.output_bias(mean)[None])[0], mean, rtol=tolerance, atol=0)


def test_output_bias_of_a_dead_pixel_is_finite():
    head = build_likelihood("bernoulli", info("binary"))
    bias = head.output_bias(torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(torch.sigmoid(bias), torch.tensor([0.001, 0.999]))


@pytest.mark.parametrize(
    ("choice", "support", "levels", "message"),
    [
        ("bernoulli", "real", None, "support 'real'"),
        ("bernoulli", "discrete", 4, "support 'discrete'"),
        ("gaussian", "binary", None, "support 'binary'"),
        ("categorical", "real", None, "support 'real'"),
        ("discretised_logistic", "binary", None, "support 'binary'"),
        ("discretised_logistic", "discrete", None, "levels"),
        ("bernouli", "binary", None, "did you mean 'bernoulli'"),
        ({"gaussian": {"scle": 1}}, "real", None, "scale"),
        ({"gaussian": {"scale": 0}}, "real", None, "above 0"),
        ({"gaussian": {"scale": "wide"}}, "real", None, "known: learned, shared"),
        ({"gaussian": {}, "bernoulli": {}}, "real", None, "names 2 things"),
        ({"gaussian": 3}, "real", None, "mapping"),
        (7, "real", None, "likelihood is 7"),
    ],
)
def test_refusals(choice: object, support: str, levels: int | None, message: str):
    with pytest.raises(UserError, match=message):
        build_likelihood(choice, info(support, levels))


def test_outputs_are_consecutive_blocks_of_coordinates():
    """Against loops over coordinates, with more coordinates than levels: (..., outputs * D) is outputs blocks of D."""
    g = torch.Generator().manual_seed(5)
    d, levels = 5, 3
    x = torch.randint(levels, (4, d), generator=g).float()
    out = torch.randn(4, levels * d, generator=g)
    head = build_likelihood("categorical", DataInfo((d,), "discrete", 9, levels))
    expected = torch.zeros(4)
    for n in range(4):
        for i in range(d):
            logits = torch.stack([out[n, level * d + i] for level in range(levels)])
            expected[n] += logits.log_softmax(0)[int(x[n, i])]
    torch.testing.assert_close(head.log_prob(x, out), expected)

    out, y = torch.randn(4, 2 * d, generator=g), torch.randn(4, d, generator=g)
    head = build_likelihood("gaussian", DataInfo((d,), "real", 9))
    expected = sum(torch.distributions.Normal(out[:, i], out[:, d + i].exp()).log_prob(y[:, i]) for i in range(d))
    torch.testing.assert_close(head.log_prob(y, out), expected)
    torch.testing.assert_close(head.mean(out), out[:, :d])
