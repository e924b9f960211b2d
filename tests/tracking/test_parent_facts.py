"""What MLflow has of a sweep as a whole, asked of MLflow itself."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fake_points import make_sweep
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow_runs import log_sweep, runs
from swept_sweep import chrf, swept_comparison, swept_sweep

from harness.analysis.metric_catalog import metric_of
from harness.analysis.point_results import point_results
from harness.report.write import Written
from harness.store.sweeps import Sweep
from harness.tracking import open_tracker
from harness.tracking.parent_facts import charted, command_of, prompt_sets


def logged(store: str, sweep: Sweep) -> Run:
    """Log a sweep with its comparison, as a run does; return its run."""
    points = point_results(sweep)
    tracker = open_tracker(sweep)
    tracker.open(sweep)
    for index in range(len(sweep.points)):
        tracker.log_point(sweep, index)
    tracker.close(sweep, "FINISHED", Written(points, swept_comparison(points)))
    (parent,) = runs(store, "sweep")
    return MlflowClient(store).get_run(parent.info.run_id)


def test_best_and_spread_of_the_goal(outputs: Path, store: str) -> None:
    sweep = swept_sweep(outputs, keys={"decoding.temperature": (0.5, 0.7, 1.0)})
    metrics = logged(store, sweep).data.metrics
    values = [
        chrf("fp32", name, {"decoding.temperature": t})
        for name in ("top_p", "min_p")
        for t in (0.5, 0.7, 1.0)
    ]
    assert metrics["best/chrf"] == pytest.approx(max(values), abs=0.05)
    assert metrics["spread/chrf"] == pytest.approx(max(values) - min(values), abs=0.05)
    times = [p.metrics["latency/itl_p50_ms"] for p in point_results(sweep)]
    assert metrics["best/itl_p50_ms"] == pytest.approx(min(times), abs=0.005), "lower is better"


def test_a_metric_that_a_run_lacks_is_not_charted(outputs: Path) -> None:
    points = point_results(swept_sweep(outputs, keys={"decoding.temperature": (0.5, 0.7)}))
    goal, itl = metric_of("reference/chrf"), metric_of("latency/itl_p50_ms")
    assert charted(goal, points)
    points[0] = replace(points[0], metrics={k: v for k, v in points[0].metrics.items() if k != itl.key})
    assert not charted(itl, points)
    assert charted(goal, points)


def test_logging_again_does_not_prolong_a_sweep(
    outputs: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(outputs, tokens=4)
    log_sweep(sweep)
    (first,) = runs(store, "sweep")
    later = time.time() + 9000
    monkeypatch.setattr("harness.tracking.tracker.time.time", lambda: later)
    log_sweep(sweep)
    (again,) = runs(store, "sweep")
    assert again.info.end_time == first.info.end_time
    log_sweep(sweep.with_point(0, ended=later - 1))
    (more,) = runs(store, "sweep")
    assert more.info.end_time == pytest.approx(1000 * later, abs=1)


def test_the_varied_keys_are_params_with_all_their_values(outputs: Path, store: str) -> None:
    sweep = swept_sweep(outputs, keys={"decoding.temperature": (0.5, 0.7)})
    params = logged(store, sweep).data.params
    assert params["decoding"] == "top_p, min_p"
    assert params["decoding.temperature"] == "0.5, 0.7"


def test_the_description_begins_with_the_answer(outputs: Path, store: str) -> None:
    sweep = swept_sweep(outputs, keys={"decoding.temperature": (0.5, 0.7)})
    answer = swept_comparison(point_results(sweep)).answer
    assert answer is not None
    tags = logged(store, sweep).data.tags
    assert tags["mlflow.note.content"].startswith(f"- **{answer.sentences[0].title}:** ")
    assert tags["goal"] == "quality/chrf"


def test_the_prompt_set_is_a_dataset(outputs: Path, store: str) -> None:
    run = logged(store, swept_sweep(outputs))
    (entry,) = run.inputs.dataset_inputs
    assert entry.dataset.name == "made_up"
    assert json.loads(entry.dataset.profile) == {"num_rows": 6}
    columns = [column["name"] for column in json.loads(entry.dataset.schema)["mlflow_colspec"]]
    assert columns == ["prompt"]


def test_other_prompts_have_another_digest(outputs: Path, store: str) -> None:
    digests = []
    for name, text in (("one", "It was"), ("same", "It was"), ("other", "It is")):
        sweep = make_sweep(outputs / name, models=("m",), tokens=4, texts={"p": text})
        (entry,) = prompt_sets(point_results(sweep))
        digests.append(entry.digest)
    assert digests[0] == digests[1] != digests[2]


def test_the_command_is_a_tag_without_passwords(outputs: Path, store: str) -> None:
    sweep = make_sweep(outputs, tokens=4)
    words = ["decoding=greedy,top_p", "tracking.uri=http://me:secret@mlflow.example.test", "name=A b"]
    text = json.dumps({"hydra": {"overrides": {"task": words}}})
    (sweep.folder / "multirun.yaml").write_text(text)
    log_sweep(sweep)
    (parent,) = runs(store, "sweep")
    command = parent.data.tags["command"]
    assert command.startswith("harness -m decoding=greedy,top_p tracking.uri=http")
    assert "mlflow.example.test" in command
    assert "secret" not in command
    assert command.endswith("'name=A b'"), "quoted for the shell"


@pytest.mark.parametrize("text", ["", "hydra: 3", "hydra: {overrides: []}", "[", "\x00", "- a"])
def test_a_damaged_record_of_the_command_is_no_command(tmp_path: Path, text: str) -> None:
    (tmp_path / "multirun.yaml").write_text(text)
    assert command_of(tmp_path) == ""
