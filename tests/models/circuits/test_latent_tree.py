from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.models.circuits.em import em_loss
from latentbench.models.circuits.trees import Tree, maximum_spanning_tree, mutual_information, pair_counts
from latentbench.papers.pic.hclt import HCLT
from latentbench.papers.pic.pic import PIC, quadrature
from torch import Tensor

BINARY = DataInfo((6,), "binary", 200)
TERNARY = DataInfo((2, 2), "discrete", 200, levels=3)
KINDS = {
    "adam": lambda info: HCLT(info, states=3),
    "em": lambda info: HCLT(info, states=3, em=True),
    "trapezoidal": lambda info: PIC(info, points=5, units=8),
    "gauss-legendre": lambda info: PIC(info, points=4, units=8, rule="gauss-legendre"),
}


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chain(n: int, info: DataInfo, seed: int = 0) -> Tensor:
    """A noisy chain: each coordinate mostly repeats the one before it."""
    g = gen(seed)
    levels = info.levels or 2
    rows = [torch.randint(levels, (n,), generator=g)]
    for _ in range(info.dims - 1):
        keep = torch.rand(n, generator=g) < 0.8
        rows.append(torch.where(keep, rows[-1], torch.randint(levels, (n,), generator=g)))
    return torch.stack(rows, 1).float().reshape(n, *info.shape)


def states(info: DataInfo) -> Tensor:
    every = itertools.product(range(info.levels or 2), repeat=info.dims)
    return torch.tensor(list(every), dtype=torch.float32).reshape(-1, *info.shape)


def made(kind: str, info: DataInfo) -> torch.nn.Module:
    torch.manual_seed(3)
    model = KINDS[kind](info)
    model.prepare(chain(200, info), gen())
    return model


def brute_force(model: torch.nn.Module, x: Tensor) -> Tensor:
    """The sum over all hidden states, written out one assignment at a time in float64."""
    t = {name: table.detach().double().numpy() for name, table in model.tables().items()}
    variables, parents = model.structure.tolist()
    k, d = model.states, len(variables)
    out = []
    for row in x.flatten(1).long().tolist():
        total = 0.0
        for z in itertools.product(range(k), repeat=d):
            p = t["prior"][z[0]]
            for i in range(d):
                p *= t["leaves"][i, z[i], row[variables[i]]]
                if i:
                    p *= t["weights"][i - 1, z[parents[i]], z[i]]
            total += p
        out.append(np.log(total))
    return torch.tensor(out)


@pytest.mark.parametrize("info", [BINARY, TERNARY], ids=["binary", "ternary"])
@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_of_all_states_sum_to_one(kind: str, info: DataInfo):
    log_p = made(kind, info).eval().log_prob(states(info))
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("info", [BINARY, TERNARY], ids=["binary", "ternary"])
@pytest.mark.parametrize("kind", ["adam", "trapezoidal"])
def test_equals_the_sum_over_all_hidden_states(kind: str, info: DataInfo):
    model = made(kind, info).eval()
    x = chain(4, info, seed=5)
    torch.testing.assert_close(model.log_prob(x).double(), brute_force(model, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_the_model_s_frequencies(kind: str):
    model = made(kind, BINARY).eval()
    with torch.no_grad():
        p = model.log_prob(states(BINARY)).exp()
        drawn = model.sample(20_000, gen())
    code = (drawn * 2 ** torch.arange(5, -1, -1)).sum(1).long()
    seen = torch.bincount(code, minlength=64) / len(code)
    assert (seen - p).abs().max() < 5 * (p.max() / len(code)).sqrt()


def test_tree_of_a_chain_is_the_chain():
    x = chain(2000, BINARY).flatten(1)
    variables, parents = maximum_spanning_tree(mutual_information(pair_counts(x, 2), 0.01)).tolist()
    edges = {frozenset((variables[i], variables[parents[i]])) for i in range(1, 6)}
    assert edges == {frozenset((i, i + 1)) for i in range(5)}
    assert variables[0] in (2, 3)  # rooted in the middle
    assert all(p < i for i, p in enumerate(parents))


def test_mutual_information_is_that_of_scikit_learn():
    from sklearn.metrics import mutual_info_score

    x = chain(300, TERNARY).flatten(1)
    ours = mutual_information(pair_counts(x, 3), 0.0)
    for i, j in itertools.product(range(4), repeat=2):
        assert ours[i, j].item() == pytest.approx(mutual_info_score(x[:, i], x[:, j]), abs=1e-9)
    smoothed = mutual_information(pair_counts(x[:20], 3), 0.7)
    for i, j in itertools.permutations(range(4), 2):
        cells = np.zeros((3, 3))
        np.add.at(cells, (x[:20, i].long().numpy(), x[:20, j].long().numpy()), 1.0)
        p = (cells + 0.7) / (20 + 9 * 0.7)
        wanted = (p * np.log(p / (p.sum(0) * p.sum(1, keepdims=True)))).sum()
        assert smoothed[i, j].item() == pytest.approx(wanted, abs=1e-9)


def test_one_variable_alone():
    info = DataInfo((1,), "binary", 10)
    for kind in KINDS:
        assert made(kind, info).eval().log_prob(states(info)).exp().sum().item() == pytest.approx(1.0, abs=1e-5)


def test_full_em_never_lowers_the_likelihood():
    torch.manual_seed(0)
    model = HCLT(BINARY, states=3, em=True, pseudocount=1e-12)
    x = chain(200, BINARY)
    model.prepare(x, gen())
    optimiser = torch.optim.SGD(model.parameters(), 1.0)
    losses = []
    for step in range(40):
        loss = model.loss(Batch(x, 200, step), gen())["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert all(later <= earlier + 2e-6 for earlier, later in itertools.pairwise(losses))
    assert losses[-1] < losses[0] - 0.3
    assert model.eval().log_prob(states(BINARY)).exp().sum().item() == pytest.approx(1.0, abs=1e-5)


def test_em_step_is_the_textbook_one():
    """Expected counts by writing out the posterior over hidden states."""
    torch.manual_seed(1)
    info = DataInfo((3,), "binary", 20)
    model = HCLT(info, states=2, em=True, pseudocount=0.1)
    x = chain(20, info)
    model.prepare(x, gen())
    t = {name: table.detach().clone() for name, table in model.tables().items()}
    variables, parents = model.structure.tolist()
    counts = {name: torch.full_like(table, 0.1 / table.shape[-1]) for name, table in t.items()}
    for row in x.long().tolist():
        joint = {}
        for z in itertools.product(range(2), repeat=3):
            p = t["prior"][z[0]]
            for i in range(3):
                p = p * t["leaves"][i, z[i], row[variables[i]]]
                if i:
                    p = p * t["weights"][i - 1, z[parents[i]], z[i]]
            joint[z] = p
        total = sum(joint.values())
        for z, p in joint.items():
            counts["prior"][z[0]] += p / total
            for i in range(3):
                counts["leaves"][i, z[i], row[variables[i]]] += p / total
                if i:
                    counts["weights"][i - 1, z[parents[i]], z[i]] += p / total
    model.loss(Batch(x, 20), gen())["loss"].backward()
    for name, p in model.free.items():
        expected = counts[name] / counts[name].sum(-1, keepdim=True)
        torch.testing.assert_close(p.detach() - p.grad, expected, rtol=1e-4, atol=1e-5)


def test_em_loss_is_the_negative_log_likelihood():
    model = made("em", BINARY)
    x = chain(30, BINARY)
    torch.testing.assert_close(model.loss(Batch(x, 30), gen())["loss"], -model.log_prob(x).mean())
    with torch.no_grad():  # as in validation
        torch.testing.assert_close(model.loss(Batch(x, 30), gen())["loss"], -model.log_prob(x).mean())


def test_any_optimiser_leaves_a_distribution():
    model = made("em", BINARY)
    optimiser = torch.optim.Adam(model.parameters(), 0.1)
    x = chain(30, BINARY)
    for step in range(5):
        loss = model.loss(Batch(x, 30, step), gen())["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert any((p.sum(-1) - 1.0).abs().max() > 0.01 for p in model.parameters())
    assert model.eval().log_prob(states(BINARY)).exp().sum().item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("rule", ["trapezoidal", "gauss-legendre"])
def test_quadrature_integrates(rule: str):
    z, w = quadrature(rule, 64)
    assert w.sum().item() == pytest.approx(2.0, rel=1e-6)
    assert (w * z.square()).sum().item() == pytest.approx(2 / 3, rel=1e-3)
    assert (w * z.exp()).sum().item() == pytest.approx(np.e - 1 / np.e, rel=1e-3)


def test_gauss_legendre_is_exact_for_polynomials():
    z, w = (t.double() for t in quadrature("gauss-legendre", 5))
    for power in range(10):
        exact = 0.0 if power % 2 else 2 / (power + 1)
        assert (w * z**power).sum().item() == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("rule", ["trapezoidal", "gauss-legendre"])
def test_more_points_converge_to_the_integral(rule: str):
    """The same networks under more and more points: the likelihood settles on the integral's."""
    found = []
    for points in (4, 32, 128, 512):
        torch.manual_seed(0)
        model = PIC(BINARY, points=points, units=8, rule=rule, sigma=0.5).eval()
        model.prepare(chain(200, BINARY), gen())
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(3.0)
            found.append(model.log_prob(chain(10, BINARY, seed=7)))
    errors = [(f - found[-1]).abs().max().item() for f in found[:-1]]
    assert errors[0] > errors[1] > errors[2] or max(errors[1:]) < 1e-5
    assert errors[2] < 1e-3


def test_pic_weights_are_the_normalised_quadrature():
    """Section 3.2: w_k f(z_parent, z_k) over its sum, f = exp(-softplus(network)), for one edge written out."""
    model = made("trapezoidal", BINARY)
    z, w = quadrature("trapezoidal", 5)
    net = model.edges
    for parent in range(5):
        f = []
        for child in range(5):
            angle = 2 * np.pi * (torch.stack([z[parent], z[child]]) @ net.frequencies)
            features = torch.cat([angle.cos(), angle.sin()])
            out = torch.tanh(features @ net.w1[2] + net.b1[2, 0]) @ net.w2[2] + net.b2[2, 0]
            f.append(torch.exp(-torch.nn.functional.softplus(out[0])))
        weights = w * torch.stack(f)
        torch.testing.assert_close(model.tables()["weights"][2, parent], weights / weights.sum())


def test_pics_prior_is_the_normalised_quadrature():
    """w_k f(z_k) over its sum: the likelier where f is large, whatever the rule's own weights."""
    model = made("gauss-legendre", BINARY)
    z, w = quadrature("gauss-legendre", 4)
    net = model.prior
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(3.0)
        angle = 2 * np.pi * (z[:, None] @ net.frequencies)
        out = torch.tanh(torch.cat([angle.cos(), angle.sin()], 1) @ net.w1[0] + net.b1[0, 0]) @ net.w2[0] + net.b2[0, 0]
        mass = w * torch.exp(-torch.nn.functional.softplus(out[:, 0]))
        assert out.std() > 0.1
        torch.testing.assert_close(model.tables()["prior"], mass / mass.sum())


def test_without_its_tree_a_model_says_so():
    with pytest.raises(UserError, match="prepare"):
        HCLT(BINARY).loss(Batch(chain(4, BINARY), 4), gen())


@pytest.mark.parametrize(
    "params",
    [{"states": 1}, {"states": 2.5}, {"em": 1}, {"pseudocount": 0}, {"smoothing": -1}],
)
def test_bad_parameters(params: dict):
    with pytest.raises(UserError):
        HCLT(BINARY, **params)


@pytest.mark.parametrize("params", [{"points": 1}, {"rule": "simpson"}, {"units": 1}, {"units": 5}, {"sigma": 0}])
def test_bad_parameters_of_pic(params: dict):
    with pytest.raises(UserError):
        PIC(BINARY, **params)


def test_real_data_and_wrong_shapes_are_refused():
    with pytest.raises(UserError, match="support"):
        HCLT(DataInfo((4,), "real", 10))
    with pytest.raises(UserError, match="shape"):
        made("adam", BINARY).log_prob(torch.zeros(3, 5))


def test_em_needs_no_table_to_be_positive():
    """A table entry of zero stays zero without a pseudo-count, and nothing becomes NaN."""
    table = {"t": torch.tensor([[0.0, 1.0], [0.5, 0.5]], requires_grad=True)}
    loss = em_loss(lambda tables: (tables["t"].sum(0) + 1e-9).log(), table, 1e-9)
    loss.backward()
    assert table["t"].grad.isfinite().all()


def test_upward_chunks_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch):
    from latentbench.models.circuits import latent_tree

    model = made("adam", BINARY).eval()
    x = chain(20, BINARY)
    whole = model.log_prob(x)
    monkeypatch.setattr(latent_tree, "CHUNK", 40)
    torch.testing.assert_close(model.log_prob(x), whole)


def test_levels_of_a_star():
    tree = Tree(torch.tensor([[4, 0, 1, 2, 3], [-1, 0, 0, 0, 0]]))
    assert [(a, b) for a, b, _ in tree.levels] == [(0, 1), (1, 5)]


def test_many_levels_are_binned_for_the_structure_and_refused_for_a_table():
    info = DataInfo((40,), "discrete", 50, levels=256)
    x = torch.randint(256, (50, 40), generator=gen()).float()
    model = HCLT(info, states=2)
    model.prepare(x, gen())
    assert model.eval().log_prob(x).isfinite().all()
    with pytest.raises(UserError, match="pairs"):
        pair_counts(x, 256)
