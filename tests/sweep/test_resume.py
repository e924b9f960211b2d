"""A sweep survives `kill -9`: the same command ends in the same tables as a run nobody disturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

COMMAND = [
    "-m",
    "model=fable_tiny",
    "quantization=fp32",
    "decoding=greedy,top_p,temperature,repetition_penalty,beam",
    "generation.samples=1",
    "generation.max_new_tokens=40",
    "engine.batch_rows=8",
    "engine.threads=1",
    "timing=off",
]


def start(outputs: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *COMMAND],
        env={**os.environ, "HARNESS_OUTPUTS": str(outputs)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=outputs.parent,
    )


def tables(outputs: Path) -> dict[str, pa.Table]:
    found = {}
    for path in sorted((outputs / "points").glob("*/*.parquet")):
        found[f"{path.parent.name}/{path.name}"] = pq.read_table(path)
    return found


def runs(outputs: Path) -> list[tuple[str, str, str]]:
    """(kind, label, status) of every run that MLflow holds."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{outputs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("harness")
    assert experiment is not None
    return sorted(
        (run.data.tags["kind"], run.data.tags.get("label", ""), run.info.status)
        for run in client.search_runs([experiment.experiment_id])
    )


def survive(tmp_path: Path, kills: int) -> None:
    undisturbed, outputs = tmp_path / "calm" / "outputs", tmp_path / "killed" / "outputs"
    for folder in (undisturbed, outputs):
        folder.parent.mkdir()
    began = time.perf_counter()
    calm = start(undisturbed)
    said, _ = calm.communicate(timeout=240)
    assert calm.returncode == 0, said
    took = time.perf_counter() - began
    luck = random.Random(0)
    for _ in range(kills):
        process = start(outputs)
        # Late moments too: the first seconds are imports, and a kill there proves little.
        time.sleep(took * luck.uniform(0.35, 1.0))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    last = start(outputs)
    said, _ = last.communicate(timeout=240)
    assert last.returncode == 0, said
    expected, found = tables(undisturbed), tables(outputs)
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        assert found[name].equals(table), name
    assert not list(outputs.rglob("*.part")), "nothing half-written is left"
    assert not list((outputs / "points").glob("*/partial"))
    assert runs(outputs) == runs(undisturbed)
    assert {status for _, _, status in runs(outputs)} == {"FINISHED"}


def test_three_kills(tmp_path: Path) -> None:
    survive(tmp_path, 3)


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    survive(tmp_path, 20)
