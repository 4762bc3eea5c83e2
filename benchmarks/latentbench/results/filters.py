"""What a user means by the name of a dataset or of a metric, the same wherever results are shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from latentbench.core.errors import UserError, did_you_mean


def is_of(name: str, dataset: str, source: str) -> bool:
    """Whether a suite's dataset is what a user calls `name`: its own name, its source's, or a source that is made of
    it (``mnist-static`` is MNIST, ``fashion-mnist`` is not). A name may be a pattern; case does not matter."""
    wanted, own, registered = name.casefold(), dataset.casefold(), source.casefold()
    return any(fnmatchcase(one, wanted) for one in (own, registered)) or registered.startswith(f"{wanted}-")


def is_metric(name: str, key: str, quantity: str) -> bool:
    """Whether a suite's metric is what a user calls `name`: its key there, or its registered name; or a pattern."""
    return any(fnmatchcase(one.casefold(), name.casefold()) for one in (key, quantity))


@dataclass(frozen=True)
class Wanted:
    """The dataset and the metric that were asked for; None is any."""

    dataset: str | None = None
    metric: str | None = None

    def of(self, dataset: str, source: str) -> bool:
        """Whether a dataset of a suite, of this source in the registry, is wanted."""
        return self.dataset is None or is_of(self.dataset, dataset, source)

    def by(self, key: str | None, quantity: str | None) -> bool:
        """Whether a metric by its key in the suite and its registered name is wanted; no metric only among all."""
        if self.metric is None:
            return True
        return key is not None and quantity is not None and is_metric(self.metric, key, quantity)

    def known(self, datasets: Iterable[tuple[str, str]], metrics: Iterable[tuple[str, str]]) -> None:
        """Refuse a name that none of these has, each with its source or its registered name: it is misspelt.

        Raises:
            UserError: with the nearest names.
        """
        for option, name, fits, pairs in (
            ("--dataset", self.dataset, is_of, set(datasets)),
            ("--metric", self.metric, is_metric, set(metrics)),
        ):
            if name is not None and pairs and not any(fits(name, *pair) for pair in pairs):
                names = {one for pair in pairs for one in pair}
                raise UserError(f"no suite shown here has {name!r}", where=option, fix=did_you_mean(name, names))
