"""Windows against cutting by hand, losses against torch's distributions, metrics against their words."""

from __future__ import annotations

import math
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.data.dataset import open_dataset
from latentbench.papers.gcrl_motion import motion as m
from latentbench.papers.gcrl_motion import windows as w
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

SETTINGS = {"alpha": 64.0, "of": "average", "draws": 1, "rows": 5, "steps": 3, "rate": 0.01}


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(n=6):
    track = 0.4 * torch.randn(n, 20, 2, generator=gen(1)).cumsum(1)
    columns = {k: torch.from_numpy(v) for k, v in w.columns(track.double().numpy(), np.arange(n) * 30, 0, 2.0).items()}
    return Batch(columns.pop("x"), n, columns=columns | {"y": torch.tensor([0, 1, 2, 0, 1, 0] * (n // 6 + 1))[:n]})


def view(n=90):
    rows = batch(n)
    return SimpleNamespace(batch=lambda: rows, columns=rows.columns)


def built(**params):
    torch.manual_seed(3)
    return m.Motion(DataInfo((8, 2), "real", 30), **params)


def test_windows():
    """Persons 1 and 2 begin together, 3 has a gap, 4 begins at 5, 5 is alone."""
    seen = {1: range(25), 2: range(21), 3: [*range(10), *range(12, 23)], 4: range(5, 25), 5: range(30, 50)}
    rows = np.array([[10 * t, p, t + 0.1 * p, p - t * t] for p, times in seen.items() for t in times], dtype=float)
    tracks, starts = w.windows(rows[np.lexsort((rows[:, 1], rows[:, 0]))])
    assert starts.tolist() == [0, 0, 1, 1, 5, 5]
    for track, start, person in zip(tracks, starts, [1, 2, 1, 2, 1, 4]):
        times = np.arange(start, start + 20)
        np.testing.assert_allclose(track, np.stack([times + 0.1 * person, person - times**2], 1))


def test_columns():
    track = np.random.default_rng(0).standard_normal((1, 20, 2)).cumsum(1)
    found, move = w.columns(track, np.array([7]), 3, 4.0), [np.zeros(2), *np.diff(track[0], axis=0)]
    np.testing.assert_allclose(found["curvature"][0], [math.dist(move[t + 8], move[t]) for t in range(8)], rtol=1e-6)
    np.testing.assert_allclose(np.concatenate([found["x"], found["future"]], 1), track - track[:, 7:8], atol=1e-6)
    assert [found[k].tolist() for k in ("start", "alpha", "y")] == [[7], [4.0], [3]]


def test_splits(tmp_path):
    for k, name in enumerate("abc"):
        np.savetxt(tmp_path / name, [[t, p, 0.1 * t + p, k] for t in range(60) for p in range(2)])
    files, cuts = {name: tmp_path / name for name in "abc"}, {"a": ("A", 60, 1), "b": ("B", 80, 2)}
    train, valid, test = (c.columns for c in w.load_windows(files, "c", cuts, 25))
    assert [np.bincount(part["y"]).tolist() for part in (train, valid, test)] == [[22, 25], [22, 2], [0, 0, 82]]
    assert set(train["start"][train["y"] == 0]) == set(range(11))
    assert set(zip(valid["y"], valid["alpha"])) == {(0, 1.0), (1, 2.0)}
    assert (np.diff(test["start"]) >= 0).all()
    assert (np.diff(train["y"]) != 0).sum() > 5


def test_registered_windows():
    if not os.environ.get("LATENTBENCH_MIRROR"):
        pytest.skip("needs ETH and UCY, from the folder that LATENTBENCH_MIRROR names")
    train, test = (open_dataset("eth-ucy-windows").split(k) for k in ("train", "test"))
    assert set(zip(train["y"][:], train["alpha"][:])) == {(0, 1), (1, 2), (2, 4), (3, 8)}
    steady = test["x"][:, -1:] + np.arange(1, 13)[:, None] * (test["x"][:, -1:] - test["x"][:, -2:-1])
    assert np.linalg.norm(steady - test["future"][:], axis=2).mean() == pytest.approx(0.9954, abs=1e-3)


def test_decoder():
    torch.manual_seed(0)
    decoder, code, true = m.Decoder(4), torch.randn(3, 4), torch.randn(3, 5, 2)
    for told in None, true:
        state, last = decoder.start(code), true[:, 0]
        for t, found in enumerate(decoder(code, last, 5, told).unbind(1)):
            state = decoder.cell(last, state)
            torch.testing.assert_close(found, decoder.read(state))
            last = found if told is None else true[:, t]


@pytest.mark.parametrize("params", [{"draws": 0}, {"draws": 0, "penalty": 3.0}, {"draws": 0, "blind": True}])
def test_least_squares(params):
    b, model, scale = batch(), built(**params), torch.ones((), requires_grad=True)
    feature = torch.zeros(6, 8) if model.blind else 2.0 * (1.0 + b.columns["curvature"])
    inputs = torch.cat([torch.zeros(6, 1, 2), b.x[:, 1:] - b.x[:, :-1]], 1)
    inputs = torch.cat([inputs, feature[..., None]], 2)
    code = torch.cat([head(rnn(inputs)[0][:, -1]) for rnn, head in (model.invariant, model.variant)], 1)
    step = model.future(code, b.x[:, -1] - b.x[:, -2], 12)
    torch.testing.assert_close(model.forecast(b.x, b.columns, 12), b.x[:, -1:] + step.cumsum(1))
    true = torch.cat([b.x[:, -1:], b.columns["future"]], 1).diff(dim=1)
    expected = ((step - true) ** 2).sum(2).mean()
    for rows in [0, 3, 5], [1, 4], [2]:
        slope = torch.autograd.grad(((scale * step - true) ** 2).sum(2)[rows].mean(), scale, create_graph=True)[0]
        expected = expected + model.penalty * slope**2 * len(rows) / 6
    torch.testing.assert_close(model.loss(b, gen())["loss"], expected)


def test_prior():
    model, codes = built(latent_dim=3), torch.randn(2, 6, generator=gen(2))
    for p in [*model.flow_z.parameters(), *model.flow_s.parameters(), model.weights]:
        p.data += 0.3 * torch.randn(p.shape, generator=gen(4))
    i = torch.arange(5.0)[:, None].expand(5, 3)
    mixture = MixtureSameFamily(Categorical(logits=model.weights), Independent(Normal(i, (i + 1).sqrt()), 1))
    normal = Independent(Normal(torch.zeros(3), torch.ones(3)), 1)
    for code, found in zip(codes, model.log_p(codes)):
        for flow, part, base in ((model.flow_z, code[:3], normal), (model.flow_s, code[3:], mixture)):
            jacobian = torch.autograd.functional.jacobian(lambda v, f=flow: f(v[None])[0][0], part)
            found = found - base.log_prob(flow(part[None])[0][0]) - torch.linalg.slogdet(jacobian)[1]
        assert abs(found) < 1e-4


@pytest.mark.parametrize("variance", [0.5, 0.9])
def test_bound(variance):
    """Value and gradients of the authors' expression, of means of p(y | z, s) times logarithms."""
    b, model = batch(), built(latent_dim=2, draws=4, variance=variance)
    mean, log_std = model.posterior(b.x, b.columns)
    seen = torch.cat([torch.zeros(6, 1, 2), b.x.diff(dim=1)], 1)
    true = torch.cat([b.x[:, -1:], b.columns["future"]], 1).diff(dim=1)
    logs, p_y, std = [], [], math.sqrt(model.variance)
    for noise in torch.randn(4, 6, 4, generator=gen(9)):
        code = mean + log_std.exp() * noise
        log_x = Independent(Normal(model.past(code, seen[:, 0], 8, seen), std), 2).log_prob(seen)
        log_q = Independent(Normal(mean, log_std.exp()), 1).log_prob(code)
        logs.append(log_x + model.log_p(code) - log_q)
        p_y.append(Independent(Normal(model.future(code, seen[:, -1], 12), std), 2).log_prob(true).double().exp())
    draws = mean + log_std.exp() * torch.randn(6, 4, generator=gen(5))
    rate = Independent(Normal(mean, log_std.exp()), 1).log_prob(draws) - model.log_p(draws)
    assert model.rate(b.x, b.columns, gen(5)) == pytest.approx(rate.mean().item(), rel=1e-4)
    q, weighted = sum(p_y) / 4, sum(p * log for p, log in zip(p_y, logs)) / 4
    expected, found = -(q.log() + weighted / q).mean(), model.loss(b, gen(9))["loss"]
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    for a, c in zip(*(torch.autograd.grad(loss, list(model.parameters())) for loss in (found, expected))):
        torch.testing.assert_close(a, c, rtol=1e-3, atol=1e-4)


def test_what_encoders_say_of_z_and_s():
    b, model = batch(), built(latent_dim=2)
    before, shift = model.posterior(b.x, b.columns), torch.tensor([1.0, 2.0, 3.0, 4.0])
    for part in model.invariant, model.variant:
        part[1][-1].bias.data += shift
        shift = 10 * shift
    mean, log_std = (new - old for new, old in zip(model.posterior(b.x, b.columns), before))
    torch.testing.assert_close(mean[0], torch.tensor([1.0, 2.0, 10.0, 20.0]))
    assert (log_std[0, :2] - torch.tensor([3.0, 4.0])).abs().max() < 1e-5


def test_constant_velocity():
    x = torch.tensor([[[-3.0, 1.0], [-1.0, 0.5], [0.0, 0.0]]])
    found = m.ConstantVelocity(DataInfo((3, 2), "real", 1)).forecast(x, {}, 2)
    torch.testing.assert_close(found, torch.tensor([[[1.0, -0.5], [2.0, -1.0]]]))


def test_displacement_error():
    v, seen, shift = view(4), [], torch.tensor([3.0, 4.0]) * torch.arange(1.0, 13.0)[:, None]
    other = SimpleNamespace(forecast=lambda x, columns, length: [seen.append(columns), v.columns["future"] + shift][1])
    for of, expected in ("average", 5 * 6.5), ("final", 60.0):
        settings = SETTINGS | {"of": of, "rows": 0}
        assert m.displacement_error(other, v, settings, gen()).value == pytest.approx(expected, rel=1e-5)
    assert (seen[0]["alpha"] == 64).all()
    assert "future" not in seen[0]
    model = built()
    errors = [(model.forecast(v.batch().x, seen[0], 12, d) - v.columns["future"]).norm(dim=2) for d in [gen()] * 7]
    found = m.displacement_error(model, v, settings | {"of": "average", "draws": 7}, gen()).value
    assert found == pytest.approx(torch.stack(errors).mean(2).min(0).values.mean().item())
    for wrong in {"rows": 5}, {"draws": 5}:
        with pytest.raises(UserError, match="cannot"):
            m.displacement_error(other, v, settings | wrong, gen())
    with pytest.raises(UserError, match="curvature"):
        m.displacement_error(other, SimpleNamespace(columns={"future", "alpha", "start"}), settings, gen())


@pytest.mark.parametrize("params", [{"latent_dim": 2}, {"draws": 0}, {"draws": 0, "penalty": 9.0}])
def test_adapting(params):
    v, errors, model = view(), {}, built(**params)
    columns = v.columns | {"alpha": torch.full((90,), 64.0)}
    few = Batch(v.batch().x[:5], 5, columns={k: c[:5] for k, c in columns.items()})
    later = {k: c[64:] for k, c in columns.items()}  # starts are 30 frames apart
    for part in "own", "all":
        twin, draws = built(**params | {"penalty": 0.0}), gen()
        names = [n for n, _ in twin.named_parameters() if part == "all" or not n.startswith(("invariant", "flow_z"))]
        free = names if "latent_dim" in params else [n for n, _ in twin.named_parameters()]
        adam = torch.optim.Adam([twin.get_parameter(n) for n in free], lr=0.01)
        for _ in range(3):
            adam.zero_grad()
            twin.loss(few, draws)["loss"].backward()
            adam.step()
        torch.testing.assert_close(m.adapted(model, few, part, SETTINGS, gen()).state_dict(), twin.state_dict())
        errors[part] = (twin.forecast(v.batch().x[64:], later, 12) - later["future"]).norm(dim=2).mean().item()
    found = m.displacement_error(model, v, SETTINGS, gen())
    assert (found.value, found.n) == (pytest.approx(errors["own"]), 26)
    gain = m.variant_part_gain(model, v, SETTINGS, gen()).value
    assert gain == pytest.approx(errors["all"] - errors["own"], abs=1e-6)
    torch.testing.assert_close(model.state_dict(), built(**params).state_dict())
    v.columns["start"][64] = v.columns["start"][63] + 19
    assert m.displacement_error(model, v, SETTINGS, gen()).n == 25
    with pytest.raises(UserError, match="65 rows"):
        m.displacement_error(model, v, SETTINGS | {"rows": 65}, gen())
