"""The contract over every declared example: the kit's, and those of every paper's folder."""

from __future__ import annotations

from functools import cache

import pytest
from latentbench.contracts import models as contract
from latentbench.contracts.examples import check_examples
from latentbench.contracts.finding import Finding
from latentbench.spec.registry import models

STACKING = "seeds that train side by side get what each gets alone"
#: Models whose seeds train one after another.
ALONE = {"lattice-mam", "latent-ode", "recurrent-predictor", "ode-net"}


@cache
def findings(name: str) -> tuple[Finding, ...]:
    return tuple(check_examples(name, models()[name]))


every = pytest.mark.parametrize("name", sorted(models()))


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


@every
def test_its_seeds_can_train_side_by_side(name: str):
    told = [f for f in findings(name) if f.test == STACKING]
    if any(not f.skipped for f in told):
        assert name not in ALONE
    else:
        assert name in ALONE or all("not trained by gradients" in f.skipped for f in told)
