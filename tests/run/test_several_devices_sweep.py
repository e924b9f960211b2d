"""Sweeps of a model on several devices: its address, its plan, its tables, and what is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from living_processes import living, living_children

from harness.artifacts.timing import timing_spec
from harness.cli.main import main
from harness.config.hydra_app import one_point
from harness.config.launcher import LocalGpus
from harness.errors import ConfigError
from harness.models import placement
from harness.models.memory import format_bytes
from harness.plan.plan import make_plan
from harness.run import worker_slots

SMALL = ["prompts.limit=3", "generation.max_new_tokens=8", "timing=off", "tracking=off", "model.device=cpu"]
SPLIT = ["model.devices=tensor_parallel", "model.tensor_parallel_size=2"]
STRATEGIES = "decoding=greedy,top_p,beam,contrastive_search,cot,dry"


def address(*words: str) -> str:
    return make_plan([one_point(["model=fable_tiny", *SMALL, *words])], "it").jobs[0].point_id


def test_only_split_layers_are_another_address() -> None:
    single = address()
    assert address("model.devices=auto") == single
    assert address(*SPLIT) != single


def test_a_latency_of_several_devices_is_measured_by_itself() -> None:
    specs = [timing_spec(one_point(["model=fable_tiny", *words])) for words in ([], ["model.devices=auto"])]
    assert "devices" not in specs[0]
    assert specs[1] == specs[0] | {"devices": "auto"}


def test_a_plan_tells_each_share(small_model: Any, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model=custom", f"model.id={small_model('llama')}", *SMALL, *SPLIT]
    (job,) = make_plan([one_point(words)], "it").jobs
    assert job.target.weight_bytes == 123_200 * 4
    assert main(["plan", *words]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"2 x {format_bytes(123_200 * 2)}" in shown
    # Three samples, 2 layers, keys and values of 2 heads of 16, half of them by each rank.
    tokens = max(len(prompt.ids) for prompt in job.prompts) + 8
    assert f"2 x {format_bytes(3 * 2 * 2 * 2 * 16 * 4 * tokens / 2)}" in shown
    assert "on 2 x cpu with" in shown


def test_a_worker_must_have_the_gpus_of_its_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_slots, "devices", lambda: ("cuda:0", "cuda:1", "cuda:2", "cuda:3", "cpu"))
    split = one_point(["model=fable_tiny", *SPLIT])
    slots = worker_slots.worker_slots(LocalGpus(gpus_per_worker=2), [split])
    assert [slot.gpus for slot in slots] == [("0", "1"), ("2", "3")]
    unknown = one_point(["model=fable_tiny", "model.devices=tensor_parallel"])
    for point, size in ((split, 1), (unknown, 2)):
        with pytest.raises(ConfigError, match=r"set model.tensor_parallel_size=2 hydra.launcher.gpus_per_wo"):
            worker_slots.worker_slots(LocalGpus(gpus_per_worker=size), [point])


def points_of(outputs: Path, name: str) -> dict[str, Path]:
    """The folders of a sweep's points by their strategy, all of them done."""
    (plan,) = (outputs / "sweeps").glob(f"{name}-*/plan.json")
    points = json.loads(plan.read_text())["points"]
    assert {point["status"] for point in points} == {"done"}
    return {point["decoding"]: outputs / "points" / point["point_id"] for point in points}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_split_model_gives_the_sweep_of_one_process(small_model: Any, outputs: Path, kind: str) -> None:
    words = ["-m", "model=custom", f"model.id={small_model(kind)}", STRATEGIES, *SMALL]
    words += ["record.prompt_logprobs=true", "timing=quick", "timing.repeats=1", "quantization=fp32"]
    assert main([*words, "name=one"]) == 0
    assert main([*words, "name=two", *SPLIT]) == 0
    alone, split = points_of(outputs, "one"), points_of(outputs, "two")
    assert len(alone) == 6
    for name, folder in alone.items():
        other = split[name]
        assert other != folder
        # A strategy that all points share is run again for the noise floor.
        assert {path.name for path in folder.iterdir()} == {path.name for path in other.iterdir()}
        one, two = (pq.read_table(path / "generations.parquet").to_pydict() for path in (folder, other))
        assert one["output"] == two["output"]
        assert one["finish_reason"] == two["finish_reason"]
        for table in ("tokens", "prompt_tokens"):
            one, two = (pq.read_table(path / f"{table}.parquet").to_pydict() for path in (folder, other))
            assert one["token_id"] == two["token_id"]
            logprobs = (np.array(some["logprob"], float) for some in (one, two))
            np.testing.assert_allclose(*logprobs, rtol=5e-5, atol=5e-5)
        facts = json.loads((other / "environment.json").read_text())["model"]
        assert (facts["devices"], facts["device_count"]) == ("tensor_parallel", 2)
        assert json.loads((other / "parts.json").read_text())["timed_on"].startswith("2 x ")


@pytest.mark.slow
def test_everything_on_the_cpu_is_the_stored_point(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model=fable_tiny", *SMALL]
    assert main(words) == 0
    capsys.readouterr()
    assert main([*words, "model.devices=auto"]) == 0
    assert "reused" in capsys.readouterr().out


def ranks_of(head: subprocess.Popen[str]) -> list[psutil.Process]:
    return living_children("rank_process", of=head.pid)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["rank", "head", "interrupt"])
def test_whatever_is_killed_the_same_command_goes_on(outputs: Path, what: str) -> None:
    words = [sys.executable, "-m", "harness", "-m", "model=fable_tiny", "decoding=greedy,top_p", *SPLIT]
    words += ["prompts.limit=8", "generation.max_new_tokens=48", "engine.batch_rows=2", "model.device=cpu"]
    words += ["timing=off", "tracking=off", "name=it"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as head:
        while not list(outputs.glob("points/*/partial/generations-*")) and head.poll() is None:
            time.sleep(0.01)
        ranks = ranks_of(head)
        assert len(ranks) == 1
        if what == "rank":
            ranks[0].kill()
        else:
            head.send_signal(signal.SIGKILL if what == "head" else signal.SIGINT)
        said, _ = head.communicate(timeout=100)
    assert head.returncode == {"rank": 1, "head": -signal.SIGKILL, "interrupt": 130}[what]
    psutil.wait_procs(ranks, timeout=20)
    assert not living(among=ranks)
    if what == "rank":
        lines = [line for line in said.splitlines() if "rank" in line]
        assert lines == [
            "rank 1 of 2 was killed (SIGKILL), as the system does when memory runs out; what is stored is "
            "kept, and the same command goes on from there"
        ]
    assert list(outputs.glob("points/*/partial/generations-*"))
    environment = {**os.environ, "HARNESS_OUTPUTS": str(outputs)}
    again = subprocess.run(words, capture_output=True, text=True, check=False, timeout=200, env=environment)
    assert again.returncode == 0, again.stdout + again.stderr
    stored = {name: pq.read_table(path / "tokens.parquet") for name, path in points_of(outputs, "it").items()}
    undisturbed = [*words[4:], "name=undisturbed", "engine.fresh=true"]
    assert main(["-m", *undisturbed]) == 0
    for name, path in points_of(outputs, "undisturbed").items():
        assert pq.read_table(path / "tokens.parquet").equals(stored[name])


def test_gpus_are_counted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from harness.cli import doctor

    assert dict(doctor.several_devices()) == {
        "auto": "all on the CPU",
        "tensor_parallel": "needs two GPUs, no GPU is visible; on the CPU for trials, with "
        "model.tensor_parallel_size=2",
    }
    monkeypatch.setattr(placement, "devices", lambda: ("cuda:0", "cuda:1", "cpu"))
    monkeypatch.setattr(doctor, "available_bytes", lambda device: 40 * 1024**3)
    monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: True)
    assert dict(doctor.several_devices()) == {
        "auto": "layers over 2 GPUs with 80.0 GiB free, then the CPU",
        "tensor_parallel": "each layer split over 2 GPUs with 80.0 GiB free",
    }


@pytest.mark.slow
def test_a_worker_whose_rank_is_killed_is_started_again(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-m", "model=fable_tiny", "decoding=greedy", *SPLIT, "engine.batch_rows=2", *SMALL]
    words += ["prompts.limit=8", "generation.max_new_tokens=48", "name=it", "hydra/launcher=local_gpus"]

    def kill() -> None:
        while not list(outputs.glob("points/*/partial/generations-*")):
            time.sleep(0.01)
        living_children("rank_process")[0].kill()

    threading.Thread(target=kill, daemon=True).start()
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "rank 1 of 2 was killed (SIGKILL)" in said
    assert "started again (1 of 2)" in said
    assert len(points_of(outputs, "it")) == 1
