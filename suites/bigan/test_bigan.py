"""What is exact in BiGAN: its losses, the optimum of its game, who moves what, its baselines and measures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.data.step import State
from latentbench.papers.bigan.baselines import Autoencoder, LatentRegressor, Untrained
from latentbench.papers.bigan.bigan import BiGAN, adversarial
from latentbench.papers.bigan.halve import Halve
from latentbench.papers.bigan.measure import inversion_ratio_generated, ratio_of_distances
from latentbench.papers.bigan.nets import BatchNorm, Features

N, D, L, W = 12, 6, 3, 8
INFO = DataInfo((D,), "unit", N)
SMALL = {"latent_dim": L, "width": W}


def build(kind, **params):
    """A model whose weights are large enough for every path to matter."""
    torch.manual_seed(3)
    model = kind(INFO, **SMALL, **params)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.7)
    return model


def batch(n=N):
    return Batch(torch.rand(n, D, generator=torch.Generator().manual_seed(0)), n)


def draws(seed=5):
    return torch.Generator().manual_seed(seed)


def normalised(h):
    return (h - h.mean(0)) / h.std(0, correction=0)


def leaky(h):
    return np.where(h > 0, h, 0.2 * h)


def weight(layer):
    return layer.weight.detach().double().numpy().T


def features(net, x, z=None):
    h = leaky(x @ weight(net.first)) @ weight(net.second)
    return leaky(normalised_np(h if z is None else h + z @ weight(net.condition)))


def normalised_np(h):
    return (h - h.mean(0)) / h.std(0)


def sigmoid(h):
    return 1 / (1 + np.exp(-h))


def generated(model, z):
    net = model.generator
    h = np.maximum(normalised_np(z @ weight(net.first)), 0)
    h = np.maximum(normalised_np(h @ weight(net.second) + z @ weight(net.condition)), 0)
    return sigmoid(h @ weight(net.last))


def odds(model, x, z=None):
    return (features(model.discriminator.features, x, z) @ weight(model.discriminator.head))[:, 0]


def code_logits(model, x):
    return features(model.encoder, x) @ weight(model.code)


def prior(seed=5):
    """The codes that a loss draws first, uniform on (-1, 1)."""
    return (torch.rand(N, L, generator=draws(seed)).double() * 2 - 1).numpy()


def loss(model, player, seed=5):
    return {k: float(v.detach()) for k, v in model.player_loss(player, batch(), draws(seed)).items()}


def test_the_discriminator_tells_encoded_from_generated_pairs_and_the_others_swap_its_labels():
    model, x, z = build(BiGAN), batch().x.double().numpy(), prior()
    real = odds(model, x, 2 * sigmoid(code_logits(model, x)) - 1)
    fake = odds(model, generated(model, z), z)
    told = -(np.log(sigmoid(real)).mean() + np.log(1 - sigmoid(fake)).mean()) / 2
    swapped = -(np.log(1 - sigmoid(real)).mean() + np.log(sigmoid(fake)).mean()) / 2
    assert abs(told - swapped) > 0.01
    assert loss(model, "discriminator")["loss"] == pytest.approx(told, rel=1e-4)
    assert loss(model, "encoder_generator")["loss"] == pytest.approx(swapped, rel=1e-4)


def test_codes_of_the_prior_and_of_the_encoder_fill_the_same_range():
    model = build(BiGAN)
    z = model.prior(40_000, draws())
    assert z.abs().max() <= 1
    assert z.mean(0).abs().max() < 4 * (1 / 3 / 40_000) ** 0.5
    assert z.square().mean(0).numpy() == pytest.approx([1 / 3] * L, abs=4 * (4 / 45 / 40_000) ** 0.5)
    with torch.no_grad():
        model.code.weight.mul_(100)
        codes = model.code_of(batch().x)
    assert codes.max() > 0.99
    assert codes.min() < -0.99


def test_the_optimal_discriminator_is_the_share_of_encoded_pairs_and_then_the_game_is_two_jsd_less_log_four():
    """Propositions 1 and 2 on three rows and two codes, where both joints are known."""
    encoded = torch.tensor([[0.2, 0.1], [0.3, 0.0], [0.1, 0.3]], dtype=torch.float64).flatten()
    generated_ = torch.tensor([[0.1, 0.2], [0.1, 0.3], [0.3, 0.0]], dtype=torch.float64).flatten()
    cells = 10 * torch.cat([encoded, generated_])
    rows = [torch.arange(6).repeat_interleave(c.round().long()) for c in (cells[:6], cells[6:])]
    table = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([table], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14)

    def closure():
        optimizer.zero_grad()
        value = adversarial(table[rows[0]], table[rows[1]])["loss"]
        value.backward()
        return value

    optimizer.step(closure)
    middle = (encoded + generated_) / 2
    assert torch.sigmoid(table).tolist() == pytest.approx((encoded / (2 * middle)).tolist(), abs=1e-4)
    kl = [torch.special.xlogy(p, p / middle).sum() for p in (encoded, generated_)]
    value = -2 * closure().item()
    assert value == pytest.approx(float(kl[0] + kl[1]) - math.log(4), abs=1e-5)


@pytest.mark.parametrize(("kind", "params"), [(BiGAN, {}), (LatentRegressor, {}), (LatentRegressor, {"joint": 0.25})])
def test_players_part_the_parameters_and_each_loss_reaches_all_of_its_own(kind, params):
    model = build(kind, **params)
    players = {name: list(own) for name, own in model.players().items()}
    ids = [id(p) for own in players.values() for p in own]
    assert len(set(ids)) == len(ids) == len(list(model.parameters()))
    for name, own in players.items():
        model.zero_grad()
        model.player_loss(name, batch(), draws())["loss"].backward()
        assert all(p.grad is not None and p.grad.abs().max() > 1e-6 for p in own), name


def test_the_encoder_learns_from_real_rows_through_the_joint_discriminator():
    model = build(BiGAN)
    x = batch().x.requires_grad_()
    real, fake = model.log_odds(x, draws())
    wanted = torch.autograd.grad(real.sum(), list(model.encoder.parameters()), retain_graph=True)
    assert min(float(g.abs().max()) for g in wanted) > 1e-4
    none = torch.autograd.grad(fake.sum(), list(model.encoder.parameters()), allow_unused=True)
    assert none == (None,) * len(none)


def test_the_players_of_latent_regressors_have_the_authors_losses():
    plain, joint = build(LatentRegressor), build(LatentRegressor, joint=0.25)
    z, x = prior(), batch().x.double().numpy()
    made, target = generated(plain, z), (z + 1) / 2
    p = sigmoid(code_logits(plain, made))
    error = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()
    fake, real = odds(plain, made), odds(plain, x)
    fooled = -np.log(sigmoid(fake)).mean()
    told = (fooled_not := -np.log(1 - sigmoid(fake)).mean()) / 2 - np.log(sigmoid(real)).mean() / 2
    assert abs(fooled - fooled_not) > 0.01
    assert loss(plain, "discriminator")["loss"] == pytest.approx(told, rel=1e-4)
    assert loss(plain, "generator")["loss"] == pytest.approx(fooled, rel=1e-4)
    assert loss(plain, "encoder")["loss"] == pytest.approx(error, rel=1e-4)
    assert loss(joint, "generator")["loss"] == pytest.approx(fooled + 0.25 * error, rel=1e-4)
    assert loss(joint, "encoder")["loss"] == pytest.approx(0.25 * error, rel=1e-4)


@pytest.mark.parametrize(("error", "norm"), [("l2", np.square), ("l1", np.abs)])
def test_autoencoders_lower_the_error_of_a_row(error, norm):
    model, x = build(Autoencoder, error=error), batch().x.double().numpy()
    back = generated(model, 2 * sigmoid(code_logits(model, x)) - 1)
    assert model.loss(batch(), draws())["loss"].item() == pytest.approx(norm(back - x).sum(1).mean(), rel=1e-4)


def test_evaluation_normalises_by_the_batches_that_were_noted():
    norm, data = BatchNorm(2), torch.randn(50, 20, 2, generator=draws()) * 3 + 1
    for i, h in enumerate(data):
        out = norm(h, noted=i % 2 == 0)
        assert torch.allclose(out, normalised(h), atol=1e-5)
    norm.eval()
    mean, variance = data[::2].mean((0, 1)), data[::2].var(1).mean(0)
    h = torch.randn(3, 2, generator=draws())
    assert torch.allclose(norm(h), (h - mean) / variance.sqrt(), atol=1e-5)


@pytest.mark.parametrize("kind", [BiGAN, LatentRegressor])
def test_statistics_are_those_of_real_rows_alone(kind):
    model, x = build(kind), batch().x
    for player in model.players():
        model.player_loss(player, batch(), draws())
    h = model.encoder.second(torch.nn.functional.leaky_relu(model.encoder.first(x), 0.2))
    assert torch.allclose(model.encoder.norm.mean, h.mean(0), atol=1e-5)
    told, seen = model.discriminator.features.norm, int(model.encoder.norm.seen)
    assert (int(told.seen), seen) == ((2, 2) if kind is BiGAN else (1, 1))


def test_untrained_features_are_bigans_before_its_first_step():
    x, models = batch().x, []
    for make in (lambda: Untrained(INFO, width=W), lambda: BiGAN(INFO, **SMALL)):
        torch.manual_seed(1)
        models.append(make())
        with torch.no_grad():
            for parameter in models[-1].encoder.parameters():
                parameter.mul_(50)  # so that the layer's variance is far above the normalisation's epsilon
    untrained, model = models
    untrained.fit(x, draws())
    unbiased = ((N - 1) / N) ** 0.5  # evaluation's variance
    assert torch.allclose(untrained.encode(x), unbiased * model.encoder(x), atol=1e-4)
    assert torch.equal(Untrained(INFO, width=0).encode(x), x)


def test_discriminators_start_undecided_and_regressors_at_the_middle_code():
    torch.manual_seed(0)
    assert loss(BiGAN(INFO, **SMALL), "discriminator")["loss"] == pytest.approx(math.log(2))
    assert LatentRegressor(INFO, **SMALL).code_of(batch().x).abs().max() == 0


def test_the_inversion_ratio_is_one_of_mean_distances():
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    back = torch.tensor([[0.0, 1.0], [3.0, 4.0], [0.0, 0.0]])
    found = ratio_of_distances(rows, back)
    own, other = np.array([1.0, 0.0, 1.0]), np.array([18**0.5, 18**0.5, 0.0])  # |next row - back|
    assert found.details == pytest.approx({"own": own.mean(), "other": other.mean()})
    assert found.value == pytest.approx(own.mean() / other.mean())


def test_the_standard_error_of_the_ratio_is_that_of_repetitions():
    g = draws()
    found = [
        ratio_of_distances(rows := torch.rand(300, 4, generator=g), rows + 0.2 * torch.randn(300, 4, generator=g))
        for _ in range(200)
    ]
    spread = np.std([f.value for f in found], ddof=1)
    assert np.mean([f.se for f in found]) == pytest.approx(spread, rel=0.25)


def test_a_perfect_inverse_has_ratio_zero_and_one_that_knows_nothing_has_one():
    class Known:
        def sample(self, n, generator):
            return torch.rand(n, D, generator=generator)

        def reconstruct(self, x):
            return x

    class Knowing(Known):
        def reconstruct(self, x):
            return x.flip(0)

    settings = {"samples": 500}
    assert inversion_ratio_generated(Known(), None, settings, draws()).value == 0
    found = inversion_ratio_generated(Knowing(), None, settings, draws())
    assert abs(found.value - 1) < 4 * found.se


def test_halving_takes_means_of_squares():
    y = torch.arange(32.0).reshape(2, 4, 4) / 32
    step = Halve()
    assert step.bind(State((4, 4), "unit", 1.0)).shape == (2, 2)
    assert torch.equal(step.map(y), torch.nn.functional.avg_pool2d(y[:, None], 2)[:, 0])
    assert torch.equal(step.map(step.inverse(step.map(y))), step.map(y))
    with pytest.raises(UserError, match="even sides"):
        step.bind(State((5, 4), "unit", 1.0))


def test_data_that_no_sigmoid_gives_are_refused():
    with pytest.raises(UserError, match=r"\[0, 1\]"):
        BiGAN(DataInfo((D,), "real", N))


def test_the_conditions_of_a_pair_are_added_before_normalising():
    net = Features(D, W, L)
    x, z = batch().x, torch.rand(N, L, generator=draws())
    found = net(x, z).detach().double().numpy()
    assert found == pytest.approx(features(net, x.double().numpy(), z.double().numpy()), abs=1e-3)
