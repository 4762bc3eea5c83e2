"""Parameter checks: what they let through and how they word the rest."""

from __future__ import annotations

import math

import pytest
from latentbench.core.errors import UserError
from latentbench.models import checks


def test_good_values_pass():
    assert checks.whole("k", 3) == 3
    assert checks.wholes("hidden", [2, 3]) == (2, 3)
    assert checks.wholes("hidden", []) == ()
    assert checks.number("beta", 0) == 0.0
    assert checks.number("s", 1.0, most=1.0) == 1.0
    assert checks.flag("on", False) is False


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "3", None])
def test_whole_refuses(value: object):
    with pytest.raises(UserError, match=r"k is .* 1 or more"):
        checks.whole("k", value)


@pytest.mark.parametrize("value", [3, "ab", [1, 0], [2.5], None])
def test_wholes_refuses(value: object):
    with pytest.raises(UserError, match="hidden"):
        checks.wholes("hidden", value)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, "x", None, True])
def test_number_refuses(value: object):
    with pytest.raises(UserError, match=r"s is .* at least 0 and at most 1"):
        checks.number("s", value, most=1.0)


def test_number_above_excludes_the_end():
    with pytest.raises(UserError, match="above 0"):
        checks.number("s", 0.0, above=True)
    with pytest.raises(UserError, match="s is inf"):
        checks.number("s", math.inf)
