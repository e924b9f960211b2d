"""The GPU's benchmark in small on a CUDA device; `tests/test_gpu_benchmark.py` has the rest of it."""

from __future__ import annotations

from itertools import groupby

import pytest

from tests.benchmarks import gpu

SECTIONS = ("step", "launches", "recording", "memory", "sweep")


@pytest.mark.only_cuda
def test_the_benchmark_runs_in_small(device: str) -> None:
    report = gpu.main(["--tiny", "--device", device, "--models", "7b", "0.5b", "--sections", *SECTIONS])
    assert report is not None
    assert not [note for note in report.notes if "failed" in note or "cannot be" in note]
    sections = [section for section, _ in groupby(row.section for row in report.rows)]
    assert sections == ["copy", *2 * ["model", *SECTIONS, "time"]]
    for row in report.rows:
        if row.section == "step":
            assert row.numbers["captured"], "as the harness does it by default"
            assert 0 < row.numbers["floor_ms"] < row.numbers["forward_ms"]
        if row.section == "memory":
            assert 0 < row.numbers["plan_mb"] < row.numbers["peak_mb"] < 1024
