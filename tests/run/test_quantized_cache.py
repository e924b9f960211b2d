"""Points that differ in their cache only: decoded apart, alone, and told so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fp8_cache import needs_fp8_cache

from harness.cli.main import main

BASE = [
    "model=fable_tiny", "quantization=fp32", "tracking=off", "prompts=storytelling", "prompts.limit=3",
    "generation.max_new_tokens=10", "timing.prompts=1", "timing.repeats=1", "timing.warmup=0",
    "timing.new_tokens=4",
]  # fmt: skip


@pytest.fixture
def run(outputs: Path) -> Callable[..., dict[str, Path]]:
    """`run("-m", ...)`: the folders of the sweep's points by label."""

    def points(*words: str) -> dict[str, Path]:
        assert main([*words[:1], *BASE, *words[1:]]) == 0
        plan = max(outputs.glob("sweeps/*/plan.json"), key=lambda path: path.stat().st_mtime_ns)
        told = json.loads(plan.read_text())["points"]
        warned[:] = [point["warnings"] for point in told]
        return {point["label"]: outputs / "points" / point["point_id"] for point in told}

    warned: list[Any] = []
    points.warned = warned  # type: ignore[attr-defined]
    return points


def tokens(folder: Path) -> list[tuple[Any, ...]]:
    rows = pq.read_table(folder / "tokens.parquet").to_pylist()
    return [
        (row["prompt_id"], row["sample"], row["position"], row["token_id"], row["logprob"]) for row in rows
    ]


@needs_fp8_cache
@pytest.mark.usefixtures("one_thread")
class TestQuantizedCache:
    def test_a_cache_is_a_point_of_its_own(self, run: Any) -> None:
        found = run("-m", "cache=default,quantized_fp8", "decoding=greedy,temperature")
        assert list(found) == [
            "fable_tiny/fp32/greedy cache=default",
            "fable_tiny/fp32/temperature cache=default",
            "fable_tiny/fp32/greedy cache=quantized_fp8",
            "fable_tiny/fp32/temperature cache=quantized_fp8",
        ]
        assert len(set(found.values())) == 4
        assert [len(warnings) for warnings in run.warned] == [0, 0, 1, 1]
        assert "shares no prefix with others" in run.warned[2][0]
        plain, quantized = (
            found[f"fable_tiny/fp32/greedy cache={name}"] for name in ("default", "quantized_fp8")
        )
        # The prompt is read by attention that is not quantized yet; what comes after reads the cache.
        first = [[row for row in tokens(folder) if row[2] == 0] for folder in (plain, quantized)]
        for (*where, logprob), (*same, other) in zip(*first, strict=True):
            assert where == same
            assert logprob == pytest.approx(other, abs=1e-4)
        assert tokens(plain) != tokens(quantized)
        assert "backend: fp8" in (quantized / "config.yaml").read_text()
        assert (quantized / "timing.parquet").is_file()

    def test_a_text_does_not_depend_on_its_company(self, run: Any) -> None:
        words = ("cache=quantized_fp8", "decoding=temperature", "generation.samples=2")
        (together,) = run(*words, "engine.batch_rows=6").values()
        before = tokens(together)
        for other in ("engine.batch_rows=1", "prompts.limit=1"):
            (folder,) = run(*words, other, "engine.fresh=true").values()
            alone = tokens(folder)
            assert alone == [row for row in before if row[0] in {row[0] for row in alone}]

    def test_beams_and_inspecting_are_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["check", *BASE, "cache=quantized_fp8", "decoding=beam"]) == 2
        assert "cache.backend=fp8: not with decoding.num_beams=5" in capsys.readouterr().err
        assert main(["inspect", "model=fable_tiny", "cache=quantized_fp8", "prompt=It was"]) == 2
        assert "inspect reads with the model's own cache; use cache=default" in capsys.readouterr().err
