"""How much of a paper's training a shortened tier does."""

from __future__ import annotations

from functools import cached_property

from latentbench.core.errors import UserError
from latentbench.planning.plan import RunSpec, plan
from latentbench.results.work import Work
from latentbench.spec.claims import Tier
from latentbench.spec.loading import LoadedSuite


class TrainingShare:
    """The samples that a tier's trainings go through, as shares of those at tier `paper`.

    Args:
        loaded, tier: the suite and the tier that is looked at.
    """

    def __init__(self, loaded: LoadedSuite, tier: Tier) -> None:
        self._loaded, self._tier = loaded, tier

    def of(self, method: str, dataset: str) -> float | None:
        """The share of one method on one dataset; None where it is not known or there is no training.

        1.0 at tier `paper` itself.
        """
        if self._tier == "paper":
            return 1.0
        here, there = self._here.get((method, dataset)), self._paper.get((method, dataset))
        if not here or not there:
            return None
        return here / there

    @cached_property
    def _here(self) -> dict[tuple[str, str], float]:
        return self._samples(self._tier)

    @cached_property
    def _paper(self) -> dict[tuple[str, str], float]:
        return self._samples("paper")

    def _samples(self, tier: Tier) -> dict[tuple[str, str], float]:
        if tier not in self._loaded.suite.tiers:
            return {}
        found: dict[tuple[str, str], float] = {}
        for run in plan(self._loaded, tier, seeds=[0]):
            samples = _samples_of(run)
            if samples is not None:
                found[run.method, run.dataset] = samples
        return found


def _samples_of(run: RunSpec) -> float | None:
    try:
        work = Work.of(run.settled())
    except (KeyError, TypeError, ValueError, UserError):
        return None
    return work.samples or None
