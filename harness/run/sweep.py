"""Run a sweep: plan it, hand its groups to an executor, record every outcome in the store and in MLflow."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from harness.analysis.expectations import missed
from harness.config.hydra_output import HydraFiles
from harness.config.point import Point
from harness.errors import ConfigError
from harness.garbage import begin_collection
from harness.plan.plan import Plan, make_plan
from harness.report import print_sweep, write_sweep_reports
from harness.report.console import SafeConsole
from harness.report.write import Written
from harness.run.display import Display, print_hints, print_title, print_warning, print_warnings
from harness.run.estimate import expected_work
from harness.run.executor import Executor, Outcome
from harness.run.launch import Detach, Launch
from harness.run.local import LocalExecutor
from harness.store.files import remove_unfinished, write_text
from harness.store.locks import lock
from harness.store.sweeps import Sweep
from harness.terminal import visible
from harness.tracking import Link, Tracker, begin_tracking, print_links

SAVING = 30
"""plan.json is written again no sooner than after this many times what writing it took."""

_WAITING = "another process is running the same sweep; waiting for it"
_STYLES = {"done": "green", "reused": "cyan", "failed": "bold red"}


@dataclass(frozen=True)
class SweepRun:
    """A sweep that was run.

    Attributes:
        sweep: its record, with what became of each point.
        written: its reports.
        links: into the MLflow UI; none where it is not tracked.
        tracking_uri: where it is tracked.
        seconds: how long it took.
    """

    sweep: Sweep
    written: Written
    links: tuple[Link, ...]
    tracking_uri: str
    seconds: float

    @property
    def exit_status(self) -> int:
        """0 when every point is done and shows what was expected, else 1."""
        failed = any(point.status == "failed" for point in self.sweep.points)
        return 1 if failed or missed(self.written.checked) else 0


def run_sweep(points: Sequence[Point], name: str, files: HydraFiles, launch: Launch | None = None) -> int:
    """Run what the store lacks of these points, and print what they show; the arguments are `run_points`'s.

    Returns:
        The exit status: 0 when every point is done and shows what was expected, or was submitted; else 1.

    Raises:
        ConfigError: a point cannot be prepared; nothing was loaded.
    """
    console = SafeConsole(highlight=True)
    run = run_points(points, name, files, launch, console, tracking_process=True)
    if run is None:
        return 0
    print_sweep(run.sweep, run.written, run.seconds)
    print_links(console, run.sweep, run.links, run.tracking_uri)
    return run.exit_status


def run_points(
    points: Sequence[Point],
    name: str,
    files: HydraFiles,
    launch: Launch | None = None,
    console: SafeConsole | None = None,
    tracking_process: bool = False,
) -> SweepRun | None:
    """Run what the store lacks of these points.

    Args:
        points: of one command.
        name: the sweep's.
        files: what Hydra would write of the command, written into the sweep's folder.
        launch: who runs the groups, and where; this process when None.
        console: what progress is shown on; the terminal when None.
        tracking_process: MLflow is imported and written in a process of its own, which costs seconds of a
            second core: for a command, not for one of many calls.

    Returns:
        The sweep; None where it was submitted and goes on without this process.

    Raises:
        ConfigError: a point cannot be prepared; nothing was loaded.
    """
    console = console or SafeConsole(highlight=True)
    launch = launch or Launch(LocalExecutor())
    tracked = points[0].tracking.enabled and launch.detach is None
    with begin_tracking(own_process=tracking_process and tracked) as tracker_of:
        plan = make_plan(points, name, launch.device)
        _check_outputs(plan.outputs)
        sweep = plan.sweep()
        print_warnings(console, plan)
        print_hints(console, plan)
        print_title(console, plan)
        with lock(plan.outputs, [sweep.sweep_id], lambda: console.print(_WAITING), console.print):
            remove_unfinished(sweep.folder)
            sweep.save()
            for path, text in files(sweep.folder).items():
                write_text(sweep.folder / path, text)
            if launch.detach is not None and (said := _detached(launch.detach, plan, console)):
                for line in said:
                    console.print(Text(visible(line)), soft_wrap=True)
                return None
            return _Run(plan, sweep, console).go(launch.executor, tracker_of)


def _detached(detach: Detach, plan: Plan, console: SafeConsole) -> Sequence[str]:
    with Display(console, len(plan.jobs)) as display:
        return detach(plan, display)


class _Run:
    """One sweep going on: the plan, and what has become of its points so far."""

    def __init__(self, plan: Plan, sweep: Sweep, console: SafeConsole) -> None:
        self._plan = plan
        self._sweep = sweep
        self._console = console
        self._save_after = 0.0
        self._known_warnings = {warning for job in plan.jobs for warning in job.warnings}

    def go(self, executor: Executor, tracker_of: Callable[[Sweep], Tracker]) -> SweepRun:
        tracker = tracker_of(self._sweep)
        status = "KILLED"
        try:
            with Display(self._console, len(self._plan.jobs), expected_work(self._plan)) as display:
                display.stage("opening MLflow" if tracker.uri else "starting", 1, "")
                tracker.open(self._sweep)
                # Closed before anything else is done: workers must have ended by then.
                with closing(executor.run(self._plan, display)) as outcomes:
                    for outcome in outcomes:
                        self._record(outcome, display, tracker)
            failed = sum(point.status == "failed" for point in self._sweep.points)
            status = "FAILED" if failed else "FINISHED"
        except BaseException as error:
            self._record_interruption()
            if isinstance(error, KeyboardInterrupt):
                done = sum(point.status in ("done", "reused") for point in self._sweep.points)
                kept = f"{done} of {len(self._sweep.points)} points are kept"
                self._console.print(f"{kept}; the same command resumes from here")
            raise
        finally:
            written = None
            try:
                self._sweep.save()
                written = write_sweep_reports(self._sweep)
            finally:
                tracker.close(self._sweep, status, written)
        seconds = time.time() - self._sweep.started
        return SweepRun(self._sweep, written, tracker.links(self._sweep), tracker.uri, seconds)

    def _record(self, outcome: Outcome, display: Display, tracker: Tracker) -> None:
        """Record the outcome of a point."""
        begin_collection()  # nothing was loaded here where the store has it, or workers do
        before = self._sweep.points[outcome.job]
        self._sweep = self._sweep.with_point(
            outcome.job,
            status=outcome.status,
            started=outcome.started,
            ended=outcome.ended,
            error=outcome.error,
            traceback=outcome.traceback,
            warnings=(*before.warnings, *outcome.warnings),
        )
        self._save_now_and_then()
        tracker.log_point(self._sweep, outcome.job)
        point = self._sweep.points[outcome.job]
        display.point(point.label, point.status, _STYLES[point.status])
        if outcome.error is not None:
            self._console.print(Text(f"     {visible(outcome.error)}", style="red"), soft_wrap=True)
        for warning in outcome.warnings:
            if warning not in self._known_warnings:
                self._known_warnings.add(warning)
                print_warning(self._console, warning)

    def _save_now_and_then(self) -> None:
        """Write plan.json, but not so often that saving dominates a sweep of many points."""
        now = time.monotonic()
        if now >= self._save_after:
            self._sweep.save()
            self._save_after = now + SAVING * (time.monotonic() - now)

    def _record_interruption(self) -> None:
        for index, point in enumerate(self._sweep.points):
            if point.status == "planned":
                self._sweep = self._sweep.with_point(index, status="interrupted")


def _check_outputs(outputs: Path) -> None:
    """Refuse to begin where nothing can be written.

    Raises:
        ConfigError: the folder cannot be made or written.
    """
    try:
        outputs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=outputs):
            pass
    except OSError as error:
        key = "HARNESS_OUTPUTS" if os.environ.get("HARNESS_OUTPUTS") else "outputs"
        cure = "set HARNESS_OUTPUTS to a folder that can be written"
        raise ConfigError.of(key, f"{outputs} cannot be written ({error.strerror}); {cure}") from error
