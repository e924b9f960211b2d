"""A sweep on backends that tell less than everything: what they cannot tell is empty, never made up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fake_backends import Answer, FakeTarget, chosen_logprobs, text_only

from harness.cli.main import main

SWEEP = [
    "-m",
    "decoding=greedy,top_p",
    "prompts=custom",
    "generation.max_new_tokens=4",
    "record.prompt_logprobs=true",
    "timing.repeats=3",
]
ITEMS = "prompts.items=[{id: one, prompt: first, reference: an answer}, {id: two, prompt: second}]"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    """`served(answer)`: every point runs on a server that answers so."""

    def serve(answer: Answer) -> None:
        target = FakeTarget(answer)
        monkeypatch.setattr("harness.plan.prepare.target_of", lambda point, once: target)

    return serve


def points(outputs: Path) -> list[Path]:
    (plan,) = (outputs / "sweeps").glob("*/plan.json")
    found = json.loads(plan.read_text())["points"]
    assert [point["status"] for point in found] == ["done"] * len(found)
    return [outputs / "points" / point["point_id"] for point in found]


def test_texts_only(
    served: Callable[[Answer], None], store: str, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    served(text_only)
    assert main([*SWEEP, ITEMS]) == 0
    printed = capsys.readouterr().out
    assert "nan" not in printed.lower()
    for folder in points(outputs):
        rows = pq.read_table(folder / "generations.parquet").to_pylist()
        assert [row["output"] for row in rows] == [
            " echo of 'first', again and again",
            " echo of 'second', again and again",
        ]
        for name in ("prompt_tokens", "output_tokens", "finish_reason", "mean_logprob", "sequence_score"):
            assert [row[name] for row in rows] == [None, None], name
        assert pq.read_table(folder / "tokens.parquet").num_rows == 0
        assert not (folder / "prompt_tokens.parquet").exists()
        assert not (folder / "drift.parquet").exists()
        metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
        assert "text/distinct_2" in metrics
        assert "reference/chrf" in metrics
        assert metrics["latency/total_p50_ms"] == pytest.approx(11.0)
        assert not [name for name in metrics if name.startswith("probability/")]
        assert "text/output_tokens" not in metrics
        assert json.loads((folder / "environment.json").read_text())["server"] == "made up"
    (page,) = (outputs / "sweeps").glob("*/compare.html")
    assert "echo of" in page.read_text() or page.stat().st_size > 100_000
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("harness")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.kind = 'generation'")
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert "text/distinct_2" in runs[0].data.metrics
    assert main([*SWEEP, ITEMS]) == 0, "the same command again"


def test_chosen_logprobs_only(served: Callable[[Answer], None], store: str, outputs: Path) -> None:
    served(chosen_logprobs)
    assert main([*SWEEP, ITEMS, "tracking.traces=true"]) == 0
    for folder in points(outputs):
        rows = pq.read_table(folder / "tokens.parquet").to_pylist()
        assert [row["token"] for row in rows] == [" an", " answer", " of", " four"] * 2
        assert [row["logprob"] for row in rows] == [-0.5, -1.0, -1.5, -2.0] * 2
        for name in ("token_id", "rank", "entropy", "warped_logprob", "kept", "kept_mass", "top_ids"):
            assert {row[name] for row in rows} == {None}, name
        metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
        assert metrics["probability/mean_logprob"] == pytest.approx(-1.25)
        assert metrics["text/output_tokens"] == 4.0
        assert "probability/mean_entropy" not in metrics
        assert "probability/kept_mass" not in metrics


def test_a_request_that_fails_fails_its_points(
    served: Callable[[Answer], None], outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served(text_only)
    assert main([*SWEEP, "prompts.items=[fail here, not here]", "tracking=off"]) == 1
    assert "RuntimeError: the server said no" in capsys.readouterr().out
    assert not list((outputs / "points").glob("*/generations.parquet"))


def test_the_plan_of_a_server(
    served: Callable[[Answer], None], outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served(text_only)
    assert main(["plan", *SWEEP, ITEMS]) == 0
    printed = capsys.readouterr().out
    assert "on nowhere" in " ".join(printed.split())
    assert "unknown" in printed
