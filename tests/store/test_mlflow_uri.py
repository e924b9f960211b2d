"""The tracking URI in use, and the environment that MLflow finds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.store.mlflow_uri import artifacts_uri, is_database, is_server, prepare_environment, tracking_uri


def test_the_key_comes_before_the_variable_before_the_outputs(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tracking_uri({"uri": None}) == f"sqlite:///{outputs}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.test:5000")
    assert tracking_uri({}) == "http://example.test:5000"
    assert tracking_uri({"uri": "sqlite:////abs/x.db"}) == "sqlite:////abs/x.db"


def test_a_relative_file_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tracking_uri({"uri": "sqlite:///x.db"}) == f"sqlite:///{tmp_path}/x.db"


@pytest.mark.parametrize("uri", ["file:///tmp/runs", "mlruns", "/tmp/mlruns"])
def test_a_folder_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"tracking.uri: .* is a folder.*sqlite:///") as caught:
        tracking_uri({"uri": uri})
    assert "\n" not in str(caught.value)


def test_artifacts_are_beside_the_store(outputs: Path) -> None:
    assert artifacts_uri("sqlite:////data/x.db") == "file:///data/mlartifacts"
    assert artifacts_uri("postgresql+psycopg2://host/db") == (outputs / "mlartifacts").as_uri()
    assert artifacts_uri("http://host") is None
    assert is_server("https://host")
    assert not is_server("sqlite:///x")
    assert is_database("mysql://host/db")


def test_telemetry_is_off_unless_the_user_has_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "9")
    prepare_environment()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "9"
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    prepare_environment()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"
