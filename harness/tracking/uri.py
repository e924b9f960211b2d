"""Which MLflow store is meant, and the environment MLflow is to find before it is imported."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.errors import ConfigError
from harness.store.files import outputs_folder

SQLITE = "sqlite:///"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def tracking_uri(tracking: Mapping[str, Any]) -> str:
    """The store to log to: `tracking.uri`, else MLFLOW_TRACKING_URI, else outputs/mlflow.db.

    A relative sqlite file is meant from the working folder and made absolute.

    Raises:
        ConfigError: it is a folder, which MLflow keeps no runs in any more.
    """
    uri = tracking.get("uri") or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return f"{SQLITE}{outputs_folder() / 'mlflow.db'}"
    if uri.startswith(SQLITE):
        return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).expanduser().resolve()}"
    if urlsplit(uri).scheme in ("", "file"):
        raise ConfigError.of(
            "tracking.uri",
            f"{uri!r} is a folder, which MLflow keeps no runs in; use "
            f"sqlite:///{uri.removeprefix('file://')}/mlflow.db or the http address of a server",
        )
    return uri


def is_server(uri: str) -> bool:
    """Whether a server with an address of its own answers for this store."""
    return urlsplit(uri).scheme in ("http", "https")


def is_database(uri: str) -> bool:
    """Whether the store is a database that this process opens itself."""
    return urlsplit(uri).scheme.partition("+")[0] in DATABASES


def artifacts_uri(uri: str) -> str | None:
    """Where artifacts of a store lie that we open ourselves: outputs/mlartifacts, or beside the sqlite file.

    None where a server decides.
    """
    if not is_database(uri):
        return None
    folder = Path(uri.removeprefix(SQLITE)).parent if uri.startswith(SQLITE) else outputs_folder()
    return (folder / "mlartifacts").as_uri()


def prepare_environment() -> None:
    """Set what MLflow reads at import: no telemetry and short retries, unless the user said otherwise."""
    # MLflow takes DO_NOT_TRACK=1 for a yes to telemetry; its own switch is plain.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # By default an address where nobody answers is tried for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    # Migrations of a new database are told line by line.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
