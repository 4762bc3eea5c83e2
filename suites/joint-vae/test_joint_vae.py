"""What is exact in JointVAE, in its rival FactorVAE, in the measures and in the pictures."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.types import Batch, DataInfo
from latentbench.metrics.codes.intervention import factor_vae_score
from latentbench.papers.joint_vae import measure
from latentbench.papers.joint_vae.factor_vae import FactorVAE, permuted
from latentbench.papers.joint_vae.joint_vae import JointVAE
from latentbench.papers.joint_vae.measure import (
    category_information,
    factor_vae_score_mixed,
    mixed_factor_vae_score,
    spread,
    unsupervised_class_accuracy,
)
from latentbench.papers.joint_vae.prominent import render, shapes
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence

D, K, N, X = 2, 4, 7, 5
INFO = DataInfo((X,), "binary", 50)
RNG = np.random.default_rng(3)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(n: int = N) -> torch.Tensor:
    return torch.bernoulli(torch.full((n, X), 0.4), generator=draws(9))


def joint(**params) -> JointVAE:
    torch.manual_seed(1)
    made = JointVAE(INFO, **{"latent_dim": D, "categories": K, "hidden": (6,), "rise": 40, **params})
    with torch.no_grad():
        for p in made.parameters():
            p.mul_(3)
    return made


def laws(model: JointVAE, x: torch.Tensor):
    mean, log_std, logits = model.posterior(x)
    return Normal(mean, log_std.exp()), Categorical(logits=logits[:, 0])


def test_rates_are_divergences_from_the_prior_and_a_certain_category_has_log_k():
    model, x = joint(), rows()
    rate, class_rate = model.rates(model.posterior(x))
    style, category = laws(model, x)
    assert torch.allclose(rate, kl_divergence(style, Normal(0.0, 1.0)).sum(-1), atol=1e-5)
    assert torch.allclose(class_rate, kl_divergence(category, Categorical(torch.ones(K))), atol=1e-5)
    sure = torch.tensor([[[60.0, 0, 0, 0]]])
    assert model.rates((torch.zeros(1, D), torch.zeros(1, D), sure))[1].item() == pytest.approx(math.log(K))
    assert model.rates((torch.zeros(1, D), torch.zeros(1, D), 0 * sure))[0].item() == 0


CAPACITIES = {(5.0, 0): (3 / 40, 5 / 40), (5.0, 7): (0.6, 1.0), (5.0, 19): (1.5, math.log(K)), (1.1, 19): (1.5, 0.55)}


@pytest.mark.parametrize("rise", [40, 80])
def test_capacities_rise_linearly_and_stay(rise):
    for (c, step), expected in {**CAPACITIES, (5.0, 900): (3.0, math.log(K)), (1.1, 900): (3.0, 1.1)}.items():
        model = joint(capacity=3.0, class_capacity=c, rise=rise)
        assert model.capacities((step + 1) * rise // 40 - 1) == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [2.0, 30.0])
def test_penalties_of_rates_above_and_below_their_capacities(gamma):
    r, c = torch.tensor(2.0), torch.tensor(0.2)
    args = {"gamma": gamma, "capacity": 3.0, "class_capacity": 1.0, "rise": 10}
    at = {"separate": 0.5 + 0.3, "shared": 0.2, "weighted": 2.2}  # capacities of 1.5 and 0.5 after four steps
    for penalty, value in at.items():
        assert joint(**args, penalty=penalty).held(r, c, 4).item() == pytest.approx(gamma * value, rel=1e-5)
    below = joint(**args).held(torch.tensor(1.1), torch.tensor(0.9), 4)
    assert below.item() == pytest.approx(gamma * 0.8, rel=1e-5)
    # a trade between the channels costs the shared capacity nothing, and the separate ones twice
    traded = joint(**args, penalty="shared").held(r - 0.1, c + 0.1, 4)
    assert traded.item() == pytest.approx(gamma * 0.2, rel=1e-5)
    assert joint(**args).held(r + 0.1, c - 0.1, 4).item() == pytest.approx(gamma * 1.0, rel=1e-5)


@pytest.mark.parametrize(("temperature", "penalty"), [(0.67, "separate"), (1.4, "shared"), (0.67, "weighted")])
def test_the_loss_is_a_naive_one_at_the_same_noise(temperature, penalty):
    model = joint(temperature=temperature, penalty=penalty, gamma=3.0, capacity=2.0, class_capacity=0.7)
    x = rows()
    terms = model.loss(Batch(x, 50, step=11), draws(4))
    noise = draws(4)
    eps = torch.randn((N, D), generator=noise)
    gumbel = -(-torch.rand((N, 1, K), generator=noise)).log1p().neg().log()
    mean, log_std, logits = model.posterior(x)
    distortion = rate = class_rate = 0.0
    for i in range(N):
        soft = ((logits[i, 0].log_softmax(0) + gumbel[i, 0]) / temperature).softmax(0)
        out = model.decoder(torch.cat([mean[i] + log_std[i].exp() * eps[i], soft]))
        distortion -= Bernoulli(logits=out).log_prob(x[i]).sum().item() / N
        style, category = Normal(mean[i], log_std[i].exp()), Categorical(logits=logits[i, 0])
        rate += kl_divergence(style, Normal(0.0, 1.0)).sum().item() / N
        class_rate += kl_divergence(category, Categorical(torch.ones(K))).item() / N
    assert terms["distortion"].item() == pytest.approx(distortion, rel=1e-4)
    assert terms["rate"].item() == pytest.approx(rate, rel=1e-4)
    assert terms["class_rate"].item() == pytest.approx(class_rate, rel=1e-4)
    held = {"separate": abs(rate - 0.6) + abs(class_rate - 0.21), "weighted": rate + class_rate}
    held["shared"] = abs(rate + class_rate - 0.81)
    assert terms["loss"].item() == pytest.approx(distortion + 3 * held[penalty], rel=1e-4)


def test_codes_are_means_and_probabilities_and_a_reconstruction_takes_the_likeliest_category():
    model, x = joint(), rows()
    style, category = laws(model, x)
    assert torch.allclose(model.encode(x), torch.cat([style.mean, category.probs], -1))
    hard = torch.eye(K)[category.probs.argmax(-1)]
    assert torch.allclose(model.reconstruct(x), model.decoder(torch.cat([style.mean, hard], -1)).sigmoid())
    assert torch.allclose(model.classify(x).softmax(-1), category.probs)
    many = model.encode_sample(x.repeat(3000, 1), draws(1)).unflatten(0, (3000, N))
    assert set(many[..., D:].unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(many[..., D:].mean(0), category.probs, atol=0.05)
    z = (many[..., :D] - style.mean) / style.stddev
    assert z.mean(0).abs().max() < 0.1
    assert (z.std(0) - 1).abs().max() < 0.08


def factor(**params) -> FactorVAE:
    torch.manual_seed(2)
    return FactorVAE(INFO, **{"latent_dim": 3, "hidden": (6,), "width": 5, **params})


@pytest.mark.parametrize("gamma", [0.0, 7.0])
def test_factor_vaes_losses_are_naive_ones_at_the_same_noise(gamma):
    model, x = factor(gamma=gamma), rows()
    mean, log_std = model.posterior(x)
    z = mean + log_std.exp() * torch.randn((N, 3), generator=draws(5))
    d = torch.sigmoid(model.discriminator(z))[:, 0]
    distortion = -Bernoulli(logits=model.decoder(z)).log_prob(x).sum(-1).mean()
    rate = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).sum(-1).mean()
    terms = model.player_loss("vae", Batch(x, 50), draws(5))
    assert terms["total_correlation"].item() == pytest.approx((d / (1 - d)).log().mean().item(), abs=1e-5)
    assert terms["loss"].item() == pytest.approx((distortion + rate + gamma * (d / (1 - d)).log().mean()).item(), 1e-4)
    noise = draws(5)
    z = model.encode_sample(x, noise)
    real, fake = (torch.sigmoid(model.discriminator(v))[:, 0] for v in (z, permuted(z, noise)))
    naive = -(real.log().mean() + (1 - fake).log().mean()) / 2
    assert model.player_loss("discriminator", Batch(x, 50), draws(5))["loss"].item() == pytest.approx(
        naive.item(), 1e-4
    )


def test_permuting_keeps_margins_and_undoes_dependence():
    z = torch.arange(600.0)[:, None].expand(-1, 3) + torch.tensor([0.0, 1e3, 2e3])
    other = permuted(z, draws(6))
    assert torch.equal(other.sort(0).values, z)
    assert (torch.corrcoef(other.T) - torch.eye(3)).abs().max() < 0.15


def test_spreads_are_variances_and_twice_ginis_for_the_category():
    z = np.concatenate([RNG.normal(size=(3, 11, 2)), np.eye(4)[RNG.integers(4, size=(3, 11))]], -1)
    found = spread(z, 4)
    assert found.shape == (3, 3)
    np.testing.assert_allclose(found[..., :2], z[..., :2].var(1, ddof=1))
    for b in range(3):
        c = z[b, :, 2:].argmax(-1)
        differ = sum(c[i] != c[j] for i, j in itertools.product(range(11), repeat=2))
        assert found[b, 2] == pytest.approx(2 * differ / (2 * 11 * 10))
    np.testing.assert_allclose(spread(z[0], 0), z[0].var(0, ddof=1))


FACTORS = np.stack(np.unravel_index(np.arange(5 * 3 * 4), (5, 3, 4)), -1)


def test_without_a_category_it_is_the_kits_score():
    z = FACTORS @ RNG.normal(size=(3, 4)) + RNG.normal(size=(60, 4))
    for batch in (8, 64):
        ours, _ = mixed_factor_vae_score(z, FACTORS, 0, np.random.default_rng(1), batch, 4000)
        kits = factor_vae_score(z, FACTORS, rng=np.random.default_rng(2), batch=batch, train=4000, test=2000)
        assert ours == pytest.approx(kits, abs=0.04)


def test_votes_are_learnt_on_all_and_judged_on_half_as_many_new_ones():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "majority_vote_accuracy", lambda train, test: (train.sum(), test.sum()))
        tables, _ = mixed_factor_vae_score(FACTORS * 1.0, FACTORS, 0, np.random.default_rng(0), 8, 600)
    assert tables == (600, 300)


def test_a_perfect_category_tells_its_factor_and_a_constant_one_nothing():
    z = np.concatenate([FACTORS[:, 1:] * [1.0, -2.0], np.eye(5)[FACTORS[:, 0]]], -1)
    score, each = mixed_factor_vae_score(z, FACTORS, 5, np.random.default_rng(0), 16, 600)
    assert score == 1
    assert each == [1, 1, 1]
    z[:, -5:] = np.eye(5)[0]
    score, each = mixed_factor_vae_score(z, FACTORS, 5, np.random.default_rng(0), 16, 600)
    assert each[0] == 0
    assert 0.5 < score < 0.8
    assert mixed_factor_vae_score(0 * z, FACTORS, 5, np.random.default_rng(0), 16, 600) == (0.0, [0.0] * 3)


class Given:
    """A model whose codes are its rows, the last `categories` of them probabilities."""

    def __init__(self, categories: int = 0) -> None:
        self.categories = categories

    def encode(self, x):
        return x

    def classify(self, x):
        return x[:, -self.categories :].log()


def seen(x, train=None, **columns):
    view = SimpleNamespace(x=torch.as_tensor(x, dtype=torch.float32), columns=columns, blocks=lambda _: [slice(None)])
    view.train = view if train is None else seen(train)
    return view


def test_accuracy_is_of_the_best_matching_of_categories_or_clusters():
    y = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    c = np.array([2, 2, 1, 0, 0, 1, 1, 2])
    x = np.concatenate([RNG.normal(size=(8, 2)), 0.7 * np.eye(3)[c] + 0.1], -1)
    found = unsupervised_class_accuracy(Given(3), seen(x, y=y), {"restarts": 2}, draws())
    assert found.value == pytest.approx(6 / 8)
    assert found.details == {"used": 3, "chance": 3 / 8}
    by_factor = unsupervised_class_accuracy(Given(3), seen(x, factors=np.stack([y, c], 1)), {"restarts": 2}, draws())
    assert by_factor.value == found.value
    # clusters are the training rows', two of which the judged rows are of; of their own they would have three
    train = np.repeat([[0.0, 0], [9, 9], [-9, 9]], 5, 0) + RNG.normal(0, 0.1, (15, 2))
    judged = np.array([[0, -2], [0, -2], [0, 2], [0, 2], [9, 9], [9, 9], [9, 8], [8, 9]])
    view = seen(judged, train, y=np.array([0, 0, 0, 0, 1, 1, 2, 2]))
    assert unsupervised_class_accuracy(Given(), view, {"restarts": 3}, draws()).value == pytest.approx(6 / 8)


def test_information_of_a_category_is_its_entropy_less_what_is_left():
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5], [0.05, 0.05, 0.9]])
    naive = sum(p[i, k] / 4 * math.log(p[i, k] / p[:, k].mean()) for i in range(4) for k in range(3))
    assert category_information(Given(3), seen(p), {}, draws()).value == pytest.approx(naive, rel=1e-5)
    assert category_information(Given(3), seen(p[[0, 0, 0]]), {}, draws()).value == pytest.approx(0, abs=1e-7)
    assert category_information(Given(3), seen(np.eye(3) + 1e-9), {}, draws()).value == pytest.approx(math.log(3))


def test_the_metric_takes_the_likeliest_category():
    soft = 0.4 * np.eye(5)[FACTORS[:, 0]] + 0.12 * RNG.random((60, 5))
    z = np.concatenate([FACTORS[:, 1:] * 1.0, soft], -1)
    found = factor_vae_score_mixed(Given(5), seen(z, factors=FACTORS), {"batch": 16, "votes": 400}, draws())
    assert found.value == 1
    assert found.details == {"first": 1.0}


def test_pictures_by_hand():
    square, frame, row, column, quarters = render(np.array([[s, 2, 1, 1] for s in range(5)]), 16)
    box = np.zeros((16, 16), int)
    box[2:14, 1:14] = 1  # half a pixel to the left of the middle
    hole, rows, columns, right_up = box.copy(), 0 * box, 0 * box, 0 * box
    hole[5:11, 4:11] = 0
    rows[6:10, 1:14] = columns[2:14, 5:10] = 1
    right_up[2:8, 8:14] = right_up[8:14, 1:7] = 1
    for found, drawn in zip((square, frame, row, column, quarters), (box, hole, rows, columns, box - right_up)):
        np.testing.assert_array_equal(found, drawn)
    assert [int(render(np.array([[0, k, 1, 1]]), 16).sum()) for k in range(3)] == [9 * 8, 11 * 10, 13 * 12]
    moved = render(np.array([[0, 2, 2, 1], [0, 2, 1, 2]]), 16)
    np.testing.assert_array_equal(moved, [np.roll(square, 1, 1), np.roll(square, 1, 0)])


def test_each_picture_is_there_once_and_the_shape_makes_most_of_what_a_factor_makes():
    made = shapes(180, np.random.default_rng(5), 16)
    x, values = made["x"].reshape(180, -1).astype(float), made["factors"]
    assert len(np.unique(x, axis=0)) == len(np.unique(values, axis=0)) == 180
    np.testing.assert_array_equal(render(values, 16), made["x"])
    means = [np.stack([x[column == v].mean(0) - x.mean(0) for v in column]) for column in values.T]
    first, *others = (np.square(m).sum() / np.square(x - x.mean(0)).sum() for m in means)
    assert first > max(0.25, 2.5 * max(others))
