"""`harness sync [SWEEP]`: log to MLflow what it lacks of a sweep, from the store alone."""

from __future__ import annotations

from dataclasses import replace

from harness.analysis.point_results import damage_of, stored_of
from harness.config.secret_text import safe_address
from harness.errors import HarnessError
from harness.report.console import SafeConsole
from harness.report.write import write_sweep_reports
from harness.store.files import outputs_folder
from harness.store.mlflow_uri import tracking_uri
from harness.store.sweeps import find_sweep
from harness.terminal import visible
from harness.tracking.database import reason_of
from harness.tracking.print_links import print_links
from harness.tracking.tracker import LOGGABLE, MlflowTracker


def sync(name: str | None) -> int:
    """Log a sweep to MLflow, whether or not it was tracked when it ran, and print links to it.

    Args:
        name: the sweep's folder or id; the last one when None.

    Returns:
        The exit status: 0, or 1 when a point is no longer in the store, or damaged.

    Raises:
        ConfigError: there is no such sweep, or MLflow cannot log to `tracking.uri`.
        HarnessError: MLflow cannot be reached.
    """
    sweep = find_sweep(outputs_folder(), name)
    uri = tracking_uri(sweep.tracking)
    gone = [p.label for p in sweep.points if p.status in ("done", "reused") and stored_of(sweep, p) is None]
    present = replace(sweep, points=tuple(p for p in sweep.points if p.label not in gone))
    statuses = {point.status for point in present.points}
    status = "FAILED" if "failed" in statuses else "KILLED"
    if statuses <= {"done", "reused"} and not gone:
        status = "FINISHED"
    tracker = MlflowTracker(uri, strict=True)
    written = write_sweep_reports(sweep)
    try:
        tracker.open(present)
        for index in range(len(present.points)):
            tracker.log_point(present, index)
        tracker.close(present, status, written)
    except HarnessError:
        raise
    except Exception as error:
        raise HarnessError(
            f"tracking.uri: logging to MLflow at {safe_address(uri)} failed ({reason_of(error)}); "
            "check that it runs, then run `harness sync` again"
        ) from error
    points = sum(point.status in LOGGABLE for point in present.points)
    print(
        f"{sweep.folder.name}: {tracker.written} of {points} points logged to {safe_address(uri)}, "
        "the rest was up to date"
    )
    for point in sweep.points:
        if point.label in gone:
            gone_line = "no longer in the store; run the sweep again to generate it"
            print(visible(f"{point.label}: {damage_of(sweep, point) or gone_line}"))
    print_links(SafeConsole(), sweep, tracker.links(sweep), uri)
    return 1 if gone else 0
