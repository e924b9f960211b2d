"""A worker that is a job of a batch system, as its head sees it: queued, running, ended or gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from harness.run.batch.cluster import Cluster, JobEnd, JobState
from harness.run.lines_file import LinesReader
from harness.run.worker_lines import STORE_FAILED
from harness.run.workers import PATIENCE_S, After, Event, last_line

INTERRUPTED = 143
"""The exit status of a worker that was told to end."""

_LATE_S = 3.0
"""Lines of a job that is gone may come so much later, through a network file system."""


class BatchWorker:
    """A job that runs a group.

    Args:
        job: its id.
        lines: what it tells.
        log: where its standard error is appended.
        cluster: that has it.
        events: receives what it tells.
        attached: whether an earlier head submitted it, so that what it said before was read.
        later: ids of jobs that were submitted for later, and are cancelled with it.
    """

    def __init__(
        self,
        job: str,
        lines: Path,
        log: Path,
        cluster: Cluster,
        events: SimpleQueue[Event],
        *,
        attached: bool = False,
        later: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self.job, self.name = job, f"job {job}"
        self.after: After = "count"
        self.status: int | None = None
        self._reader, self._log, self._cluster, self._events = LinesReader(lines), log, cluster, events
        self._said: Mapping[str, Any] | None = None
        self._end: JobEnd | None = None
        self._gone: float | None = None
        self._shown = ""
        self._attached, self._later = attached, later

    def how_it_ended(self) -> str:
        """Return in a few words how it ended, and the last line of its log."""
        words = "is gone" if self._end is None else self._end.words
        last = last_line(self._log)
        return f"{words}; its last line: {last}" if last else words

    def tell(self, message: str) -> None:
        """Pass on a line about it."""
        self._events.put((self, {"message": message}))

    def end(self) -> None:
        """Cancel it."""
        if self.status is None:
            self._cluster.cancel([self.job, *self._later()])

    def wait(self) -> None:
        """Wait until it is gone; kill it where that takes long."""
        until = time.monotonic() + PATIENCE_S
        while self.status is None and self._cluster.live([self.job]):
            if time.monotonic() > until:
                self._cluster.cancel([self.job], kill=True)
                return
            time.sleep(0.3)

    def hear(self) -> None:
        """Pass on what it has told since the last time, and notice its own end."""
        if self.status is not None:
            return
        for told in self._reader.new():
            if "begin" in told:
                self._said = None
            elif "end" in told:
                self._said = told["end"]
            elif not (self._attached and "message" in told):
                self._events.put((self, told))
        self._attached = False
        if self._said is not None and self._said.get("status") != INTERRUPTED:
            self._ended(int(self._said["status"]), JobEnd(f"ended with exit status {self._said['status']}"))

    def look(self, live: Mapping[str, JobState]) -> None:
        """Take note of whether the batch system still has it."""
        if self.status is not None:
            return
        if (state := live.get(self.job)) is not None:
            self._gone = None
            if not state.running and state.words != self._shown:
                self._events.put((self, {"stage": {"label": state.words, "total": 1, "unit": ""}}))
            self._shown = state.words
            return
        self._gone = self._gone or time.monotonic()
        if self._said is None and time.monotonic() - self._gone < _LATE_S:
            return
        found = self._cluster.ended(self.job)
        if self._said is not None and found.status is not None and self._said.get("why"):
            found = JobEnd(self._said["why"], self._said.get("after", "count"))
        # Another status than that of a full store says nothing: a worker that ends by itself tells.
        self._ended(STORE_FAILED if found.status == STORE_FAILED else INTERRUPTED, found)

    def _ended(self, status: int, end: JobEnd) -> None:
        self._end, self.after, self.status = end, end.after, status
        self._events.put((self, None))


def unended(workers: Collection[BatchWorker]) -> list[BatchWorker]:
    """Return those that have not ended."""
    return [worker for worker in workers if worker.status is None]
