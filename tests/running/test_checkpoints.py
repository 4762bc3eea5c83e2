"""Checkpoints on disk: what goes in comes out, what is damaged is noticed, and no fault of the disk stops a run."""

from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from latentbench.core.types import MetricValue
from latentbench.running.checkpoints import KEPT, VALUES, Checkpoints
from latentbench.running.nested_state import pack, unpack

OURS, THEIRS = "a" * 64, "b" * 64


def keeper(folder: Path, fingerprint: str = OURS, every: float = 0.0, **options: Any) -> Checkpoints:
    return Checkpoints(folder, fingerprint, every, **options)


def state(step: int, **more: Any) -> dict[str, Any]:
    weights = torch.full((2,), float(step))
    return {"out": {"seconds": step / 4}, "finished": False, "model": {"w": weights}, **more}


def step_of(found: dict[str, Any] | None) -> float | None:
    return None if found is None else float(found["model"]["w"][0])


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def bits(a: torch.Tensor) -> torch.Tensor:
    return a.clone(memory_format=torch.contiguous_format).view(-1).view(torch.uint8)


def same(a: Any, b: Any) -> bool:
    """Equal in type and every bit."""
    if isinstance(a, torch.Tensor):
        if not (isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape):
            return False
        return a.numel() == 0 or torch.equal(bits(a), bits(b))
    if isinstance(a, float):
        return isinstance(b, float) and (a.hex() == b.hex() or (math.isnan(a) and math.isnan(b)))
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


DTYPES = [np.float32, np.float64, np.float16, np.int64, np.int32, np.uint8, np.bool_]
TENSORS = st.sampled_from(DTYPES).flatmap(
    lambda d: arrays.arrays(d, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
).map(lambda a: torch.from_numpy(np.asarray(a)))  # fmt: skip
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), TENSORS)
KEYS = st.one_of(st.text(max_size=5), st.integers(), st.booleans())
NESTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=8,
)


@given(NESTS)
def test_what_is_packed_comes_out_again(nest):
    assert same(unpack(*pack(nest)), nest)


@settings(max_examples=25)
@given(nest=NESTS)
def test_through_a_file(tmp_path_factory, nest):
    folder = tmp_path_factory.mktemp("checkpoint")
    keeper(folder).save(3, state(3, nest=nest))
    assert same(keeper(folder).latest()["nest"], nest)


def test_half_precision_and_views():
    base = torch.arange(12, dtype=torch.bfloat16).view(3, 4)
    nest = {"t": base.t(), "row": base[1], "complex": (1, [base[:, ::2]])}
    assert same(unpack(*pack(nest)), nest)


def test_what_is_packed_is_a_copy():
    live = torch.zeros(3)
    tensors, structure = pack({"w": live})
    live += 1
    assert unpack(tensors, structure)["w"].sum() == 0


@pytest.mark.parametrize("foreign", [object(), {1, 2}, b"bytes", 1j])
def test_what_cannot_be_kept_is_refused(foreign):
    with pytest.raises(TypeError, match="cannot hold"):
        pack({"a": [foreign]})


def test_the_last_two_are_kept_and_the_newest_is_taken(tmp_path):
    one = keeper(tmp_path)
    for step in (1, 2, 9, 10, 100):
        one.save(step, state(step))
    assert [int(name[:12]) for name in files(tmp_path)] == [10, 100]
    assert len(files(tmp_path)) == KEPT
    other = keeper(tmp_path)
    assert step_of(other.latest()) == 100
    assert (other.resumed_from, other.spent, other.last_step(), other.faults) == (100, 25.0, 100, [])


def test_nothing_there(tmp_path):
    one = keeper(tmp_path / "absent")
    assert one.latest() is None
    assert one.values() == {}
    assert (one.resumed_from, one.last_step(), one.spent, one.faults) == (None, None, 0.0, [])
    one.clear()


def two(folder: Path) -> tuple[Path, Path]:
    """An older and a newer checkpoint."""
    one = keeper(folder)
    one.save(1, state(1))
    one.save(2, state(2))
    older, newer = sorted(folder.iterdir())
    return older, newer


def test_a_flipped_bit_anywhere_is_noticed_and_the_one_before_taken(tmp_path):
    _, newer = two(tmp_path)
    whole = newer.read_bytes()
    for place in range(0, len(whole), 7):
        for bit in (0, 7):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            newer.write_bytes(damaged)
            one = keeper(tmp_path)
            assert step_of(one.latest()) == 1, (place, bit)
            assert len(one.faults) == 1
            assert "checkpoint is damaged: its hash differs" in one.faults[0]
            assert not newer.exists(), "it is not tried again"


def test_a_file_cut_anywhere_is_noticed(tmp_path):
    _, newer = two(tmp_path)
    whole = newer.read_bytes()
    for length in [*range(0, len(whole), 5), len(whole) - 1]:
        newer.write_bytes(whole[:length])
        assert step_of(keeper(tmp_path).latest()) == 1, length


def test_two_damaged_ones_mean_a_new_beginning(tmp_path):
    for path in two(tmp_path):
        path.write_bytes(b"")
    said: list[str] = []
    one = keeper(tmp_path, say=said.append)
    assert one.latest() is None
    assert one.faults == said
    assert len(said) == 2
    assert one.resumed_from is None


def test_damage_under_a_right_hash_is_noticed_as_well(tmp_path):
    """Somebody else's file: its hash is right, but it is no checkpoint, or its structure is none."""
    import hashlib

    from safetensors.torch import save

    for number, (tensors, header) in enumerate(
        [
            ({}, {"fingerprint": OURS, "step": "7", "state": '{"tensor": "0"}'}),
            ({}, {"fingerprint": OURS, "step": "7", "state": '{"import": "os"}'}),
            ({}, {"fingerprint": OURS, "step": "7", "state": "[" * 100_000}),
            ({}, {"fingerprint": OURS, "step": "seven", "state": "1"}),
            ({}, {"fingerprint": OURS}),
            ({"0": torch.zeros(1)}, None),
        ]
    ):
        folder = tmp_path / str(number)
        two(folder)
        content = save(tensors, header)
        (folder / f"{9:012d}-{hashlib.sha256(content).hexdigest()}.safetensors").write_bytes(content)
        one = keeper(folder)
        assert step_of(one.latest()) == 2
        assert len(one.faults) == 1


def test_another_runs_checkpoint_is_not_taken_up(tmp_path):
    two(tmp_path)
    one = keeper(tmp_path, THEIRS)
    assert one.latest() is None
    assert all("it belongs to another run" in fault for fault in one.faults)


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "weights.safetensors").write_bytes(b"")
    one = keeper(tmp_path)
    for step in range(4):
        one.save(step, state(step))
    assert {"notes.txt", "weights.safetensors"} < set(files(tmp_path))
    assert step_of(keeper(tmp_path).latest()) == 3


def refuse(number: int) -> Any:
    def act(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return act


@pytest.mark.parametrize("call", ["os.fsync", "os.replace", "tempfile.mkstemp"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_full_or_broken_disk_costs_a_checkpoint_and_nothing_else(tmp_path, monkeypatch, call, number):
    said: list[str] = []
    one = keeper(tmp_path, say=said.append)
    one.save(1, state(1))
    with monkeypatch.context() as patch:
        patch.setattr(call, refuse(number))
        one.save(2, state(2))
        one.keep_value("nll", MetricValue(1.0))
    assert os.strerror(number) in said[0]
    assert said[0].startswith("checkpoint at step 2 could not be written")
    assert said[1].startswith("value of nll could not be kept")
    assert one.faults == said
    assert len(files(tmp_path)) == 1, "nothing half written"
    assert step_of(keeper(tmp_path).latest()) == 1
    one.save(3, state(3))
    assert step_of(keeper(tmp_path).latest()) == 3, "the disk has room again"


def test_what_cannot_be_removed_stops_nothing(tmp_path, monkeypatch):
    """A folder that has become read-only holds on to old and damaged checkpoints."""
    _, newer = two(tmp_path)
    newer.write_bytes(b"")
    monkeypatch.setattr(Path, "unlink", refuse(errno.EACCES))
    one = keeper(tmp_path)
    assert step_of(one.latest()) == 1
    one.save(3, state(3))
    assert step_of(keeper(tmp_path).latest()) == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_folder(tmp_path):
    two(tmp_path)
    tmp_path.chmod(0o500)
    one = keeper(tmp_path)
    assert step_of(one.latest()) == 2
    one.save(3, state(3))
    assert "Permission denied" in one.faults[0]


def test_a_folder_in_whose_place_a_file_lies(tmp_path):
    (tmp_path / "checkpoint").write_text("in the way")
    one = keeper(tmp_path / "checkpoint")
    assert one.latest() is None
    one.save(1, state(1))
    one.keep_value("nll", MetricValue(1.0))
    assert len(one.faults) >= 2


def test_when_it_is_time(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    monkeypatch.setattr("time.time", refuse(errno.EINVAL))  # the wall clock, which may jump, is never asked
    asked = False
    one = keeper(tmp_path, every=60.0, stopping=lambda: asked)
    assert not one.due()
    now += 59
    assert not one.due()
    assert one.due(final=True), "a minute of training is worth keeping"
    now += 1
    assert one.due()
    one.save(1, state(1))
    assert not one.due()
    assert not one.due(final=True), "a moment of training is not"
    asked = True
    assert one.due()
    assert one.due(final=True)


VALUE = MetricValue(0.1 + 0.2, 1e-3, 17, {"parts": [1.5, None], "outcomes": ["posterior-collapse"]})


def test_values_of_an_evaluation_are_kept(tmp_path):
    one = keeper(tmp_path)
    one.keep_value("nll", VALUE)
    one.keep_value("share", MetricValue(2.0))
    again = keeper(tmp_path)
    assert again.values() == {"nll": VALUE, "share": MetricValue(2.0)}
    assert again.faults == []
    again.clear()
    assert files(tmp_path) == []


def test_values_of_another_run_are_not_taken_up(tmp_path):
    keeper(tmp_path).keep_value("nll", VALUE)
    other = keeper(tmp_path, THEIRS)
    assert other.values() == {}
    other.keep_value("share", MetricValue(2.0))
    assert set(keeper(tmp_path, THEIRS).values()) == {"share"}


def test_damaged_values_are_noticed_wherever_the_damage_is(tmp_path):
    keeper(tmp_path).keep_value("nll", VALUE)
    path = tmp_path / VALUES
    whole = path.read_bytes()
    for place in range(len(whole)):
        for content in (whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]):
            path.write_bytes(content)
            one = keeper(tmp_path)
            found = one.values()
            assert found == {"nll": VALUE} or (found == {} and (one.faults or OURS.encode() not in content)), place
    path.write_text(json.dumps([1, 2]))
    assert keeper(tmp_path).values() == {}


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("exact", [True, False])
def test_values_hold_for_the_weights_that_they_were_measured_on(tmp_path, exact, finished):
    """Where training again gives other bits, the values of weights that are lost are dropped with them."""
    one = keeper(tmp_path)
    one.save(4, state(4) | {"finished": finished})
    one.keep_value("nll", VALUE)
    again = keeper(tmp_path, exact=exact)
    again.latest()
    assert bool(again.values()) is (exact or finished)
