"""Windows against cutting by hand, losses against torch's distributions, metrics against their words."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.gcrl_motion import motion as m
from latentbench.papers.gcrl_motion import windows as w
from torch.autograd import grad
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.testing import assert_close

SETTINGS = {"alpha": 64.0, "of": "average", "draws": 1, "steps": 0, "rate": 0.01}


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(n=6):
    """Tracks whose starts are 30 frames apart; and displacements seen and to come."""
    track = 0.4 * torch.randn(n, 20, 2, generator=gen(1)).cumsum(1)
    columns = {k: torch.from_numpy(v) for k, v in w.columns(track.double().numpy(), np.arange(n) * 30, 0, 2.0).items()}
    columns["alpha"] = torch.arange(1.0, n + 1)
    columns["y"], move = torch.tensor([0, 1, 2, 0, 1, 0] * n)[:n], track.diff(dim=1, prepend=track[:, :1])
    return Batch(columns.pop("x"), n, columns=columns), move[:, :8], move[:, 8:]


def built(**params):
    torch.manual_seed(3)
    return m.Motion(DataInfo((8, 2), "real", 30), **params)


def heads(model, b, seen):
    feature = (not model.blind) * b.columns["alpha"][:, None] * (1.0 + b.columns["curvature"])
    inputs = torch.cat([seen, feature[..., None]], 2)
    return [head(rnn(inputs)[0][:, -1]) for rnn, head in (model.invariant, model.variant)]


def rolled(decoder, code, told):
    """Displacements, each from one that is told or, where it is none, from the last."""
    state, found = decoder.start(code), []
    for last in told:
        state = decoder.cell(found[-1] if last is None else last, state)
        found.append(decoder.read(state))
    return torch.stack(found, 1)


def test_windows():
    """Persons 1 and 2 begin together, 3 has a gap, 0 begins at 5, 5 is alone."""
    seen = {1: range(25), 2: range(21), 3: [*range(10), *range(12, 23)], 0: range(5, 25), 5: range(30, 50)}
    rows = np.array([[10 * t, p, t + 0.1 * p, p - t * t] for p, times in seen.items() for t in times], dtype=float)
    tracks, starts = w.windows(rows[np.lexsort((rows[:, 1], rows[:, 0]))])
    assert starts.tolist() == [0, 0, 1, 1, 5, 5]
    times, person = starts[:, None] + np.arange(20), np.array([[1], [2], [1], [2], [0], [1]])
    np.testing.assert_allclose(tracks, np.stack([times + 0.1 * person, person - times**2], 2))
    found, move = w.columns(tracks[:1], np.array([7]), 3, 4.0), [np.zeros(2), *np.diff(tracks[0], axis=0)]
    np.testing.assert_allclose(found["curvature"][0], [math.dist(move[t + 8], move[t]) for t in range(8)], rtol=1e-6)
    np.testing.assert_allclose(np.concatenate([found["x"], found["future"]], 1)[0], tracks[0] - tracks[0, 7])
    assert [found[k].tolist() for k in ("start", "alpha", "y")] == [[7], [4.0], [3]]


def test_splits(tmp_path):
    files, cuts = {name: tmp_path / name for name in "abc"}, {"a": ("A", 60, 1), "b": ("B", 80, 2)}
    for file in files.values():
        np.savetxt(file, [[t, p, 0.1 * t + p, p] for t in range(60) for p in range(2)])
    train, valid, test = (c.columns for c in w.load_windows(files, "c", cuts, 25))
    assert [np.bincount(part["y"]).tolist() for part in (train, valid, test)] == [[22, 25], [22, 2], [0, 0, 82]]
    assert set(train["start"][train["y"] == 0]) == set(range(11))
    assert set(zip(valid["y"], valid["alpha"])) == {(0, 1.0), (1, 2.0)}
    assert min(np.diff(test["start"])) >= 0 < 5 < np.count_nonzero(np.diff(train["y"]))


@pytest.mark.parametrize("params", [{"penalty": 3.0}, {"blind": True}])
def test_least_squares(params):
    (b, seen, true), model, scale = batch(), built(draws=0, **params), torch.ones((), requires_grad=True)
    step = rolled(model.future, torch.cat(heads(model, b, seen), 1), [seen[:, -1], *[None] * 11])
    assert_close(model.forecast(b.x, b.columns, 12), b.x[:, -1:] + step.cumsum(1))
    expected = ((step - true) ** 2).sum(2).mean()
    for rows in [0, 3, 5], [1, 4], [2]:
        slope = grad(((scale * step - true) ** 2).sum(2)[rows].mean(), scale, create_graph=True)[0]
        expected = expected + model.penalty * slope**2 * len(rows) / 6
    assert_close(model.loss(b, gen())["loss"], expected)


def test_prior():
    model, codes = built(latent_dim=3), torch.randn(9, 6, generator=gen(2))
    for p in [*model.flow_s.parameters(), model.weights]:
        p.data += 0.3 * torch.randn(p.shape, generator=gen(4))
    i = torch.arange(5.0)[:, None].expand(5, 3)
    mixture = MixtureSameFamily(Categorical(logits=model.weights), Independent(Normal(i, (i + 1).sqrt()), 1))
    u, log_det = model.flow_s(codes[:, 3:])
    assert_close(model.log_p(codes), torch.stack([model.flow_z.log_prob(codes[:, :3]), mixture.log_prob(u) + log_det]))


@pytest.mark.parametrize("variance", [0.5, 0.9])
def test_bound(variance):
    """Value and gradients of the authors' expression, of means of p(y | z, s) times logarithms; rates."""
    (b, seen, true), model, std = batch(), built(latent_dim=2, draws=4, variance=variance), math.sqrt(variance)
    mean, log_std = torch.cat([each.view(6, 2, 2) for each in heads(model, b, seen)], 2).unbind(1)
    logs, p_y = [], []
    for noise in torch.randn(4, 6, 4, generator=gen(9)):
        code = mean + log_std.exp() * noise
        past = rolled(model.past, code, [seen[:, 0], *seen[:, :7].unbind(1)])
        log_x = Independent(Normal(past, std), 2).log_prob(seen)
        log_q = Independent(Normal(mean, log_std.exp()), 1).log_prob(code)
        logs.append(log_x + model.log_p(code).sum(0) - log_q)
        p_y.append(Independent(Normal(model.future(code, seen[:, -1], 12), std), 2).log_prob(true).double().exp())
    q, weighted = sum(p_y) / 4, sum(p * log for p, log in zip(p_y, logs)) / 4
    expected, found = -(q.log() + weighted / q).mean(), model.loss(b, gen(9))["loss"]
    assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    for a, c in zip(*(grad(loss, list(model.parameters()), retain_graph=True) for loss in (found, expected))):
        assert_close(a, c, rtol=1e-3, atol=1e-4)
    draws = mean + log_std.exp() * torch.randn(6, 4, generator=gen(5))
    z, s = (Normal(mean, log_std.exp()).log_prob(draws).view(6, 2, 2).sum(2) - model.log_p(draws).T).mean(0).tolist()
    assert model.rates(b.x, b.columns, gen(5)) == pytest.approx({"rate_z": z, "rate_s": s}, rel=1e-4)


@pytest.mark.parametrize("params", [{"latent_dim": 2}, {"draws": 0, "penalty": 9.0}])
def test_metric(params):
    """Of the last place, of draws, adapted as far as the model may; of rows 64 on, then 65 on."""
    b, model, twin, same = batch(90)[0], built(**params), built(**params), gen()
    view, columns = SimpleNamespace(batch=lambda: b, columns=b.columns), b.columns | {"alpha": torch.full((90,), 64.0)}
    few, late = ({k: c[rows] for k, c in columns.items()} for rows in (slice(64), slice(64, None)))

    def measured(**settings):
        return pytest.approx(m.displacement_error(model, view, SETTINGS | settings, gen()).value)

    off = [model.forecast(b.x[64:], late, 12, *given) - late["future"] for given in ((), *[(same,)] * 7)]
    assert off[0][:, -1].norm(dim=1).mean().item() == measured(of="final")
    assert torch.stack(off[1:]).norm(dim=3).mean(2).min(0).values.mean().item() == measured(draws=7)
    same, twin.penalty, still = gen(), 0.0, ("invariant", "flow_z") if twin.draws else ()
    adam = torch.optim.Adam([p for n, p in twin.named_parameters() if not n.startswith(still)], lr=0.01)
    for _ in range(3):
        adam.zero_grad()
        twin.loss(Batch(b.x[:64], 64, columns=few), same)["loss"].backward()
        adam.step()
    off = twin.forecast(b.x[64:], late, 12) - late["future"]
    assert off.norm(dim=2).mean().item() == measured(steps=3)
    assert_close(model.state_dict(), built(**params).state_dict())
    b.columns["start"][64] = b.columns["start"][63] + 19
    assert m.displacement_error(model, view, SETTINGS, gen()).n == 25


def test_refusals_and_constant_velocity():
    b, model = batch(90)[0], m.ConstantVelocity(DataInfo((8, 2), "real", 30))
    assert_close(model.forecast(b.x, {}, 2)[:, 1], -2 * b.x[:, -2])
    view, cheat = SimpleNamespace(batch=lambda: b, columns=b.columns), lambda x, columns, length: columns["future"]
    with pytest.raises(KeyError, match="future"):
        m.displacement_error(SimpleNamespace(forecast=cheat), view, SETTINGS, gen())
    for wrong in {"steps": 5}, {"draws": 5}:
        with pytest.raises(UserError, match="cannot"):
            m.displacement_error(model, view, SETTINGS | wrong, gen())
