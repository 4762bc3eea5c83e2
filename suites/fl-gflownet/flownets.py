"""Flow networks that build sets of k among n elements, p(x) in proportion to exp(-E(x)) with additive E.

A state is a set s, an action adds one element. With log F(s) = log F~(s) - E(s), where E is the energy of what is there
already, the network of the forward-looking forms gives log F~. Along a trajectory s_0 .. s_L let

    h_t = log F(s_t) - sum over i < t of [log P_F(s_i+1 | s_i) - log P_B(s_i | s_i+1)];

balance between s_i and s_j is h_i = h_j, and every loss here is a mean of squared differences of h. At a complete set
log F(x) is -E(x), hence log F~(x) is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.view import View
from latentbench.models.study import Problem, Study
from numpy import ndarray
from numpy.random import Generator
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

SMALL = {"elements": [4, 5], "sizes": [2, 3], "steps": 5, "batch": 2, "loss": "tb"}
EXAMPLES = (Example("real-vector", SMALL), Example("real-vector", {**SMALL, "elements": [17, 18], "loss": "db"}))
#: States (m, n) of zeros and ones, in float32, to probabilities (m, n) of adding each element, 0 for those within.
Policy = Callable[[ndarray], ndarray]


def draw_energies(rng: Generator, n: int) -> ndarray:
    """(n,): ten values, uniform on [-1, 1], each given to every tenth element, in random order."""
    return rng.permutation(np.resize(rng.uniform(-1.0, 1.0, 10), n))


def reached(policy: Policy, n: int, k: int) -> tuple[ndarray, ndarray]:
    """All sets (m, n) of size k and the probability (m,) that a policy ends in each, over all orders of adding."""
    states = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(np.float32)
    size, mass = states.sum(1), np.eye(1, 2**n)[0]
    for j in range(k):
        codes = np.flatnonzero(size == j)
        flow = mass[codes, None] * policy(states[codes])
        for i in range(n):
            free = states[codes, i] == 0
            mass[codes[free] | 1 << i] += flow[free, i]
    return states[size == k], mass[size == k]


def l1(policy: Policy, energies: ndarray, k: int) -> float:
    """Sum over sets of the absolute difference between the policy's law and the target, from 0 to 2."""
    states, mass = reached(policy, len(energies), k)
    weights = np.exp(-states @ energies)
    return float(np.abs(mass - weights / weights.sum()).sum())


def walk(policy: Policy, share: ndarray, n: int, k: int, rng: Generator) -> tuple[ndarray, ndarray]:
    """States (m, k + 1, n) and actions (m, k) of trajectories; share (m, 1) is the uniform policy's weight in each."""
    m = len(share)
    states, actions = np.zeros((m, k + 1, n), np.float32), np.empty((m, k), np.int64)
    for t in range(k):
        free = 1.0 - states[:, t]
        up_to = np.cumsum((1.0 - share) * policy(states[:, t]) + share * free / free.sum(1, keepdims=True), axis=1)
        actions[:, t] = (up_to <= rng.random((m, 1)) * up_to[:, -1:]).sum(1)
        states[:, t + 1] = states[:, t]
        states[np.arange(m), t + 1, actions[:, t]] = 1.0
    return states, actions


@model("set-sampler", "Iterative Study", "a flow network trained by balance", examples=EXAMPLES)
class SetSampler(Study):
    """P_F, P_B and the flow are heads of one network; Adam. Answers are curves (tasks, 5) over training, of `l1` or,
    where sets are too many to enumerate, of ``best``: log mean reward of the best 100 seen, less that of the best.

    Args:
        info: of the data, which are not looked at.
        elements: n of each task; all are enumerated if none is above 16.
        sizes: k of each task, the length of its trajectories, from 2 to n - 1.
        steps: updates, a multiple of 5.
        batch: trajectories an update. Where not all is enumerated, as many sets are drawn with each to be looked at.
        loss: trajectory, detailed or subtrajectory balance; or none: elements are added by exp(-strength * energy).
        strength: 0 is uniform, 1 looks at each step's own energy alone.
        forward_looking: whether the flow's head gives log F~ rather than log F.
        terminal: whether log F~ is 0 at complete sets; in the authors' code for sets it is left free.
        complete: share of trajectories that run to their end. Others are cut after 1 to k - 1 actions, uniformly.
        exploration: weight of the uniform policy in the draws to train on, for all tasks or each.
        lr: of the network; that of log Z, which trajectory balance has in place of the flow's head, is 0.1.
        first_batch: whether log Z starts at what balances its first batch on average, not at 0 (as the authors' does).
        hidden: width of two hidden layers.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        elements: tuple[PositiveInt, ...],
        sizes: tuple[PositiveInt, ...],
        steps: PositiveInt = 10000,
        batch: PositiveInt = 16,
        loss: Literal["tb", "db", "subtb", "none"],
        strength: NonNegativeFloat = 0.0,
        forward_looking: bool = False,
        terminal: bool = True,
        complete: NonNegativeFloat = 1.0,
        exploration: tuple[NonNegativeFloat, ...] = (0.0,),
        lr: PositiveFloat = 1e-3,
        first_batch: bool = False,
        hidden: PositiveInt = 256,
    ) -> None:
        super().__init__(info, problems=1)
        if len(elements) != len(sizes) or steps % 5 or any(not 1 < k < n for n, k in zip(elements, sizes, strict=True)):
            raise UserError("tasks or steps are none", fix="sizes within 2 and n - 1, one each; a multiple of 5 steps")
        if (forward_looking and loss == "tb") or not (terminal or forward_looking):
            raise UserError("there is no such loss", fix="forward_looking: true goes with db and subtb")
        self.elements, self.sizes, self.steps, self.batch = tuple(elements), tuple(sizes), steps, batch
        self.form, self.strength, self.forward_looking, self.terminal = loss, strength, forward_looking, terminal
        self.exploration = np.broadcast_to(exploration, len(sizes))
        self.complete, self.lr, self.hidden, self.enumerated = complete, lr, hidden, max(elements) <= 16
        self.first_batch = first_batch

    def problem(self, rng: Generator) -> Problem:
        return Problem({str(i): draw_energies(rng, n) for i, n in enumerate(self.elements)})

    def answer(self, given: Mapping[str, Any], rng: Generator) -> Mapping[str, Any]:
        curves = [list(self.curve(i, given[str(i)], k, rng)) for i, k in enumerate(self.sizes)]
        return {"l1" if self.enumerated else "best": np.array(curves)}

    def curve(self, i: int, energies: ndarray, k: int, rng: Generator) -> Iterator[float]:
        """What is measured after each fifth of training on task i, whose energies are (n,)."""
        n, lowest = len(energies), np.sort(energies)[:k].sum()
        network, log_z = build(n, self.hidden, rng), torch.zeros(1, requires_grad=True)
        groups: list[dict[str, Any]] = [{"params": network.parameters()}, {"params": log_z, "lr": 0.1}]
        optimizer = torch.optim.Adam(groups, lr=self.lr)

        def policy(states: ndarray) -> ndarray:
            given = torch.from_numpy(states)
            logits = network(given)[:, :n] if self.form != "none" else -self.strength * energy.expand_as(given)
            return np.asarray(logits.detach().masked_fill(given > 0, -torch.inf).double().softmax(1))

        energy, seen = torch.tensor(energies, dtype=torch.float32), dict[bytes, float]()
        to_estimate = self.first_batch
        share = np.repeat([self.exploration[i], 0.0], [self.batch, 0 if self.enumerated else self.batch])[:, None]
        for step in range(1, self.steps + 1):
            states, actions = walk(policy, share, n, k, rng)
            for x in states[self.batch :, -1]:
                seen[x.tobytes()] = lowest - x @ energies
            lengths = np.where(rng.random(self.batch) < self.complete, k, rng.integers(1, k, self.batch))
            if self.form in ("db", "subtb") or (self.form == "tb" and (lengths == k).any()):
                visited, taken = torch.from_numpy(states[: self.batch]), torch.from_numpy(actions[: self.batch])
                h = self.heights(network(visited), visited, taken, energy, log_z)
                if self.form == "tb" and to_estimate:
                    log_z.data += (h[:, -1] - h[:, 0]).detach()[torch.from_numpy(lengths == k)].mean()
                    h, to_estimate = self.heights(network(visited), visited, taken, energy, log_z), False
                optimizer.zero_grad()
                balance(self.form, h, torch.from_numpy(lengths)).backward()
                optimizer.step()
            if step % (self.steps // 5) == 0:
                best = np.exp(sorted(seen.values())[-100:])
                yield l1(policy, energies, k) if self.enumerated else float(np.log(best.mean()))

    def heights(self, heads: Tensor, states: Tensor, actions: Tensor, energy: Tensor, log_z: Tensor) -> Tensor:
        """h (m, k + 1) of complete trajectories; of trajectory balance its two ends alone mean something."""
        forward, backward, flow = heads.split([len(energy), len(energy), 1], -1)
        inside, flow, partial = states > 0, flow[..., 0], states @ energy
        add = forward[:, :-1].masked_fill(inside[:, :-1], -torch.inf).log_softmax(-1)
        remove = backward[:, 1:].masked_fill(~inside[:, 1:], -torch.inf).log_softmax(-1)
        steps = add.gather(-1, actions[..., None]) - remove.gather(-1, actions[..., None])
        log_flow = log_z.expand_as(flow) if self.form == "tb" else flow - partial if self.forward_looking else flow
        if self.terminal:
            log_flow = torch.cat([log_flow[:, :-1], -partial[:, -1:]], 1)
        return log_flow - functional.pad(steps[..., 0].cumsum(1), (1, 0))


def build(n: int, hidden: int, rng: Generator) -> nn.Sequential:
    """States (..., n) to logits of P_F and of P_B and a flow (..., 2 n + 1); weights within 1 / root of inputs."""
    layers = [nn.utils.skip_init(nn.Linear, a, b) for a, b in ((n, hidden), (hidden, hidden), (hidden, 2 * n + 1))]
    for layer in layers:
        for p in layer.parameters():
            p.data = torch.tensor(rng.uniform(-1.0, 1.0, p.shape) / layer.in_features**0.5, dtype=torch.float32)
    return nn.Sequential(layers[0], nn.LeakyReLU(), layers[1], nn.LeakyReLU(), layers[2])


def balance(loss: str, h: Tensor, lengths: Tensor) -> Tensor:
    """Mean squared imbalance of trajectories, given h (m, k + 1), that are cut after `lengths` (m,) actions.

    Of ``tb`` between the ends of those that are complete, of ``db`` over all actions; of ``subtb`` over a trajectory's
    subtrajectories, with weights 0.9**length that sum to one, and then over trajectories.
    """
    if loss == "tb":
        return (h[:, 0] - h[:, -1])[lengths == h.shape[1] - 1].square().mean()
    t = torch.arange(h.shape[1])
    within = t <= lengths[:, None]
    if loss == "db":
        return h.diff(dim=1)[within[:, 1:]].square().mean()
    span = t - t[:, None]
    weights = torch.where(span > 0, 0.9**span, 0.0) * within[:, None, :]
    return ((h[:, :, None] - h[:, None, :]).square() * weights).sum((1, 2)).div(weights.sum((1, 2))).mean()


def _value(model: Any, name: str, measure: Callable[[ndarray], float]) -> MetricValue:
    """Measure of the curves' means over checkpoints (tasks,); where the last task's ends is in the details."""
    ((_, answer),) = model.answered()
    return MetricValue(float(measure(answer[name].mean(1))), None, 1, {"end": float(answer[name][-1, -1])})


@metric("set_l1", "Study", "1", "lower", settings={"task": -1}, lowest={"task": -1}, within=(0.0, 2.0))
def set_l1(model: Any, view: View, settings: Mapping[str, Any], generator: torch.Generator) -> MetricValue:
    """L1 distance of policy and target on a task (-1: the last), mean over checkpoints."""
    return _value(model, "l1", lambda v: v[int(settings["task"])])


@metric("set_l1_growth", "Study", "nats", "lower")
def set_l1_growth(model: Any, view: View, settings: Mapping[str, Any], generator: torch.Generator) -> MetricValue:
    """Log of `set_l1`, from the first task to the last: where it is less by d, a ratio grows by exp(d)."""
    return _value(model, "l1", lambda v: np.log(v[-1] / v[0]))


@metric("set_best", "Study", "nats", "higher", settings={"task": -1}, lowest={"task": -1}, within=(None, 0.0))
def set_best(model: Any, view: View, settings: Mapping[str, Any], generator: torch.Generator) -> MetricValue:
    """Log mean reward of the best 100 sets seen so far, less that of the best set there is; mean over checkpoints."""
    return _value(model, "best", lambda v: v[int(settings["task"])])
