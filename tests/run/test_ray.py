"""Sweeps on a real Ray cluster of this machine: the same tables as in one process, whatever dies.

make test-ray
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from living_processes import living
from mlflow_runs import runs
from stored_tables import tables

from harness.cli.main import main
from harness.config import hydra_app
from harness.config.launcher import launcher_of
from harness.config.ray_launcher import RayLauncher
from harness.plan.plan import Plan, make_plan
from harness.run.ray import ray_cluster, ray_workers
from harness.run.ray.ray_workers import RayWorkers
from harness.run.worker_pool import WorkerPool

# Not `importorskip`: the harness is to import Ray, since it says first what Ray shall keep to itself.
pytestmark = [pytest.mark.ray, pytest.mark.skipif(not ray_cluster.is_installed(), reason="needs Ray")]

FAKE = ("-I", "-S", str(Path(__file__).with_name("fake_worker.py")))
SWEEP = [
    "-m",
    "model=fable_tiny",
    "quantization=bf16,fp32",
    "decoding=greedy,top_p",
    "prompts.file=mine.txt",
    "drift.text=fixed.txt",
    "compare.metrics=[mine.py:length]",
    "generation.max_new_tokens=32",
    "engine.batch_rows=4",
    "timing.prompts=1",
    "timing.repeats=1",
    "timing.warmup=0",
    "timing.new_tokens=2",
]
RAY = ["hydra/launcher=ray", "hydra.launcher.ray.remote.num_gpus=0"]


def tables_and_files(outputs: Path) -> dict[str, Any]:
    """All that does not depend on time, by point and table, and the names of all files."""
    found = tables(outputs)
    for part in ("points", "drift"):
        files = (path for path in (outputs / part).rglob("*") if path.is_file())
        found[part] = sorted(path.relative_to(outputs).as_posix() for path in files)
    return found


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of two CPUs and two virtual GPUs, which this process is connected to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        given = launcher_of({"ray": {"init": {"num_cpus": 2, "num_gpus": 2}}}, "ray")
        assert isinstance(given, RayLauncher)
        ray_cluster.connect(given)
        import ray

        yield ray.get_runtime_context().gcs_address
        ray_cluster.disconnect()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with files that the sweep names."""
    work = tmp_path / "work"
    work.mkdir()
    write_files(work)
    monkeypatch.chdir(work)
    return work


def write_files(work: Path) -> None:
    # So many that a worker has batches left when its first has come back.
    begins = ("A fox", "A hen went", "Once", "The king")
    lines = [f"{begin}{end}" for end in ("", " and", " that", " ran", " to the") for begin in begins]
    (work / "mine.txt").write_text("".join(f"{line}\n" for line in lines))
    (work / "fixed.txt").write_text("It ran to the king. Then it slept.\n")
    (work / "mine.py").write_text("def length(generated):\n    return float(len(generated.output))\n")


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The tables of the sweep in one process."""
    work = tmp_path_factory.mktemp("serial")
    write_files(work)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        patch.setenv("HARNESS_OUTPUTS", str(work / "outputs"))
        assert main([*SWEEP, "tracking=off"]) == 0
    found = tables_and_files(work / "outputs")
    assert len([name for name in found if name.endswith("/drift")]) == 2
    return found


def workers_of(text: str) -> list[psutil.Process]:
    """The worker processes in whose command a text is."""
    return living("harness worker", text)


def when(reached: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    def wait() -> None:
        while not reached():
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_files_travel_and_a_killed_worker_goes_on(
    serial: dict[str, Any],
    address: str,
    folder: Path,
    tmp_path: Path,
    outputs: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The node sees nothing of the head; its worker is killed once a batch has come back."""
    store = f"sqlite:///{tmp_path}/mlflow.db"
    killed = when(
        lambda: bool([*outputs.glob("points/*/partial/batch-*"), *outputs.glob("points/*/tokens.parquet")]),
        lambda: [one.kill() for one in workers_of("harness-ray-")] and None,
    )
    words = [*SWEEP, f"tracking.uri={store}", *RAY, "hydra.launcher.store=ship"]
    assert main(words) == 0
    killed.join()
    said = capsys.readouterr().out
    assert "was killed (SIGKILL)" in said
    assert "started again (1 of 2)" in said
    assert tables_and_files(outputs) == serial
    assert [run.info.status for run in runs(store, "generation")] == ["FINISHED"] * 4
    (plan,) = (outputs / "sweeps").glob("*/plan.json")
    assert [point["status"] for point in json.loads(plan.read_text())["points"]] == ["done"] * 4
    for log in plan.parent.glob("workers/*.log"):
        assert "loading weights" in log.read_text()
    assert {path.suffix for path in (plan.parent / "workers").iterdir()} == {".log"}
    assert main(words) == 0
    assert len(runs(store, "generation")) == 4, "nothing is left to do, and told twice"


def test_the_head_is_killed_and_rays_process_too(
    serial: dict[str, Any],
    address: str,
    folder: Path,
    tmp_path: Path,
    outputs: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    words = [word for word in SWEEP if not word.startswith("quantization")]
    words += ["quantization=fp32", f"tracking.uri={store}", *RAY]
    head = subprocess.Popen(
        [sys.executable, "-m", "harness", *words, f"hydra.launcher.ray.init.address={address}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while head.poll() is None and not workers_of(str(outputs)):
        time.sleep(0.05)
    assert head.poll() is None, head.communicate()[0]
    head.kill()
    head.communicate()
    until = time.monotonic() + 30
    while workers_of(str(outputs)):
        assert time.monotonic() < until, "the worker of a killed head goes on"
        time.sleep(0.1)

    def kill_rays_own() -> None:
        for one in workers_of(str(outputs)):
            parent = one.parent()
            assert parent is not None
            parent.kill()

    when(lambda: bool(workers_of(str(outputs))), kill_rays_own).join(0)
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "is gone with its Ray process (SYSTEM_ERROR" in said
    assert "(raylet)" not in said
    found = tables_and_files(outputs)
    assert len([name for name in found if name.endswith("/tokens")]) == 2
    assert all(serial[name] == table for name, table in found.items() if "/" in name)
    assert [run.info.status for run in runs(store, "generation")] == ["FINISHED"] * 2


def planned(*words: str) -> tuple[Plan, Any]:
    found: list[tuple[Plan, Any]] = []

    def action(points: Any, name: str, files: Any) -> int:
        found.append((make_plan(points, name), RayWorkers(files.launcher, points)))
        return 0

    assert hydra_app.run(list(words), action) == 0
    return found[0]


class Silent:
    """Receives progress."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def stage(self, label: str, total: int, unit: str) -> None: ...

    def advance(self, amount: int = 1) -> None: ...

    def message(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def acted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Plan, dict[str, list[str]]], Path]:
    """`acted(plan, acts)`: the workers only act; returns the file that lists their starts."""
    monkeypatch.setattr(ray_workers, "COMMAND", FAKE)
    monkeypatch.setattr(ray_workers, "_FORWARDED", ("FAKE_WORKER",))
    monkeypatch.setenv("FAKE_WORKER", str(tmp_path / "scenario.json"))

    def scenario(plan: Plan, acts: dict[str, list[str]]) -> Path:
        facts = {"groups": [list(group.jobs) for group in plan.groups], "acts": acts}
        (tmp_path / "scenario.json").write_text(json.dumps(facts))
        return tmp_path / "starts"

    return scenario


PLAIN = ["-m", "model=fable_tiny", "quantization=fp32,bf16", "decoding=greedy", "prompts.limit=1"]
PLAIN += ["timing=off", "drift.enabled=false", "tracking=off", "model.device=cpu", "hydra/launcher=ray"]


def test_workers_have_gpus_of_their_own_and_end_when_the_head_does(
    address: str, acted: Callable[[Plan, dict[str, list[str]]], Path]
) -> None:
    plan, workers = planned(*PLAIN, "hydra.launcher.ray.remote.num_gpus=1")
    assert "2 workers (CPUs 1, GPUs 1 each)" in workers.describe(plan)
    starts = acted(plan, {"0": ["hang"], "1": ["hang"]})
    before = {process.pid for process in living("fake_worker")}
    outcomes = WorkerPool(workers).run(plan, Silent())
    thread = when(
        lambda: starts.is_file() and len(starts.read_text().splitlines()) == 2,
        lambda: os.kill(os.getpid(), signal.SIGINT),
    )
    with pytest.raises(KeyboardInterrupt):
        list(outcomes)
    thread.join()
    assert sorted(line.split()[-1] for line in starts.read_text().splitlines()) == ["0", "1"]
    assert {process.pid for process in living("fake_worker")} <= before


def test_what_workers_come_to(address: str, acted: Callable[[Plan, dict[str, list[str]]], Path]) -> None:
    plan, workers = planned(*PLAIN, "hydra.launcher.ray.remote.num_gpus=0", "hydra.launcher.retries=0")
    starts = acted(plan, {"0": ["die"], "1": ["refuse"]})
    outcomes = {one.job: one for one in WorkerPool(workers).run(plan, Silent())}
    errors = {plan.jobs[job].point.quantization.name: one.error for job, one in outcomes.items()}
    assert "was killed (SIGKILL)" in (errors["fp32"] or "")
    assert "its last line: out of paper" in (errors["fp32"] or "")
    assert errors["bf16"] == "here is torch 1.0 (planned with 2.0); use one environment for all"
    assert {line.split()[-1] for line in starts.read_text().splitlines()} == {"-"}, "no GPU was asked for"


def test_what_the_cluster_has_not(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for word in PLAIN if word != "model.device=cpu"]
    for command in ([], ["plan"], ["check"]):
        assert main([*command, *words, "hydra.launcher.ray.remote.num_gpus=3"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "ray.remote.num_gpus=3: no node has so much gpu, the most is 2, so Ray would wait" in line


def test_a_cluster_with_a_token_wants_it(address: str, tmp_path: Path) -> None:
    words = ["model=fable_tiny", "prompts.limit=1", "timing=off", "tracking=off", *RAY]
    done = subprocess.run(
        [sys.executable, "-m", "harness", "check", *words, f"hydra.launcher.ray.init.address={address}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": str(tmp_path), "RAY_AUTH_MODE": "token"},
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "the cluster wants its token; set RAY_AUTH_TOKEN to the cluster's token" in line


def test_a_group_goes_on_where_its_node_died(tmp_path: Path, outputs: Path) -> None:
    """On a node without a shared store, the only one that has what the worker needs; another comes later."""
    home = str(Path(ray_cluster.__file__).parents[2])
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": home,
    }
    given = [sys.executable, str(Path(__file__).with_name("ray_nodes.py"))]
    words = [
        "-m",
        "model=fable_tiny",
        "decoding=greedy,top_p",
        "prompts.limit=1",
        "timing=off",
        "tracking=off",
    ]
    words += ["generation.max_new_tokens=4", *RAY, "hydra.launcher.ray.remote.resources={far: 1}"]
    words += ["hydra.launcher.store=ship"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen(given, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, **pipes) as nodes:
        assert nodes.stdin is not None
        assert nodes.stdout is not None
        address = nodes.stdout.readline().strip()
        words.append(f"hydra.launcher.ray.init.address={address}")
        said: list[str] = []
        with subprocess.Popen(
            [sys.executable, "-m", "harness", *words], stderr=subprocess.STDOUT, **pipes
        ) as head:
            while head.poll() is None and not workers_of("harness-ray-"):
                time.sleep(0.05)
            print("kill", file=nodes.stdin, flush=True)
            assert head.stdout is not None
            for line in head.stdout:
                said.append(line)
                if "since its node died" in line:
                    print("again", file=nodes.stdin, flush=True)
        nodes.stdin.close()
    text = "".join(said)
    assert head.returncode == 0, text
    assert "goes on in another one" in text
    assert len(list(outputs.glob("points/*/tokens.parquet"))) == 2
