from __future__ import annotations

import itertools

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.lvd_pc.hmm import HMM, SequenceTransformer
from torch import Tensor

from tests.models.circuits.test_latent_tree import chain, gen, states

INFO = DataInfo((5,), "discrete", 300, levels=3)
TEACHER = {"teacher_steps": 10, "width": 8, "layers": 1, "heads": 2}


def made(start: str = "random", k: int = 3) -> HMM:
    torch.manual_seed(0)
    model = HMM(INFO, states=k, start=start, **TEACHER)
    model.prepare(chain(300, INFO), gen())
    return model.eval()


@pytest.mark.parametrize("start", ["random", "distilled"])
def test_probabilities_of_all_sequences_sum_to_one(start: str):
    assert made(start).log_prob(states(INFO)).exp().sum().item() == pytest.approx(1.0, abs=1e-5)


def test_equals_the_sum_over_all_paths():
    model = made()
    t = {name: p.detach().double() for name, p in model.free.items()}
    x = chain(4, INFO, seed=5).long()
    expected = []
    for row in x.tolist():
        total = torch.tensor(0.0, dtype=torch.float64)
        for z in itertools.product(range(3), repeat=5):
            p = t["prior"][z[0]] * t["emissions"][z[0], row[0]]
            for i in range(1, 5):
                p = p * t["transitions"][z[i - 1], z[i]] * t["emissions"][z[i], row[i]]
            total += p
        expected.append(total.log())
    torch.testing.assert_close(model.log_prob(x.float()).double(), torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_full_em_never_lowers_the_likelihood():
    x = chain(300, INFO)
    torch.manual_seed(0)
    model = HMM(INFO, states=3, pseudocount=1e-12)
    optimiser = torch.optim.SGD(model.parameters(), 1.0)
    losses = []
    for step in range(40):
        loss = model.loss(Batch(x, 300, step), gen())["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert all(later <= earlier + 2e-6 for earlier, later in itertools.pairwise(losses))
    assert losses[-1] < losses[0] - 0.5


def test_counts_maximise_the_labelled_likelihood():
    """LVD's supervised step is relative frequencies, so no other tables explain (x, z) better."""
    x = chain(300, INFO).long()
    z = (x + torch.randint(2, x.shape, generator=gen())) % 3
    model = HMM(INFO, states=3, pseudocount=1e-6)
    model.count(x, z)

    def joint(t: dict[str, Tensor]) -> float:
        p = t["prior"][z[:, 0]].log() + t["emissions"][z, x].log().sum(1)
        return (p + t["transitions"][z[:, :-1], z[:, 1:]].log().sum(1)).mean().item()

    best = joint({k: v.detach() for k, v in model.free.items()})
    for seed in range(5):
        noise = {k: v.detach() * (0.7 + 0.6 * torch.rand(v.shape, generator=gen(seed))) for k, v in model.free.items()}
        assert joint({k: v / v.sum(-1, keepdim=True) for k, v in noise.items()}) < best


def test_labels_of_a_known_chain_give_its_tables_back():
    """Sequences of a chain whose tables differ in every direction, labelled by their own states."""
    tables = {
        "prior": torch.tensor([0.6, 0.3, 0.1]),
        "transitions": torch.tensor([[0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.7, 0.1, 0.2]]),
        "emissions": torch.tensor([[0.8, 0.15, 0.05], [0.1, 0.2, 0.7], [0.3, 0.6, 0.1]]),
    }
    g, n = gen(2), 20_000
    z = [torch.multinomial(tables["prior"], n, replacement=True, generator=g)]
    for _ in range(4):
        z.append(torch.multinomial(tables["transitions"][z[-1]], 1, generator=g)[:, 0])
    label = torch.stack(z, 1)
    x = torch.multinomial(tables["emissions"][label.flatten()], 1, generator=g).view(n, 5)
    model, truth = HMM(INFO, states=3, pseudocount=1e-3), HMM(INFO, states=3)
    model.count(x, label)
    for name, wanted in tables.items():
        torch.testing.assert_close(model.free[name].detach(), wanted, rtol=0, atol=0.02)
        truth.free[name].data = wanted
    with torch.no_grad():
        ours, theirs = (m.log_prob(x.float()).mean().item() for m in (model, truth))
    assert ours == pytest.approx(theirs, abs=2e-3)
    slope = torch.autograd.grad(truth.loss(Batch(x.float(), n), gen())["loss"], list(truth.free.values()))
    assert max(float(s.abs().max()) for s in slope) < 0.02, "the truth is a fixed point of EM"


def test_distillation_labels_each_value_by_the_state_that_has_read_it(monkeypatch):
    torch.manual_seed(0)
    model, x, clustered = HMM(INFO, states=3, start="distilled", **TEACHER), chain(40, INFO), []
    teacher = model._teacher[0]

    def by_place(rows: Tensor, k: int, generator: torch.Generator) -> Tensor:
        clustered.append(rows)
        return torch.arange(len(rows)) % INFO.shape[0] % k

    monkeypatch.setattr("latentbench.papers.lvd_pc.hmm.kmeans", by_place)
    model.prepare(x, gen())
    with torch.no_grad():
        torch.testing.assert_close(clustered[0], teacher.hidden(x)[:, 1:].flatten(0, 1))
    share = torch.bincount(x[:, [0, 3]].flatten().long(), minlength=3) / (2 * len(x))  # places of label 0
    torch.testing.assert_close(model.free["emissions"][0].detach(), share, rtol=0, atol=5e-3)


def test_distillation_starts_above_random():
    x = chain(300, INFO, seed=8)
    assert made("distilled").log_prob(x).mean() > made().log_prob(x).mean() + 0.5


def test_long_sequences_do_not_underflow():
    info = DataInfo((400,), "discrete", 10, levels=65)
    log_p = HMM(info, states=4).log_prob(torch.randint(65, (3, 400), generator=gen()).float())
    assert log_p.isfinite().all()
    assert (log_p < -400).all()


def test_transformer_is_causal_and_normalised():
    torch.manual_seed(0)
    teacher = SequenceTransformer(INFO, width=8, layers=2, heads=2).eval()
    assert teacher.log_prob(states(INFO)).exp().sum().item() == pytest.approx(1.0, abs=1e-5)
    x = chain(4, INFO)
    y = x.clone()
    y[:, 3] = (y[:, 3] + 1) % 3
    before, after = teacher.hidden(x), teacher.hidden(y)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4], after[:, 4])


def test_samples_have_the_model_s_frequencies():
    for model in (made(), SequenceTransformer(INFO, width=8, layers=1, heads=2).eval()):
        with torch.no_grad():
            p = model.log_prob(states(INFO)).exp()
            drawn = model.sample(20_000, gen())
        seen = torch.bincount((drawn * 3 ** torch.arange(4, -1, -1)).sum(1).long(), minlength=243) / len(drawn)
        assert (seen - p).abs().max() < 5 * (p.max() / len(drawn)).sqrt()


@pytest.mark.parametrize("wrong", [{"states": 1}, {"start": "bert"}, {"pseudocount": 0}])
def test_bad_parameters(wrong: dict):
    with pytest.raises(UserError):
        HMM(INFO, **wrong)


def test_bad_data():
    with pytest.raises(UserError, match="vectors"):
        HMM(DataInfo((1, 4, 4), "binary", 3))
    with pytest.raises(UserError, match="heads"):
        SequenceTransformer(INFO, width=6, heads=4)
    with pytest.raises(UserError, match="shape"):
        made().log_prob(torch.zeros(2, 4))
