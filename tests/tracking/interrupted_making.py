"""Interrupt the making of MLflow's database again and again; tests/tracking/test_database.py runs it.

Usage: python interrupted_making.py OUTPUTS TRIALS SEED. OUTPUTS holds a sweep that is not tracked yet. One
line of JSON per trial says what the interrupted process and the next command came to.

MLflow is imported once, and each trial is a fork. The migrations are recorded once and replayed: the same
statements in one transaction as well, without the seconds that MLflow takes to find them.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy
from mlflow.store.db import utils

from harness.store.sweeps import find_sweep
from harness.tracking import open_tracker
from harness.tracking.sync import sync

outputs, trials, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])


def record() -> list[tuple[str, Any]]:
    """Track the sweep in a copy of the outputs; return the statements that made the database."""
    statements: list[tuple[str, Any]] = []
    make = utils._initialize_tables

    def recorded(engine: sqlalchemy.Engine) -> None:
        def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _x: Any, many: bool) -> None:
            assert not many
            statements.append((statement, parameters))

        sqlalchemy.event.listen(engine, "before_cursor_execute", note)
        make(engine)
        sqlalchemy.event.remove(engine, "before_cursor_execute", note)

    copy = outputs.with_name("rehearsal")
    shutil.copytree(outputs, copy)
    os.environ["HARNESS_OUTPUTS"] = str(copy)
    utils._initialize_tables = recorded
    assert sync(None) == 0
    os.environ["HARNESS_OUTPUTS"] = str(outputs)
    return statements


def replay(engine: sqlalchemy.Engine) -> None:
    with engine.begin() as connection:
        for statement, parameters in recording:
            connection.exec_driver_sql(statement, parameters or None).close()


def in_a_fork(action: Callable[[], int]) -> tuple[int, str]:
    """Run an action in a child; return its exit status as os.waitstatus_to_exitcode, and what it printed."""
    log = outputs.with_name("log")
    child = os.fork()
    if child == 0:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        status = 99
        try:
            status = action()
        except KeyboardInterrupt:
            status = 130
        finally:
            sys.stdout.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), log.read_text()


def interrupted(moment: int, number: signal.Signals) -> int:
    """Open the sweep's tracker, and send this process a signal when it is about to execute a statement."""
    executed = 0

    def count(*_: Any) -> None:
        nonlocal executed
        if executed == moment:
            os.kill(os.getpid(), number)
        executed += 1

    signal.signal(signal.SIGINT, signal.default_int_handler)
    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", count)
    sweep = find_sweep(outputs, None)
    tracker = open_tracker(sweep)
    tracker.open(sweep)
    return 0


def runs() -> list[str]:
    with closing(sqlite3.connect(outputs / "mlflow.db")) as database:
        return sorted(name for (name,) in database.execute("SELECT name FROM runs WHERE status = 'FINISHED'"))


recording = record()
utils._initialize_tables = replay
chance = random.Random(seed)
for trial in range(trials):
    shutil.rmtree(outputs / "mlartifacts", ignore_errors=True)
    for path in outputs.glob("*mlflow.db*"):
        path.unlink()
    number = (signal.SIGKILL, signal.SIGINT)[trial % 2]
    # Some come after the making, while MLflow opens it and the first run is created.
    moment = chance.randrange(len(recording) + 20)
    first = in_a_fork(partial(interrupted, moment, number))
    after, printed = in_a_fork(partial(sync, None))
    files = sorted(path.name for path in outputs.iterdir())
    facts = {
        "moment": moment,
        "signal": int(number),
        "interrupted": first,
        "next": after,
        "printed": printed,
        "runs": runs(),
        "files": files,
    }
    print(json.dumps(facts), flush=True)
