"""`harness replay` as it is typed: what it prints, what it refuses, and that it needs no torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.cli.replay_arguments import replay_arguments
from harness.errors import ConfigError

SWEEP = [
    "-m",
    "model=fable_tiny",
    "decoding=greedy,temperature",
    "decoding.temperature=null",
    "generation.max_new_tokens=12",
    "prompts.limit=3",
    "engine.threads=1",
    "timing=off",
    "tracking=off",
]


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("replay") / "outputs"
        patch.setenv("HARNESS_OUTPUTS", str(folder))
        assert main(SWEEP) == 0
        return folder


@pytest.fixture
def stored(run_once: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with two points; columns enough for their tables."""
    shutil.copytree(run_once, outputs)
    monkeypatch.setenv("COLUMNS", "150")
    return outputs


def ids(outputs: Path) -> dict[str, str]:
    (plan,) = (outputs / "sweeps").glob("*/plan.json")
    return {point["decoding"]: point["point_id"] for point in json.loads(plan.read_text())["points"]}


def test_a_table_and_a_summary(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "fable_tiny/none/temperature", "decoding=greedy"]) == 0
    said = capsys.readouterr().out
    assert "fable_tiny/none/temperature, made by plain sampling, replayed as greedy" in said
    assert "of 3 samples are the same to the end" in said
    assert main(["replay", "fable_tiny/none/greedy", "decoding=top_k", "decoding.top_k=1"]) == 0
    said = capsys.readouterr().out
    assert "3 of 3 samples are the same to the end, 0 change, 0 cannot be told" in said
    assert "36 of 36 steps are certainly the same" in said
    assert "mean logprob 0.000 of the samples" in said.replace("-0.000", "0.000")


def test_json_tells_all(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    point = ids(stored)["temperature"]
    assert main(["replay", point, "decoding=greedy", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["point"] == point
    assert told["replayed_as"] == {"do_sample": False}
    assert told["summary"]["samples"] == len(told["samples"]) == 3
    greedy = {row["prompt_id"]: row for row in rows(stored, "greedy")}
    for sample, first in zip(told["samples"], rows(stored, "temperature"), strict=True):
        assert sample["prompt_id"] == first["prompt_id"]
        assert (sample["same"] == sample["steps"]) == (
            first["output"] == greedy[first["prompt_id"]]["output"]
        )
        if sample["changes_at"] is not None:
            assert sample["token"] != sample["other"]
            assert sample["token_text"] != sample["other_text"]
            assert sample["logprob"][0] < sample["logprob"][1]


def rows(outputs: Path, decoding: str) -> list[dict]:
    from harness.store.stored_point import StoredPoint

    return StoredPoint(outputs / "points" / ids(outputs)[decoding]).rows("generations")


def test_overrides_build_on_what_made_the_point(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    point = ids(stored)["temperature"]
    assert main(["replay", point[:9], "decoding.top_k=3", "decoding.temperature=0.5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["replayed_as"] == {"do_sample": True, "top_k": 3, "temperature": 0.5}


def test_a_point_by_sweep_and_label(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sweep,) = (path.name for path in (stored / "sweeps").iterdir())
    for name in (sweep, sweep.rpartition("-")[2]):
        assert main(["replay", f"{name}/fable_tiny/none/greedy", "decoding=greedy", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["point"] == ids(stored)["greedy"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["fable_tiny/none/greedz", "decoding=greedy"], "did you mean fable_tiny/none/greedy?"),
        (["zzz", "decoding=greedy"], "no stored point has this id or label; give a point's id"),
        (["decoding=greedy"], "replay: which point?"),
        (["fable_tiny/none/greedy"], "replay: say with which decoding"),
        (["fable_tiny/none/greedy", "decoding=typical"], "decoding.typical_p=0.95: replay does not know it"),
        (["fable_tiny/none/greedy", "decoding=beam"], "decoding.num_beams=5: replay does not know it"),
        (["fable_tiny/none/greedy", "decoding=top_q"], "decoding=top_q: no such choice; did you mean top_p?"),
        (["fable_tiny/none/greedy", "decoding.top_p=0.5"], "no effect without do_sample=true"),
        (["fable_tiny/none/greedy", "decoding=top_p", "decoding.top_p=2"], "decoding.top_p=2: must be"),
        (
            ["fable_tiny/none/greedy", "decoding=greedy", "generation.seed=1"],
            "replay changes the decoding only",
        ),
        (["fable_tiny/none/greedy", "decoding=greedy,top_p"], "one value only"),
        (["one", "two", "decoding=greedy"], "two: one point at a time"),
    ],
)
def test_mistakes_are_one_line(
    stored: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    assert main(["replay", *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (said,) = printed.err.splitlines()
    assert line in said


def test_points_that_hold_nothing_to_replay(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model=fable_tiny", "generation.max_new_tokens=3", "prompts.limit=1", "record.top_k=0",
                 "engine.threads=1", "timing=off", "tracking=off"]) == 0  # fmt: skip
    capsys.readouterr()
    assert main(["replay", "fable_tiny/none/greedy", "decoding=greedy"]) == 2
    assert "record.top_k=0: no alternatives were recorded; run it again" in capsys.readouterr().err
    point = ids_of_last(stored)
    (stored / "points" / point / "tokens.parquet").unlink()
    assert main(["replay", point, "decoding=greedy"]) == 2
    assert "tokens.parquet of point" in capsys.readouterr().err


def ids_of_last(outputs: Path) -> str:
    plans = sorted((outputs / "sweeps").glob("*/plan.json"), key=lambda path: path.stat().st_mtime_ns)
    return json.loads(plans[-1].read_text())["points"][0]["point_id"]


def test_an_empty_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "abc", "decoding=greedy"]) == 2
    assert "abc: no points are stored" in capsys.readouterr().err


def test_no_torch_and_no_mlflow(stored: Path) -> None:
    code = (
        "import sys; from harness.cli.main import main\n"
        "assert main(['replay', 'fable_tiny/none/temperature', 'decoding=min_p']) == 0\n"
        "heavy = {'torch', 'transformers', 'mlflow', 'pandas', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_a_label_may_hold_values() -> None:
    label = "fable_tiny/fp32/top_p top_p=0.5"
    asked = replay_arguments([label, "decoding=greedy", "--json"])
    assert (asked.point, asked.overrides, asked.as_json) == (label, ["decoding=greedy"], True)
    with pytest.raises(ConfigError, match="which point"):
        replay_arguments(["decoding.top_p=0.5"])
