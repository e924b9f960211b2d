"""`compare.select` end to end: rows, files and curves from the store, without a model."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import harness.models.load as loading
from harness.cli.main import main

BASE = [
    "-m", "model=fable_tiny", "quantization=fp32", "decoding=greedy,top_p", "prompts.file=set.jsonl",
    "generation.samples=5", "generation.max_new_tokens=8", "engine.threads=1", "timing=off", "tracking=off",
]  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    rows = [{"prompt": p, "reference": "the night"} for p in ("It was a", "The old", "Once upon a", "A")]
    (folder / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def summary(outputs: Path) -> tuple[Path, dict[str, dict[str, str]]]:
    (folder,) = (outputs / "sweeps").iterdir()
    rows = csv.DictReader((folder / "summary.csv").read_text(encoding="utf-8").splitlines())
    return folder, {row["label"]: row for row in rows}


def test_another_selection_takes_no_model_and_no_decoding(
    here: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(BASE) == 0
    folder, plain = summary(outputs)
    assert list(plain) == ["fable_tiny/fp32/greedy", "fable_tiny/fp32/top_p"]
    assert not (folder / "selection.json").exists()
    ids = sorted(path.name for path in (outputs / "points").iterdir())

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("harness.backends.hf.backend.load", refuse)
    monkeypatch.setattr(loading, "load", refuse)
    capsys.readouterr()
    assert main([*BASE, "compare.select=[best_of,mbr]"]) == 0
    printed = capsys.readouterr().out
    assert "top_p select=best_of" in printed
    assert "select: the sample chosen of 5 per prompt, at the cost of all of them" in printed
    folder, rows = summary(outputs)
    label = "fable_tiny/fp32/top_p select=best_of"
    assert list(rows) == [*plain, label, "fable_tiny/fp32/top_p select=mbr"]
    assert rows[label]["selected_from"] == "5"
    assert rows[label]["compare.select"] == "best_of"
    assert rows["fable_tiny/fp32/top_p"]["selected_from"] == ""
    # The highest mean logprob of five is no lower than the mean of the run.
    key = "probability/mean_logprob"
    assert float(rows[label][key]) > float(rows["fable_tiny/fp32/top_p"][key])
    assert sorted(path.name for path in (outputs / "points").iterdir()) == ids
    known = json.loads((folder / "selection.json").read_text(encoding="utf-8"))
    assert {curve["way"] for curve in known["curves"]} == {"best_of", "mbr", "any", "one"}
    assert set(known["chosen"]["fable_tiny/fp32/top_p"]["mbr"].values()) <= set(range(5))

    assert main([*BASE, "compare.select=[majority]", "compare.answer_pattern=night"]) == 0
    assert list(summary(outputs)[1]) == [*plain, "fable_tiny/fp32/top_p select=majority"]
    assert main(["report"]) == 0
    assert list(summary(outputs)[1]) == [*plain, "fable_tiny/fp32/top_p select=majority"]
    assert main(BASE) == 0
    assert list(summary(outputs)[1]) == list(plain)
    assert not (folder / "selection.json").exists()
    assert not (folder / "selected").exists()


def test_selected_runs_are_no_runs_of_mlflow(here: Path, outputs: Path, tmp_path: Path) -> None:
    tracked = [word for word in BASE if not word.startswith("tracking")]
    assert main([*tracked, "compare.select=[best_of]", f"tracking.uri=sqlite:///{tmp_path}/m.db"]) == 0
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/m.db")
    experiment = client.get_experiment_by_name("harness")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    (parent,) = (run for run in runs if run.data.tags["kind"] == "sweep")
    assert len(children) == 2
    assert "select=best&#95;of" in parent.data.tags["mlflow.note.content"].replace("&#61;", "=")
    assert "selection.json" in {file.path for file in client.list_artifacts(parent.info.run_id)}
