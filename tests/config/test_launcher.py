"""Launchers: their files, their keys, and what is wrong with those that are given."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from pydantic import Field

from harness.cli.main import main
from harness.config import launcher as launchers
from harness.config.base import Positive, Section
from harness.config.groups import ConfigGroups
from harness.config.launcher import LAUNCHERS, launcher_of
from harness.config.launcher_section import LauncherSection
from harness.config.local_gpus import LocalGpus
from harness.config.overrides import check_overrides
from harness.config.search_path import conf_folder
from harness.config.submitit_launchers import SubmititSlurm
from harness.errors import ConfigError


class _Inner(Section):
    address: str | None = Field(None, description="of the head")
    size: Positive = Field(1, description="how many")


class _Nested(LauncherSection):
    NAME = "nested"
    SUMMARY = "somewhere else"
    GUIDE = ""

    init: _Inner = Field(default_factory=_Inner, description="")
    more: dict[str, Any] = Field(default_factory=dict, description="anything")


@pytest.fixture
def nested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launchers, "LAUNCHERS", {**LAUNCHERS, "nested": _Nested})


def mistakes(*words: str) -> list[str]:
    return [str(mistake) for mistake in check_overrides(words, ConfigGroups()).mistakes]


@pytest.mark.parametrize("section", LAUNCHERS.values(), ids=LAUNCHERS)
def test_the_file_of_a_launcher_has_its_keys_and_defaults(section: type[LauncherSection]) -> None:
    values = yaml.safe_load((conf_folder() / "hydra" / "launcher" / f"{section.NAME}.yaml").read_text())
    assert values.pop("_target_")
    assert values == json.loads(section().model_dump_json())
    assert all(info.description for info in section.all_keys().values())


def test_a_key_of_another_launcher_says_whose_it_is(nested: None) -> None:
    assert mistakes("hydra/launcher=local_gpus", "hydra.launcher.init.size=2") == [
        "hydra.launcher.init.size=2: no such key of hydra/launcher=local_gpus, only of nested "
        "(keys: workers, gpus_per_worker, gpus, retries)"
    ]
    (line,) = mistakes("hydra.launcher.workers=2", "hydra/launcher=nested")
    assert "no such key of hydra/launcher=nested, only of local_gpus" in line
    assert mistakes("hydra/launcher=nested", "hydra.launcher.init.size=2", "hydra.launcher.more.a.b=1") == []
    (line,) = mistakes("hydra/launcher=nested", "hydra.launcher.init.siz=2")
    assert "no such key; did you mean hydra.launcher.init.size?" in line
    (line,) = mistakes("hydra.launcher.retries=2")
    assert "no effect without a launcher; add hydra/launcher=local_gpus or" in line
    (line,) = mistakes("hydra/launcher=nested", "hydra.launcher.init.size=1,2")
    assert "one value only" in line
    assert mistakes("hydra/launcher=nested", "hydra.launcher.init.address=null") == []
    (line,) = mistakes("hydra/launcher=local_gpus", "hydra.launcher.n_jobs=2")
    assert "no such key; use hydra.launcher.workers (keys: workers, gpus_per_worker, " in line


def test_the_schema_of_hydra_submitit_launcher_is_not_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """That plug-in, where it is installed, stores one with fewer keys and other types."""
    from hydra.core.config_store import ConfigStore

    @dataclass
    class SlurmQueueConf:
        _target_: str = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
        gpus_per_node: int | None = None

    words = ["model=fable_tiny", "hydra/launcher=submitit_local", "hydra.launcher.gpus_per_node=auto"]
    store = ConfigStore.instance()
    store.store(
        group="hydra/launcher", name="submitit_local", node=SlurmQueueConf, provider="submitit_launcher"
    )
    try:
        assert main(["check", *words, "hydra.launcher.wait=false"]) == 0
        assert "submitit" not in capsys.readouterr().err
    finally:
        del store.repo["hydra"]["launcher"]["submitit_local.yaml"]


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (
            ["nodes=2", "tasks_per_node=4"],
            ["nodes=2: a group is run by one process", "tasks_per_node=4: a group"],
        ),
        (["mem_gb=many"], ["mem_gb=many: must be a number above 0"]),
        (["gpus_per_node=all"], ["gpus_per_node=all: must be auto or a whole number from 0"]),
        (["setup=a"], ["setup=a: must be a list, each text"]),
        (
            ["gpu_memory_gb=80"],
            ["gpu_memory_gb=80: no effect without GPUs; add hydra.launcher.gpus"],
        ),
        (["cpus_per_gpu=8"], ["cpus_per_gpu=8: needs hydra.launcher.gpus_per_task=1; or use cpus_per_task"]),
        (["gpus_per_task=1", "gpus_per_node=1"], ["gpus_per_task=1: contradicts gpus_per_node"]),
        (["additional_parameters={array: 1}"], ["array is set by the harness; leave it out"]),
        (["partitoin=gpu"], ["no such key; did you mean hydra.launcher.partition?"]),
        (["gpus_per_worker=1"], ["no such key; use hydra.launcher.gpus_per_node"]),
    ],
)
def test_what_is_wrong_with_the_keys_of_slurm(
    words: list[str], lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [f"hydra.launcher.{word}" for word in words]
    assert main(["check", "model=fable_tiny", "hydra/launcher=submitit_slurm", *keys]) == 2
    shown = capsys.readouterr().err
    assert all(line in shown for line in lines), shown
    assert len(shown.splitlines()) == len(lines)


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        ({}, "cpu"),
        ({"gpus_per_node": 0}, "cpu"),
        ({"gpus_per_node": 2}, "cuda"),
        ({"gpus_per_node": "auto"}, "cuda"),
        ({"gpus_per_task": 1}, "cuda"),
        ({"gres": "gpu:a100:1"}, "cuda"),
        ({"additional_parameters": {"gpus": 1}}, "cuda"),
    ],
)
def test_the_device_of_jobs(keys: dict[str, Any], kind: str) -> None:
    assert SubmititSlurm(**keys).device == kind


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"gpus": [0, 0]}, "hydra.launcher.gpus=[0,0]: must be auto or a list of different numbers"),
        ({"gpus": []}, "hydra.launcher.gpus=[]: must be auto or a list of different numbers"),
        ({"workers": 0}, "hydra.launcher.workers=0: must be auto or a whole number from 1"),
        ({"retries": -1}, "hydra.launcher.retries=-1: must be a whole number from 0"),
    ],
)
def test_wrong_values(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as error:
        launcher_of(values, "local_gpus")
    assert line in str(error.value)


def test_values_are_read(nested: None) -> None:
    assert launcher_of({}, "basic") is None
    assert launcher_of({"_target_": "x", "gpus": [0, 2]}, "local_gpus") == LocalGpus(gpus=(0, 2))
    found = launcher_of({"init": {"address": "auto"}, "more": {"a": {"b": 1}}}, "nested")
    assert isinstance(found, _Nested)
    assert (found.init.address, found.init.size, found.more) == ("auto", 1, {"a": {"b": 1}})
    with pytest.raises(ConfigError) as error:
        launcher_of({"init": {"size": 0}}, "nested")
    assert "hydra.launcher.init.size=0: must be a whole number from 1" in str(error.value)
