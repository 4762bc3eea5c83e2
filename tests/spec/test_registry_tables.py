"""The registry's tables, which are joined into one."""

from __future__ import annotations

import pytest
from latentbench.spec import registry


@pytest.mark.parametrize("table", ["MODELS", "METRICS"])
def test_no_name_stands_in_two_tables(table):
    parts = [getattr(m, table) for name, m in vars(registry).items() if name.startswith(f"{table.lower()}_")]
    assert len(parts) == 4
    assert sum(map(len, parts)) == len(getattr(registry, table))
