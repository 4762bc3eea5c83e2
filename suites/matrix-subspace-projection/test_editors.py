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
F = torch.tensor([[0, 1, 2], [1, 0, 0], [1, 1, 2], [0, 0, 1], [1, 1, 0], [0, 1, 1]])
Y = 2.0 * F[:, :A] - 1
TARGET = Y * torch.tensor([1.0, -1.0])
X = torch.rand(N, 1, 3, 4, generator=torch.Generator().manual_seed(0))
close = torch.testing.assert_close


def draws(seed=5):
    return torch.Generator().manual_seed(seed)


def build(kind, **params):
    torch.manual_seed(3)
    model = kind(INFO, attributes=A, latent_dim=D, hidden=[7], **params)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.6)  # far from zero
    return model


@pytest.mark.parametrize(("kind", "params"), [(e.MSP, {"weight": 0.7, "beta": 1.3}), (e.ToldVAE, {"beta": 0.4})])
def test_losses_with_noise_and_their_gradients_are_those_of_sums(kind, params):
    model = build(kind, **params)
    first, last, (mean, log_std) = model.decoder[0], model.decoder[2], model.encoder(X)
    z = mean + log_std.exp() * torch.randn(mean.shape, generator=draws())
    h = torch.relu(first(torch.cat([z, Y], 1) if kind is e.ToldVAE else z))
    prior, q = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(mean, log_std.exp())
    wanted = (2 * last(h).sigmoid() - 2 * X.flatten(1)).pow(2).sum()
    wanted = wanted + params["beta"] * torch.distributions.kl_divergence(q, prior).sum()
    if kind is e.MSP:
        found = sum(((z @ row - y) ** 2).sum() for row, y in zip(model.matrix, Y.T, strict=True))
        wanted = wanted + 0.7 * 12 / (A + D) * (found + ((Y @ model.matrix - z) ** 2).sum())
    loss, own = model.loss(Batch(X, N, 0, 0.0, {"factors": F}), draws())["loss"], list(model.parameters())
    close(loss, wanted / N, rtol=1e-4, atol=0)
    close(torch.autograd.grad(loss, own), torch.autograd.grad(wanted / N, own), rtol=1e-3, atol=1e-4)


def test_an_edit_of_msp_sets_one_coordinate_and_keeps_the_others():
    model = build(e.MSP)
    with torch.no_grad():
        z, rows = model.encode(X), model.matrix
        beside, found = z - z @ torch.linalg.pinv(rows) @ rows, model.rest(z)
        close(found @ found.T, beside @ beside.T, atol=1e-4, rtol=0)
        close(model.reconstruct(X), model.picture(z))
        model.matrix.copy_(torch.linalg.qr(torch.randn(D, D, generator=draws(1)))[0][:A])
        model.picture = lambda code: code
        found = model.edit(X, Y, TARGET)
        close(found @ rows.T, torch.stack([z @ rows[0], TARGET[:, 1]], 1))
        close(model.rest(found), model.rest(z))
        close(model.edit(X, Y, Y), z)
        rows.mul_(2)  # of other lengths: the authors' step, not an exact projection
        close(model.edit(X, Y, TARGET), z + (TARGET[:, 1] - z @ rows[1])[:, None] * rows[1])


def test_edits_of_rivals():
    for model in (build(e.ToldVAE), build(e.FaderNetwork)):
        z = model.encode(X)
        assert (model.rest(z) is z, z.shape) == (True, (N, D - A))
        close(model.edit(X, Y, TARGET), model.picture(torch.cat([z, TARGET], 1)))


def test_fader_players_lower_their_own_losses():
    model = build(e.FaderNetwork, weight=3.0)
    z = model.encode(X)
    odds = Y * model.discriminator(z)
    error = (2 * model.picture(torch.cat([z, Y], 1)) - 2 * X).pow(2).flatten(1).sum(1)
    told, fooled = (-(sign * odds).sigmoid().log().sum(1) for sign in (1, -1))
    for progress, share in ((0.0, 0.0), (0.025, 0.25), (0.1, 1.0), (0.9, 1.0)):
        batch = Batch(X, N, 0, progress, {"factors": F})
        close(model.player_loss("autoencoder", batch, draws())["loss"], (error + 3 * share * fooled).mean())
    found = model.player_loss("discriminator", batch, draws())["loss"]
    close(found, told.mean())
    assert not any(torch.autograd.grad(found, list(model.players()["autoencoder"]), allow_unused=True))


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
    return SimpleNamespace(x=x, parts={"factors": factors}, columns={"factors": made["factors"]}, info=info)


@pytest.mark.parametrize("how", ["right", "nothing", "mark"])
def test_known_editors_before_the_judge(how):
    values = {"right": (1, 1, 1, 1), "nothing": (0, 0, 1, 1), "mark": (0, 1, 5 / 6, 0)}[how]
    for of, value in zip(("exact", "flipped", "kept", "unedited"), values, strict=True):
        found = m.attribute_edits(Known(how), seen(), {"of": of}, draws())
        assert (found.value, found.n) == (pytest.approx(value), 400)
        assert 0.95 < found.details["judge"] < 1


def test_a_probe_finds_what_is_there():
    whole, rest = (m.attribute_leakage(Known(), seen(), {"part": k}, draws()).details for k in ("whole", "rest"))
    assert (whole["0"] > 0.99, rest["0"] < 0.65, whole["3"] < 0.01, rest["1"] > 0.99) == (True,) * 4


def test_what_cannot_be_measured_is_refused():
    for model, part in ((build(e.ToldVAE), "rest"), (object(), "rest"), (Known(), "all")):
        with pytest.raises(UserError, match="'all'" if part == "all" else "sprites-attributes"):
            m.attribute_leakage(model, seen(20), {"part": part}, draws())
    for params in ({"column": "y"}, {"latent_dim": 2}):
        with pytest.raises(UserError, match="numbers for 2 attributes"):
            e.MSP(INFO, attributes=2, **params)


def test_the_suite_compares_what_it_says():
    loaded = load_suite("matrix-subspace-projection")
    own = {"msp-tenth": {"weight": 0.1}, "msp-ten": {"weight": 10}, "cvae": {"beta": 3}, "fader": {"weight": 30}}
    for run in plan(loaded, "cpu", seeds=[0]):
        assert (run.data["split"], run.params) == ({"train": run.dataset, "test": "test"}, own.get(run.method, {}))
        assert run.training["optimizer"]["lr"] == (1e-3 if run.method == "fader" else 3e-3)
        keys = {spec.key: next(iter(spec.settings.values())) for spec in run.metrics}
        assert keys == {k: k.removeprefix("leak-") for k in keys}
    *orders, leak = ((claim.id, claim.cells) for claim in loaded.suite.claims)
    assert {(k, c.metric, c.better, c.worse, *(c.gate[0].methods or ())) for k, cells in orders for c in cells} == {
        *((f"edits-over-{rival}", "exact", "msp", rival) for rival in ("cvae", "fader")),
        *(("flips-over-both", "flipped", "msp", rival) for rival in ("cvae", "fader")),
        *(("no-careful-weighting", "exact", msp, "fader", "msp", "fader") for msp in ("msp-tenth", "msp-ten")),
    }
    bound, gates = leak[1][0], [(g.metric, g.at_least) for _, cells in (*orders, leak) for g in cells[0].gate]
    assert (bound.metric, bound.method, bound.at_most) == ("leak-rest", "msp", 0.55)
    assert gates == [("unedited", 0.5)] * 4 + [("leak-whole", 0.9), ("unedited", 0.5)]
