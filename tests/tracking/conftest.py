"""New databases without the seconds that MLflow's migrations take."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def quickly_made(migrated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow makes its tables by copying a complete database."""
    from mlflow.store.db import utils

    def copied(engine: Any) -> None:
        shutil.copyfile(migrated, engine.url.database)
        with closing(sqlite3.connect(engine.url.database)) as database, database:
            database.execute("DELETE FROM experiments")

    monkeypatch.setattr(utils, "_initialize_tables", copied)
