"""The gradient estimators by name, as a suite chooses them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from latentbench.models import checks
from latentbench.models.discrete import pathwise, score
from latentbench.models.discrete.estimator import Estimator

ESTIMATORS: Mapping[str, Callable[..., Estimator]] = {
    "straight_through": pathwise.StraightThrough,
    "slope_annealed": pathwise.SlopeAnnealed,
    "gumbel_softmax": pathwise.GumbelSoftmax,
    "st_gumbel": pathwise.StraightThroughGumbel,
    "gumbel_rao": pathwise.GumbelRao,
    "gapped": pathwise.GappedStraightThrough,
    "reinmax": pathwise.ReinMax,
    "darn": pathwise.Darn,
    "reinforce": score.Reinforce,
    "nvil": score.Nvil,
    "muprop": score.MuProp,
    "enumerate": score.Enumerate,
}


def build_estimator(choice: checks.Choice, features: int) -> Estimator:
    """`choice` is a name or ``{name: {parameter: value}}``; `features` is the width of `Hints.features`.

    Raises:
        UserError: an unknown estimator or parameter, or a value out of range.
    """
    name, parameters = checks.chosen("estimator", choice, ESTIMATORS)
    return ESTIMATORS[name](features, **parameters)
