"""A disk that fills up at any moment: one clear error, nothing half-written, nothing lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from harness.cli.main import main

SWEEP = [
    "-m",
    "model=fable_tiny",
    "quantization=fp32",
    "prompts=storytelling",
    "prompts.limit=2",
    "generation.max_new_tokens=6",
    "engine.fuse=false",
    "timing=off",
    "tracking=off",
]
BOTH = [*SWEEP, "decoding=greedy,top_p"]


def tables(outputs: Path) -> dict[str, Any]:
    return {str(p.relative_to(outputs)): pq.read_table(p) for p in sorted(outputs.rglob("*.parquet"))}


@pytest.mark.thinned(3)
@pytest.mark.parametrize("left", [0, 3, 7, 12, 20])
def test_a_disk_that_fills_up(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], left: int
) -> None:
    """After `left` more files no file can be written; then there is room again."""
    assert main([*SWEEP, "decoding=min_p"]) == 0
    before = tables(outputs)
    replace, count = os.replace, 0

    def full(source: Any, target: Any) -> None:
        nonlocal count
        count += 1
        if count > left:
            raise OSError(errno.ENOSPC, "No space left on device", str(source))
        replace(source, target)

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        assert main(BOTH) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("outputs: ")
    assert "No space left on device" in line
    assert "run the same command again" in line
    assert not list(outputs.rglob("*.part"))
    found = tables(outputs)
    assert all(found[name].equals(table) for name, table in before.items())
    assert main(BOTH) == 0
    whole = tables(outputs)
    for name, table in found.items():
        if "partial" not in name:  # metrics may have been added since
            assert whole[name].select(table.column_names).equals(table)
    points = [path for name in whole if (path := Path(name)).name == "generations.parquet"]
    assert all((outputs / path).with_name("metrics.json").is_file() for path in points)
    assert sum(name.endswith("generations.parquet") for name in whole) == 3
    assert not any("partial" in name for name in whole)
