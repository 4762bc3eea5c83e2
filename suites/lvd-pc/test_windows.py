from __future__ import annotations

from pathlib import Path

import numpy as np
from latentbench.papers.lvd_pc.windows import load_character_windows


def test_windows_are_side_by_side_and_the_rest_is_left_out(tmp_path: Path):
    path = tmp_path / "input.txt"
    path.write_text("abcabdabcx")
    chunks = {c.split: c.columns for c in load_character_windows({"input.txt": path}, 4)}
    x = np.asarray(chunks["all"]["x"])
    assert x.dtype == np.uint8
    assert x.tolist() == [[0, 1, 2, 0], [1, 3, 0, 1]]
    assert len(chunks["vocabulary"]["text"]) == 5
