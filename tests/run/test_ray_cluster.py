"""The launcher of Ray without Ray: its keys, what a cluster has room for, and errors in one line."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.config.hydra_app import one_point
from harness.config.launcher import launcher_of
from harness.config.ray_launcher import RayLauncher
from harness.errors import ConfigError
from harness.plan.plan import make_plan
from harness.run.ray import ray_cluster
from harness.run.ray.group_files import gets, gives, named_files
from harness.run.ray.parcels import Folder
from harness.run.ray.ray_workers import RayWorkers

A100 = {"CPU": 16.0, "GPU": 4.0, "memory": 4e11, "accelerator_type:A100": 1.0}
CPUS = {"CPU": 64.0, "memory": 1e11, "fast_disk": 1.0}


def launcher(
    init: dict[str, Any] | None = None, remote: dict[str, Any] | None = None, **own: Any
) -> RayLauncher:
    found = launcher_of({**own, "ray": {"init": init or {}, "remote": remote or {}}}, "ray")
    assert isinstance(found, RayLauncher)
    return found


@pytest.fixture(autouse=True)
def no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.parametrize(
    ("init", "remote", "line"),
    [
        (
            {"address": "auto"},
            {},
            "ray.remote.num_gpus: is needed with a cluster's address (auto); set it to 1",
        ),
        (
            {"address": "auto", "num_gpus": 2},
            {"num_gpus": 1},
            "ray.init.num_gpus=2: is of a new cluster, auto",
        ),
        ({}, {"num_gpus": 1.5}, "ray.remote.num_gpus=1.5: must be whole above 1"),
        ({}, {"num_cpus": 2.5}, "ray.remote.num_cpus=2.5: must be whole above 1"),
        ({}, {"max_calls": 3}, "ray.remote.max_calls=3: must be 1"),
        ({}, {"num_gpu": 1}, "ray.remote.num_gpu=1: no such key; did you mean ray.remote.num_gpus?"),
        ({}, {"scheduling_strategy": "FAR"}, "ray.remote.scheduling_strategy=FAR: must be"),
        ({"num_cpus": 0}, {}, "ray.init.num_cpus=0: must be"),
    ],
)
def test_wrong_values(init: dict[str, Any], remote: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as error:
        launcher(init, remote)
    assert f"hydra.launcher.{line}" in str(error.value)


def test_an_address_of_the_environment_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launcher().address is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS=10\.0\.0\.1:6379"):
        launcher()
    assert launcher({"address": "local"}).address is None


def test_the_device_of_a_plan() -> None:
    assert launcher().device is None
    assert launcher(remote={"num_gpus": 0}).device == "cpu"
    assert launcher(remote={"num_gpus": 0.5}).device == "cuda"
    assert launcher(remote={"num_gpus": 2}, gpu_memory_gb=80).device_gb == 80, "of one GPU"
    assert launcher(remote={"num_gpus": 0.5}, gpu_memory_gb=80).device_gb == 40
    assert launcher(remote={"num_gpus": 2}).worker_gpus == 2


def test_workers_that_fit_on_nodes() -> None:
    need = ray_cluster.needed(launcher(remote={"num_gpus": 1, "num_cpus": 4, "accelerator_type": "A100"}))
    assert need == {"CPU": 4, "GPU": 1, "accelerator_type:A100": 0.001}
    assert [ray_cluster.room(need, has) for has in (A100, CPUS)] == [4, 0]
    share = ray_cluster.needed(launcher(remote={"num_gpus": 0.1, "num_cpus": 0.1}))
    assert ray_cluster.room(share, A100) == 40
    own = ray_cluster.needed(
        launcher(remote={"num_gpus": 0, "memory": int(4e10), "resources": {"fast_disk": 0.4}})
    )
    assert [ray_cluster.room(own, has) for has in (A100, CPUS)] == [0, 2]


INFEASIBLE = [
    ({"num_gpus": 8}, "ray.remote.num_gpus=8: no node has so much gpu, the most is 4, so Ray would"),
    ({"num_gpus": 0, "num_cpus": 65}, "ray.remote.num_cpus=65: no node has so much cpu, the most is 64"),
    ({"num_gpus": 0, "memory": 10**12}, "ray.remote.memory=1000000000000: no node has so much memory"),
    ({"num_gpus": 0, "resources": {"tape": 1}}, "ray.remote.resources=1: no node has so much tape"),
    ({"num_gpus": 1, "accelerator_type": "H100"}, "no node has this accelerator, the cluster has A100"),
    ({"num_gpus": 1, "num_cpus": 32}, "ray.remote: no node has CPU 32, GPU 1 together; lower one of them"),
]  # fmt: skip


@pytest.mark.parametrize(("remote", "line"), INFEASIBLE)
def test_what_no_node_has_is_refused(remote: dict[str, Any], line: str) -> None:
    nodes = {"a": A100, "b": CPUS}
    given = launcher({"address": "auto"}, remote)
    with pytest.raises(ConfigError) as error:
        ray_cluster.check_room(given, nodes)
    assert line in str(error.value)
    assert "or set hydra.launcher.autoscale=true where nodes may come later" in str(error.value)
    assert "\n" not in str(error.value)
    ray_cluster.check_room(given.model_copy(update={"autoscale": True}), nodes)


WORKER_DIED = """The actor died unexpectedly before finishing this task.
	class_name: GroupRunner
	actor_id: 7de6bdc4f5f3e7d4effa33fe01000000
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: \
Worker unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the \
process was killed by the OOM killer due to high memory usage, (2) ray stop --force was called."""
REASONS = [
    (WORKER_DIED, "is gone with its Ray process (SYSTEM_ERROR: Worker unexpectedly exits with", "count"),
    ("The actor died because its node has died. Node Id: 1f", "is gone, since its node died", "again"),
    ("Task was killed due to the node running low on memory.", "its node ran out of memory", "count"),
    (
        "...\nModuleNotFoundError: No module named 'harness'",
        "this package is not installed on its node",
        "never",
    ),
    ("...\nModuleNotFoundError: No module named 'harness.run'", "or in another version", "never"),
    ("...\nModuleNotFoundError: No module named 'rich'", "rich is not installed on its node", "never"),
    ("Failed to set up runtime_env: pip failed", "its runtime_env cannot be set up", "never"),
    ("something\nelse", "is gone (RuntimeError: something)", "count"),
]


@pytest.mark.parametrize(("text", "words", "after"), REASONS)
def test_why_a_worker_died(text: str, words: str, after: str) -> None:
    said, then = ray_cluster.why_it_died(RuntimeError(text))
    assert words in said
    assert then == after
    assert "\n" not in said


def test_ray_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(ray_cluster, "is_installed", lambda: False)
    words = ["model=fable_tiny", "prompts.limit=1", "timing=off", "tracking=off", "hydra/launcher=ray"]
    for command in ([], ["plan"], ["check"]):
        assert main([*command, *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "pip install 'decoding-harness[ray]'" in line
    assert RayWorkers.here() == "Ray is not installed: pip install 'decoding-harness[ray]'"


HEARD = [
    ("Unauthenticated: RPC error: InvalidAuthToken: token is missing", "the cluster wants its token"),
    ("Version mismatch: The cluster was started with: Ray: 2.1", "Version mismatch: The cluster was started"),
    ("", "cannot connect: Failed to connect to Ray cluster at 10.0.0.1:6379; check the address"),
]


@pytest.mark.parametrize(("heard", "line"), HEARD)
def test_a_cluster_that_lets_nobody_in(heard: str, line: str) -> None:
    failed = ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379")
    said = str(ray_cluster._not_connected("10.0.0.1:6379", failed, heard))
    assert said.startswith("hydra.launcher.ray.init.address=10.0.0.1:6379: ")
    assert line in said


@pytest.mark.parametrize("address", ["10.0.0.1", "host:x", "ray://host", "host:99999"])
def test_what_is_no_address(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "is_installed", lambda: True)
    with pytest.raises(ConfigError, match="must be auto, HOST:PORT as in"):
        ray_cluster.connect(launcher({"address": address}, {"num_gpus": 0}))


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "is_installed", lambda: True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"address={address}: nobody answers there"):
            ray_cluster.connect(launcher({"address": address}, {"num_gpus": 0}))


def test_files_that_points_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outputs: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.run.ray.group_files.LARGEST_FILE", 100)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/mine.txt").write_text("A fox\n")
    (tmp_path / "large.txt").write_text("It ran. " * 50)
    (tmp_path / "m.py").write_text("def length(generated):\n    return 1.0\n")
    (tmp_path.parent / "outside.txt").write_text("x")
    words = ["model=fable_tiny", "prompts.file=in/mine.txt", "compare.metrics=[m.py:length]", "timing=off"]
    plan = make_plan([one_point([*words, "drift.text=large.txt", "tracking=off"])], "it")
    files, links = named_files(plan.jobs, tmp_path)
    assert files == ("in/mine.txt", "m.py")
    assert links == {"large.txt": str((tmp_path / "large.txt").resolve())}
    (job,) = plan.jobs
    assert job.drift.fixed_text is not None
    key = job.drift.fixed_text.key
    assert gives([job]) == (
        Folder("drift/heads"),
        Folder("drift/texts", prefixes=(key,)),
        Folder(f"points/{job.point_id}", whole=True),
    )
    assert gets(plan, [job]) == (Folder(f"points/{job.point_id}"), Folder("drift/texts", prefixes=(key,)))
    elsewhere = one_point(
        [*words[:1], *words[2:], f"prompts.file={tmp_path.parent}/outside.txt", "tracking=off"]
    )
    assert named_files(make_plan([elsewhere], "it").jobs, tmp_path)[0] == ("m.py",)
