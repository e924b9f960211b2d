"""Groups that run in worker processes: who starts when, and what becomes of workers that die."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from planned_sweep import planned

from harness.config import hydra_app
from harness.config.local_gpus import LocalGpus
from harness.errors import ConfigError, StoreError
from harness.plan.plan import Plan
from harness.progress import bar_beside
from harness.report.console import SafeConsole
from harness.run import group_progress, shards, worker_process, worker_slots
from harness.run.display import Display
from harness.run.executor import Outcome
from harness.run.local_workers import LocalWorkers
from harness.run.worker_pool import WorkerPool
from harness.run.workers import Task
from harness.store.stored_point import stored_point

FAKE = (sys.executable, "-I", "-S", str(Path(__file__).with_name("fake_worker.py")))
SWEEP = [
    "-m",
    "model=fable_tiny",
    "quantization=fp32,bf16",
    "decoding=greedy,top_p",
    "prompts.limit=1",
    "engine.fuse=false",
    "timing=off",
    "drift.enabled=false",
    "tracking=off",
]


class Rehearsal:
    """Runs plans with workers that only act; tells what came of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []

    def stage(self, label: str, total: int, unit: str) -> None: ...

    def advance(self, amount: int = 1) -> None: ...

    def message(self, text: str) -> None:
        self.said.append(text)

    def __call__(self, plan: Plan, acts: dict[str, Sequence[str]], **launcher: Any) -> dict[int, Outcome]:
        facts = {"groups": [list(group.jobs) for group in plan.groups], "acts": acts}
        (self.folder / "scenario.json").write_text(json.dumps(facts))
        (self.folder / "starts").unlink(missing_ok=True)
        pool = WorkerPool(LocalWorkers(LocalGpus(**{"workers": 2, **launcher})))
        found: dict[int, Outcome] = {}
        for outcome in pool.run(plan, self):
            assert outcome.job not in found
            found[outcome.job] = outcome
        return found

    @property
    def starts(self) -> list[list[str]]:
        """Group, jobs left out and GPUs of each worker that was started."""
        return [line.split() for line in (self.folder / "starts").read_text().splitlines()]

    def starts_of(self, group: str) -> list[str]:
        return [without for number, without, _ in self.starts if number == group]


@pytest.fixture
def rehearse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rehearsal:
    monkeypatch.setattr(worker_process, "COMMAND", FAKE)
    monkeypatch.setenv("FAKE_WORKER", str(tmp_path / "scenario.json"))
    return Rehearsal(tmp_path)


def statuses(outcomes: dict[int, Outcome]) -> list[str]:
    return [outcomes[index].status for index in sorted(outcomes)]


def test_two_deaths_at_the_same_place_fail_its_points_only(rehearse: Rehearsal) -> None:
    plan = planned(*SWEEP)
    first, second = plan.groups[0].jobs
    found = rehearse(plan, {"0": ["die", "die", "all"]})
    assert found[first].status == "failed"
    assert {found[index].status for index in found if index != first} == {"done"}
    assert len(found) == 4
    assert rehearse.starts_of("0") == ["-", "-", str(first)]
    assert rehearse.starts_of("1") == ["-"]
    error = found[first].error or ""
    assert "was killed (SIGKILL), as the system does when memory runs out" in error
    assert "its last line: out of paper; twice at the same place" in error
    assert "started again (1 of 2)" in rehearse.said[0]
    assert "started again without these points" in rehearse.said[1]
    assert found[second].started == 1.0


def test_a_worker_that_gets_on_is_started_again_so_often(rehearse: Rehearsal) -> None:
    plan = planned(*SWEEP)
    found = rehearse(plan, {"0": ["one and die", "keep and die", "all"]})
    assert statuses(found) == ["done"] * 4
    assert rehearse.starts_of("0") == ["-"] * 3
    again = rehearse(plan, {"1": ["one and die", "keep and die"]}, retries=1)
    one, two = plan.groups[1].jobs
    assert again[one].status == "done", "told before its worker died"
    assert "2 workers of this group died" in (again[two].error or "")
    none = rehearse(plan, {"0": ["die"]}, retries=0)
    assert sum(outcome.status == "failed" for outcome in none.values()) == 2


def test_a_group_that_cannot_be_loaded_fails_as_a_whole(rehearse: Rehearsal) -> None:
    plan = planned(*SWEEP)
    found = rehearse(plan, {"1": ["die loading"]}, retries=5)
    assert [found[index].status for index in plan.groups[1].jobs] == ["failed"] * 2
    assert rehearse.starts_of("1") == ["-", "-"]


def test_a_worker_that_refuses_is_not_asked_again(rehearse: Rehearsal) -> None:
    plan = planned(*SWEEP)
    found = rehearse(plan, {"0": ["refuse"]})
    assert {found[index].error for index in plan.groups[0].jobs} == {
        "here is torch 1.0 (planned with 2.0); use one environment for all"
    }
    assert len(rehearse.starts) == 2


def test_a_full_disk_stops_all(rehearse: Rehearsal) -> None:
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"cannot be written \(No space left on device\)"):
        rehearse(planned(*SWEEP), {"0": ["disk"], "1": ["hang"]})
    assert time.monotonic() - started < 30, "nobody waits for the other worker"


def test_closing_ends_the_workers(rehearse: Rehearsal, tmp_path: Path) -> None:
    plan = planned(*SWEEP)
    facts = {"groups": [list(group.jobs) for group in plan.groups], "acts": {"1": ["hang"]}}
    (tmp_path / "scenario.json").write_text(json.dumps(facts))
    outcomes = WorkerPool(LocalWorkers(LocalGpus(workers=2))).run(plan, rehearse)
    next(outcomes)
    started = time.monotonic()
    outcomes.close()
    assert time.monotonic() - started < 30


def test_references_run_first_and_the_others_side_by_side(rehearse: Rehearsal) -> None:
    words = ["quantization=bf16,fp16,fp32", "drift.enabled=true"]
    plan = planned(*(word for word in SWEEP if not word.startswith(("quantization", "drift"))), *words)
    assert [group.after for group in plan.groups] == [(), (0,), (0,)]
    found = rehearse(plan, {"0": ["slow"]})
    assert statuses(found) == ["done"] * 6
    assert rehearse.starts[0][0] == "0"
    assert {number for number, _, _ in rehearse.starts[1:]} == {"1", "2"}


def test_each_worker_has_a_bar(rehearse: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    console = SafeConsole()
    display = Display(console, 2)
    for number, length in enumerate((10, 20)):
        bar = bar_beside(display, f"worker {number}: ")
        bar.stage("loading weights", 100, "%")
        bar.stage("decoding 2 points together", length, "tokens")
        bar.advance(5)
    with console.capture() as capture:
        console.print(display._progress.get_renderable())
    lines = capture.get().splitlines()
    for number, count in enumerate((" 5/10", " 5/20")):
        (line,) = (line for line in lines if f"worker {number}: decoding 2 points together" in line)
        assert count in line
    bar.stage("", 0, "")
    with console.capture() as capture:
        console.print(display._progress.get_renderable())
    assert "worker 0" in capture.get()
    assert "worker 1" not in capture.get()


SHARED = [
    *(word for word in SWEEP if not word.startswith("quantization")),
    "hydra/launcher=local_gpus",
    "engine.shards=2",
]
ONE, TWO = "0/2", "1/2"


def test_workers_that_share_a_group(rehearse: Rehearsal) -> None:
    found = rehearse(planned(*SHARED), {ONE: ["slow"], TWO: ["nothing"]}, workers=3)
    assert statuses(found) == ["done", "done"]
    assert sorted(name for name, _, _ in rehearse.starts) == [ONE, TWO]
    assert not rehearse.said


@pytest.mark.parametrize("lead", ["slower", "nothing"])
def test_what_one_of_them_finds_made_counts_if_no_other_made_it(lead: str, rehearse: Rehearsal) -> None:
    found = rehearse(planned(*SHARED), {ONE: [lead], TWO: ["reused"]})
    assert statuses(found) == ["reused" if lead == "nothing" else "done"] * 2


def test_the_others_go_on_without_one_that_keeps_dying(rehearse: Rehearsal) -> None:
    found = rehearse(planned(*SHARED), {ONE: ["slower"], TWO: ["die"]}, retries=1)
    assert statuses(found) == ["done", "done"]
    assert rehearse.starts_of(TWO) == ["-", "-"]
    assert "started again (1 of 1)" in rehearse.said[0]
    assert "the other workers go on without it" in rehearse.said[1]


def test_the_last_of_them_fails_the_points_that_kill_it(rehearse: Rehearsal) -> None:
    plan = planned(*SHARED)
    found = rehearse(plan, {ONE: ["die", "die", "die", "all"], TWO: ["nothing"]})
    first, second = plan.groups[0].jobs
    assert (found[first].status, found[second].status) == ("failed", "done")
    assert "twice at the same place" in (found[first].error or "")


def test_what_they_leave_is_run_by_one_alone(rehearse: Rehearsal) -> None:
    found = rehearse(planned(*SHARED), {ONE: ["nothing"], TWO: ["nothing"]})
    assert statuses(found) == ["done", "done"]
    assert sorted(name for name, _, _ in rehearse.starts) == ["0", ONE, TWO]


@pytest.mark.parametrize(("seconds", "names"), [(None, ["0"]), (1100, ["0"]), (1300, ["0/3", "1/3", "2/3"])])
def test_idle_workers_join_a_group_that_takes_long(
    seconds: float | None, names: list[str], rehearse: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (shards, group_progress):
        monkeypatch.setattr(module, "seconds_to_decode", lambda plan, group: seconds)
    words = [word for word in SHARED if word != "engine.shards=2"]
    acts = {"0/3": ["slower"], "1/3": ["nothing"], "2/3": ["nothing"]}
    assert statuses(rehearse(planned(*words), acts, workers=3)) == ["done", "done"]
    assert sorted(name for name, _, _ in rehearse.starts) == names


def test_how_long_a_group_takes_is_known_from_the_last_sweep(outputs: Path) -> None:
    plan = planned(*SWEEP)
    assert shards.seconds_to_decode(plan, plan.groups[0]) is None
    plan.sweep().save()
    first, second = plan.groups
    like = plan.jobs[first.jobs[0]]
    stored = stored_point(plan.outputs, like.point_id)
    stored.write_parts({"facts": {"tokens": 50, "decode_seconds": 2.0}})
    assert shards.seconds_to_decode(plan, first) == 2 * 1 * 64 / 25
    assert shards.seconds_to_decode(plan, second) is None


def test_groups_that_cannot_be_shared(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "seconds_to_decode", lambda plan, group: 1e6)
    fresh = planned(*SHARED[:-1], "engine.fresh=true")
    assert shards.shards_of(fresh, fresh.groups[0], places=4) == 1
    shared = planned(*SHARED)
    assert [shards.shards_of(shared, shared.groups[0], places) for places in (1, 2, 4)] == [1, 2, 2]


class Ending:
    """Workers that end at once, each group's as `ends` says in turn: `done`, or what comes after a death."""

    retries = 0

    def __init__(self, ends: dict[int, list[str]]) -> None:
        self.ends, self.tasks = ends, list[Task]()

    def prepare(self, plan: Plan, progress: Any) -> None: ...

    def close(self) -> None: ...

    def places(self, plan: Plan) -> int:
        return len(plan.groups)

    def start(self, tasks: Sequence[Task], events: Any) -> list[Any]:
        self.tasks += tasks
        return [self._started(task, events) for task in tasks]

    def _started(self, task: Task, events: Any) -> Any:
        end = self.ends[task.group].pop(0)
        status, after = (0, "count") if end == "done" else (143, end)
        worker = SimpleNamespace(
            name="job 1", status=status, after=after, how_it_ended=lambda: "is no more", end=int, wait=int
        )
        for index in task.plan.groups[task.group].jobs if end == "done" else ():
            events.put((worker, {"outcome": vars(Outcome(index, "done", 2.0, 1.0))}))
        events.put((worker, None))
        return worker


def test_a_job_that_is_preempted_goes_on_and_one_that_is_cancelled_does_not(rehearse: Rehearsal) -> None:
    plan = planned(*SWEEP)
    workers: Any = Ending({0: ["again", "again", "again", "done"], 1: ["never"]})
    found = {outcome.job: outcome for outcome in WorkerPool(workers).run(plan, rehearse)}
    assert [found[index].status for index in plan.groups[0].jobs] == ["done"] * 2, "in spite of no retries"
    assert [found[index].error for index in plan.groups[1].jobs] == ["job 1 is no more"] * 2
    assert len(workers.tasks) == 5
    assert rehearse.said.count("fable_tiny fp32: job 1 is no more; goes on in another one") == 3


GPUS: list[tuple[dict[str, Any], str | None, list[tuple[str, ...]]]] = [
    ({}, None, [("0",), ("1",), ("2",), ("3",)]),
    ({"gpus": (0, 2)}, None, [("0",), ("2",)]),
    ({"gpus_per_worker": 2}, None, [("0", "1"), ("2", "3")]),
    ({"workers": 1}, None, [("0",)]),
    ({"workers": 2, "gpus": (3,)}, None, [("3",), ("3",)]),
    ({"gpus": (1, 3)}, "4,5,6,GPU-7", [("5",), ("GPU-7",)]),
]


@pytest.mark.parametrize(("keys", "visible", "expected"), GPUS)
def test_workers_get_gpus_and_cores_of_their_own(
    keys: dict[str, Any], visible: str | None, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_slots, "devices", lambda: ("cuda:0", "cuda:1", "cuda:2", "cuda:3", "cpu"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(2, 11)))
    monkeypatch.setattr(worker_slots, "cpu_threads", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible) if visible else monkeypatch.delenv(
        "CUDA_VISIBLE_DEVICES", raising=False
    )
    slots = worker_slots.worker_slots(LocalGpus(**keys))
    assert [slot.gpus for slot in slots] == expected
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots] == [",".join(one) for one in expected]
    cores = [core for slot in slots for core in slot.cores]
    assert len(set(cores)) == len(cores) == len(slots) * (9 // len(slots))
    assert {slot.environment["OMP_NUM_THREADS"] for slot in slots} == {str(8 // len(slots))}
    assert [slot.on_gpus for slot in slots] == [expected.count(one) for one in expected]


@pytest.mark.parametrize(
    ("gpus", "keys", "device", "line"),
    [
        (0, {"gpus": (0,)}, "auto", "no GPU 0 here, this machine has no GPU"),
        (2, {"gpus": (1, 2)}, "auto", "no GPU 2 here, this machine has GPUs 0 to 1"),
        (1, {"gpus_per_worker": 2}, "auto", "there are 1 GPUs to share out"),
        (2, {}, "cuda:1", "set hydra.launcher.gpus=[1] instead"),
    ],
)
def test_what_a_machine_has_not_is_refused(
    gpus: int, keys: dict[str, Any], device: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_slots, "devices", lambda: (*(f"cuda:{n}" for n in range(gpus)), "cpu"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    point = hydra_app.one_point(["model=fable_tiny"])
    point = point.model_copy(update={"model": point.model.model_copy(update={"device": device})})
    with pytest.raises(ConfigError) as error:
        LocalWorkers(LocalGpus(**keys), [point])
    assert line in str(error.value)
