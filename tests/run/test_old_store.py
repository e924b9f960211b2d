"""A store that was written before the layout of today is read as it is: nothing is decoded or computed again.

`tests/data/old_store` was written by the last commit before it: two precisions of fable_tiny, three
strategies, timings, prompt scores, a noise floor, drift along samples and along a fixed text.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.cli.main import main

DATA = Path(__file__).parents[1] / "data" / "old_store"
COMMAND = ["experiments=old_store", "model.device=cpu"]


@pytest.fixture
def old_store(outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The old store as outputs, on a machine with the packages that it was written with."""
    for name in ("points", "sweeps", "drift"):
        shutil.copytree(DATA / name, outputs / name)
    folder = tmp_path / "project"
    (folder / "experiments").mkdir(parents=True)
    shutil.copy(DATA / "old_store.yaml", folder / "experiments")
    shutil.copy(DATA / "prompts.jsonl", folder)
    monkeypatch.chdir(folder)
    environment = next((DATA / "points").glob("*/environment.json"))
    versions = json.loads(environment.read_text())["versions"]
    monkeypatch.setattr("harness.backends.hf.target.package_version", versions.get)
    return outputs


def contents(outputs: Path) -> dict[str, bytes]:
    points = outputs / "points"
    return {str(path.relative_to(points)): path.read_bytes() for path in points.rglob("*") if path.is_file()}


def test_nothing_is_made_again(
    old_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("harness.backends.hf.backend.load", load)
    before = contents(old_store)
    assert main(["plan", *COMMAND]) == 0
    assert "6 points, 6 in the store already; 0 model loads" in capsys.readouterr().out
    assert main([*COMMAND, "tracking=off"]) == 0
    assert contents(old_store) == before
    (plan,) = (old_store / "sweeps").glob("*/plan.json")
    assert plan.parent.name == "old_store-b5476e4e05"
    points = json.loads(plan.read_text())["points"]
    assert {point["point_id"] for point in points} == {path.name for path in (DATA / "points").iterdir()}
    assert [point["status"] for point in points] == ["reused"] * 6


def test_it_is_reported_and_replayed(old_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (DATA / "sweeps" / "old_store-b5476e4e05" / "summary.csv").read_text()
    assert main(["report", "old_store"]) == 0
    folder = old_store / "sweeps" / "old_store-b5476e4e05"
    assert (folder / "compare.html").stat().st_size > 100_000
    assert (folder / "summary.csv").read_text() == before
    assert len(list((folder / "tokens").glob("*.html"))) == 6
    capsys.readouterr()
    assert main(["replay", "fable_tiny/fp32/top_p", "decoding.top_p=0.5"]) == 0
    assert "stormy" in capsys.readouterr().out


def test_what_is_asked_beyond_it_is_made_beside_it(old_store: Path) -> None:
    """More alternatives a step: the same samples are decoded again, what was timed is kept."""
    reference = old_store / "points" / "df1417b897383db3"
    timing = (reference / "timing.parquet").read_bytes()
    outputs = (reference / "generations.parquet").read_bytes()
    assert main([*COMMAND, "tracking=off", "record.top_k=7", "quantization=fp32", "decoding=greedy"]) == 0
    parts = json.loads((reference / "parts.json").read_text())
    assert parts["record"] == {"top_k": 7}
    assert (reference / "timing.parquet").read_bytes() == timing
    assert (reference / "generations.parquet").read_bytes() != b"" != outputs
