"""A tracker that logs in its own thread, so that decoding does not wait for MLflow."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from harness.report.write import Written
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
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tracking")
        self._logged: Future[None] | None = None

    def open(self, sweep: Sweep) -> None:
        """Begin or resume the sweep's parent run; MLflow has answered when this returns."""
        self._tracker.open(sweep)

    def log_point(self, sweep: Sweep, index: int) -> None:
        """Queue a point to be logged, unless one before it could not be."""
        previous = self._logged

        def log() -> None:
            if previous is not None:
                previous.result()
            self._tracker.log_point(sweep, index)

        self._logged = self._executor.submit(log)

    def close(self, sweep: Sweep, status: str, written: Written | None = None) -> None:
        """Log what is still queued, then end the parent run; as KILLED when a point could not be logged."""
        try:
            if self._logged is not None:
                self._logged.result()
        except BaseException:
            status = "KILLED"
            raise
        finally:
            # When interrupted, the point in progress is finished, the others are left to the next run.
            self._executor.shutdown(cancel_futures=True)
            self._tracker.close(sweep, status, written)

    def links(self, sweep: Sweep) -> tuple[Link, ...]:
        """Return the sweep's links into the MLflow UI."""
        return self._tracker.links(sweep)
