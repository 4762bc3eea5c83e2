"""How a user's mistake is worded."""

from __future__ import annotations

import pickle
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from latentbench.core.errors import UserError, did_you_mean


def test_where_what_and_fix():
    assert str(UserError("is wrong", where=Path("a/b.yaml"), line=3, fix="mend it")) == "a/b.yaml:3: is wrong (mend it)"
    assert str(UserError("is wrong", where="--seeds")) == "--seeds: is wrong"
    assert str(UserError("is wrong", line=3)) == "is wrong"


@given(st.text(), st.text(), st.text())
def test_it_is_always_one_line(what, where, fix):
    assert len(str(UserError(what, where=where, fix=fix)).splitlines()) <= 1


def test_it_survives_the_way_home_from_a_worker():
    error = UserError("is wrong", where="a.yaml", line=3, fix="mend it")
    back = pickle.loads(pickle.dumps(error))
    assert (str(back), back.what, back.line, back.fix) == (str(error), "is wrong", 3, "mend it")


def test_did_you_mean_names_the_nearest():
    assert did_you_mean("mnits", ["mnist", "celeba", "digits"]) == "did you mean 'mnist'?"
    assert did_you_mean("mnits", ["omniglot", "mnist"]) == "did you mean 'mnist' or 'omniglot'?", "the nearest first"
    assert did_you_mean("zzz", ["a", "b"]) == "known: a, b"
    many = [f"name-{i}" for i in range(50)]
    assert did_you_mean("zzz", many) == "50 are known; `latentbench list` shows them"
    assert did_you_mean("zzz", many, shown_by="`man ls`") == "50 are known; `man ls` shows them"


def test_case_and_separators_count_for_nothing():
    assert did_you_mean("Beta_TCVAE", ["beta-tcvae", "vae"]).startswith("did you mean 'beta-tcvae'")
    assert did_you_mean("NLL IW", ["nll-iw", "nll_iw", "elbo"]) == "did you mean 'nll-iw' or 'nll_iw'?"
    assert did_you_mean("burda", ["omniglot-burda28", "mnist"]) == "did you mean 'omniglot-burda28'?", "a part of it"


@given(st.text(), st.lists(st.text()))
def test_any_name_gets_a_hint(name, known):
    assert did_you_mean(name, known)
