"""Contract tests at the limits: values at the ends of the data's range, and uniform draws at theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from latentbench.contracts.finding import NotApplicable
from latentbench.contracts.subject import Answers, Subject, answers, drawn, generator, trainable


def extremes(subject: Subject) -> str | None:
    """Corners of the support, and real values far out, give no NaN; nor do uniform draws at their ends."""
    info, model = subject.rows.info, subject.trained()
    low, high = {"real": (-1e4, 1e4), "discrete": (0.0, float((info.levels or 1) - 1))}.get(info.support, (0.0, 1.0))
    if subject.rows.whole:
        raise NotApplicable("its rows are one problem, whose values are no strangers to it")
    batch = subject.batch(rows=slice(0, 4))
    batch.x = torch.full_like(batch.x, low)
    batch.x[1], batch.x[2].view(-1)[::2] = high, high
    if said := _not_a_number({**answers(subject, model, batch), **drawn(subject, model, batch=batch)}):
        return f"{said} at the ends of the data's range"
    if trainable(model):
        model = subject.copy().train()
        model.loss(batch, generator())["loss"].backward()
        if any(p.grad is not None and p.grad.isnan().any() for p in model.parameters()):
            return "a gradient is NaN at the ends of the data's range"
    return None


def ends(subject: Subject) -> str | None:
    for name, value in (("0", 0.0), ("1 - 2^-24", 1.0 - 2.0**-24)):
        model = subject.copy()
        with uniform_draws_are(value) as mode:
            found = drawn(subject, model)
            if trainable(model):
                model.train().loss(subject.batch(), generator())["loss"].backward()
        if not mode.met:
            raise NotApplicable("it makes no uniform draws")
        if wrong := [k for k, v in found.items() if not v.isfinite().all()]:
            return f"{', '.join(wrong)} is not finite where a uniform draw is {name}"
        if trainable(model) and any(p.grad is not None and not p.grad.isfinite().all() for p in model.parameters()):
            return f"a gradient is not finite where a uniform draw is {name}"
    return None


def _not_a_number(found: Answers) -> str:
    wrong = [k for k, v in found.items() if v.isnan().any()]
    return f"{', '.join(wrong)} is NaN" if wrong else ""


class _Uniform(TorchFunctionMode):
    """Every uniform draw from [0, 1) comes out as one number."""

    MAKERS: Sequence[Any] = (torch.rand, torch.rand_like)

    def __init__(self, value: float) -> None:
        self.value, self.met = value, False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in self.MAKERS:
            self.met = True
            out = torch.full_like(out, self.value)
        return out


@contextmanager
def uniform_draws_are(value: float) -> Iterator[_Uniform]:
    """`torch.rand` and `torch.rand_like` give `value` alone."""
    with _Uniform(value) as mode:
        yield mode
