"""Processes that start at once on an empty store: every point is made once, every run told once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from harness.store.locks import lock

BASE = [
    "-m",
    "model=fable_tiny",
    "quantization=fp32",
    "prompts.limit=2",
    "generation.max_new_tokens=6",
    "engine.threads=1",
    "timing=off",
    "compare.noise=false",
]
SWEEPS = ("greedy,top_p", "greedy,top_p", "top_p,greedy,min_p")  # the same twice, and one that holds it


def start_at_once(outputs: Path, processes: int) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "harness", *BASE, f"decoding={SWEEPS[number % len(SWEEPS)]}"],
            env={**os.environ, "HARNESS_OUTPUTS": str(outputs)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=outputs.parent,
        )
        for number in range(processes)
    ]
    said = [process.communicate(timeout=400)[0] for process in started]
    failed = [one for process, one in zip(started, said, strict=True) if process.returncode]
    assert not failed, "\n".join(failed)
    assert not any("logging to MLflow" in one for one in said), "\n".join(said)


def check(outputs: Path) -> None:
    from mlflow import MlflowClient

    assert len(list((outputs / "points").glob("*/generations.parquet"))) == 3
    assert not list((outputs / "points").glob("*/partial"))
    client = MlflowClient(tracking_uri=f"sqlite:///{outputs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("harness")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    told = Counter((run.data.tags["sweep_id"], run.data.tags.get("label", "sweep")) for run in runs)
    assert set(told.values()) == {1}
    assert len(told) == 2 + 2 + 3


@pytest.mark.slow
def test_three_at_once(tmp_path: Path) -> None:
    start_at_once(tmp_path / "outputs", 3)
    check(tmp_path / "outputs")


@pytest.mark.slow
def test_eight_at_once(tmp_path: Path) -> None:
    start_at_once(tmp_path / "outputs", 8)
    check(tmp_path / "outputs")


HOLDER = """
import sys
from pathlib import Path
from harness.store.locks import lock
with lock(Path(sys.argv[1]), sys.argv[2:], lambda: print("waiting", flush=True), print) as waited:
    print("held", waited, flush=True)
    sys.stdin.readline()
"""


def holder(outputs: Path, *names: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(outputs), *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_lock_is_held_by_one_process_and_freed_when_it_dies(outputs: Path) -> None:
    first = holder(outputs, "a", "b")
    assert first.stdout is not None
    assert first.stdout.readline() == "held False\n"
    second = holder(outputs, "c", "b")
    assert second.stdout is not None
    assert second.stdout.readline() == "waiting\n"
    with lock(outputs, ["d"], lambda: pytest.fail("d is free"), pytest.fail) as waited:
        assert not waited
    first.kill()
    assert second.stdout.readline() == "held True\n"
    second.communicate("\n", timeout=30)
    first.communicate(timeout=30)
    with lock(outputs, ["a", "b", "c"], lambda: pytest.fail("all are free"), pytest.fail) as waited:
        assert not waited
