"""`harness sync [SWEEP]`: tell MLflow what it missed, from the store alone."""

from __future__ import annotations

from dataclasses import replace

from harness.analysis.point_results import stored_of
from harness.errors import HarnessError
from harness.report import write_sweep_reports
from harness.store.files import outputs_folder
from harness.store.sweeps import Sweep, find_sweep
from harness.tracking.links import closing_lines
from harness.tracking.tracker import TELLABLE, MlflowTracker, one_line
from harness.tracking.uri import tracking_uri


def sync(name: str | None) -> int:
    """Tell MLflow of a sweep, whether or not it was tracked when it ran, and print where to look.

    Args:
        name: the sweep's folder or id; the last one when None.

    Returns:
        The exit status: 0, or 1 when a point is no longer in the store.

    Raises:
        ConfigError: there is no such sweep, or tracking.uri is nothing to log to.
        HarnessError: MLflow cannot be reached.
    """
    sweep = find_sweep(outputs_folder(), name)
    uri = tracking_uri(sweep.tracking)
    tracker, missing = sync_sweep(sweep, uri)
    points = sum(point.status in TELLABLE for point in sweep.points) - len(missing)
    print(f"{sweep.folder.name}: {tracker.written} of {points} points told to {uri}, the others were there")
    for label in missing:
        print(f"{label}: no longer in the store; run the sweep again to make it anew")
    for line in closing_lines(sweep, tracker.links(sweep), uri):
        print(line)
    return 1 if missing else 0


def sync_sweep(sweep: Sweep, uri: str) -> tuple[MlflowTracker, list[str]]:
    """Make MLflow hold each point of the sweep exactly once.

    Returns:
        The tracker that did it, and the labels of points whose folder is gone.

    Raises:
        HarnessError: MLflow cannot be reached.
    """
    gone = [p.label for p in sweep.points if p.status in ("done", "reused") and stored_of(sweep, p) is None]
    there = replace(sweep, points=tuple(p for p in sweep.points if p.label not in gone))
    tracker = MlflowTracker(uri, strict=True)
    write_sweep_reports(there)
    try:
        tracker.open(there)
        for index in range(len(there.points)):
            tracker.log_point(there, index)
        statuses = {point.status for point in there.points}
        if statuses <= {"done", "reused"} and not gone:
            status = "FINISHED"
        else:
            status = "FAILED" if "failed" in statuses else "KILLED"
        tracker.close(there, status)
    except HarnessError:
        raise
    except Exception as error:
        raise HarnessError(f"tracking.uri: MLflow at {uri} could not be told: {one_line(error)}") from error
    return tracker, gone
