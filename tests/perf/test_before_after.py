"""What counts as a difference between two revisions."""

from __future__ import annotations

from perf.before_after import differences


def test_the_order_of_rows_is_none():
    rows = [{"cell": "a", "params": {"k": 1}}, {"cell": "b", "params": {"k": 2}}]
    assert list(differences({"plan": rows}, {"plan": rows[::-1]})) == []


def test_values_rows_and_keys_are():
    before = {"vae": {"plan cpu": [{"cell": "a", "params": {"k": 1, "layers": [1, 2]}}, {"cell": "b", "seed": 1}]}}
    now = {"vae": {"plan cpu": [{"cell": "a", "params": {"k": 1, "layers": [2, 1]}}, {"cell": "c", "seed": 1}]}}
    found = [line.strip() for line in differences(before, now)]
    assert found[0] == "vae plan cpu a params layers: [1, 2] before, [2, 1] now"
    assert [line.partition(":")[0] for line in found[1:]] == ["vae plan cpu b", "vae plan cpu c"]
    assert ["only before" in found[1], "only now" in found[2]] == [True, True]
