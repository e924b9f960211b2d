"""What MLflow holds after a sweep, and after one that went wrong: the command line, in process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow_runs import artifacts, runs, statuses

from harness.cli.main import main

BASE = [
    "model=fable_tiny",
    "quantization=fp32",
    "generation.max_new_tokens=5",
    "prompts.limit=2",
    "engine.threads=1",
    "timing=off",
    "compare.noise=false",
]
NOBODY = "http://127.0.0.1:9"


def test_the_same_command_again_tells_nothing_twice(store: str, decoded: list[int]) -> None:
    sweep = ["-m", *BASE, "decoding=greedy,top_p"]
    assert main(sweep) == 0
    first = {run.info.run_id for run in runs(store, "generation")}
    (parent,) = runs(store, "sweep")
    assert len(first) == 2
    assert decoded == [4]
    assert main(sweep) == 0
    assert decoded == [4]
    assert {run.info.run_id for run in runs(store, "generation")} == first
    assert [run.info.run_id for run in runs(store, "sweep")] == [parent.info.run_id]
    assert runs(store, "sweep")[0].info.status == "FINISHED"


def test_a_point_of_another_sweep_stands_below_this_ones_parent_too(store: str, decoded: list[int]) -> None:
    assert main(["-m", *BASE, "decoding=greedy,top_p"]) == 0
    assert main(["-m", *BASE, "decoding=greedy,min_p"]) == 0
    assert decoded == [4, 2], "greedy came from the store"
    by_sweep: dict[str, dict[str, Run]] = {}
    for run in runs(store, "generation"):
        by_sweep.setdefault(run.data.tags["mlflow.parentRunId"], {})[run.data.tags["decoding"]] = run
    assert by_sweep.keys() == {run.info.run_id for run in runs(store, "sweep")}
    with_min_p = next(points for points in by_sweep.values() if "min_p" in points)
    with_top_p = next(points for points in by_sweep.values() if "top_p" in points)
    assert with_min_p.keys() == {"greedy", "min_p"}
    old, new = with_top_p["greedy"], with_min_p["greedy"]
    assert (old.data.tags["status"], new.data.tags["status"]) == ("done", "reused")
    assert old.data.tags["point_id"] == new.data.tags["point_id"]
    assert old.data.tags["sweep_id"] != new.data.tags["sweep_id"]
    assert old.data.metrics == new.data.metrics
    assert (artifacts(old) / "tokens.parquet").read_bytes() == (
        artifacts(new) / "tokens.parquet"
    ).read_bytes()


def test_a_point_made_anew_replaces_its_run(store: str) -> None:
    assert main([*BASE, "decoding=greedy"]) == 0
    assert main([*BASE, "decoding=greedy", "timing=quick", "timing.prompts=1", "timing.repeats=1",
                 "timing.new_tokens=3"]) == 0  # fmt: skip
    (run,) = runs(store, "generation")
    assert run.data.metrics["latency/ttft_p50_ms"] > 0
    assert (artifacts(run) / "timing.parquet").is_file()


def test_a_failure_is_a_failed_run_until_it_works(
    store: str, no_penalties: Callable[..., Any], decoded: list[int]
) -> None:
    sweep = ["-m", *BASE, "decoding=greedy,repetition_penalty"]
    with no_penalties(ValueError):
        assert main(sweep) == 1
    good, bad = "fable_tiny/fp32/greedy", "fable_tiny/fp32/repetition_penalty"
    assert statuses(store, "generation") == {good: "FINISHED", bad: "FAILED"}
    assert statuses(store, "sweep") == {"sweep": "FAILED"}
    (failed,) = [run for run in runs(store, "generation") if run.data.tags["label"] == bad]
    assert failed.data.tags["error"] == "ValueError: no luck today"
    told = (artifacts(failed) / "traceback.txt").read_text()
    assert told.startswith("Traceback")
    assert "in broken" in told
    decoded.clear()
    assert main(sweep) == 0
    assert decoded == [2], "only what failed is tried again"
    assert statuses(store, "generation") == {good: "FINISHED", bad: "FINISHED"}
    assert statuses(store, "sweep") == {"sweep": "FINISHED"}


def test_what_does_not_load_is_told_with_its_traceback(store: str, small_model: Callable[..., Path]) -> None:
    models = f"model.id={small_model('llama', fits=False)},{small_model('llama')}"
    sweep = ["-m", *BASE[1:], "model=custom", models, "decoding=greedy"]
    assert main(sweep) == 1
    assert sorted(statuses(store, "generation").values()) == ["FAILED", "FINISHED"]
    (failed,) = [run for run in runs(store, "generation") if run.info.status == "FAILED"]
    assert "Traceback" in (artifacts(failed) / "traceback.txt").read_text()
    assert "\n" not in failed.data.tags["error"]


def test_warnings_are_tags(store: str) -> None:
    assert main([*BASE, "decoding=greedy", "prompts=custom", "prompts.items=[Portugal is]"]) == 0
    (run,) = runs(store, "generation")
    assert "chat template" in run.data.tags["warnings"]


def test_mlflow_that_does_not_answer_costs_one_warning(
    store: str,
    outputs: Path,
    decoded: list[int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    sweep = ["-m", *BASE, "decoding=greedy,top_p"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    assert main(sweep) == 0
    warnings = [record.getMessage() for record in caplog.records if NOBODY in record.getMessage()]
    assert len(warnings) == 1
    assert "harness sync" in warnings[0]
    assert len(list((outputs / "points").glob("*/generations.parquet"))) == 2
    assert "harness ui" not in capsys.readouterr().out
    assert main(["sync"]) == 1
    assert capsys.readouterr().err.startswith(f"tracking.uri: logging to MLflow at {NOBODY} failed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert main(["sync"]) == 0
    assert set(statuses(store, "generation").values()) == {"FINISHED"}
    assert len(runs(store, "generation")) == 2
    assert statuses(store, "sweep") == {"sweep": "FINISHED"}
    assert decoded == [4]


REQUESTS = ("create_run", "log_batch", "log_artifacts", "log_artifact", "set_tag", "update_run")


@pytest.mark.thinned(3)
@pytest.mark.parametrize("answers", [0, 4, 8, 11, 14])
def test_mlflow_that_goes_away_in_the_middle(
    answers: int,
    store: str,
    outputs: Path,
    decoded: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    requests = 0
    with pytest.MonkeyPatch.context() as patch:

        def gone_after(honest: Callable[..., Any]) -> Callable[..., Any]:
            def request(*arguments: Any, **named: Any) -> Any:
                nonlocal requests
                requests += 1
                if requests > answers:
                    raise MlflowException("the server hung up")
                return honest(*arguments, **named)

            return request

        for name in REQUESTS:
            patch.setattr(MlflowClient, name, gone_after(getattr(MlflowClient, name)))
        assert main(["-m", *BASE, "decoding=greedy,top_p,min_p"]) == 0
    assert requests > answers
    warnings = [record.getMessage() for record in caplog.records if "hung up" in record.getMessage()]
    assert len(warnings) == 1
    assert "harness sync" in warnings[0]
    assert len(list((outputs / "points").glob("*/generations.parquet"))) == 3
    assert main(["sync"]) == 0
    assert decoded == [6]
    assert statuses(store, "sweep") == {"sweep": "FINISHED"}
    told = runs(store, "generation")
    assert sorted(run.data.tags["decoding"] for run in told) == ["greedy", "min_p", "top_p"]
    assert {run.info.status for run in told} == {"FINISHED"}
    assert all((artifacts(run) / "generations.json").is_file() for run in told)


def test_a_uri_that_was_wrong_is_put_right_by_the_same_command(
    store: str, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert main([*BASE, "decoding=greedy", f"tracking.uri={NOBODY}"]) == 0
    assert main([*BASE, "decoding=greedy", f"tracking.uri={store}"]) == 0
    assert decoded == [2]
    assert statuses(store, "generation") == {"fable_tiny/fp32/greedy": "FINISHED"}


def test_a_uri_that_cannot_be_is_told_before_anything_runs(
    store: str, outputs: Path, decoded: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    for word in ([], ["check"]):
        assert main([*word, *BASE, "decoding=greedy", "tracking.uri=mlruns"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("tracking.uri: 'mlruns' is a folder")
    assert decoded == []
    assert not (outputs / "sweeps").exists()


def test_interrupted_while_decoding(
    store: str,
    no_penalties: Callable[..., Any],
    decoded: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep = ["-m", *BASE, "engine.fuse=false", "decoding=greedy,repetition_penalty,top_p"]
    with no_penalties(KeyboardInterrupt):
        assert main(sweep) == 130
    assert "1 of 3 points are kept; the same command resumes from here" in capsys.readouterr().out
    assert statuses(store, "sweep") == {"sweep": "KILLED"}
    assert statuses(store, "generation") == {"fable_tiny/fp32/greedy": "FINISHED"}
    decoded.clear()
    assert main(sweep) == 0
    assert decoded == [2, 2]
    assert len(runs(store, "generation")) == 3
    assert statuses(store, "sweep") == {"sweep": "FINISHED"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_what_stops_in_the_middle_of_telling_leaves_no_run_running(
    store: str, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    import harness.tracking.tracker as tracker

    def stop(*_: Any) -> None:
        raise error("full")

    with monkeypatch.context() as patch:
        patch.setattr(tracker, "_gather", stop)
        assert main([*BASE, "decoding=greedy"]) == (130 if error is KeyboardInterrupt else 0)
    assert "RUNNING" not in statuses(store, "generation").values()
    assert statuses(store, "sweep") == {"sweep": "KILLED"}
    assert main([*BASE, "decoding=greedy"]) == 0
    assert statuses(store, "generation") == {"fable_tiny/fp32/greedy": "FINISHED"}
    assert statuses(store, "sweep") == {"sweep": "FINISHED"}


def test_a_report_that_cannot_be_written_leaves_no_run_running(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("harness.run.sweep.write_sweep_reports", full)
    assert main([*BASE, "decoding=greedy"]) == 1
    assert statuses(store, "sweep") == {"sweep": "FINISHED"}


def test_a_sweep_is_told_to_one_place(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-m", *BASE, "decoding=greedy", "tracking.traces=true,false"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tracking: differs between the points")
