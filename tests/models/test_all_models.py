"""The contract over every declared example: the kit's, and those of every paper's folder."""

from __future__ import annotations

from functools import cache

import pytest
from latentbench.contracts import models as contract
from latentbench.contracts.examples import check_examples
from latentbench.contracts.finding import Finding
from latentbench.spec.registry import models

from tests.project import marks_of

STACKING = "seeds that train side by side get what each gets alone"


@cache
def findings(name: str) -> tuple[Finding, ...]:
    return tuple(check_examples(name, models()[name]))


every = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=marks_of(e.target)) for n, e in sorted(models().items())]
)


@every
def test_it_keeps_the_contract(name: str):
    assert models()[name].examples, "declare an example"
    assert [f"{f.subject}: {f.test}: {f.why} ({f.where})" for f in findings(name) if not f.holds] == []


@every
def test_its_density_is_summed_over(name: str):
    """On one example at least: what the contract cannot tell of, it skips."""
    if not {"ExactLikelihood", "VariationalBound"} & models()[name].can:
        pytest.skip("it has no density")
    assert any(not f.skipped for f in findings(name) if f.test == contract.NORMALISED)


@pytest.mark.parametrize("name", [n for n, e in sorted(models().items()) if e.target.startswith("latentbench.models.")])
def test_seeds_of_the_kits_models_can_train_side_by_side(name: str):
    """A paper's own model may train its seeds one after another; one that others build on may not."""
    told = [f for f in findings(name) if f.test == STACKING]
    assert all(not f.skipped or "not trained by gradients" in f.skipped for f in told)
