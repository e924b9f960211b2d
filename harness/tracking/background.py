"""A tracker that logs in its own thread, so that decoding does not wait for MLflow."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from harness.store.sweeps import Sweep
from harness.tracking.links import Link
from harness.tracking.tracker import Tracker


class BackgroundTracker(Tracker):
    """Another tracker, whose points are logged in order by one thread.

    A point is read from the store when its turn comes, so the queue stays small however long it is. The
    parent run is opened before anything is decoded, and ended once every point has been logged.

    Args:
        tracker: does the logging; it handles its own failures.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.uri = tracker.uri
        self._tracker = tracker
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)

    def open(self, sweep: Sweep) -> None:
        """Begin or resume the sweep's parent run; MLflow has answered when this returns."""
        self._tracker.open(sweep)
        self._thread.start()

    def log_point(self, sweep: Sweep, index: int) -> None:
        """Queue a point to be logged."""
        self._queue.put(lambda: self._tracker.log_point(sweep, index))

    def close(self, sweep: Sweep, status: str) -> None:
        """Log what is still queued, then end the parent run; as KILLED when a point could not be logged."""
        if self._thread.is_alive():
            try:
                self._finish()
            except BaseException as error:
                # Interrupted: the point in progress is finished, the others are left to the next run.
                self._error = error
                self._finish()
        self._tracker.close(sweep, status if self._error is None else "KILLED")
        if self._error is not None:
            raise self._error

    def links(self, sweep: Sweep) -> tuple[Link, ...]:
        """Return the sweep's links into the MLflow UI."""
        return self._tracker.links(sweep)

    def _finish(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            if self._error is None:
                try:
                    task()
                except BaseException as error:
                    self._error = error
