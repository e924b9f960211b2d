"""A tracking store is opened here only. A new sqlite database appears complete or not at all.

MLflow makes one by some seventy migrations, and interrupted in the middle it can neither go on nor begin
again. So it is made under a lock, as another file, which is renamed when it is complete.
"""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import shlex
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from harness.config.secret_text import without_secrets
from harness.errors import HarnessError, first_line
from harness.store.files import atomic_path
from harness.store.mlflow_uri import (
    SQLITE,
    artifacts_uri,
    is_database,
    openable_uri,
    prepare_environment,
    sqlite_path,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

_CONTENT = ("runs", "trace_info", "registered_models", "logged_models")
"""Tables of MLflow that have rows only once somebody has logged something."""


@contextmanager
def opened(uri: str) -> Iterator[MlflowClient]:
    """Yield a client of a tracking store, whose database is made first where it is a file that is not there.

    Other processes that open the same file wait until the block ends: two that fill a new one at once
    corrupt it for good.

    Raises:
        HarnessError: the database can be used only after the user has done something.
        Exception: whatever MLflow raises.
    """
    prepare_environment()
    path = sqlite_path(uri)
    with _lock(path) if path else contextlib.nullcontext():
        if path:
            _make_usable(path)
        elif is_database(uri):
            _connect_once(uri)
        from mlflow import MlflowClient

        yield MlflowClient(tracking_uri=openable_uri(uri))


def reason_of(error: BaseException) -> str:
    """Return in one line why MLflow failed; of a request that it failed, without the client's internals."""
    text = str(error) if isinstance(error, HarnessError) else first_line(error)
    return without_secrets(text).partition(" with exception ")[0]


def _lock(path: Path) -> FileLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f".{path.name}.lock"))


def _make_usable(path: Path) -> None:
    """Make the database of a file, unless it is there and of the version that MLflow needs."""
    for scratch in path.parent.glob(f".{glob.escape(path.name)}.*.part*"):
        scratch.unlink(missing_ok=True)
    if not path.exists() or path.stat().st_size == 0:
        return _make(path)
    from mlflow.store.db.utils import _get_latest_schema_revision

    needed = _get_latest_schema_revision()
    tables, revision, used = _look_into(path)
    if revision == needed:
        return None
    if not tables:
        return _make(path)
    if tables != {"alembic_version"} and "experiments" not in tables:
        raise HarnessError(f"{path} is a database of something else; let tracking.uri name another file")
    if used:
        upgrade = shlex.join(["mlflow", "db", "upgrade", f"{SQLITE}{path}"])
        raise HarnessError(
            f"{path} is of another version of MLflow (schema {revision}, needed {needed}) or half upgraded: "
            f"copy it, then run `{upgrade}`; if that fails, move it away, and `harness sync SWEEP` logs a "
            "sweep into a new one"
        )
    aside = _free_name(path.with_name(f"{path.name}.incomplete"))
    os.replace(path, aside)
    log.warning("%s was half made and has no runs; it is now %s, and a new one is made", path, aside.name)
    return _make(path)


def _make(path: Path) -> None:
    """Make an empty database of MLflow's present version."""
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy import URL, NullPool, create_engine, event, text

    # MLflow itself would write the working folder's path into this statement, and fail at a quote in it.
    default = text(
        "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time, "
        "last_update_time) VALUES (0, 'Default', :folder, 'active', :now, :now)"
    )
    folder = f"{artifacts_uri(f'{SQLITE}{path}')}/0"
    with atomic_path(path) as scratch:
        engine = create_engine(URL.create("sqlite", database=str(scratch)), poolclass=NullPool)

        @event.listens_for(engine, "connect")
        def quick(connection: Any, _: Any) -> None:
            # Whatever is interrupted is begun again, so there is nothing to roll back.
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA journal_mode=MEMORY")

        try:
            _initialize_tables(engine)
            with engine.begin() as connection:
                connection.execute(default, {"folder": folder, "now": round(1000 * time.time())})
        finally:
            engine.dispose()
        with open(scratch, "rb") as file:
            os.fsync(file.fileno())


def _look_into(path: Path) -> tuple[set[str], str | None, bool]:
    """Return the tables of a database, the version of its schema, and whether anything was logged to it.

    Raises:
        HarnessError: the file is not a database, or damaged.
    """
    try:
        with closing(sqlite3.connect(path, timeout=20)) as database:
            tables = {
                name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
            }
            revision = None
            if "alembic_version" in tables:
                revision = next(iter(database.execute("SELECT version_num FROM alembic_version")), (None,))[0]
            used = any(
                database.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()
                for table in _CONTENT
                if table in tables
            )
    except sqlite3.OperationalError:  # locked, or it cannot be read: nothing is wrong with what is in it
        raise
    except sqlite3.DatabaseError as error:
        raise HarnessError(
            f"{path} cannot be read as a database ({error}); move it away, and `harness sync SWEEP` logs a "
            "sweep into a new one"
        ) from error
    return tables, revision, used


def _connect_once(uri: str) -> None:
    """Connect to a database server; MLflow itself would try for minutes."""
    from sqlalchemy import NullPool, create_engine

    engine = create_engine(uri, poolclass=NullPool)
    with engine.connect():
        pass


def _free_name(path: Path) -> Path:
    """The path, with the first number after it that makes it a new one."""
    names = (path, *(path.with_name(f"{path.name}-{number}") for number in range(2, 1000)))
    return next(name for name in names if not name.exists())
