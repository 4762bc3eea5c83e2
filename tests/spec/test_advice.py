"""What `validate` thinks could be better."""

from __future__ import annotations

import pytest
from latentbench.spec.advice import advice

ORDER = {"id": "order", "kind": "order", "better": "wide", "worse": "narrow", "text": "t", "where": "w"}
ORDER |= {"metric": "nll", "dataset": "line"}
FLOOR = ORDER | {"id": "floor", "worse": "floor"}
LINEAR = {"datasets": {"line": {"source": "linear", "split": {"train": "train", "test": "test"}}}}
REPORTED = {"dataset": "line", "metric": "nll", "unit": "nats", "source": "s", "value": 1.0}


def said(project, changes):
    base = {"claims": [ORDER, FLOOR], **LINEAR, "tiers.paper.seeds": 3}
    return [str(e) for e in advice(project.load({**base, **changes}))]


def test_a_suite_without_a_weakness_is_told_nothing(project):
    assert said(project, {}) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tiers.cpu.seeds": 1}, "tier 'cpu' has 1 seed, which cannot judge 'order', 'floor'"),
        (
            {"claims": [ORDER | {"id": f"o{i}"} for i in range(7)] + [FLOOR]},
            "8 claims are judged together at tier 'cpu'",
        ),
        ({"claims": [ORDER]}, "no claim and no reported number is about 'floor', which is run"),
        ({"claims": [ORDER | {"where": "Tables 2 and 3"}, FLOOR]}, "'order' cites Table 2 and Table 3"),
        ({"datasets": {"line": {"protocol": "all"}}}, "on no dataset with a known optimum"),
        (
            {"metrics.again": {"metric": "nll", "methods": "narrow"}}
            | {f"tiers.{tier}.methods": ["wide", "floor"] for tier in ("smoke", "cpu", "paper")},
            "metric 'again' is measured at no tier",
        ),
        (
            {
                "claims": [
                    {**ORDER, "better": "{m}", "worse": "floor", "pool": "sign", "cells": {"m": ["wide", "narrow"]}}
                ]
            },
            "with 2 cells no p-value lies below 0.25",
        ),
    ],
)
def test_weaknesses(project, changes, words):
    found = said(project, changes)
    assert any(words in one and "suites/small.yaml:" in one for one in found), found


@pytest.mark.parametrize(
    "changes",
    [
        {"tiers.cpu.seeds": 1, "claims": [ORDER | {"exact": True}, FLOOR | {"exact": True}]},
        {"claims": [ORDER | {"id": f"o{i}", "sanity": i > 4} for i in range(9)] + [FLOOR]},
        {"claims": [ORDER | {"gate": {"metric": "nll", "better_than": "floor"}}]},
        {
            "claims": [ORDER | {"where": "Table 2, left"}, FLOOR],
            "reported": [REPORTED | {"table": "Tables 1, 2", "method": m} for m in ("wide", "narrow")],
        },
        {"datasets": {"line": {"protocol": "all"}}, "no_optimum": "its density is unknown"},
    ],
)
def test_what_mends_them(project, changes):
    assert said(project, changes) == []


def test_a_number_that_a_dead_model_gets_best_needs_a_gate(project):
    rank = ORDER | {"id": "rank", "metric": "total_correlation"}
    vae = {"model": "vae", "params": {"latent_dim": 2, "hidden": [4], "likelihood": "gaussian"}}
    changes = {"claims": [ORDER, FLOOR, rank], "methods.wide": vae, "methods.narrow": vae}
    changes |= {"metrics": {"nll": {"methods": "floor"}, "total_correlation": {"methods": ["wide", "narrow"]}}}
    changes |= {"metrics.rate": {"methods": ["wide", "narrow"]}}
    changes["claims"] = [rank, FLOOR | {"better": "wide", "worse": "narrow", "metric": "rate"}]
    assert any("best where nothing is learned" in one for one in said(project, changes))
    changes["claims"][0] = rank | {"gate": {"metric": "rate", "at_least": 0.1}}
    assert not any("nothing is learned" in one for one in said(project, changes))


def test_they_are_warnings(project):
    project.suite({"claims": [ORDER, FLOOR], "tiers.cpu.seeds": 1})
    answer = project("validate", "small")
    assert (answer.code, "ok: small" in answer.out) == (0, True)
    assert "warning: suites/small.yaml:" in answer.err
    assert project("validate", "small", "--strict").code == 2
