"""The command from scratch, whose MLflow is a process of its own: complete, interrupted, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from living_processes import living, living_children
from mlflow_runs import artifacts, runs, statuses

SWEEP = [
    "-m",
    "model=fable_small",
    "decoding=greedy,top_p,min_p,repetition_penalty",
    "generation.max_new_tokens=200",
    "generation.ignore_eos=true",
    "engine.fuse=false",
    "engine.threads=1",
    "timing=off",
]


def started(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *SWEEP],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )


def until(reached: Callable[[], object]) -> None:
    begun = time.monotonic()
    while not reached():
        assert time.monotonic() - begun < 120
        time.sleep(0.02)


def finished(outputs: Path) -> int:
    """How many points have their metrics."""
    return len(list((outputs / "points").glob("*/metrics.json")))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_stopped_and_given_again(
    number: signal.Signals, outputs: Path, store: str, tmp_path: Path
) -> None:
    with started(tmp_path) as process:
        until(lambda: finished(outputs) >= 2)
        (tracking,) = living_children("harness.tracking.tracking_process", of=process.pid)
        os.kill(process.pid, number)
        said, errors = process.communicate(timeout=120)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    psutil.wait_procs([tracking], timeout=10)
    assert not living(among=[tracking])
    if number != signal.SIGKILL:
        assert "the same command resumes from here" in said
        assert statuses(store, "sweep") == {"sweep": "KILLED"}
        assert set(statuses(store, "generation").values()) == {"FINISHED"}
        # The last one may have been stored, and not recorded yet.
        assert finished(outputs) - 1 <= len(runs(store, "generation")) <= finished(outputs)
    assert "Traceback" not in errors
    with started(tmp_path) as process:
        said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert statuses(store, "sweep") == {"sweep": "FINISHED"}
    found = runs(store, "generation")
    assert sorted(run.data.tags["decoding"] for run in found) == sorted(SWEEP[2].partition("=")[2].split(","))
    assert {run.info.status for run in found} == {"FINISHED"}
    assert all((artifacts(run) / "generations.json").is_file() for run in found)
    assert "harness ui" in said
    (parent,) = runs(store, "sweep")
    assert (artifacts(parent) / "compare.html").is_file()
    assert parent.data.tags["mlflow.note.content"]
