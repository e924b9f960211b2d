"""The tracking URI in use, and the environment variables that MLflow reads when it is imported."""

from __future__ import annotations

import atexit
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.config.secret_text import HIDDEN, safe_address
from harness.config.user_path import user_path
from harness.errors import ConfigError
from harness.store.files import outputs_folder
from harness.store.tracking_mistakes import DATABASES, SQLITE, wrong_uri

VARIABLE = "MLFLOW_TRACKING_URI"
_SQLITE_OPTIONS = re.compile(r"\?\w+=[^/?]*$")
"""Options of SQLAlchemy after the path of a file; any other `?` belongs to the path."""


def tracking_uri(tracking: Mapping[str, Any]) -> str:
    """Return the tracking URI: `tracking.uri`, else MLFLOW_TRACKING_URI, else outputs/mlflow.db.

    The path of a sqlite file is taken as it is written, and made absolute, from the working folder. It may
    hold a password: show `safe_address` of it. Nothing heavy is imported, nothing is asked of a server.

    Raises:
        ConfigError: MLflow cannot log there.
    """
    asked, variable = tracking.get("uri"), os.environ.get(VARIABLE)
    key = "tracking.uri" if asked else VARIABLE
    uri = asked or variable
    if asked and HIDDEN in asked:
        # As a stored sweep has it.
        if not variable or safe_address(variable) != asked:
            raise ConfigError.of(
                key, f"{asked!r}: the secret in it is not stored; set {VARIABLE} to the whole address"
            )
        uri = variable
    if not uri:
        key, uri = "tracking.uri", f"{SQLITE}{outputs_folder() / 'mlflow.db'}"
    path = sqlite_path(uri)
    # Whether the outputs can be written is checked for all that goes there.
    if path and (asked or variable):
        user_path(key, uri.removeprefix(SQLITE).removesuffix(_options(uri)))
    known = asked or variable or (path and os.path.exists(path))
    if known and (problem := wrong_uri(uri, path)):
        raise ConfigError.of(key, f"{safe_address(uri)!r} {problem}")
    return f"{SQLITE}{path}{_options(uri)}" if path else uri


def sqlite_path(uri: str) -> Path | None:
    """Return the absolute path of the sqlite file that a URI names; None for any other URI."""
    if not uri.startswith(SQLITE) or uri == SQLITE:
        return None
    path = uri.removeprefix(SQLITE).removesuffix(_options(uri))
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError):  # a user, link or name that cannot be: opening it says why
        return Path(path).absolute()


def openable_uri(uri: str) -> str:
    """Return the URI that SQLAlchemy opens the same file by, whatever characters its path has.

    Its releases differ in what they make of `%`, know no escape for `?`, and MLflow creates folders of the
    escaped names: a file with one of these in its path is reached by a symbolic link of a plain name.
    """
    path = sqlite_path(uri)
    if path is None or not set("%?") & set(str(path)):
        return uri
    return f"{SQLITE}{_link(path)}{_options(uri)}"


def is_server(uri: str) -> bool:
    """Return whether the URI is the address of an MLflow server."""
    return urlsplit(uri).scheme in ("http", "https")


def is_database(uri: str) -> bool:
    """Return whether the URI is a database that this process opens itself."""
    return uri.partition(":")[0].partition("+")[0] in DATABASES


def artifacts_uri(uri: str) -> str | None:
    """Return where the artifacts of a database go: outputs/mlartifacts, or beside the sqlite file.

    None where a server decides.
    """
    if not is_database(uri):
        return None
    path = sqlite_path(uri)
    return ((path.parent if path else outputs_folder()) / "mlartifacts").as_uri()


def prepare_environment() -> None:
    """Set what MLflow reads at import, where the user has not: no telemetry, short retries."""
    # MLflow takes DO_NOT_TRACK=1 for consent to telemetry; its own switch is unambiguous.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # By default an address that does not answer is retried for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    # The migrations of a new database are logged line by line.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Errors of a database are logged with a traceback, and raised as well.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")


def _options(uri: str) -> str:
    """The options of SQLAlchemy at the end of a sqlite URI, with their question mark; or nothing."""
    found = _SQLITE_OPTIONS.search(uri)
    return found[0] if found else ""


@cache
def _link(path: Path) -> Path:
    """A symbolic link to a file, as long as this process lives."""
    folder = tempfile.mkdtemp(prefix="harness-mlflow-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    link = Path(folder) / "mlflow.db"
    link.symlink_to(path)
    return link
