"""Which tracker a sweep gets: one in a process of its own, which starts before the sweep is planned."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.store.sweeps import Sweep
from harness.tracking.background import BackgroundTracker
from harness.tracking.process_tracker import ProcessTracker, TrackingProcess
from harness.tracking.tracker import Tracker, open_tracker


@contextmanager
def begin_tracking(own_process: bool) -> Iterator[Callable[[Sweep], Tracker]]:
    """Yield a function that returns the tracker that a sweep's config asks for; it raises ConfigError.

    Args:
        own_process: let a process of its own import MLflow and log, as long as this one has not imported it.
    """
    process = TrackingProcess() if own_process and "mlflow" not in sys.modules else None

    def tracker_of(sweep: Sweep) -> Tracker:
        tracker = open_tracker(sweep)
        return BackgroundTracker(tracker) if process is None else ProcessTracker(tracker.uri, process)

    try:
        yield tracker_of
    finally:
        if process is not None:
            process.end()
