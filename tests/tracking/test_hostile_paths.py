"""Runs, traces, files and feedback arrive whatever characters are in the paths of a project."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fake_points import make_sweep
from mlflow import MlflowClient
from mlflow_runs import TRACED, give_feedback, log_sweep

from harness.analysis.point_results import stored_of
from harness.cli import ui
from harness.store.mlflow_uri import openable_uri, tracking_uri
from harness.store.sweeps import find_sweep
from harness.tracking.assessments import read_feedback
from harness.tracking.sync import sync
from harness.tracking.traces import find_traces

NAMES = [
    "%41",
    "50%",
    "a?b=c",
    "#1",
    "a b",
    "it's",
    '"q"',
    "a;b",
    "x:y",
    "[a]*",
    "ü日本",
    "a\\b",
    "$HOME",
    "@",
    "&c",
]


@pytest.fixture(params=NAMES)
def project(request: Any, tmp_path: Path, quickly_made: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with such a name, whose outputs are the default ones."""
    folder = tmp_path / f"w {request.param}" / "in"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("HARNESS_OUTPUTS")
    return folder


@pytest.mark.thinned(3)
def test_everything_arrives_in_the_folder(project: Path, tmp_path: Path) -> None:
    outputs = project / "outputs"
    sweep = make_sweep(outputs, models=("m",), decodings=("greedy",), tokens=3, tracking=TRACED)
    log_sweep(sweep)
    uri = openable_uri(tracking_uri({}))
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("harness")
    (run,) = client.search_runs([experiment.experiment_id], "tags.kind = 'generation'")
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"generations.parquet", "tokens.html"} <= files
    assert [path.name for path in outputs.glob("mlartifacts/harness/*/artifacts/tokens.html")] == [
        "tokens.html"
    ]
    found = [*find_traces(client, experiment.experiment_id, f"tags.sweep_id = '{sweep.sweep_id}'")]
    stored = stored_of(sweep, sweep.points[0])
    assert stored is not None
    assert len(found) == len(stored.rows("generations"))
    give_feedback(uri, found[0].trace_id, "good", True)
    assert [one["value"] for one in read_feedback(find_sweep(outputs, None))] == [True]
    assert sync(None) == 0
    with closing(sqlite3.connect(outputs / "mlflow.db")) as database:
        assert database.execute("SELECT count(*) FROM runs WHERE status = 'FINISHED'").fetchone() == (2,)
    # Nothing lands elsewhere.
    assert [path.name for path in project.iterdir()] == ["outputs"]
    assert [path.name for path in tmp_path.iterdir()] == [project.parent.name]


def test_the_ui_gets_a_uri_that_every_release_reads_alike(project: Path) -> None:
    (project / "outputs").mkdir()
    (project / "outputs" / "mlflow.db").touch()
    command = ui.server_command(tracking_uri({}), "127.0.0.1", 5000, [])
    uri = command[command.index("--backend-store-uri") + 1]
    path = Path(uri.removeprefix("sqlite:///"))
    assert path.samefile(project / "outputs" / "mlflow.db")
    assert not set("%?") & set(uri)
