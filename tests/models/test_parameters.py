"""No parameter does nothing: at two values that are not the one it has, a model trains or answers otherwise."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from latentbench.contracts.examples import subject_of
from latentbench.contracts.subject import Subject, answers, drawn, generator
from latentbench.core.imports import load
from latentbench.declare import Example
from latentbench.models import nets
from latentbench.spec.registry import models, parameters

from tests.project import marks_of

#: Choices with parameters of their own, which have tests of their own.
CHOICES = {"network", "likelihood", "estimator", "solver", "exact_solver", "encoder", "forward_network", "layout"}
#: Where a difference cannot show in a few steps on a few rows, and what holds it instead.
ELSEWHERE = {
    "restarts": "the best of several starts may be the first",
    "iterations": "EM may have come to its end",
    "tolerance": "of an end that a few rows do not tell from another",
    "adjoint": "the same gradients by another equation",
}
#: Shares of training at which terms come and go.
PROGRESS = (0.0, 0.3, 0.6, 0.99)


def others(default: Any, annotation: str) -> Iterator[Any]:
    """Values of a parameter's kind that are not `default`; a constructor may refuse some."""
    if words := re.search(r"Literal\[([^\]]*)\]", annotation):
        yield from (w for w in ast.literal_eval(f"({words[1]},)") if w != default)
    elif isinstance(default, bool):
        yield not default
    elif isinstance(default, int):
        yield from (default + 1, default + 2, default + 4, max(1, default - 1))
    elif isinstance(default, float):
        yield from (0.4 * default + 0.25, 0.7 * default + 0.1, 2.0 * default + 0.5)
        yield from (5.0 * default + 3.0, 8.0 * default + 4.0)
    elif isinstance(default, tuple | list) and default and all(isinstance(n, int) for n in default):
        yield from ([n + 1 for n in default], [n + 3 for n in default])
    elif isinstance(default, str) and default in nets.ACTIVATIONS:
        yield from (a for a in nets.ACTIVATIONS if a != default)
    elif default is None and "activation" in annotation:
        yield from ("relu", "elu", "softplus")


def trace(author: type, name: str, example: Example) -> list[torch.Tensor] | None:
    """Everything that a model is seen to do: losses and gradients over a training, weights, answers. None: refused."""
    try:
        subject = subject_of(author, models()[name], example)
        return list(_seen(subject))
    except Exception:  # a value that is out of range in itself, or beside the others
        return None


def _seen(subject: Subject) -> Iterator[torch.Tensor]:
    model = subject.prepared()
    if hasattr(model, "loss"):
        model.train()
        for step, progress in enumerate(PROGRESS):
            loss = model.loss(subject.batch(step, progress), generator(step))["loss"]
            yield loss.detach()
            model.zero_grad()
            loss.backward()
            yield from (p.grad.clone() for p in model.parameters() if p.grad is not None)
        model.zero_grad()
    subject.train(model)
    if isinstance(model, torch.nn.Module):
        model.eval()
        yield from (v.float() for v in model.state_dict().values())
    yield from answers(subject, model).values()
    yield from drawn(subject, model).values()


def differ(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) != len(b) or any(x.shape != y.shape or not torch.equal(x, y) for x, y in zip(a, b))


CASES = [
    pytest.param(name, p, id=f"{name}-{p}", marks=marks_of(entry.target))
    for name, entry in sorted(models().items())
    if entry.target.startswith("latentbench.models.")
    for p in parameters(entry.target)
    if p not in CHOICES | ELSEWHERE.keys()
]


@pytest.mark.parametrize(("name", "parameter"), CASES)
def test_a_parameter_makes_a_difference(name: str, parameter: str):
    entry = models()[name]
    author, known, tried = load(entry.target), parameters(entry.target)[parameter], 0
    for example in entry.examples:
        value = example.params.get(parameter)
        if value is None and known.default is not None:
            try:
                value = ast.literal_eval(known.default)
            except ValueError:
                value = None
        own = trace(author, name, example)
        assert own is not None
        seen = [own]
        for other in others(value, f"{parameter}: {known.annotation}"):
            now = trace(author, name, Example(example.data, {**example.params, parameter: other}))
            tried += now is not None
            if now is not None and all(differ(now, before) for before in seen):
                seen.append(now)
            if len(seen) == 3 or (len(seen) == 2 and isinstance(value, bool | str)):
                return
    if not tried:
        pytest.skip("no other value can be made up")
    raise AssertionError(f"{parameter} of {name} changes nothing")
