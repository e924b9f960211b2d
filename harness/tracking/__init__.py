"""What MLflow is told, from the store on disk; MLflow itself is imported when a tracker is opened."""

from harness.tracking.background import InBackground
from harness.tracking.links import Link, closing_lines, sweep_links
from harness.tracking.tracker import Tracker, open_tracker

__all__ = ["InBackground", "Link", "Tracker", "closing_lines", "open_tracker", "sweep_links"]
