"""Sweeps through real workers on the CPU: the same tables as in one process, whatever is killed."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from forked_workers import HEAD, kill_at_random
from mlflow_runs import runs
from stored_tables import TABLES, tables

from harness.cli.main import main
from harness.config.hydra_app import one_point
from harness.errors import ConfigError
from harness.models import describe
from harness.plan.plan import make_plan
from harness.run import planned_points
from harness.run.planned_points import read_plan, write_points
from harness.run.worker_lines import STORE_FAILED
from harness.run.worker_process import WorkerProcess

SWEEP = [
    "-m",
    "model=fable_tiny",
    "quantization=bf16,fp32",
    "decoding=greedy,top_p",
    "prompts.limit=4",
    "generation.max_new_tokens=8",
    "engine.batch_rows=4",
    "timing.prompts=1",
    "timing.repeats=1",
    "timing.warmup=0",
    "timing.new_tokens=2",
]
WORKERS = ["hydra/launcher=local_gpus", "hydra.launcher.workers=2"]


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The tables of the sweep in one process."""
    folder = tmp_path_factory.mktemp("serial")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_OUTPUTS", str(folder))
        assert main([*SWEEP, "tracking=off"]) == 0
    found = tables(folder)
    assert len([name for name in found if name.endswith("/drift")]) == 2
    return found


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[WorkerProcess]:
    """The workers that are started in this process."""
    found: list[WorkerProcess] = []
    start = WorkerProcess.__init__

    def noted(self: WorkerProcess, *words: Any) -> None:
        start(self, *words)
        found.append(self)

    monkeypatch.setattr(WorkerProcess, "__init__", noted)
    return found


def kill_one(started: list[WorkerProcess], after: Callable[[], bool]) -> threading.Thread:
    """Kill the last worker that was started as soon as `after` says so."""

    def wait() -> None:
        while not (started and after()):
            time.sleep(0.01)
        os.kill(started[-1].pid, signal.SIGKILL)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_sweep_through_workers_one_of_which_is_killed(
    serial: dict[str, Any],
    started: list[WorkerProcess],
    tmp_path: Path,
    outputs: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    kill_one(started, lambda: bool(list(outputs.glob("points/*/partial/generations-*"))))
    assert main([*SWEEP, f"tracking.uri={store}", *WORKERS]) == 0
    assert len(started) == 3
    assert tables(outputs) == serial
    said = capsys.readouterr().out
    assert "was killed (SIGKILL)" in said
    assert "started again (1 of 2)" in said
    assert [run.info.status for run in runs(store, "generation")] == ["FINISHED"] * 4
    assert [run.info.status for run in runs(store, "sweep")] == ["FINISHED"]
    (plan,) = (outputs / "sweeps").glob("*/plan.json")
    points = json.loads(plan.read_text())["points"]
    assert [point["status"] for point in points] == ["done"] * 4
    for folder in (outputs / "points").iterdir():
        assert json.loads((folder / "parts.json").read_text())["timed_on"].endswith(" with 1 thread")
    ended = {quantization: [p for p in points if p["quantization"] == quantization] for quantization in
             ("fp32", "bf16")}  # fmt: skip
    assert max(p["ended"] for p in ended["fp32"]) <= min(p["started"] for p in ended["bf16"])
    # Again, and there is nothing left to do: no worker is started, MLflow has no second runs.
    assert main([*SWEEP, f"tracking.uri={store}", *WORKERS]) == 0
    assert len(started) == 3
    assert len(runs(store, "generation")) == 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_killed_the_tables_are_the_same(
    seed: int, serial: dict[str, Any], forked: Callable[..., Forked], tmp_path: Path, outputs: Path
) -> None:
    rng = random.Random(seed)
    store = f"sqlite:///{tmp_path}/mlflow.db"
    words = [*SWEEP, f"tracking.uri={store}", *WORKERS]
    workers = tmp_path / "workers"
    head = forked(*words, code=HEAD, WORKERS=str(workers))
    assert kill_at_random(head, workers, outputs, rng, len(TABLES) * 4, spare_head=bool(seed % 3))
    head.wait()
    again = forked(*words, code=HEAD, WORKERS=str(workers))
    assert again.wait() == 0, again.stdout + again.stderr
    assert tables(outputs) == serial
    assert [run.info.status for run in runs(store, "generation")] == ["FINISHED"] * 4


@pytest.mark.slow
def test_a_prompt_that_kills_the_process_fails_its_points_only(
    tmp_path: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deadly.py").write_text(
        "import os\n\nclass Deadly:\n"
        "    def __call__(self, input_ids, scores):\n        os.kill(os.getpid(), 9)\n"
    )
    cases = """cases=[["decoding.processors=['deadly.py:Deadly']"],["decoding=top_p"]]"""
    words = ["-m", "model=fable_tiny", cases]
    words += ["prompts.limit=1", "generation.max_new_tokens=4", "engine.fuse=false", "timing=off"]
    words += ["tracking=off", *WORKERS]
    assert main(words) == 1
    (plan,) = (outputs / "sweeps").glob("*/plan.json")
    points = json.loads(plan.read_text())["points"]
    assert [point["status"] for point in points] == ["failed", "done"]
    assert "twice at the same place" in points[0]["error"]


def test_ctrl_c_ends_the_workers_and_keeps_what_is_done(
    started: list[WorkerProcess], outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        while not started:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert main([*SWEEP, "tracking=off", *WORKERS]) == 130
    assert started[0].status is not None
    assert "0 of 4 points are kept; the same command resumes from here" in capsys.readouterr().out


def test_a_worker_refuses_what_would_be_other_samples(
    tmp_path: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("A fox\n")
    words = ["model=fable_tiny", "prompts.file=mine.txt", "timing=off", "tracking=off"]
    plan = make_plan([one_point(words)], "it")
    write_points(plan)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = read_plan(plan.folder.name)
    assert [job.point_id for job in again.jobs] == [job.point_id for job in plan.jobs]
    (tmp_path / "mine.txt").write_text("Another fox\n")
    assert main(["worker", str(plan.folder), "--group", "0"]) == 2
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "prompts or weights are others" in told[-1]["error"]
    now = describe.versions()
    monkeypatch.setattr(planned_points, "versions", lambda: now | {"torch": "1.0"})
    with pytest.raises(ConfigError, match=rf"here is torch 1.0 \(planned with {now['torch'][:3]}"):
        read_plan(str(plan.folder))
    monkeypatch.setattr(planned_points, "_kinds", lambda plan: ["cuda"])
    with pytest.raises(ConfigError, match="planned for cpu, this worker has cuda"):
        read_plan(str(plan.folder))


def test_a_worker_whose_store_is_full_says_so(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model=fable_tiny", "prompts.limit=1", "generation.max_new_tokens=2", "timing=off"]
    plan = make_plan([one_point([*words, "tracking=off"])], "it")
    write_points(plan)

    def full(source: Any, target: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(source))

    monkeypatch.setattr(os, "replace", full)
    assert main(["worker", str(plan.folder), "--group", "0"]) == STORE_FAILED
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "No space left on device" in told[-1]["error"]
    assert not any("outcome" in line for line in told)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "takes a sweep and one of its groups"),
        (["it"], "takes a sweep and one of its groups"),
        (["it", "--grup", "0"], "takes a sweep and one of its groups"),
        (["it", "--group", "x"], "--group x: takes whole numbers"),
        (
            ["it", "--group", "0", "--shard", "2/2"],
            "--shard 2/2: takes a worker's number, from 0, and how many",
        ),
        (["it", "--group", "0", "--shard", "1"], "--shard 1: takes a worker's number"),
    ],
)
def test_wrong_words(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worker", *words]) == 2
    assert line in capsys.readouterr().err


def test_no_such_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worker", "nowhere", "--group", "0"]) == 2
    assert "no folder of a sweep that is planned for workers" in capsys.readouterr().out
