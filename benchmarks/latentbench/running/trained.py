"""A trained model taken up again from the weights that its run left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentbench.core.errors import UserError
from latentbench.core.paths import shown

if TYPE_CHECKING:
    from latentbench.planning.plan import RunSpec
    from latentbench.running.run_data import Data


def trained_model(spec: RunSpec, data: Data, weights: Path) -> Any:
    """The model of a run on the CPU, in evaluation mode.

    Raises:
        UserError: these are no weights of it.
    """
    from safetensors.torch import load_file

    from latentbench.running.experiment import _prepare, build_model

    model = build_model(spec, data.info)
    _prepare(model, data, spec)
    try:
        model.load_state_dict(load_file(weights))
    except (AttributeError, RuntimeError) as e:
        why = " ".join(str(e).split())[:200]
        raise UserError(f"these are no weights of model {spec.model!r}: {why}", where=shown(weights)) from None
    return model.eval() if hasattr(model, "eval") else model
