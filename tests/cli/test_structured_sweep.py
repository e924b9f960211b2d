"""A sweep of structured outputs: what is stored and shown of them, hostile texts among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from harness.cli.main import main

pytest.importorskip("llguidance")

HOSTILE = " </script><img src=x onerror=alert(1)>"
SMALL = ["model=fable_tiny", "timing=off", "tracking=off", "prompts.limit=2", "generation.max_new_tokens=30"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def points(outputs: Path) -> dict[str, tuple[dict[str, Any], Any]]:
    """By strategy: the metrics of a point, and its samples."""
    found = {}
    for folder in (outputs / "points").iterdir():
        if (folder / "metrics.json").is_file():
            config = (folder / "config.yaml").read_text(encoding="utf-8")
            metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
            rows = pq.read_table(folder / "generations.parquet").to_pylist()
            name = next(n for n in ("greedy", "choices", "regex") if f"name: {n}\n" in config)
            found[name] = (metrics, rows)
    return found


def test_what_is_stored_and_shown(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "-m",
        "decoding=greedy,choices,regex",
        f"decoding.choices=['{HOSTILE}']",
        "decoding.regex='[a-z ]{99}'",
    ]
    assert main([*words, *SMALL, "name=s"]) == 0
    assert " valid " in capsys.readouterr().out
    found = points(outputs)
    metrics, rows = found["choices"]
    assert [row["output"] for row in rows] == [HOSTILE] * 2
    assert [row["valid"] for row in rows] == [1.0, 1.0]
    assert metrics["quality/valid"] == 1.0
    assert metrics["quality/grammar_log_weight"] < -1
    # a budget of 30 tokens cuts 99 letters, or does not: valid is what `regex` says of the text
    metrics, rows = found["regex"]
    assert [row["valid"] for row in rows] == [float(len(row["output"]) == 99) for row in rows]
    assert "quality/valid" not in found["greedy"][0]
    page = next((outputs / "sweeps").glob("s-*/compare.html")).read_text(encoding="utf-8")
    assert "<img src=x" not in page


def test_a_changed_file_is_another_point(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = Path("one.json")
    command = ["decoding=json", "decoding.json_schema=one.json", *SMALL]
    for schema, done in (
        ({"enum": [1, 2]}, "generated"),
        ({"enum": [1, 2]}, "store"),
        ({"enum": [3]}, "generated"),
    ):
        file.write_text(json.dumps(schema), encoding="utf-8")
        assert main(command) == 0
        assert done in capsys.readouterr().out
    assert len(list((outputs / "points").glob("*/metrics.json"))) == 2
