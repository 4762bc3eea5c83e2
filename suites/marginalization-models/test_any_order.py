"""Any-order and marginalization models against sums over all states."""

from __future__ import annotations

import itertools

import pytest
import torch
from latentbench.core.capabilities import capabilities_of
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.marginalization_models import measure as subset_marginals
from latentbench.papers.marginalization_models.any_order import AnyOrderARM, MarginalizationModel, permutations
from latentbench.papers.marginalization_models.lattice import LatticeARM, LatticeMaM
from latentbench.papers.marginalization_models.measure import subset
from torch import Tensor

from tests.evaluation.views import view_of

D = 4
INFO = DataInfo((D,), "binary", 50)
STATES = torch.tensor(list(itertools.product([0.0, 1.0], repeat=D)))
SMALL = {"hidden": (16,)}


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(cls: type = AnyOrderARM, **params: object) -> AnyOrderARM:
    torch.manual_seed(3)
    model = cls(INFO, **{**SMALL, **params})
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2.0)
    return model


def data(n: int, seed: int = 0) -> Tensor:
    """Two neighbours that agree, and two independent variables."""
    x = (torch.rand(n, D, generator=gen(seed)) < torch.tensor([0.5, 0.5, 0.2, 0.7])).float()
    x[:, 1] = torch.where(torch.rand(n, generator=gen(seed + 1)) < 0.9, x[:, 0], 1 - x[:, 0])
    return x


@pytest.mark.parametrize("cls", [AnyOrderARM, MarginalizationModel])
@pytest.mark.parametrize("orders", [1, 3])
def test_probabilities_sum_to_one(cls: type, orders: int):
    with torch.no_grad():
        model = build(cls, orders=orders)
        assert model.log_prob(STATES).exp().sum().item() == pytest.approx(1.0, abs=1e-5)
        draws = model.sample(40_000, gen())
        index = (draws @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long()
        share = torch.bincount(index, minlength=16) / len(draws)
        torch.testing.assert_close(share, model.log_prob(STATES).exp(), rtol=0, atol=0.012)


def test_a_chains_marginal_of_its_first_variables_is_the_sum_over_the_rest():
    with torch.no_grad():
        model = build()
        place = model.orders[0]
        joint = model.log_prob(STATES).exp()
        for many in range(D + 1):
            observed = (place < many).float().expand(16, -1)
            agrees = ((STATES[:, None] == STATES) | (observed[0] == 0)).all(-1)
            wanted = (agrees * joint).sum(-1)
            torch.testing.assert_close(model.log_marginal(STATES, observed).exp(), wanted, rtol=1e-4, atol=1e-6)


def test_the_any_order_bound_is_the_mean_over_all_orders():
    model = build()
    with torch.no_grad():
        x = data(1)
        every = [torch.tensor(p) for p in itertools.permutations(range(D))]
        wanted = -torch.stack([model.chain(x, torch.ones_like(x), p) for p in every]).mean()
        torch.testing.assert_close(model.any_order_bound(x.repeat(60_000, 1), gen()), wanted, rtol=0.01, atol=0.02)


def test_the_second_stage_sums_the_inconsistency_over_steps():
    model, x = MarginalizationModel(INFO, hidden=[7]), data(30)
    mean = model.inconsistency(x, gen(), learn_conditionals=False)
    loss = model.loss(Batch(x, 50, progress=0.5), gen())["loss"]
    torch.testing.assert_close(loss, mean * x.shape[1])


def test_inconsistency_is_the_square_of_equation_7_over_orders_and_steps():
    model = build(MarginalizationModel)
    with torch.no_grad():
        x = data(1)
        squares = []
        for order in itertools.permutations(range(D)):
            place = torch.tensor(order)
            for step in range(D):
                before, after = ((place < step + k).float()[None] for k in (0, 1))
                d = int((place == step).nonzero())
                gap = model.log_marginal(x, before) + model.log_conditionals(x, before)[:, d]
                squares.append((gap - model.log_marginal(x, after)).square())
        wanted = torch.stack(squares).mean()
        found = model.inconsistency(x.repeat(60_000, 1), gen(), learn_conditionals=False)
        torch.testing.assert_close(found, wanted, rtol=0.02, atol=1e-3)
        assert model.log_marginal(x, torch.zeros_like(x)).item() == 0.0


def test_two_stages_train_one_network_each():
    model = build(MarginalizationModel)
    for progress, trained, held in [(0.2, "conditionals", "marginals"), (0.7, "marginals", "conditionals")]:
        model.zero_grad()
        model.loss(Batch(data(30), 50, progress=progress), gen())["loss"].backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in getattr(model, trained).parameters())
        assert all(p.grad is None for p in getattr(model, held).parameters())


def test_marginals_are_learned():
    """The product rule's answers, in one pass, for every subset of a distribution with a strong bond."""
    model, x = build(MarginalizationModel, hidden=(32,)), data(4000)
    optimiser, g = torch.optim.Adam(model.parameters(), 0.01), gen()
    for step in range(600):
        rows = x[torch.randint(len(x), (200,), generator=g)]
        loss = model.loss(Batch(rows, 4000, step, step / 600), g)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        for pattern in itertools.product([0.0, 1.0], repeat=D):
            observed = torch.tensor(pattern).expand(16, -1)
            agrees = ((x[:, None] == STATES) | (observed[0] == 0)).all(-1)
            empirical = agrees.float().mean(0)
            found = model.log_marginal(STATES, observed).exp()
            torch.testing.assert_close(found, empirical, rtol=0, atol=0.06)


def test_permutations_are_uniform():
    place = permutations(24_000, 3, gen(), torch.zeros(1))
    assert (place.sort(-1).values == torch.arange(3)).all()
    counts = torch.bincount(place @ torch.tensor([9, 3, 1]))
    assert (counts[counts > 0].float() / 24_000 - 1 / 6).abs().max() < 0.01
    assert (counts > 0).sum() == 6


def test_a_lattices_energy_is_that_of_its_bonds():
    model = LatticeARM(INFO, side=3, coupling=0.3, field=0.2, hidden=(8,))
    x = (torch.rand(5, 9, generator=gen()) < 0.5).float()
    s = (2 * x - 1).reshape(5, 3, 3)
    bonds = (s * s.roll(1, 1)).sum((1, 2)) + (s * s.roll(1, 2)).sum((1, 2))
    torch.testing.assert_close(model.log_target(x), 2 * 0.3 * bonds + 0.2 * s.sum((1, 2)))
    states, log_p = model.target()
    assert states.unique(dim=0).shape == (512, 9)
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("cls", [LatticeARM, LatticeMaM])
def test_energy_training_lowers_the_divergence(cls: type):
    torch.manual_seed(0)
    extra = {"chains": 200} if cls is LatticeMaM else {}
    model = cls(INFO, side=3, hidden=(32,), **extra)
    view = view_of(data(20).numpy().astype("uint8"), levels=2)
    measures = []
    optimiser, g = torch.optim.Adam(model.parameters(), 5e-3), gen()
    for step in range(400):
        if step in (0, 399):
            with torch.no_grad():
                found = [
                    getattr(subset_marginals, m)(model.eval(), view, {"subsets": 50}, gen()).value
                    for m in ("kl_to_target", "marginal_error")
                ]
            measures.append(found)
            model.train()
        out = model.loss(Batch(torch.zeros(100, D), 50, step, step / 400), g)
        optimiser.zero_grad()
        out["loss"].backward()
        if step == 2:
            for name, p in model.named_parameters():
                assert p.grad is not None, name
                assert p.grad.abs().max() > 0, name
        optimiser.step()
    (kl_before, error_before), (kl_after, error_after) = measures
    assert kl_before > 0.3
    assert 0.0 <= kl_after < 0.4 * kl_before
    assert error_after < 0.7 * error_before


def test_a_perfect_model_has_no_error():
    class Perfect(LatticeARM):
        def log_model(self, x: Tensor) -> Tensor:
            return self.log_target(x) - self.log_z

        def log_marginal(self, x: Tensor, observed: Tensor) -> Tensor:
            states, log_p = self.target()
            agrees = ((states == x) | (observed == 0)).all(-1)
            return log_p[agrees].logsumexp(0, keepdim=True)

    model = Perfect(INFO, side=3)
    model.log_z = model.log_target(model.target()[0]).logsumexp(0)
    view = view_of(data(20).numpy().astype("uint8"), levels=2)
    assert subset_marginals.kl_to_target(model, view, {}, gen()).value == pytest.approx(0.0, abs=1e-4)
    assert subset_marginals.marginal_error(model, view, {"subsets": 20}, gen()).value == pytest.approx(0.0, abs=1e-5)


def test_correlation_and_time_of_marginals():
    view = view_of(data(60).numpy().astype("uint8"), levels=2)
    settings = {"rows": 40, "subsets": 3, "orders": 4}
    with torch.no_grad():

        class Ensemble(AnyOrderARM):
            def log_marginal(self, x: Tensor, observed: Tensor) -> Tensor:
                return self.log_marginal_ensemble(x, observed, 24, gen(5))

        class Against(Ensemble):
            def log_marginal(self, x: Tensor, observed: Tensor) -> Tensor:
                return -super().log_marginal(x, observed)

        assert subset_marginals.marginal_correlation(build(Ensemble), view, settings, gen()).value > 0.7
        assert subset_marginals.marginal_correlation(build(Against), view, settings, gen()).value < -0.7
        slow, fast = build(), build(MarginalizationModel)
        times = [
            subset_marginals.marginal_ms(m, view, {"rows": 16, "repeats": 5}, gen()).details["least"]
            for m in (slow, fast)
        ]
        assert times[0] > times[1] > 0.0


def test_one_subset_for_all_rows():
    mask = subset(7, 10, 0.5, gen(), torch.device("cpu"))
    assert mask.shape == (7, 10)
    assert (mask.sum(-1) == 5).all()
    assert (mask == mask[0]).all()
    assert subset(1, 10, 0.0, gen(), torch.device("cpu")).sum() == 1


def test_capabilities_and_bad_input():
    assert capabilities_of(build()) == {"Trainable", "ExactLikelihood", "Sampler", "Marginals"}
    assert capabilities_of(LatticeMaM(INFO)) == {"Trainable", "KnownTarget"}
    for wrong in (
        lambda: AnyOrderARM(DataInfo((4,), "real", 5)),
        lambda: AnyOrderARM(DataInfo((1, 4, 4), "binary", 5)),
        lambda: AnyOrderARM(INFO, orders=0),
        lambda: MarginalizationModel(INFO, first_stage=1.5),
        lambda: LatticeMaM(INFO, side=2),
        lambda: LatticeMaM(INFO, gibbs=17),
        lambda: LatticeARM(INFO, side=5).target(),
    ):
        with pytest.raises(UserError):
            wrong()
