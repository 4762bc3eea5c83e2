"""Pictures by hand, losses against plain sums, edits against projections, and measures on editors that are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.matrix_subspace_projection import editors as e
from latentbench.papers.matrix_subspace_projection import measure as m
from latentbench.papers.matrix_subspace_projection import pictures as p
from latentbench.planning.plan import plan
from latentbench.spec.loading import load_suite

N, A, D = 6, 2, 5
INFO = DataInfo((1, 3, 4), "unit", N, columns={"factors": (3,)})
F = np.array([[0, 1, 2], [1, 0, 0], [1, 1, 2], [0, 0, 1], [1, 1, 0], [0, 1, 1]])
Y = torch.from_numpy(2.0 * F[:, :A] - 1).float()
X = torch.rand(N, 1, 3, 4, generator=torch.Generator().manual_seed(0))


def draws(seed=5):
    return torch.Generator().manual_seed(seed)


def batch(progress=0.0):
    return Batch(X, N, 0, progress, {"factors": torch.from_numpy(F)})


def build(kind, **params):
    """A model with weights far from zero."""
    torch.manual_seed(3)
    model = kind(INFO, attributes=A, latent_dim=D, hidden=[7], **params)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.6)
    return model


def plain(model):
    """Error and KL, (N,), of a loss with noise, and its code, drawn and mean."""
    first, last, (mean, log_std) = model.decoder[0], model.decoder[2], model.head(model.body(X))
    z = mean + log_std.exp() * torch.randn(mean.shape, generator=draws())
    h = torch.relu(first(torch.cat([z, Y], 1) if isinstance(model, e.ToldVAE) else z))
    error = (2 * last(h).sigmoid() - 2 * X.flatten(1)).pow(2).sum(1)
    prior, q = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(mean, log_std.exp())
    return error, torch.distributions.kl_divergence(q, prior).sum(1), z, mean


def same(model, wanted):
    """Whether the loss and its gradients are those of a sum."""
    found = model.loss(batch(), draws())["loss"]
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-4)
    own = list(model.parameters())
    torch.testing.assert_close(torch.autograd.grad(found, own), torch.autograd.grad(wanted, own), rtol=1e-3, atol=1e-4)


def test_losses_with_noise_are_their_sums():
    msp, told, vectors = build(e.MSP, weight=0.7, beta=1.3), build(e.ToldVAE, beta=0.4), build(e.AttributeVectors)
    error, rate, z, _ = plain(msp)
    matrix = msp.directions
    first = sum((z @ row - y) ** 2 for row, y in zip(matrix, Y.T, strict=True))
    second = ((Y @ matrix - z) ** 2).sum(1)
    same(msp, (error + 1.3 * rate + 0.7 * 12 / (A + D) * (first + second)).mean())
    error, rate, *_ = plain(told)
    same(told, (error + 0.4 * rate).mean())
    error, rate, _, mean = plain(vectors)
    same(vectors, (error + rate + (10 * vectors.line(Y) - mean.detach()).pow(2).sum(1)).mean())


def test_an_edit_of_msp_sets_one_coordinate_and_keeps_the_others():
    model, target = build(e.MSP), Y * torch.tensor([1.0, -1.0])
    with torch.no_grad():
        model.directions.copy_(torch.linalg.qr(torch.randn(D, D, generator=draws(1)))[0][:A])
        model.picture, z, rows = (lambda code: code), model.encode(X), model.directions
        found = model.edit(X, Y, target)
        torch.testing.assert_close(found @ rows[1], target[:, 1])
        torch.testing.assert_close(found @ rows[0], z @ rows[0])
        torch.testing.assert_close(model.rest(found), model.rest(z))
        torch.testing.assert_close(model.edit(X, Y, Y), z)
        rows.mul_(2)  # of other lengths: the authors' step, not an exact projection
        torch.testing.assert_close(model.edit(X, Y, target), z + (target[:, 1] - z @ rows[1])[:, None] * rows[1])


def test_edits_of_rivals():
    vectors, target = build(e.AttributeVectors), Y * torch.tensor([1.0, -1.0])
    moved = vectors.encode(X) - 20 * Y[:, 1:] * vectors.line.weight[:, 1]
    torch.testing.assert_close(vectors.edit(X, Y, target), vectors.picture(moved))
    for told in (build(e.ToldVAE), build(e.FaderNetwork)):
        z = told.encode(X)
        assert (told.rest(z) is z, z.shape) == (True, (N, D - A))
        torch.testing.assert_close(told.edit(X, Y, target), told.picture(torch.cat([z, target], 1)))


def test_the_rest_is_what_no_direction_changes():
    z = torch.randn(4, D, generator=draws(2))
    for model in (build(e.MSP), build(e.AttributeVectors)):
        rows, found = model.directions.detach(), model.rest(z)
        torch.testing.assert_close(model.rest(z + torch.ones(4, A) @ rows), found, atol=1e-4, rtol=0)
        beside = z - z @ torch.linalg.pinv(rows) @ rows
        torch.testing.assert_close(found @ found.T, beside @ beside.T, atol=1e-4, rtol=0)
        torch.testing.assert_close(model.reconstruct(X), model.picture(model.encode(X)))


def test_fader_players_lower_their_own_losses():
    model = build(e.FaderNetwork, weight=3.0, rise=0.2)
    z = model.encode(X)
    odds = Y * model.discriminator(z)
    error = (2 * model.picture(torch.cat([z, Y], 1)) - 2 * X).pow(2).flatten(1).sum(1)
    told, fooled = (-(sign * odds).sigmoid().log().sum(1) for sign in (1, -1))
    for progress, share in ((0.0, 0.0), (0.05, 0.25), (0.2, 1.0), (0.9, 1.0)):
        found = model.player_loss("autoencoder", batch(progress), draws())["loss"]
        torch.testing.assert_close(found, (error + 3 * share * fooled).mean())
    found, players = model.player_loss("discriminator", batch(), draws())["loss"], model.players()
    torch.testing.assert_close(found, told.mean())
    assert not any(torch.autograd.grad(found, list(players["autoencoder"]), allow_unused=True))


def test_pictures_by_hand_and_all_different():
    square, plus = p.render(np.array([[0, 1, 0, 0, 0, 0, 0], [1, 0, 1, 1, 2, 6, 4]])).astype(int)
    drawn, other = np.zeros((2, 16, 20), int)
    drawn[1:7, 1:7], drawn[14:, 0:4] = 255, 255
    other[8:12, 12:], other[6:14, 14:18], other[14:, 16:] = 128, 128, 255
    np.testing.assert_array_equal([square, plus], [drawn, other])
    assert len(np.unique(p.render(p.GRID.factors(np.arange(p.GRID.size))), axis=0)) == p.GRID.size == 1680


@pytest.mark.parametrize("agree", [0.5, 0.9])
def test_attributes_agree_in_pairs_as_often_as_asked(agree):
    made = p.sprites(8000, np.random.default_rng(0), agree)
    values = made["factors"]
    np.testing.assert_array_equal(made["x"], p.render(values))
    rate = [[(a == b).mean() for a in values[:, :4].T] for b in values[:, :4].T]
    wanted = np.kron(np.eye(2), [[1, agree], [agree, 1]]) + np.kron(1 - np.eye(2), np.full((2, 2), 0.5))
    np.testing.assert_allclose(rate, wanted, atol=0.03)
    np.testing.assert_allclose(values.mean(0), [0.5, 0.5, 0.5, 0.5, 1, 3, 2], atol=0.1)


class Known(e.Editor):
    """Knows the factors of its pictures, and edits as `how` says; the rest of its code has all but the first."""

    def __init__(self, how="right"):
        super().__init__(DataInfo((320,), "unit", 1, columns={"factors": (7,)}))
        self.how = how

    def edit(self, x, y, target):
        values = m.judged(x)
        values[:, :4] = values[:, :4] if self.how == "nothing" else (target.numpy() + 1) / 2
        values[:, 6] = (values[:, 6] + (self.how == "mark")) % 5
        return torch.from_numpy(p.render(values)).flatten(1) / 255.0

    def encode(self, x):
        z = torch.from_numpy(m.judged(x)).float() - 0.5
        z[len(z) // 2 :, 3] *= -1  # so that what holds in the first half is wrong in the second
        return z

    def rest(self, z):
        return z[:, 1:]


def seen(rows=400):
    made = p.sprites(rows, np.random.default_rng(4), 0.5)
    x, factors = torch.from_numpy(made["x"]).flatten(1) / 255.0, torch.from_numpy(made["factors"])
    info = DataInfo((320,), "unit", rows, columns={"factors": (7,)})
    return SimpleNamespace(x=x, parts={"x": x, "factors": factors}, columns={"factors": made["factors"]}, info=info)


@pytest.mark.parametrize(
    ("how", "values"), [("right", (1, 1, 1, 1)), ("nothing", (0, 0, 1, 1)), ("mark", (0, 1, 5 / 6, 0))]
)
def test_known_editors_before_the_judge(how, values):
    for of, value in zip(("exact", "flipped", "kept", "unedited"), values, strict=True):
        found = m.attribute_edits(Known(how), seen(), {"of": of}, draws())
        assert (found.value, found.n) == (pytest.approx(value), 400)
        assert 0.95 < found.details["judge"] < 1


def test_a_probe_finds_what_is_there():
    whole, rest = (m.attribute_leakage(Known(), seen(), {"part": k}, draws()).details for k in ("whole", "rest"))
    assert (whole["0"] > 0.99, rest["0"] < 0.65, whole["3"] < 0.01, rest["1"] > 0.99) == (True,) * 4


def test_what_cannot_be_measured_is_refused():
    view, other = seen(20), Known()
    other.attributes = 2
    for model, metric in ((object(), m.attribute_edits), (other, m.attribute_edits), (object(), m.attribute_leakage)):
        with pytest.raises(UserError, match="sprites-attributes"):
            metric(model, view, {"of": "exact", "part": "rest"}, draws())
    with pytest.raises(UserError, match="'all'"):
        m.attribute_leakage(Known(), view, {"part": "all"}, draws())
    for params in ({"column": "y"}, {"latent_dim": 2}):
        with pytest.raises(UserError, match="numbers for 2 attributes"):
            e.MSP(INFO, attributes=2, **params)


def test_the_suite_compares_what_it_says():
    loaded = load_suite("matrix-subspace-projection")
    own = {"msp": {}, "msp-tenth": {"weight": 0.1}, "msp-ten": {"weight": 10}}
    for run in plan(loaded, "cpu", seeds=[0]):
        assert run.data["split"] == {"train": run.dataset, "test": "test"}
        assert run.params == own.get(run.method, run.params)
        assert {spec.key: next(iter(spec.settings.values())) for spec in run.metrics} == {
            **{k: k for k in ("exact", "flipped", "kept", "unedited")},
            **{f"leak-{k}": k for k in ("rest", "whole")},
        }
    claims = {claim.id: claim.cells for claim in loaded.suite.claims}
    orders = [(k, c.metric, c.better, c.worse) for k, cells in claims.items() for c in cells if c.kind == "order"]
    assert set(orders) == {
        *((f"edits-over-{rival}", "exact", "msp", rival) for rival in ("cvae", "fader", "vectors")),
        *(("flips-over-both", "flipped", "msp", rival) for rival in ("cvae", "fader")),
        *(("no-careful-weighting", "exact", msp, "fader") for msp in ("msp-tenth", "msp-ten")),
    }
    leak, probe = claims["complement-holds-no-attribute"][0], claims["attributes-are-in-the-code"][0]
    assert (leak.metric, leak.at_most, probe.metric, probe.at_least) == ("leak-rest", 0.55, "leak-whole", 0.95)
