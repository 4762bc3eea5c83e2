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
RNG = np.random.default_rng(0)


def draws(seed=5):
    return torch.Generator().manual_seed(seed)


def build(kind, **params):
    """A model with weights far from zero."""
    torch.manual_seed(3)
    model = kind(INFO, attributes=A, latent_dim=D, hidden=[7], **params)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.6)
    return model


def batch(progress=0.0):
    return Batch(torch.rand(N, 1, 3, 4, generator=draws(0)), N, 0, progress, {"factors": torch.from_numpy(F)})


def array(tensor):
    return tensor.detach().double().numpy()


def sigmoid(h):
    return 1 / (1 + np.exp(-h))


def layer(net, h):
    return h @ array(net.weight).T + array(net.bias)


def decoded(model, z):
    first, _, last = model.decoder
    return sigmoid(layer(last, np.maximum(layer(first, z), 0)))


def plain(model, told, seed=5):
    """Error, KL, drawn and mean code and labels, by numpy."""
    x, y = array(batch().x).reshape(N, -1), 2.0 * F[:, :A] - 1
    h = np.maximum(layer(model.body[1], x), 0)
    mean, log_std = np.split(layer(model.head.head, h), 2, 1)
    z = mean + np.exp(log_std) * array(torch.randn(mean.shape, generator=draws(seed)))
    error = ((2 * decoded(model, np.hstack([z, y]) if told else z) - 2 * x) ** 2).sum(1)
    rate = sum(np.exp(2 * s) + mu**2 - 1 - 2 * s for mu, s in zip(mean.T, log_std.T, strict=True)) / 2
    return error, rate, z, mean, y


def loss(model, seed=5):
    return float(model.loss(batch(), draws(seed))["loss"].detach())


def test_msp_loss_is_its_sums():
    model = build(e.MSP, weight=0.7, beta=1.3)
    error, rate, z, _, y = plain(model, told=False)
    matrix = array(model.directions)
    first, second = ((z @ matrix.T - y) ** 2).sum(1), ((y @ matrix - z) ** 2).sum(1)
    wanted = error + 1.3 * rate + 0.7 * 12 / (A + D) * (first + second)
    assert loss(model) == pytest.approx(wanted.mean(), rel=1e-4)


def test_losses_of_rivals_with_a_kl_term():
    told, vectors = build(e.ToldVAE, beta=0.4), build(e.AttributeVectors, beta=0.4)
    error, rate, z, *_ = plain(told, told=True)
    assert z.shape == (N, D - A)
    assert loss(told) == pytest.approx((error + 0.4 * rate).mean(), rel=1e-4)
    error, rate, _, mean, y = plain(vectors, told=False)
    line = (10 * layer(vectors.line, y) - mean) ** 2
    assert loss(vectors) == pytest.approx((error + 0.4 * rate + line.sum(1)).mean(), rel=1e-4)


def test_slopes_are_least_squares_and_leave_the_codes_alone():
    model = build(e.AttributeVectors)
    *_, mean, y = plain(model, told=False)
    fit = np.linalg.lstsq(np.column_stack([y, np.ones(N)]), mean, rcond=None)[0] / 10
    with torch.no_grad():
        model.line.weight.copy_(torch.from_numpy(fit[:A].T))
        model.line.bias.copy_(torch.from_numpy(fit[A]))
    own, terms = list(model.body.parameters()), model.loss(batch(), draws())["loss"]
    slopes = torch.autograd.grad(terms, list(model.line.parameters()), retain_graph=True)
    assert max(float(g.abs().max()) for g in slopes) < 1e-4
    found = torch.autograd.grad(terms, own)
    model.asks = lambda z, mean, y: 0.0
    torch.testing.assert_close(found, torch.autograd.grad(model.loss(batch(), draws())["loss"], own))
    x, (old, new) = batch().x, torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    moved = model.picture(model.encode(x) + 2 * torch.from_numpy(fit[1]).float() * 10)
    torch.testing.assert_close(model.edit(x, old.expand(N, A), new.expand(N, A)), moved)


def test_an_edit_sets_one_coordinate_and_keeps_the_others():
    model, x = build(e.MSP), batch().x
    with torch.no_grad():
        model.directions.copy_(torch.linalg.qr(torch.randn(D, D, generator=draws(1)))[0][:A])
        model.picture = lambda z: z
        z, y = model.encode(x), model.labels(batch().parts)
        target = y * torch.tensor([1.0, -1.0])
        found = model.edit(x, y, target)
        at, was = found @ model.directions.T, z @ model.directions.T
        torch.testing.assert_close(at[:, 1], target[:, 1])
        torch.testing.assert_close(at[:, 0], was[:, 0])
        torch.testing.assert_close(model.rest(found), model.rest(z))
        torch.testing.assert_close(model.edit(x, y, y), z)
        model.directions.mul_(2)  # of other lengths: the authors' step, not an exact projection
        torch.testing.assert_close(
            model.edit(x, y, target)[1], z[1] + (target - z @ model.directions.T)[1, 1] * model.directions[1]
        )


def test_the_rest_is_what_no_label_direction_changes():
    z = torch.randn(4, D, generator=draws(2))
    for model in (build(e.MSP), build(e.AttributeVectors)):
        rows = model.directions.detach()
        found = model.rest(z)
        assert found.shape == (4, D - A)
        torch.testing.assert_close(model.rest(z + torch.randn(4, A) @ rows), found, atol=1e-3, rtol=0)
        inside = z @ torch.linalg.pinv(rows) @ rows
        torch.testing.assert_close(found.norm(dim=1), (z - inside).norm(dim=1), atol=1e-4, rtol=0)
    assert build(e.ToldVAE).rest(z) is z


def test_told_decoders_are_given_the_target_labels():
    for kind in (e.ToldVAE, e.FaderNetwork):
        model, x = build(kind), batch().x
        target = torch.tensor([[1.0, -1.0]]).expand(N, A)
        code = np.hstack([array(model.encode(x)), array(target)])
        found = array(model.edit(x, -target, target)).reshape(N, -1)
        np.testing.assert_allclose(found, decoded(model, code), atol=1e-5)


def test_fader_players_lower_their_own_losses():
    model, x, y = build(e.FaderNetwork, weight=3.0, rise=0.2), batch().x, 2.0 * F[:, :A] - 1
    z = array(model.encode(x))
    first, _, last = model.discriminator
    h = layer(first, z)
    odds = layer(last, np.where(h > 0, h, 0.2 * h))
    error = ((2 * decoded(model, np.hstack([z, y])) - 2 * array(x).reshape(N, -1)) ** 2).sum(1)
    hidden, fooled = (np.log1p(np.exp(-s * y * odds)).sum(1) for s in (1, -1))
    for progress, share in ((0.0, 0.0), (0.05, 0.25), (0.2, 1.0), (0.9, 1.0)):
        found = model.player_loss("autoencoder", batch(progress), draws())["loss"]
        assert float(found.detach()) == pytest.approx((error + 3 * share * fooled).mean(), rel=1e-4)
    told = model.player_loss("discriminator", batch(), draws())["loss"]
    assert float(told.detach()) == pytest.approx(hidden.mean(), rel=1e-4)
    players = {name: list(own) for name, own in model.players().items()}
    ids = [id(q) for own in players.values() for q in own]
    assert len(ids) == len(set(ids)) == len(list(model.parameters()))
    reached = torch.autograd.grad(told, players["autoencoder"], allow_unused=True)
    assert reached == (None,) * len(reached)


def test_pictures_by_hand_and_all_different():
    square, plus, marked = p.render(np.array([[0, 1, 0, 0, 0, 0, 0], [1, 0, 1, 1, 2, 6, 4], [0, 0, 0, 1, 1, 2, 3]]))
    drawn = np.zeros((16, 20), int)
    drawn[1:7, 1:7], drawn[14:, 0:4] = 255, 255
    np.testing.assert_array_equal(square, drawn)
    drawn = np.zeros((16, 20), int)
    drawn[8:12, 12:], drawn[6:14, 14:18], drawn[14:, 16:] = 128, 128, 255
    np.testing.assert_array_equal(plus, drawn)
    assert (marked[3:9, 12:18].min(), marked[14:, 12:16].min(), (marked > 0).sum()) == (128, 255, 36 + 8)
    assert len(np.unique(p.render(p.GRID.factors(np.arange(p.GRID.size))), axis=0)) == p.GRID.size == 1680


@pytest.mark.parametrize("agree", [0.5, 0.9])
def test_attributes_agree_in_pairs_as_often_as_asked(agree):
    made = p.sprites(8000, RNG, agree)
    values = made["factors"]
    np.testing.assert_array_equal(made["x"], p.render(values))
    rate = np.array([[(a == b).mean() for a in values[:, :4].T] for b in values[:, :4].T])
    wanted = np.where(np.eye(4) == 1, 1, 0.5)
    wanted[[0, 1, 2, 3], [1, 0, 3, 2]] = agree
    np.testing.assert_allclose(rate, wanted, atol=0.03)
    np.testing.assert_allclose(values.mean(0), [0.5, 0.5, 0.5, 0.5, 1, 3, 2], atol=0.1)


def test_shares_by_hand():
    truth = np.array([[0, 1, 2, 0], [1, 1, 0, 3]])
    found = np.array([[1, 1, 2, 0], [1, 0, 0, 3]])
    wanted = {"flipped": [1, 0], "kept": [1, 2 / 3], "exact": [1, 0]}
    assert {of: m.share(found, truth, 0, of).tolist() for of in wanted} == wanted


class Known(e.Editor):
    """Knows the factors of its pictures, and edits as `how` says."""

    def __init__(self, how):
        super().__init__(DataInfo((320,), "unit", 1, columns={"factors": (7,)}))
        self.how = how

    def edit(self, x, y, target):
        values = m.judged(x)
        if self.how != "nothing":
            values[:, :4] = (target.numpy() + 1) / 2
        if self.how == "mark":
            values[:, 6] = (values[:, 6] + 1) % 5
        return torch.from_numpy(p.render(values)).flatten(1) / 255.0

    def encode(self, x):
        return torch.cat([torch.from_numpy(m.judged(x)).float(), x[:, :1]], 1)

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
        assert set(found.details) == {"judge", *(("0",) if of == "unedited" else "0123")}
        assert 0.95 < found.details["judge"] < 1


def test_a_probe_finds_what_is_there():
    found = m.attribute_leakage(Known("right"), seen(), {"part": "whole"}, draws())
    assert found.value > 0.99
    found = m.attribute_leakage(Known("right"), seen(), {"part": "rest"}, draws())
    assert found.details["0"] < 0.65
    assert min(found.details[k] for k in "123") > 0.99


def test_what_cannot_be_measured_is_refused():
    view, other = seen(20), Known("right")
    other.attributes = 2
    for model, settings in ((object(), {"of": "exact"}), (other, {"of": "exact"}), (Known("right"), {"of": "half"})):
        with pytest.raises(UserError, match=r"sprites|half"):
            m.attribute_edits(model, view, settings, draws())
    with pytest.raises(UserError, match="'all'"):
        m.attribute_leakage(Known("right"), view, {"part": "all"}, draws())
    for params in ({"column": "y"}, {"latent_dim": 2}):
        with pytest.raises(UserError, match="numbers for 2 attributes"):
            e.MSP(INFO, attributes=2, **params)


def test_the_suite_compares_what_it_says():
    loaded = load_suite("matrix-subspace-projection")
    runs = {(run.method, run.dataset): run for run in plan(loaded, "cpu", seeds=[0])}
    for (method, dataset), run in runs.items():
        assert run.data["split"] == {"train": dataset, "test": "test"}
        assert run.training == runs["msp", "correlated"].training
        if "msp" in method:
            assert run.params == {"msp": {}, "msp-tenth": {"weight": 0.1}, "msp-ten": {"weight": 10}}[method]
        assert {spec.key.removeprefix("leak-"): next(iter(spec.settings.values())) for spec in run.metrics} == {
            k: k for k in ("exact", "flipped", "kept", "unedited", "rest", "whole")
        }
    told = {claim.id: claim for claim in loaded.suite.claims}
    for name, claim in told.items():
        for cell in claim.cells:
            if cell.kind == "order":
                assert (cell.better.split("-")[0], cell.metric) == ("msp", "flipped" if "flips" in name else "exact")
                assert cell.worse in (("cvae", "fader") if "both" in name else (name.split("-")[-1], "fader"))
    both = [(cell.dataset, cell.worse) for cell in told["flips-over-both"].cells]
    assert sorted(both) == [(d, m) for d in ("correlated", "independent") for m in ("cvae", "fader")]
    leak, probe = (told[k].cells[0] for k in ("complement-holds-no-attribute", "attributes-are-in-the-code"))
    assert (leak.metric, leak.at_most, probe.metric, probe.at_least) == ("leak-rest", 0.55, "leak-whole", 0.95)
