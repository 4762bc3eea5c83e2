"""What a run costs here, from a few training steps and a small piece of its evaluation: seconds a method."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from latentbench.planning.plan import RunSpec

if TYPE_CHECKING:
    from lightning.fabric.strategies import Strategy

    from latentbench.running.outcome import Outcome

#: Steps that are run first, and not timed: libraries load, memory is fetched.
WARM = 2
#: Seconds of training and of evaluation that are aimed at.
AIM = 2.0
MOST_STEPS = 100
#: Test rows of the two evaluations, training rows of the two fits, and the batch that a model of few rows needs.
FEW, MORE = 16, 64
FIT_FEW, FIT_MORE = 500, 2_000


@dataclass(frozen=True)
class Pilot:
    """What was timed.

    Attributes:
        step_seconds: of one training step; None where the model is fitted at once.
        fit: seconds for no rows and for each further training row, of a model that is fitted at once.
        evaluation: seconds for no rows and for each further test row, all metrics together.
        one_size: only `FEW` and `FIT_FEW` rows were tried, since they took long; all time is then put down to the rows,
            though none of it need be.
        fixed_seconds: data and model.
        parameters: trainable ones.
        unmeasured: metrics that so few rows do not give.
    """

    step_seconds: float | None
    fit: tuple[float, float]
    evaluation: tuple[float, float]
    one_size: bool
    fixed_seconds: float
    parameters: int
    unmeasured: tuple[str, ...]


def measure(run: RunSpec, device: Literal["cpu", "cuda"], threads: int) -> Pilot:
    """Time a run's method on its data; nothing is kept. The dataset is prepared if it is not.

    Args:
        run: any of the method's seeds.
        device, threads: as the run would have them.

    Raises:
        UserError: the run cannot be done, or its data cannot be had.
        Exception: whatever model or metrics raise.
        KeyboardInterrupt: the process was asked to stop.
    """
    import torch

    from latentbench.running import experiment  # noqa: F401 - loaded before the clock starts

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        started = time.monotonic()
        small = _outcome(run, device, steps=WARM + 4, test=FEW, train=FIT_FEW)
        fitted = small.trained.steps == 0
        quick = time.monotonic() - started < 4 * AIM
        steps = WARM + max(4, min(MOST_STEPS, int(AIM / max(_step(small) or AIM, 1e-6))))
        large = _outcome(run, device, steps=steps, test=MORE, train=FIT_MORE) if quick else small
    finally:
        torch.set_num_threads(before)
    return Pilot(
        step_seconds=None if fitted else _step(large),
        fit=_line(small, large, "training", FIT_FEW, FIT_MORE) if fitted else (0.0, 0.0),
        evaluation=_line(small, large, "evaluation", FEW, MORE),
        one_size=not quick,
        fixed_seconds=large.seconds["data"],
        parameters=large.parameters,
        unmeasured=tuple(large.failures),
    )


def few_steps(
    run: RunSpec, device: Literal["cpu", "cuda"], steps: int, strategy: Strategy | None = None
) -> list[dict[str, float]]:
    """The curve of a run's first steps, a row a step; nothing is evaluated.

    Args:
        run: any of the method's seeds; it is trained by gradients.
        device: where.
        steps: how many, 200 at most.
        strategy: of Fabric, instead of its plain one.
    """
    small = replace(run, metrics=())
    return _outcome(small, device, steps=steps, test=FEW, train=FIT_MORE, strategy=strategy).trained.curve


def _outcome(
    run: RunSpec,
    device: Literal["cpu", "cuda"],
    *,
    steps: int,
    test: int,
    train: int,
    strategy: Strategy | None = None,
) -> Outcome:
    from lightning.fabric import Fabric

    from latentbench.running.experiment import run_experiment

    short = {"epochs": None, "steps": steps, "schedule": {"name": "constant"}, "early_stopping": None, "select": "last"}
    training = {**run.training, **short}
    training["in_stages"] = [{**stage, **short} for stage in run.training.get("in_stages", ())]
    limit = dict(run.data["limit"])
    sizes = [one["batch_size"] for one in (run.training, *training["in_stages"])]
    if "whole" not in sizes and "parts" not in run.data:  # a whole problem is not to be cut
        limit["test"] = min(test, limit.get("test") or test)
        limit["train"] = min(max(train, 4 * max(sizes)), limit.get("train") or 1 << 62)
    small = replace(run, training=training, data={**run.data, "limit": limit})
    options: dict[str, Any] = {} if strategy is None else {"strategy": strategy}
    fabric = Fabric(accelerator=device, devices=1, precision=run.training["precision"], **options)
    fabric.launch()
    return run_experiment(small, fabric)


def _step(outcome: Outcome) -> float | None:
    """Seconds of a step, those that warm up left out."""
    rows = [row for row in outcome.trained.curve if "seconds" in row and row["step"] >= WARM]
    if len(rows) < 2:
        return None
    with suppress(ZeroDivisionError):
        return (rows[-1]["seconds"] - rows[0]["seconds"]) / (rows[-1]["step"] - rows[0]["step"])
    return None


def _line(small: Outcome, large: Outcome, phase: str, few: int, more: int) -> tuple[float, float]:
    """Seconds at no rows and for each row, from two sizes; from one, all is put down to the rows."""
    a, b = small.seconds[phase], large.seconds[phase]
    if small is large:
        return 0.0, a / few
    if b <= a:
        return b, 0.0
    slope = (b - a) / (more - few)
    return max(0.0, a - slope * few), slope
