"""Trainings side by side: each member ends as it does alone."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from latentbench.contracts.synthetic import N
from latentbench.core.errors import Diverged
from latentbench.core.types import Batch
from latentbench.running.checkpoints import Checkpoints
from latentbench.spec import registry
from latentbench.spec.protocol import Training
from latentbench.training.draws_by_member import CannotStack
from latentbench.training.loop import train
from latentbench.training.member import Member
from latentbench.training.stacked import train_stacked
from latentbench.training.state import Trained
from lightning.fabric import Fabric
from torch import nn

from tests.models import declared as models
from tests.training.test_loop import DIMS, source
from tests.training.test_resume import PROTOCOLS, without_seconds

#: Those that train for a hundred steps here; the others for a few.
LONG = {"vae/0", "vae/1", "vae/2", "vae/3", "hierarchical-vae/1", "coupling-flow/0", "discrete-vae/0", "discrete-vae/3"}


class Rows:
    """Preprocessed rows, as a `Source` hands them out."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index, noise, step, progress):
        return Batch(self.x.index_select(0, index), len(self.x), step, progress, {})


class Net(nn.Module):
    """Denoises, with batch normalisation, a buffer that is assigned anew, and a scalar."""

    def __init__(self, weight: float = 1.0, *, norm: bool = True) -> None:
        super().__init__()
        first = [nn.Linear(DIMS, 6, bias=False), nn.BatchNorm1d(6)] if norm else [nn.Linear(DIMS, 6)]
        self.net = nn.Sequential(*first, nn.Tanh(), nn.Linear(6, DIMS))
        self.weight = weight
        self.register_buffer("seen", torch.zeros(()))

    def loss(self, batch, generator):
        noise = 0.1 * torch.randn(batch.x.shape, generator=generator)
        x = batch.x.flatten(1)[:, :DIMS]
        error = (self.net(x + noise.flatten(1)[:, :DIMS]) - x).square().mean()
        self.seen = 0.9 * self.seen + error.detach()
        return {"loss": self.weight * error * (1 + batch.progress) + 0.01 * self.seen, "error": error}


def protocol(**changes: Any) -> Training:
    return Training.model_validate({"batch_size": 10, "optimizer": {"name": "adam", "lr": 0.02}, **changes})


def fabric_of(spec: Training) -> Fabric:
    return Fabric(accelerator="cpu", devices=1, precision=spec.precision)


def made(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build()


def alone(build: Callable[[], nn.Module], spec: Training, data: Any, valid: Any, seed: int, **more: Any) -> Any:
    model = made(build, seed)
    try:
        return model, train(model, data, valid, spec, fabric_of(spec), seed, **more)
    except Diverged as e:
        return model, e


def together(
    builds: Sequence[Callable[[], nn.Module]], specs: Sequence[Training], data: Any, valid: Any = None, **more: Any
) -> list[tuple[nn.Module, Trained | Diverged]]:
    members = [
        Member(made(b, i), s, i, **{k: v[i] for k, v in more.items()}) for i, (b, s) in enumerate(zip(builds, specs))
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says which of its operations it loops over
        out = train_stacked(members, data, valid, fabric_of(specs[0]))
    return list(zip([m.model for m in members], out))


def assert_equal(found: Any, expected: Any, tolerance: float = 1e-3) -> None:
    """The same weights, counts and curve."""
    model, out = found
    wanted, alone_out = expected
    for name, value in wanted.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=tolerance, atol=tolerance, msg=name)
    ours, theirs = without_seconds(out), without_seconds(alone_out)
    curve, reference = ours.pop("curve"), theirs.pop("curve")
    assert ours == theirs
    assert [row.keys() for row in curve] == [row.keys() for row in reference]
    for row, right in zip(curve, reference):
        assert row == pytest.approx(right, rel=10 * tolerance, abs=10 * tolerance)


@pytest.mark.parametrize("case", [p for p in models.TRAINED if not p.marks])  # a paper's own keep the contract
def test_every_shared_model_ends_as_alone(case):
    # with a small `eps`, Adam makes whole steps of a gradient that is zero but for rounding (a bias before a batch
    # normalisation, that of an attention's keys)
    steps = 100 if case.name in LONG else 3
    spec = protocol(steps=steps, batch_size=N, optimizer={"name": "adam", "lr": 1e-3, "eps": 1e-3})
    data = Rows(models.data(case.info))

    def build() -> nn.Module:
        return case.cls(case.info, **case.params)

    found = together([build, build], [spec] * 2, data)
    for seed in (0, 1):
        assert_equal(found[seed], alone(build, spec, data, None, seed))


@pytest.mark.parametrize("changes", PROTOCOLS.values(), ids=list(PROTOCOLS))
def test_every_protocol_ends_as_alone(changes):
    """Optimisers, schedules, clipping, averages, best weights, early stopping; members of two learning rates."""
    base = protocol(**changes)
    rates = [base.optimizer.lr, 2 * base.optimizer.lr, base.optimizer.lr]
    specs = [base.model_copy(update={"optimizer": base.optimizer.model_copy(update={"lr": lr})}) for lr in rates]
    valid = source(9, seed=5)
    lower = base.precision != "32-true"

    def build() -> nn.Module:
        return Net(norm=not lower)  # vmap's batch normalisation takes no mixed precision

    found = together([build] * 3, specs, source(), valid)
    for seed, spec in enumerate(specs):
        assert_equal(found[seed], alone(build, spec, source(), valid, seed), 0.02 if lower else 1e-3)


@pytest.mark.parametrize("steps", [("dequantise", "flip", "flatten", "to_unit"), ("flatten", {"binarise": "dynamic"})])
def test_preprocessing_noise_is_each_members_own(steps):
    spec = protocol(steps=100, optimizer={"name": "sgd", "lr": 0.05})

    def data():
        return source(25, dtype="uint8", steps=steps)

    found = together([Net] * 3, [spec] * 3, data())
    for seed in range(3):
        assert_equal(found[seed], alone(Net, spec, data(), None, seed))


def case_of(name: str) -> models.Case:
    return next(c for c in models.CASES if c.name == name)


@pytest.mark.parametrize(
    ("model", "name", "values"),
    [
        ("vae/0", "beta", (0.5, 1.0, 4.0)),
        ("vae/2", "beta", (0.5, 1.0, 4.0)),
        ("hierarchical-vae/0", "beta", (0.5, 1.0, 4.0)),
        ("beta-tcvae/0", "alpha", (0.0, 1.0, 2.0)),
        ("beta-tcvae/0", "beta", (1.0, 4.0, 6.0)),
        ("beta-tcvae/0", "gamma", (0.0, 1.0, 2.0)),
        ("discrete-vae/0", "estimator.gumbel_softmax.temperature", (0.5, 1.0, 2.0)),
        ("discrete-vae/0", "estimator.straight_through.temperature", (0.5, 1.0, 2.0)),
    ],
)
def test_members_may_differ_in_the_numbers_that_the_registry_names(model, name, values):
    case = case_of(model)
    entry = next(e for e in registry.models().values() if e.target.endswith(f":{case.cls.__name__}"))
    assert name in entry.scalars
    spec = protocol(steps=100, optimizer={"name": "adam", "lr": 2e-3, "eps": 1e-3})

    def build(value: float) -> nn.Module:
        first, *rest = name.split(".")
        given = {rest[0]: {rest[1]: value}} if rest else value
        return case.cls(case.info, **{**case.params, first: given})

    builds = [lambda v=v: build(v) for v in values]
    data = Rows(models.data(case.info))
    found = together(builds, [spec] * 3, data)
    for seed, one in enumerate(builds):
        assert_equal(found[seed], alone(one, spec, data, None, seed))


def test_every_number_that_the_registry_names_is_tested_above():
    mark = next(m for m in test_members_may_differ_in_the_numbers_that_the_registry_names.pytestmark)
    tested = {(case_of(model).cls.__name__, name) for model, name, _ in mark.args[1]}
    assert {(e.target.rpartition(":")[2], n) for e in registry.models().values() for n in e.scalars} == tested


class Fragile(Net):
    """Its loss is not finite from some step on."""

    def __init__(self, last: float) -> None:
        super().__init__()
        self.register_buffer("end", torch.tensor(float(last)))

    def loss(self, batch, generator):
        terms = super().loss(batch, generator)
        return terms | {"loss": terms["loss"] / (batch.step < self.end).float()}


def test_one_that_diverges_disturbs_nobody():
    spec = protocol(steps=100, gradient_clip_norm=1.0)
    builds = [lambda last=last: Fragile(last) for last in (1000, 30, 1000)]
    found = together(builds, [spec] * 3, source())
    for seed in (0, 2):
        assert_equal(found[seed], alone(builds[seed], spec, source(), None, seed))
    diverged = alone(builds[1], spec, source(), None, 1)[1]
    assert isinstance(found[1][1], Diverged)
    assert str(found[1][1]) == str(diverged)


def test_members_stop_early_each_at_its_own_time():
    spec = protocol(epochs=40, early_stopping={"patience": 2}, select="best", optimizer={"name": "adam", "lr": 0.03})
    valid = source(30, seed=5)
    found = together([Net] * 4, [spec] * 4, source(), valid)
    for seed in range(4):
        assert_equal(found[seed], alone(Net, spec, source(), valid, seed))
    assert len({out.steps for _, out in found}) > 1


class Kept(Checkpoints):
    """Saves after every third step, and asks to stop after `last`."""

    def __init__(self, folder: Path, last: int) -> None:
        super().__init__(folder, "f" * 64, math.inf, lambda: self._asked >= last)
        self._asked = 0

    def due(self, *, final: bool = False) -> bool:
        self._asked += not final
        return self.stopping or final or self._asked % 3 == 0


@pytest.mark.parametrize("then", ["stacked", "alone"])
@pytest.mark.parametrize("changes", [{}, {"ema": 0.9, "select": "best"}, {"optimizer": {"name": "adagrad", "lr": 0.1}}])
def test_an_interrupted_stack_goes_on(tmp_path, changes, then):
    spec = protocol(steps=60, **changes)
    valid = source(9, seed=5)
    keepers = [Kept(tmp_path / str(i), 31) for i in range(2)]
    with pytest.raises(KeyboardInterrupt):
        together([Net] * 2, [spec] * 2, source(), valid, checkpoints=keepers)
    again = [Checkpoints(tmp_path / str(i), "f" * 64, math.inf) for i in range(2)]
    if then == "stacked":
        kept = [k.latest() for k in again]
        assert {k["out"]["steps"] for k in kept} == {31}
        found = together([Net] * 2, [spec] * 2, source(), valid, kept=kept)
    else:
        found = [alone(Net, spec, source(), valid, i, checkpoints=again[i]) for i in range(2)]
    for seed in range(2):
        assert_equal(found[seed], alone(Net, spec, source(), valid, seed))


class Odd(Net):
    """Does what cannot be stacked."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.calls = how, 0
        self.pattern = torch.rand(3) if how == "pattern" else None

    def loss(self, batch, generator):
        terms = super().loss(batch, generator)
        loss = terms["loss"]
        match self.how:
            case "global":
                loss = loss + torch.rand(())
            case "dropout":
                loss = torch.nn.functional.dropout(loss[None], 0.5)[0]
            case "unknown":
                loss = loss + torch.normal(0.0, 1.0, (), generator=generator)
            case "state":
                generator.get_state()
            case "branch":
                loss = loss if loss > 0 else -loss
            case "attribute":
                self.calls = self.calls + 1
            case "item":
                loss = loss * loss.item()
        return {"loss": loss}


@pytest.mark.parametrize("how", ["global", "dropout", "unknown", "state", "branch", "attribute", "item", "pattern"])
def test_what_cannot_be_kept_apart_is_refused(how):
    with pytest.raises(CannotStack):
        together([lambda: Odd(how)] * 2, [protocol(steps=4)] * 2, source())


def test_a_scaler_of_all_losses_is_refused():
    member = Member(Net(), protocol(steps=2), 0)
    fabric = fabric_of(member.spec)
    fabric.strategy.precision.state_dict = lambda: {"scale": 1.0}
    with pytest.raises(CannotStack, match="scales"):
        train_stacked([member], source(), None, fabric)


def test_draws_are_those_of_separate_runs_bit_for_bit():
    drawn: dict[int, list[Any]] = {}

    class Draws(nn.Module):
        """Hands out what it draws as terms."""

        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(3))

        def loss(self, batch, generator):
            p = torch.sigmoid(self.w)
            values = {
                "randn": torch.randn((2, 3), generator=generator),
                "rand": torch.rand(4, generator=generator),
                "randint": torch.randint(1000, (5,), generator=generator),
                "randperm": torch.randperm(7, generator=generator),
                "bernoulli": torch.bernoulli(p, generator=generator),
                "method": p.bernoulli(generator=generator),
                "multinomial": torch.multinomial(p, 2, generator=generator),
                "exponential_": torch.empty_like(p).exponential_(generator=generator),
                "uniform_": torch.empty_like(p).uniform_(2.0, 3.0, generator=generator),
                "normal_": torch.empty_like(p).normal_(generator=generator),
            }
            weights = torch.arange(1.0, 8.0)
            terms = {k: (v.float().flatten() * weights[: v.numel()]).sum() for k, v in values.items()}
            return {"loss": (p * batch.x.mean()).sum(), **terms}

    spec = protocol(steps=5)
    for seed, (_, out) in enumerate(together([Draws] * 3, [spec] * 3, source())):
        drawn[seed] = [{k: v for k, v in row.items() if k not in ("seconds", "loss")} for row in out.curve]
        expected = alone(Draws, spec, source(), None, seed)[1]
        assert drawn[seed] == [{k: v for k, v in row.items() if k not in ("seconds", "loss")} for row in expected.curve]
    assert drawn[0] != drawn[1]
