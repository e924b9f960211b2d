"""The process that logs a sweep to MLflow: `python -m harness.tracking.tracking_process`.

It is started and fed by `process_tracker`, in the order in which a sweep's points are done, and ends at once
when its standard input does: the sweep's process is gone then, and the next run cleans up after it.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from queue import SimpleQueue
from typing import Any, BinaryIO

from harness.errors import HarnessError
from harness.garbage import begin_collection, collect_seldom, postpone_collection
from harness.store.mlflow_uri import prepare_environment
from harness.tracking.sweep_answer import SweepAnswer
from harness.tracking.tracker import MlflowTracker
from harness.tracking.tracking_lines import line_of, read_lines, sweep_from_json, with_points

Line = dict[str, Any]


def main() -> None:
    """Log what standard input says; tell on standard output."""
    # The sweep's process decides when this one ends; a batch system may send both a signal.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    collect_seldom()
    postpone_collection()
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print is none of the answers
    ours = logging.getLogger("harness")
    ours.addHandler(_Warnings(answers))
    ours.propagate = False
    inbox = Inbox(sys.stdin.buffer)
    prepare_environment()
    with suppress(Exception):  # opening the store says why
        import mlflow  # noqa: F401  before the first line arrives
    begin_collection()
    log_lines(inbox, answers)
    gc.freeze()


def log_lines(inbox: Inbox, answers: BinaryIO) -> None:
    """Log what lines say, to the end of the sweep."""
    for line in inbox:
        if line["kind"] == "open":
            sweep = sweep_from_json(line["sweep"])
            tracker = MlflowTracker(line["uri"], owner=line["owner"])
            tracker.open(sweep)
            continue
        sweep = with_points(sweep, line["points"])
        if line["kind"] == "close":
            break
        if not inbox.cancelled:
            tracker.log_point(sweep, line["index"])
    status = "KILLED" if inbox.cancelled else line["status"]
    tracker.close_with(sweep, status, lambda: _answer(line))
    inbox.done = True
    answers.write(line_of("closed", links=[asdict(link) for link in tracker.links(sweep)]))
    inbox.wait_for_the_end()


def _answer(line: Line) -> SweepAnswer | None:
    if line["problem"]:
        raise HarnessError(line["problem"])
    return SweepAnswer.from_json(line["answer"]) if line["answer"] else None


class Inbox:
    """The lines of a stream, read in a thread: who writes them never waits.

    Attributes:
        cancelled: points that are still queued are to be dropped.
        done: nothing more is expected; until then, the end of the stream ends this process.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.cancelled = self.done = False
        self._stream = stream
        self._lines: SimpleQueue[Line] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __iter__(self) -> Iterator[Line]:
        """Yield the lines as they come, without end."""
        while True:
            yield self._lines.get()

    def wait_for_the_end(self) -> None:
        """Wait until who writes has closed the stream."""
        self._reader.join()

    def _read(self) -> None:
        for line in read_lines(self._stream):
            if line["kind"] == "cancel":
                self.cancelled = True
            else:
                self._lines.put(line)
        if not self.done:
            os._exit(1)


class _Warnings(logging.Handler):
    """Passes warnings on to the sweep's process, which shows them."""

    def __init__(self, answers: BinaryIO) -> None:
        super().__init__(logging.WARNING)
        self._answers = answers

    def emit(self, record: logging.LogRecord) -> None:
        self._answers.write(line_of("warning", logger=record.name, text=record.getMessage()))


if __name__ == "__main__":
    main()
