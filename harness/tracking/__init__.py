"""Tracking: logs a sweep to MLflow from the store on disk; MLflow is imported when a tracker is opened."""

from harness.tracking.background import BackgroundTracker
from harness.tracking.begin_tracking import begin_tracking
from harness.tracking.links import Link, sweep_links
from harness.tracking.print_links import print_links
from harness.tracking.tracker import Tracker, open_tracker

__all__ = [
    "BackgroundTracker", "Link", "Tracker", "begin_tracking", "open_tracker", "print_links", "sweep_links",
]  # fmt: skip
