"""A tracker that tells in a thread of its own, so that decoding does not wait for MLflow."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from harness.store.sweeps import Sweep
from harness.tracking.links import Link
from harness.tracking.tracker import Tracker


class InBackground(Tracker):
    """Another tracker, told in order by one thread.

    Points are read from the store when their turn comes, so what waits is small, however many do. The parent
    run is opened before anything is decoded, and closed when every point has been told.

    Args:
        tracker: tells; it keeps its own failures to itself.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.uri = tracker.uri
        self._tracker = tracker
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._tell, name="tracking", daemon=True)

    def open(self, sweep: Sweep) -> None:
        """Begin, or go on with, the sweep's parent run; the store answers before this returns."""
        self._tracker.open(sweep)
        self._thread.start()

    def log_point(self, sweep: Sweep, index: int) -> None:
        """Have a point told when its turn comes."""
        self._waiting.put(lambda: self._tracker.log_point(sweep, index))

    def close(self, sweep: Sweep, status: str) -> None:
        """Tell what still waits, then end the parent run; as KILLED when not every point could be told."""
        if self._thread.is_alive():
            try:
                self._finish()
            except BaseException as error:
                # Interrupted: what is in hand is told whole, the rest is left to the next time.
                self._problem = error
                self._finish()
        self._tracker.close(sweep, status if self._problem is None else "KILLED")
        if self._problem is not None:
            raise self._problem

    def links(self, sweep: Sweep) -> tuple[Link, ...]:
        """Where to look at the sweep."""
        return self._tracker.links(sweep)

    def _finish(self) -> None:
        self._waiting.put(None)
        self._thread.join()

    def _tell(self) -> None:
        while (tell := self._waiting.get()) is not None:
            if self._problem is None:
                try:
                    tell()
                except BaseException as error:
                    self._problem = error
