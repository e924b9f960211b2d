"""A sweep in vLLM that is killed goes on where it was, and ends as one that nobody disturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

COMMAND = (
    "-m", "backend=hf,vllm", "model=fable_tiny", "quantization=fp32", "decoding=greedy,top_p,mirostat,dry",
    "prompts=storytelling", "generation.max_new_tokens=150", "engine.batch_rows=8", "timing=off",
    "tracking=off", "backend.enforce_eager=true", "record.prompt_logprobs=true",
)  # fmt: skip
COLUMNS = {
    "tokens": ("prompt_id", "sample", "token_id"),
    "generations": ("prompt_id", "sample", "output", "finish_reason"),
}


def started(outputs: Path, *more: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "harness", *COMMAND, *more]
    quiet, environment = subprocess.DEVNULL, {**os.environ, "HARNESS_OUTPUTS": str(outputs)}
    return subprocess.Popen(words, env=environment, stdout=quiet, stderr=quiet)


def tables(outputs: Path, backend: str) -> dict[str, dict[str, pa.Table]]:
    """The tokens and texts of the points of one backend, by their decoding."""
    found = {}
    for path in (outputs / "points").glob("*/config.yaml"):
        requested = yaml.safe_load(path.read_text())["requested"]
        if requested["backend"]["kind"] == backend:
            found[requested["decoding"]["name"]] = {
                name: pq.read_table(path.with_name(f"{name}.parquet"), columns=list(columns))
                for name, columns in COLUMNS.items()
            }
    return found


def test_it_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert started(whole).wait(timeout=280) == 0
    kills = 0
    for _ in range(3):
        process = started(killed, "backend=vllm")
        before = len(list(killed.rglob("*.parquet")))
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
            if len(list(killed.rglob("*.parquet"))) > before:
                process.send_signal(signal.SIGKILL)
                kills += process.wait() == -signal.SIGKILL
                break
    assert kills >= 2, "it was too fast to be killed"
    assert started(killed, "backend=vllm").wait(timeout=120) == 0
    undisturbed, resumed, hf = tables(whole, "vllm"), tables(killed, "vllm"), tables(whole, "hf")
    assert undisturbed.keys() == resumed.keys() == hf.keys()
    assert len(hf) == 4
    for name, expected in undisturbed.items():
        for table, rows in expected.items():
            assert resumed[name][table].equals(rows)
            assert hf[name][table].equals(rows)
