"""Stages of a training that are runs of their own, which all runs share that name the same one."""

from __future__ import annotations

from dataclasses import replace

from latentbench.planning.plan import RunSpec
from latentbench.spec.protocol import Training, TrainingProtocol, TrainingStage
from latentbench.spec.registry import find_model


def stage_run(spec: RunSpec, stage: TrainingStage) -> RunSpec:
    """The run that a stage with a `model` of its own is: it measures nothing, and knows nothing of what follows it.

    Its fingerprint is made of the stage's model, parameters, training and seed, the run's data but for the test split,
    and code: whatever else two runs differ in, they share it.
    """
    assert stage.model is not None
    protocol = stage.model_dump(mode="json", include=set(TrainingProtocol.model_fields))
    around = {key: spec.training[key] for key in ("precision", "tf32", "deterministic")}
    without_test = {key: {k: v for k, v in spec.data[key].items() if k != "test"} for key in ("split", "limit")}
    return replace(
        spec,
        method=f"{spec.method}/{stage.name}",
        seed=spec.seed if stage.seed is None else stage.seed,
        axes=spec.axes if stage.seed is None else {},
        model=stage.model,
        target=find_model(stage.model).target,
        params=dict(stage.params),
        data={**spec.data, **without_test},
        training=Training.model_validate({**protocol, **around}).model_dump(mode="json"),
        metrics=(),
        exact=False,
        oracle_module=None,
    )
