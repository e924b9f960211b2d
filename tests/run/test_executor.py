"""Groups run in processes of their own, through `harness run-group`: the same tables as in this process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from harness.run.group_file import read_group, write_group

from harness.cli.main import main
from harness.config import hydra_app
from harness.errors import ConfigError
from harness.plan.plan import Plan, make_plan
from harness.progress import Progress
from harness.run.executor import Outcome
from harness.run.sweep import run_sweep

SWEEP = [
    "-m",
    "model=fable_tiny",
    "quantization=bf16,fp32",
    "decoding=greedy,top_p,beam",
    "prompts.limit=3",
    "generation.max_new_tokens=6",
    "engine.threads=1",
    "timing.prompts=1",
    "timing.repeats=1",
    "timing.warmup=0",
    "timing.new_tokens=2",
    "tracking=off",
]
TABLES = {
    "tokens": None,
    "drift": None,
    "generations": ["prompt_id", "sample", "output", "finish_reason", "mean_logprob", "distinct_2"],
}


class Subprocesses:
    """Runs each group in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[str] = []

    def run(self, plan: Plan, progress: Progress) -> Iterator[Outcome]:
        for number, group in enumerate(plan.groups):
            assert all(before < number for before in group.after)
            path = self.folder / f"group-{number}.json"
            write_group(plan, group, path)
            command = [sys.executable, "-m", "harness", "run-group", str(path)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=300)
            assert done.returncode in (0, 1)
            self.ran.append(group.name)
            for line in done.stdout.splitlines():
                yield Outcome.from_json(line)


def planned(*words: str) -> Plan:
    found: list[Plan] = []

    def action(points: Any, name: str, files: Any) -> int:
        found.append(make_plan(points, name))
        return 0

    assert hydra_app.run(list(words), action) == 0
    return found[0]


def run_with(executor: Subprocesses, *words: str) -> int:
    return hydra_app.run(list(words), lambda points, name, files: run_sweep(points, name, files, executor))


def tables(outputs: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for folder in sorted((outputs / "points").iterdir()):
        for name, columns in TABLES.items():
            if (folder / f"{name}.parquet").is_file():
                table = pq.read_table(folder / f"{name}.parquet", columns=columns)
                found[f"{folder.name}/{name}"] = table.to_pylist()
    return found


@pytest.mark.slow
def test_a_sweep_through_other_processes(
    tmp_path: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Subprocesses(tmp_path)
    assert run_with(executor, *SWEEP) == 0
    assert executor.ran == ["fable_tiny fp32", "fable_tiny bf16"], "the reference first"
    through_others = tables(outputs)
    assert len([name for name in through_others if name.endswith("/drift")]) == 3
    (plan,) = (outputs / "sweeps").glob("*/plan.json")
    points = json.loads(plan.read_text())["points"]
    assert [point["status"] for point in points] == ["done"] * 6
    assert all(point["started"] and point["ended"] for point in points)
    assert (plan.parent / "compare.html").is_file()

    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("HARNESS_OUTPUTS", str(elsewhere))
    assert main(SWEEP) == 0
    assert tables(elsewhere) == through_others

    # Again, and there is nothing left to do: no model is loaded by anyone.
    monkeypatch.setenv("HARNESS_OUTPUTS", str(outputs))
    assert run_with(executor, *SWEEP) == 0
    points = json.loads(plan.read_text())["points"]
    assert [point["status"] for point in points] == ["reused"] * 6


def test_a_failure_in_another_process_is_one_point_s(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = "prompts.items=[{id: long, prompt: 'one two'}]"
    words = ["-m", "model=fable_tiny", "quantization=fp32", "decoding=greedy,top_p", short, "prompts=custom"]
    metric = tmp_path / "mine.py"
    metric.write_text("def broken(generated):\n    raise ValueError('not this one')\n")
    words += [f"compare.metrics=[{metric}:broken]", "timing=off", "tracking=off"]
    assert run_with(Subprocesses(tmp_path), *words) == 1
    assert "broken raised ValueError: not this one" in capsys.readouterr().out


def test_a_written_group_is_prepared_again(
    tmp_path: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("A fox\n")
    plan = planned("model=fable_tiny", "prompts.file=mine.txt", "timing=off", "tracking=off")
    path = tmp_path / "group.json"
    write_group(plan, plan.groups[0], path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again, group = read_group(path)
    assert [job.point_id for job in again.jobs] == [job.point_id for job in plan.jobs]
    assert group == plan.groups[0]
    (tmp_path / "mine.txt").write_text("Another fox\n")
    with pytest.raises(ConfigError, match="samples would differ from the plan's"):
        read_group(path)


def test_a_file_that_is_no_group(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nothing.json").write_text("{}")
    assert main(["run-group", str(tmp_path / "nothing.json")]) == 2
    assert "not a group of a plan" in capsys.readouterr().err
    assert main(["run-group"]) == 2
    assert "takes one file" in capsys.readouterr().err
