from __future__ import annotations

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.models.baselines import Factorised
from latentbench.models.circuits.classical import ChowLiuTree
from latentbench.papers.pic.learnspn import SUM, LearnSPN

from tests.models.circuits.test_latent_tree import BINARY, TERNARY, chain, gen, states


@pytest.mark.parametrize("info", [BINARY, TERNARY], ids=["binary", "ternary"])
def test_tree_is_normalised(info: DataInfo):
    model = ChowLiuTree(info)
    model.fit(chain(200, info), gen())
    assert model.log_prob(states(info)).exp().sum().item() == pytest.approx(1.0, abs=1e-5)


def test_tree_finds_the_chain_s_own_distribution():
    """The likelihood of the true chain, p(next = last) = 0.8 + 0.2 / 2, is reached up to estimation error."""
    x, new = chain(20_000, BINARY), chain(2000, BINARY, seed=9)
    model = ChowLiuTree(BINARY)
    model.fit(x, gen())
    same = (new[:, 1:] == new[:, :-1]).float()
    true = -torch.tensor(2.0).log() + (same * torch.tensor(0.9).log() + (1 - same) * torch.tensor(0.1).log()).sum(1)
    assert (model.log_prob(new) - true).mean().abs() < 0.01


@pytest.mark.parametrize("model", [ChowLiuTree(BINARY), LearnSPN(BINARY, min_rows=30)], ids=["tree", "spn"])
def test_samples_have_the_model_s_frequencies(model: torch.nn.Module):
    model.fit(chain(500, BINARY), gen())
    p = model.log_prob(states(BINARY)).exp()
    code = (model.sample(20_000, gen()) * 2 ** torch.arange(5, -1, -1)).sum(1).long()
    seen = torch.bincount(code, minlength=64) / len(code)
    assert (seen - p).abs().max() < 5 * (p.max() / len(code)).sqrt()


def test_spn_is_normalised_and_beats_independence():
    x, new = chain(3000, BINARY), chain(1000, BINARY, seed=9)
    model, floor = LearnSPN(BINARY), Factorised(BINARY)
    for m in (model, floor):
        m.fit(x, gen())
    assert (model.kinds == SUM).any()
    assert model.log_prob(states(BINARY)).exp().sum().item() == pytest.approx(1.0, abs=1e-5)
    assert model.log_prob(new).mean() > floor.log_prob(new).mean() + 0.5


def test_spn_of_independent_blocks_is_their_product():
    """Two independent chains of three: the first split is by variables, and the likelihood is the sum of the parts'."""
    half = DataInfo((3,), "binary", 2000)
    left, right = chain(2000, half), chain(2000, half, seed=4)
    model = LearnSPN(BINARY)
    model.fit(torch.cat([left, right], 1), gen())
    top = [i for i, parent in enumerate(model.parents.tolist()) if parent == 0]
    assert len(top) == 2
    log_p = model.log_prob(states(BINARY)).view(8, 8)
    parts = log_p.logsumexp(1)[:, None] + log_p.logsumexp(0)[None]
    torch.testing.assert_close(log_p, parts, rtol=1e-4, atol=1e-4)


def test_spn_of_independent_data_has_no_sums():
    x = (torch.rand(1000, 6, generator=gen()) < 0.3).float()
    model = LearnSPN(BINARY)
    model.fit(x, gen())
    assert not (model.kinds == SUM).any()


def test_spn_of_identical_rows():
    model = LearnSPN(BINARY)
    model.fit(torch.ones(300, 6), gen())
    assert model.log_prob(torch.ones(1, 6)).item() > -0.1


def test_bad_input():
    for wrong in ({"significance": 0}, {"min_rows": 1}, {"smoothing": 0}):
        with pytest.raises(UserError):
            LearnSPN(BINARY, **wrong)
    with pytest.raises(UserError, match="support"):
        LearnSPN(TERNARY)
    with pytest.raises(UserError, match="fitted"):
        ChowLiuTree(BINARY).log_prob(states(BINARY))
