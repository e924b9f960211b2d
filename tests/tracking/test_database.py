"""MLflow's database: complete or not there, whatever happens while it is made; a broken one is said."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from fake_points import make_sweep
from forked import Forked
from mlflow import MlflowClient
from mlflow_runs import log_sweep, runs, statuses

from harness.cli import ui
from harness.cli.main import main
from harness.errors import HarnessError
from harness.tracking import open_tracker
from harness.tracking.sync import sync

PORT = "5996"
"""Of a server that does not come to listen."""


def interrupt(forked: Callable[..., Forked], outputs: Path, trials: int, seed: int) -> None:
    make_sweep(outputs, models=("m",), decodings=("greedy",), tokens=4)
    code = (Path(__file__).with_name("interrupted_making.py")).read_text()
    process = forked(str(outputs), str(trials), str(seed), code=code)
    assert process.wait() == 0, process.stderr
    facts = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]
    assert len(facts) == trials
    for one in facts:
        status = -signal.SIGKILL if one["signal"] == signal.SIGKILL else 130
        assert one["interrupted"][0] == status, one
        assert one["next"] == 0, one
        assert "1 of 1 points logged" in one["printed"], one
        assert one["runs"] == ["demo", "m/fp32/greedy"], one
        assert not [name for name in one["files"] if name.endswith((".part", "-journal", ".incomplete"))], one


@pytest.mark.thinned(3)
@pytest.mark.parametrize("seed", [12, 13, 14])
def test_interrupted_at_any_moment_the_next_command_tracks_all(
    outputs: Path, forked: Callable[..., Forked], seed: int
) -> None:
    interrupt(forked, outputs, trials=7, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_interrupted_at_many_moments(outputs: Path, forked: Callable[..., Forked], seed: int) -> None:
    interrupt(forked, outputs, trials=60, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seed", range(3))
def test_a_whole_run_is_interrupted_while_it_is_made(
    outputs: Path, forked: Callable[..., Forked], seed: int, number: signal.Signals
) -> None:
    words = ["model=fable_tiny", "prompts.limit=1", "generation.max_new_tokens=2", "timing=off"]
    first = forked(*words)
    first.until(lambda: any(outputs.glob(".mlflow.db.*.part")))
    time.sleep(random.Random(f"{seed} {number}").uniform(0, 4))
    first.send(number)
    assert first.wait() in (-number, 130, 143, 0)
    again = forked(*words)
    assert again.wait() == 0, again.stderr
    assert again.stderr == ""
    assert list(statuses(f"sqlite:///{outputs / 'mlflow.db'}", "generation").values()) == ["FINISHED"]
    assert not [*outputs.glob("*mlflow.db.*.part*"), *outputs.glob("*.incomplete")]


def tables(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


def half_made(path: Path, migrated: Path, part: str) -> None:
    """Leave a file as an interruption in the middle of MLflow's migrations does."""
    if part == "empty":
        path.touch()
        return
    shutil.copyfile(migrated, path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA foreign_keys = OFF")
        if part == "last migrations":
            database.execute("UPDATE alembic_version SET version_num = 'cfd24bdc0731'")
            return
        database.execute("DELETE FROM alembic_version")
        database.execute("DELETE FROM experiments")
        for name in tables(path) if part == "first tables" else ():
            if name not in ("experiments", "runs", "tags", "params", "metrics") and "sqlite" not in name:
                database.execute(f"DROP TABLE {name}")


@pytest.mark.usefixtures("quickly_made")
@pytest.mark.parametrize("part", ["empty", "first tables", "no version", "last migrations"])
def test_a_half_made_database_without_runs_is_set_aside(
    outputs: Path, migrated: Path, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    sweep = make_sweep(outputs, models=("m",), decodings=("greedy",), tokens=4)
    path = outputs / "mlflow.db"
    half_made(path, migrated, part)
    before = path.read_bytes()
    log_sweep(sweep)
    assert [run.info.status for run in runs(f"sqlite:///{path}", "generation")] == ["FINISHED"]
    aside = outputs / "mlflow.db.incomplete"
    if part == "empty":
        assert not aside.exists()
        return
    assert aside.read_bytes() == before
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("harness")]
    assert str(path) in line
    assert "half made" in line
    assert aside.name in line


def other_version(path: Path, migrated: Path) -> None:
    shutil.copyfile(migrated, path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'cfd24bdc0731'")
        database.execute("INSERT INTO runs (run_uuid, name) VALUES ('a', 'precious')")


def somebody_elses(path: Path, migrated: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE addresses (name TEXT)")


def no_database(path: Path, migrated: Path) -> None:
    path.write_bytes(b"no database at all. " * 500)


def truncated(path: Path, migrated: Path) -> None:
    path.write_bytes(migrated.read_bytes()[:9000])


UNUSABLE = [
    (other_version, "mlflow db upgrade sqlite:///"),
    (somebody_elses, "let tracking.uri name another file"),
    (no_database, "move it away"),
    (truncated, "move it away"),
]


@pytest.mark.usefixtures("quickly_made")
@pytest.mark.parametrize(("damage", "cure"), UNUSABLE)
def test_an_unusable_database_stays_and_every_command_says_what_to_do(
    outputs: Path,
    migrated: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path, Path], None],
    cure: str,
) -> None:
    sweep = make_sweep(outputs, models=("m",), decodings=("greedy",), tokens=4)
    path = outputs / "mlflow.db"
    damage(path, migrated)
    before = path.read_bytes()
    tracker = open_tracker(sweep)
    tracker.open(sweep)
    tracker.log_point(sweep, 0)
    tracker.close(sweep, "FINISHED")
    (warning,) = [record.getMessage() for record in caplog.records if record.name.startswith("harness")]
    capsys.readouterr()
    lines = [warning]
    for words in (["sync"], ["ui", "--port", PORT]):
        assert main(words) == 1
        (line,) = capsys.readouterr().err.splitlines()
        lines.append(line)
    assert all(str(path) in line and cure in line for line in lines), lines
    assert "sync SWEEP` logs" in lines[0] or "another file" in lines[0], "the cure is not cut off"
    assert path.read_bytes() == before
    path.rename(path.with_name("moved"))
    assert sync(None) == 0


@pytest.mark.parametrize("pages", [1, 100])
def test_a_disk_that_fills_up_while_it_is_made(
    outputs: Path, caplog: pytest.LogCaptureFixture, pages: int
) -> None:
    from sqlalchemy import Engine, event

    sweep = make_sweep(outputs, models=("m",), decodings=("greedy",), tokens=4)

    def full(connection: sqlite3.Connection, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    event.listen(Engine, "connect", full)
    try:
        tracker = open_tracker(sweep)
        tracker.open(sweep)
        tracker.close(sweep, "FINISHED")
    finally:
        event.remove(Engine, "connect", full)
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("harness")]
    assert "disk is full" in line
    assert "harness sync" in line
    assert not list(outputs.glob("*mlflow.db*.part*"))
    assert not (outputs / "mlflow.db").exists()


@pytest.mark.usefixtures("quickly_made")
def test_a_disk_that_is_full_when_it_is_complete(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_sweep(outputs, models=("m",), decodings=("greedy",), tokens=4)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("harness.tracking.database.os.fsync", full)
        assert main(["sync"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line
    assert not list(outputs.glob("*mlflow.db*.part*"))
    assert main(["sync"]) == 0


def test_the_ui_says_why_it_cannot_start(
    outputs: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs.mkdir()
    shutil.copyfile(migrated, outputs / "mlflow.db")
    monkeypatch.setattr(MlflowClient, "__init__", lambda *_, **__: 1 / 0)
    with pytest.raises(HarnessError, match=r"tracking.uri: MLflow cannot open .*division by zero"):
        ui.serve(["--port", PORT])
