"""A stored point by its label: of the last sweep, or of another one that is named."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fake_points import make_sweep

from harness.errors import ConfigError
from harness.store.find_point import find_point


def test_a_label_of_an_earlier_sweep_is_named_with_its_sweep(outputs: Path) -> None:
    first = make_sweep(outputs, models=("m",), decodings=("greedy", "top_p"), tokens=3)
    wanted = first.points[0].label
    assert find_point(outputs, wanted)[1] == wanted, "it is the last sweep"
    later = replace(
        first,
        sweep_id="f" * 10,
        folder=first.folder.with_name("later-ffffffffff"),
        points=tuple(replace(p, label=f"other/{p.label}") for p in first.points),
    )
    later.save()
    os.utime(first.folder / "plan.json", (1e9, 1e9))
    with pytest.raises(ConfigError) as raised:
        find_point(outputs, wanted)
    cure = f"{first.folder.name}/{wanted}"
    assert str(raised.value) == f"{wanted}: no stored point has this id or label; did you mean {cure}?"
    assert find_point(outputs, cure)[0].point_id == first.points[0].point_id
    shutil.rmtree(outputs / "points" / first.points[0].point_id)
    with pytest.raises(ConfigError) as raised:
        find_point(outputs, wanted)
    assert cure not in str(raised.value), "nothing of it is stored"
