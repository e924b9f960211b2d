"""The tracking URI in use, and the environment variables that MLflow reads when it is imported."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.config.user_path import user_path
from harness.errors import ConfigError
from harness.store.files import outputs_folder

SQLITE = "sqlite:///"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def tracking_uri(tracking: Mapping[str, Any]) -> str:
    """Return the tracking URI: `tracking.uri`, else MLFLOW_TRACKING_URI, else outputs/mlflow.db.

    The path of a sqlite file is made absolute, from the working folder.

    Raises:
        ConfigError: it is a folder, in which MLflow no longer keeps runs.
    """
    uri = tracking.get("uri") or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return f"{SQLITE}{outputs_folder() / 'mlflow.db'}"
    if uri.startswith(SQLITE):
        return f"{SQLITE}{user_path('tracking.uri', uri.removeprefix(SQLITE)).resolve()}"
    if urlsplit(uri).scheme in ("", "file"):
        raise ConfigError.of(
            "tracking.uri",
            f"{uri!r} is a folder, in which MLflow no longer keeps runs; use "
            f"sqlite:///{uri.removeprefix('file://')}/mlflow.db or the http address of a server",
        )
    return uri


def is_server(uri: str) -> bool:
    """Return whether the URI is the address of an MLflow server."""
    return urlsplit(uri).scheme in ("http", "https")


def is_database(uri: str) -> bool:
    """Return whether the URI is a database that this process opens itself."""
    return urlsplit(uri).scheme.partition("+")[0] in DATABASES


def artifacts_uri(uri: str) -> str | None:
    """Return where the artifacts of a database go: outputs/mlartifacts, or beside the sqlite file.

    None where a server decides.
    """
    if not is_database(uri):
        return None
    folder = Path(uri.removeprefix(SQLITE)).parent if uri.startswith(SQLITE) else outputs_folder()
    return (folder / "mlartifacts").as_uri()


def prepare_environment() -> None:
    """Set what MLflow reads at import, where the user has not: no telemetry, short retries."""
    # MLflow takes DO_NOT_TRACK=1 for consent to telemetry; its own switch is unambiguous.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # By default an address that does not answer is retried for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    # The migrations of a new database are logged line by line.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
