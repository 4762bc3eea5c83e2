"""The schema of a training protocol: ranges, and settings that do not go together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentbench.spec.protocol import Training
from pydantic import ValidationError


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"epochs": -1},
        {"epochs": 1.5},
        {"epochs": True},
        {"epochs": "5"},
        {"steps": 0},
        {"batch_size": 0},
        {"batch_size": -5},
        {"epochs": 1, "steps": 1},
        {"gradient_clip_norm": 0},
        {"ema": 1.0},
        {"ema": 0.0},
        {"validate_every": 0},
        {"select": "worst"},
        {"precision": "8-bit"},
        {"tf32": 1},
        {"early_stopping": {"patience": 0}},
        {"early_stopping": {"patience": 1, "min_delta": -1}},
        {"early_stopping": {}},
        {"optimizer": {"lr": 0}},
        {"optimizer": {"lr": -1e-3}},
        {"optimizer": {"name": "lion"}},
        {"optimizer": {"momentum": 1.0}},
        {"optimizer": {"weight_decay": -1}},
        {"optimizer": {"betas": [0.9]}},
        {"optimizer": {"betas": [0.9, 1.0]}},
        {"optimizer": {"betas": [-0.1, 0.9]}},
        {"schedule": {"name": "stages"}},
        {"schedule": {"stages": [{"epochs": 1, "factor": 1.0}]}},
        {"schedule": {"name": "stages", "stages": [{"epochs": 0, "factor": 1.0}]}},
        {"schedule": {"name": "stages", "stages": [{"epochs": 1, "factor": 0.0}]}},
        {"schedule": {"name": "exponential"}},
        {"schedule": {"decay": 0.9}},
        {"schedule": {"name": "exponential", "decay": 1.5}},
        {"schedule": {"warmup": -1}},
        {"schedule": {"name": "linear", "period": 5}},
        {"schedule": {"name": "cosine", "period": 0}},
        {"schedule": {"final": 2.0}},
        {"schedule": {"name": "stages", "stages": [{"epochs": 2, "factor": 1.0}]}, "epochs": 3},
        {"schedule": {"name": "stages", "stages": [{"epochs": 2, "factor": 1.0}]}, "steps": 3},
        {"epoch": 3},
    ],
    ids=str,
)
def test_refused(wrong):
    with pytest.raises(ValidationError):
        Training.model_validate(wrong)


@given(
    st.fixed_dictionaries(
        {"batch_size": st.integers(1, 10**6)},
        optional={
            "epochs": st.integers(1, 10**5),
            "gradient_clip_norm": st.floats(1e-6, 1e6),
            "ema": st.floats(0.001, 0.999),
            "optimizer": st.fixed_dictionaries(
                {"lr": st.floats(1e-9, 10)},
                optional={"betas": st.lists(st.floats(0, 0.999), min_size=2, max_size=2)},
            ),
            "schedule": st.sampled_from([{"name": "cosine", "warmup": 3}, {"name": "exponential", "decay": 0.9}, {}]),
            "select": st.sampled_from(["last", "best"]),
        },
    )
)
def test_what_is_admitted_survives_being_written_down(data):
    """A run's record holds the dumped protocol, from which the run is done."""
    once = Training.model_validate(data)
    assert Training.model_validate(once.model_dump(mode="json")) == once
