"""Tracking: logs a sweep to MLflow from the store on disk; MLflow is imported when a tracker is opened."""

from harness.tracking.background import BackgroundTracker
from harness.tracking.links import Link, sweep_links
from harness.tracking.print_links import print_links
from harness.tracking.tracker import Tracker, open_tracker

__all__ = ["BackgroundTracker", "Link", "Tracker", "open_tracker", "print_links", "sweep_links"]
