"""The catalogue of papers, ``suites/papers.yaml``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from latentbench.core.errors import UserError, did_you_mean
from latentbench.core.paths import catalogue_file, shown
from latentbench.core.yamlfile import read_plain

#: What a paper is about, mostly: the one list of families.
Family = Literal[
    "3d-inr", "autoregressive", "bayesian", "causal", "circuit", "compression", "diffusion", "discovery-clustering",
    "disentanglement", "energy", "flow", "gan", "gp", "graph", "llm", "multimodal", "neuro", "other", "physics-pde",
    "recsys", "rl", "sae", "speech-audio", "ssl", "state-space", "survey", "text", "theory", "time-series", "vae",
    "video",
]  # fmt: skip


class Stated(BaseModel):
    """A number that a paper's abstract states."""

    what: str
    value: float | str


class PaperEntry(BaseModel):
    """One paper of the catalogue; keys that are not needed here are kept out of the way."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    title: str
    family: Family
    scope: Literal["core", "extended", "pretrained", "theory"]
    priority: int
    arxiv: str | None = None
    year: int | None = None
    claim: str | None = None
    small: str | None = None
    method: str | None = None
    datasets: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    reported: tuple[Stated, ...] = ()


def catalogue() -> list[PaperEntry]:
    """All papers, in the catalogue's order."""
    path = catalogue_file()
    try:
        return TypeAdapter(list[PaperEntry]).validate_python(read_plain(path))
    except ValidationError as e:
        fault = e.errors(include_url=False)[0]
        place = ".".join(str(p) for p in fault["loc"])
        raise UserError(f"{place}: {fault['msg']}", where=shown(path), fix="restore it from git") from None


def find_paper(name: str) -> PaperEntry:
    """A paper by its id, its arXiv number or its title.

    Raises:
        UserError: there is none.
    """
    papers = catalogue()
    wanted = name.strip().casefold()
    for paper in papers:
        if wanted in (paper.id.casefold(), (paper.arxiv or "").casefold(), paper.title.casefold()) and wanted:
            return paper
    names = [p.id for p in papers]
    raise UserError(
        f"no paper or suite is called {name[:100]!r}",
        where=shown(catalogue_file()),
        fix=did_you_mean(name, names, "`latentbench list papers --search WORD`"),
    )
