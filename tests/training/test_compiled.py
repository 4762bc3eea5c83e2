"""A compiled loss: what its own would have done, but for rounding; and what is not compiled because it would not."""

from __future__ import annotations

import threading

import pytest
import torch
from latentbench.core.seeds import generator
from latentbench.core.types import Batch, DataInfo
from latentbench.models.vae import VAE
from latentbench.spec.protocol import Training
from latentbench.training.compiled import CHECKED, Compiled, CompiledLoss
from latentbench.training.loop import train
from latentbench.training.stand_in import own_loss
from lightning.fabric import Fabric
from torch import nn

from tests.training.test_loop import DIMS, source


def vae() -> nn.Module:
    info = DataInfo(shape=(DIMS,), support="real", n_train=25)
    return VAE(info, latent_dim=2, hidden=(8,), likelihood={"gaussian": {}}, objective="iwae", k=3)


class Regression(nn.Module):
    """Towards the data; subclasses say what more its loss does."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(DIMS, DIMS)
        self.unused = nn.Parameter(torch.ones(1))

    def loss(self, batch, generator):
        return self.more(batch, (self.net(batch.x) - batch.x).square().mean(), generator)

    def more(self, batch, loss, generator):
        return {"loss": loss}


class Noisy(Regression):
    """Draws from its generator and from torch's, keeps running statistics, and weighs terms by step and progress."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(DIMS, 6, bias=False), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, DIMS)
        )

    def loss(self, batch, generator):
        noise = 0.1 * torch.randn(batch.x.shape, generator=generator)
        error = (self.net(batch.x + noise) - batch.x).square().mean()
        return {"loss": error * (1 + batch.progress) + 0.01 * batch.step * self.net[0].weight.square().mean()}


class Counting(Regression):
    """Keeps a number outside of its buffers."""

    def more(self, batch, loss, generator):
        self.mean = 0.9 * getattr(self, "mean", 0.0) + 0.1 * float(loss.detach())
        return {"loss": loss * self.mean}


class Appending(Regression):
    """Keeps state in a list."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def more(self, batch, loss, generator):
        self.seen.append(float(loss.detach()))
        return {"loss": loss * (1 + 0.01 * len(self.seen))}


class Starting(Regression):
    """Moves a parameter itself; what the compiler makes of that has another gradient."""

    def __init__(self):
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(DIMS))
        self.register_buffer("steps", torch.zeros(()))

    def more(self, batch, loss, generator):
        with torch.no_grad():
            self.offset += 0.1 * batch.x.mean(0)
            self.steps += 1
        return {"loss": loss + (self.offset - 1).square().sum() / self.steps}


class NotCopied(Regression):
    """Cannot be copied."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class Late(Regression):
    """Is another model when it is compiled, from the sixth step on."""

    def more(self, batch, loss, generator):
        if batch.step > 5:
            return {"loss": loss * 1.01 if torch.compiler.is_compiling() else loss}
        return {"loss": loss}


class Otherwise(Regression):
    """Is another model when it is compiled."""

    def more(self, batch, loss, generator):
        return {"loss": loss * 1.01} if torch.compiler.is_compiling() else {"loss": loss}


class OtherGradient(Regression):
    def more(self, batch, loss, generator):
        weight = self.net.weight
        return {"loss": loss + (weight - weight.detach()).sum()} if torch.compiler.is_compiling() else {"loss": loss}


class SmallGradient(Regression):
    """Compiled, one parameter's small gradient has another sign."""

    def more(self, batch, loss, generator):
        return {"loss": 100 * loss + (-0.01 if torch.compiler.is_compiling() else 0.01) * (self.unused.sum() - 1)}


class OtherTerm(Regression):
    def more(self, batch, loss, generator):
        return {"loss": loss, "rate": loss.detach() * (2.0 if torch.compiler.is_compiling() else 1.0)}


class OtherParameters(Regression):
    def more(self, batch, loss, generator):
        return {"loss": loss + 1e-9 * self.unused.sum()} if torch.compiler.is_compiling() else {"loss": loss}


class OtherDraws(Regression):
    def more(self, batch, loss, generator):
        if torch.compiler.is_compiling():
            loss = loss + 0.0 * torch.rand(3, generator=generator).sum()
        return {"loss": loss}


def trained(model: type, way: str | None, **protocol):
    """Weights and buffers, curve, and the strategy."""
    strategy = None if way is None else Compiled(way)
    fabric = Fabric(accelerator="cpu", devices=1, **({"strategy": strategy} if strategy else {}))
    fabric.launch()
    torch.manual_seed(1)
    made = model()
    spec = Training.model_validate(
        {"batch_size": 10, "epochs": 8, "optimizer": {"name": "adam", "lr": 0.01}, **protocol}
    )
    out = train(made, source(), source(9, seed=5), spec, fabric, 4)
    if strategy is not None:
        strategy.release()
    assert "loss" not in vars(made)
    return {k: v.detach().clone() for k, v in made.state_dict().items()}, out.curve, strategy


@pytest.mark.parametrize(
    ("model", "protocol"),
    [(vae, {"ema": 0.8, "select": "best"}), (Noisy, {"gradient_clip_norm": 0.5})],
    ids=["vae with averaged weights", "noise, buffers and steps"],
)
def test_it_trains_as_its_own_loss_does(model, protocol):
    own, curve, _ = trained(model, None, **protocol)
    made, other, strategy = trained(model, "inductor", **protocol)
    assert (strategy.way, strategy.refused) == ("inductor", None)
    for name, value in own.items():
        torch.testing.assert_close(made[name], value, rtol=1e-4, atol=1e-4)
    for a, b in zip(curve, other, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in b.items() if k != "seconds"}, rel=1e-3, abs=1e-4
        )


def test_twice_it_ends_in_the_same_bits():
    first, *_ = trained(vae, "inductor")
    trained(Regression, "inductor")  # what was compiled in between changes nothing
    second, *_ = trained(vae, "inductor")
    assert all(torch.equal(second[name], value) for name, value in first.items())


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Counting, "keeps state outside of its parameters and buffers"),
        (Appending, "keeps state outside of its parameters and buffers"),
        (NotCopied, "cannot be compiled: TypeError"),
        (Starting, "a gradient differs by"),
        (Otherwise, "its loss is"),
        (OtherGradient, "a gradient differs by"),
        (SmallGradient, "a gradient differs by"),
        (OtherTerm, "its rate is"),
        (OtherParameters, "other parameters have a gradient"),
        (OtherDraws, "draws other random numbers"),
    ],
)
def test_what_would_come_out_otherwise_trains_uncompiled_to_the_same_bits(model, why):
    own, curve, _ = trained(model, None)
    made, other, strategy = trained(model, "inductor")
    assert strategy.way == "eager"
    assert why in strategy.refused
    assert all(torch.equal(made[name], value) for name, value in own.items())
    assert [row["loss"] for row in curve if "loss" in row] == [row["loss"] for row in other if "loss" in row]


def test_what_is_compiled_anew_is_held_again():
    *_, strategy = trained(Late, "inductor")
    assert strategy.way == "eager"
    assert "its loss is" in strategy.refused


def test_a_training_that_begins_with_a_small_batch_compiles_the_larger_ones():
    torch.manual_seed(1)
    model, noise = Regression(), generator(3, "noise")
    compiled = CompiledLoss("inductor")
    for rows in (5, 10, 10, 5):
        compiled(model, Batch(torch.randn(rows, DIMS), 25, 0, 0.0), noise)
    assert (compiled._rows, compiled._checked, compiled.way) == (10, 2, "inductor")


def test_without_a_compiler_it_trains_by_its_own_loss(monkeypatch):
    def none(*_, **__):
        raise RuntimeError("no C++ compiler\nis here")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: none)
    own, *_ = trained(vae, None)
    made, _, strategy = trained(vae, "inductor")
    assert strategy.refused == "it cannot be compiled: RuntimeError: no C++ compiler is here"
    assert all(torch.equal(made[name], value) for name, value in own.items())


def test_the_check_leaves_no_trace():
    torch.manual_seed(1)
    model, noise = Noisy(), generator(3, "noise")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    states = noise.get_state(), torch.get_rng_state()
    batch = Batch(torch.randn(10, DIMS), 25, 0, 0.0)
    torch.set_rng_state(states[1])
    compiled = CompiledLoss("inductor")
    assert compiled._fault(model, batch, noise) is None
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(noise.get_state(), states[0])
    assert torch.equal(torch.get_rng_state(), states[1])
    assert all(p.grad is None for p in model.parameters())


def test_batches_of_another_size_and_evaluation_take_its_own_loss(monkeypatch):
    seen: list[int] = []
    torch.manual_seed(1)
    model, noise = Regression(), generator(3, "noise")
    compiled = CompiledLoss("inductor")
    for _ in range(CHECKED):
        compiled(model, Batch(torch.randn(10, DIMS), 25, 0, 0.0), noise)
    monkeypatch.setattr(compiled, "_compiled", lambda m, batch, n: seen.append(len(batch.x)) or own_loss(m, batch, n))
    for rows in (10, 5, 10):
        compiled(model, Batch(torch.randn(rows, DIMS), 25, 0, 0.0), noise)
    model.eval()
    compiled(model, Batch(torch.randn(10, DIMS), 25, 0, 0.0), noise)
    assert seen == [10, 10]
