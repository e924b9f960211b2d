"""Groups as jobs of a batch system: what a head makes of them, and sweeps through jobs of this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from stored_tables import tables

from harness.backends.hf.target import HfTarget
from harness.cli.main import main
from harness.config.hydra_app import one_point
from harness.config.submitit_launchers import SubmititSlurm
from harness.plan.plan import make_plan
from harness.progress import SILENT
from harness.run import weights_first
from harness.run.batch.batch_worker import BatchWorker
from harness.run.batch.batch_workers import BatchWorkers
from harness.run.batch.cluster import JobEnd, JobState
from harness.run.batch.gpus_needed import gpus_needed
from harness.run.batch.local_queue import LocalQueue
from harness.run.launchers import device_of
from harness.run.lines_file import LinesFile, LinesReader
from harness.run.planned_points import write_points
from harness.run.weights_first import fetch_weights_first
from harness.run.worker_lines import STORE_FAILED
from harness.run.workers import Task

SWEEP = [
    "-m", "model=fable_tiny", "quantization=fp32,bf16", "decoding=greedy", "prompts.limit=2",
    "generation.max_new_tokens=8", "engine.batch_rows=1", "timing=off", "tracking=off",
]  # fmt: skip
LOCAL = ["hydra/launcher=submitit_local"]


class _Told:
    """A cluster that says what a test sets."""

    def __init__(self) -> None:
        self.end = JobEnd("was killed (SIGKILL)", status=137)

    def ended(self, job: str) -> JobEnd:
        return self.end


def _worker(tmp_path: Path, cluster: Any, events: SimpleQueue[Any]) -> tuple[BatchWorker, LinesFile]:
    path = tmp_path / "lines.jsonl"
    return BatchWorker("17_0", path, tmp_path / "log", cluster, events), LinesFile(path)


def test_a_job_that_is_queued_again_has_not_ended(tmp_path: Path) -> None:
    events: SimpleQueue[Any] = SimpleQueue()
    worker, lines = _worker(tmp_path, _Told(), events)
    worker.look({"17_0": JobState(False, "queued (Priority)")})
    assert events.get_nowait()[1]["stage"]["label"] == "queued (Priority)"
    for told in ({"begin": {}}, {"end": {"status": 143, "why": "was preempted", "after": "again"}}):
        lines.write(json.dumps(told) + "\n")
    worker.hear()
    worker.look({"17_0": JobState(False, "queued (BeginTime)")})
    assert worker.status is None
    lines.write('{"begin": {}}\n{"outcome": {"job": 0}}\n{"end": {"sta')
    worker.hear()
    assert worker.status is None, "half a line is none"
    lines.write('tus": 0}}\n')
    worker.hear()
    assert worker.status == 0
    told = [events.get_nowait()[1] for _ in range(3)]
    assert told[1:] == [{"outcome": {"job": 0}}, None]


def test_a_job_that_was_told_to_end_and_is_not_queued_says_why(tmp_path: Path) -> None:
    events: SimpleQueue[Any] = SimpleQueue()
    cluster = _Told()
    cluster.end = JobEnd("ended with exit status 143", status=143)
    worker, lines = _worker(tmp_path, cluster, events)
    (tmp_path / "log").write_text("12:00:00 decoding\n")
    lines.write('{"begin": {}}\n{"end": {"status": 143, "why": "was preempted", "after": "again"}}\n')
    worker.hear()
    worker.look({})
    assert (worker.status, worker.after) == (143, "again")
    assert worker.how_it_ended() == "was preempted; its last line: 12:00:00 decoding"


def test_a_job_that_vanishes_is_dead_within_seconds(tmp_path: Path) -> None:
    events: SimpleQueue[Any] = SimpleQueue()
    worker, lines = _worker(tmp_path, _Told(), events)
    lines.write('{"begin": {}}\n')
    started = time.monotonic()
    while worker.status is None:
        worker.hear()
        worker.look({})
        time.sleep(0.1)
    assert 1 < time.monotonic() - started < 10, "its last lines may come late"
    assert worker.how_it_ended() == "was killed (SIGKILL)"


@pytest.fixture
def own_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of this test alone."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def test_a_job_of_this_machine_is_left_and_found_again(
    tmp_path: Path,
    outputs: Path,
    own_queue: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [word.replace("fp32,bf16", "fp32") for word in SWEEP]
    assert main([*words, *LOCAL, "hydra.launcher.wait=false"]) == 0
    assert "1 job submitted" in capsys.readouterr().out
    assert main([*words, *LOCAL]) == 0
    assert "was submitted before; going on with it for fable_tiny fp32" in capsys.readouterr().out
    there = tables(outputs)
    monkeypatch.setenv("HARNESS_OUTPUTS", str(tmp_path / "serial"))
    assert main(words) == 0
    assert there == tables(tmp_path / "serial")


@pytest.mark.slow
def test_ctrl_c_cancels_jobs_of_this_machine(
    outputs: Path, own_queue: None, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        while not list(outputs.glob("points/*/partial/generations-*")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert main([*SWEEP, "drift.enabled=false", *LOCAL]) == 130
    assert "the same command resumes from here" in capsys.readouterr().out
    (record,) = outputs.glob("sweeps/*/workers/jobs.json")
    jobs = [job["id"] for job in json.loads(record.read_text())["jobs"]]
    assert len(jobs) == 2
    assert LocalQueue().live(jobs) == {}
    assert {LocalQueue().ended(job).words for job in jobs} == {"was cancelled"}


@pytest.mark.slow
def test_jobs_of_this_machine_make_the_same_tables(
    tmp_path: Path,
    outputs: Path,
    own_queue: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Submitted and left; then a head that waits for them, and starts one again that is killed."""
    assert main([*SWEEP, *LOCAL, "hydra.launcher.wait=false"]) == 0
    assert "2 jobs submitted" in capsys.readouterr().out

    def begun() -> list[Any]:
        files = sorted(outputs.glob("sweeps/*/workers/*.jsonl"))
        lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return [line["begin"]["pid"] for line in lines if "begin" in line]

    def kill() -> None:
        while len(begun()) < 2:
            time.sleep(0.01)
        os.kill(begun()[1], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    assert main([*SWEEP, *LOCAL]) == 0
    shown = capsys.readouterr().out
    assert "was killed (SIGKILL)" in shown
    assert "was submitted before; going on with it for fable_tiny fp32" in shown
    assert len(begun()) == 3
    there = tables(outputs)
    monkeypatch.setenv("HARNESS_OUTPUTS", str(tmp_path / "serial"))
    assert main(SWEEP) == 0
    assert there == tables(tmp_path / "serial")


def test_weights_are_fetched_once_and_only_where_a_model_is_needed(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan([one_point(["model=fable_tiny", "timing=off", "tracking=off"])], "it")
    there = replace(plan.jobs[0].target.info, id="org/model", revision="abc", weight_files=("a.safetensors",))
    monkeypatch.setattr(HfTarget, "checkpoints", lambda self, second: [there, there])
    fetched: list[Any] = []
    monkeypatch.setattr(weights_first, "fetch_weights", lambda *words: fetched.append(words[:3]))
    fetch_weights_first(plan, SILENT)
    assert fetched == [("org/model", "abc", ("a.safetensors",))]
    plan.__dict__["missing"] = ((),)
    fetch_weights_first(plan, SILENT)
    assert len(fetched) == 1


@pytest.mark.parametrize(
    ("memory", "devices", "gpus", "words"),
    [
        (80, "auto", 1, "1 GPU of 80 GB for 1.6 MiB of weights"),
        (0.001, "auto", 3, "3 GPUs of 0.001 GB for 1.6 MiB of weights"),
        (
            0.001,
            "single",
            1,
            "1 GPU of 0.001 GB, which may be too small; add model.devices=auto: for 1.6 MiB",
        ),
        (None, "auto", 1, "1 GPU each, since hydra.launcher.gpu_memory_gb is not given"),
    ],
)
def test_gpus_are_as_many_as_weights_and_cache_need(
    memory: float | None, devices: str, gpus: int, words: str, outputs: Path
) -> None:
    launcher = SubmititSlurm(gpus_per_node="auto", gpu_memory_gb=memory)
    point = one_point(
        ["model=fable_tiny", f"model.devices={devices}", "prompts.limit=1", "timing=off", "tracking=off"]
    )
    plan = make_plan([point], "it", device_of(launcher))
    need = gpus_needed(plan, plan.groups[0], launcher)
    assert need.gpus == gpus
    assert need.words.startswith(words)
    assert plan.jobs[0].target.device == "cuda"


class _Quick:
    """A cluster whose jobs end at once, by their own word."""

    def __init__(self) -> None:
        self.submitted: list[list[str]] = []

    def submit(self, script: Path, count: int, after: Any) -> list[str]:
        array = len(self.submitted) + 1
        self.submitted.append([f"{array}_{index}" for index in range(count)])
        for words in script.read_text().split():
            Path(words).write_text('{"begin": {}}\n{"end": {"status": 0}}\n')
        return self.submitted[-1]

    def live(self, jobs: Any) -> dict[str, JobState]:
        return {}


class _QuickWorkers(BatchWorkers):
    def script(self, jobs: Any, folder: Path, gpus: int | None) -> str:
        return "\n".join(job.words[job.words.index("--lines") + 1] for job in jobs)


def test_each_wave_is_watched_also_one_that_starts_as_the_last_job_ends(outputs: Path) -> None:
    point = one_point(["model=fable_tiny", "prompts.limit=1", "timing=off", "tracking=off"])
    plan = make_plan([point], "it")
    cluster: Any = _Quick()
    workers = _QuickWorkers(SubmititSlurm(), cluster)
    events: SimpleQueue[Any] = SimpleQueue()
    for number in range(3):
        (worker,) = workers.start([Task(plan, 0)], events)
        assert events.get(timeout=20) == (worker, None)
        assert worker.status == 0
        assert cluster.submitted[-1] == [f"{number + 1}_0"]
    record = json.loads((plan.folder / "workers" / "jobs.json").read_text())
    assert [job["lines"] for job in record["jobs"]] == [f"group-0.{number}.jsonl" for number in range(3)]


def test_a_job_whose_lines_find_a_full_disk_says_so_by_its_status(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model=fable_tiny", "prompts.limit=1", "generation.max_new_tokens=2", "timing=off"]
    plan = make_plan([one_point([*words, "tracking=off"])], "it")
    write_points(plan)
    words = ["worker", str(plan.folder), "--group", "0", "--lines"]
    assert main([*words, "/dev/full"]) == STORE_FAILED
    assert "/dev/full cannot be written (No space left on device)" in capsys.readouterr().err
    assert main([*words, str(outputs / "lines"), "--without", "0"]) == 0
    told = [json.loads(line) for line in (outputs / "lines").read_text().splitlines()]
    assert told[0]["begin"]["pid"] == os.getpid()
    assert told[-1] == {"end": {"status": 0}}


def test_lines_that_are_none_are_left_out(tmp_path: Path) -> None:
    reader = LinesReader(tmp_path / "lines")
    assert list(reader.new()) == []
    (tmp_path / "lines").write_text('garbage\n[1]\n{"a": 1}\n{"b"')
    assert list(reader.new()) == [{"a": 1}]
    with (tmp_path / "lines").open("a") as file:
        file.write(": 2}\n")
    assert list(reader.new()) == [{"b": 2}]


def test_importing_the_queue_of_this_machine_is_quick() -> None:
    code = "import sys, harness.run.batch.local_queue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
