"""A tracker in a process of its own: what MLflow imports and writes takes no time from what decodes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO, Any

from harness.config.secret_text import safe_address
from harness.report.write import Written
from harness.store.sweeps import Sweep
from harness.tracking.database import reason_of
from harness.tracking.links import Link
from harness.tracking.sweep_answer import answer_of
from harness.tracking.tracker import Tracker, not_logged
from harness.tracking.tracking_lines import changed_points, line_of, read_lines, sweep_json

log = logging.getLogger(__name__)

_MODULE = "harness.tracking.tracking_process"
_PATIENCE_S = 10.0


class TrackingProcess:
    """A process that has MLflow imported by the time a sweep is planned, and logs the sweep.

    It is in a session of its own, so that Ctrl-C reaches the sweep alone, and ends when the sweep's process
    does, however that ends.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._closed: dict[str, Any] | None = None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=_show, args=(self._process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def send(self, kind: str, **values: Any) -> None:
        """Send it a line; nothing happens where it has ended, which `result` tells."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(line_of(kind, **values))
            self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """Wait until it has logged everything; return its last line.

        Raises:
            RuntimeError: it ended before.
        """
        for reader in self._readers:
            reader.join()
        status = self._process.wait()
        if self._closed is None:
            how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            raise RuntimeError(f"its process ended with {how}")
        return self._closed

    def end(self) -> None:
        """End it, whatever it is doing, and wait for that."""
        self._finish()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join()

    def _finish(self) -> None:
        """Tell it that no more lines come."""
        assert self._process.stdin is not None
        with suppress(OSError):  # of a line that was not taken any more
            self._process.stdin.close()

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            for line in read_lines(stream):
                if line["kind"] == "warning":
                    logging.getLogger(line["logger"]).warning("%s", line["text"])
                else:
                    self._closed = line
                    self._finish()


class ProcessTracker(Tracker):
    """Logs to MLflow in a process that was started before.

    Points are logged in order; none of the methods waits for it but `close`.

    Args:
        uri: the tracking URI.
        process: logs.
    """

    def __init__(self, uri: str, process: TrackingProcess) -> None:
        self.uri = uri
        self._process = process
        self._sent: Sweep | None = None
        self._links: tuple[Link, ...] = ()

    def open(self, sweep: Sweep) -> None:
        """Have the sweep's parent run begun or resumed."""
        self._process.send("open", uri=self.uri, owner=os.getpid(), sweep=sweep_json(sweep))
        self._sent = sweep

    def log_point(self, sweep: Sweep, index: int) -> None:
        """Queue a point to be logged."""
        self._process.send("log", index=index, points=self._changed(sweep))

    def close(self, sweep: Sweep, status: str, written: Written | None = None) -> None:
        """Wait until what is queued is logged and the parent run has ended.

        When interrupted, the point in progress is finished, the others are left to the next run.
        """
        if self._sent is None:
            return
        facts: dict[str, Any] = {"answer": None, "problem": ""}
        try:
            facts["answer"] = answer_of(written, sweep.folder).as_json() if written else None
        except Exception as error:
            facts["problem"] = reason_of(error)
        try:
            self._process.send("close", status=status, points=self._changed(sweep), **facts)
            self._wait()
        except BaseException:
            self._process.send("cancel")
            self._wait()
            raise

    def links(self, sweep: Sweep) -> tuple[Link, ...]:
        """Return the sweep's links into the MLflow UI, once it is closed; empty when logging failed."""
        return self._links

    def _changed(self, sweep: Sweep) -> dict[str, Any]:
        assert self._sent is not None, "the tracker was not opened"
        changed = changed_points(self._sent, sweep)
        self._sent = sweep
        return changed

    def _wait(self) -> None:
        try:
            found = self._process.result()
        except RuntimeError as error:
            log.warning("%s", not_logged(safe_address(self.uri), str(error)))
        else:
            self._links = tuple(Link(**link) for link in found["links"])


def _show(stream: IO[bytes]) -> None:
    """Pass on what MLflow prints."""
    with stream:
        for line in stream:
            print(line.decode(errors="replace").rstrip("\n"), file=sys.stderr)
