"""Run a sweep: plan it, run its groups one after the other, tell the store, MLflow and the terminal."""

from __future__ import annotations

import os
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from harness.analysis.expectations import missed
from harness.config.hydra_output import HydraFiles
from harness.config.point import Point
from harness.errors import ConfigError, HarnessError, StoreError
from harness.plan.plan import Group, Plan, PlannedPoint, as_of_now, make_plan
from harness.run.display import Display
from harness.store.files import remove_unfinished, write_text
from harness.store.locks import lock
from harness.store.stored_point import stored_point
from harness.store.sweeps import Sweep

if TYPE_CHECKING:
    from harness.tracking import Tracker


def run_sweep(points: Sequence[Point], name: str, files: HydraFiles) -> int:
    """Run what the store lacks of these points.

    Args:
        points: of one command.
        name: the sweep's.
        files: what Hydra would write of the command, written into the sweep's folder.

    Returns:
        The exit status: 0 when every point is done and shows what was expected, else 1.

    Raises:
        ConfigError: a point cannot be prepared; nothing was loaded.
    """
    console = Console()
    plan = make_plan(points, name)
    _check_outputs(plan.outputs)
    sweep = plan.sweep()
    _tell_warnings(console, sweep)
    for hint in plan.hints:
        console.print(Text.assemble(("hint ", "cyan"), hint), soft_wrap=True)
    sweep.save()
    for path, text in files(sweep.folder).items():
        write_text(sweep.folder / path, text)
    with lock(plan.outputs, [sweep.sweep_id], lambda: _tell_wait(console)) as waited:
        remove_unfinished(sweep.folder)
        if waited:
            plan = replace(plan, points=tuple(as_of_now(planned, plan.outputs) for planned in plan.points))
        return _Run(plan, sweep, console).go()


SAVING = 30
"""plan.json is written again no sooner than after so many times what that took."""


class _Run:
    """One sweep going on: the plan, and what has become of its points so far."""

    def __init__(self, plan: Plan, sweep: Sweep, console: Console) -> None:
        self._plan = plan
        self._sweep = sweep
        self._console = console
        self._save_after = 0.0

    def go(self) -> int:
        from harness.report import print_sweep, write_sweep_reports
        from harness.tracking import InBackground, closing_lines, open_tracker

        tracker = InBackground(open_tracker(self._sweep))
        status = "KILLED"
        try:
            tracker.open(self._sweep)
            with Display(self._console, len(self._plan.points)) as display:
                for group in self._plan.groups:
                    self._run_group(group, display, tracker)
            failed = sum(point.status == "failed" for point in self._sweep.points)
            status = "FAILED" if failed else "FINISHED"
        except BaseException as error:
            self._note_interruption()
            if isinstance(error, KeyboardInterrupt):
                self._tell_how_to_go_on()
            raise
        finally:
            try:
                self._sweep.save()
                written = write_sweep_reports(self._sweep)
            finally:
                tracker.close(self._sweep, status)
        print_sweep(self._sweep, written)
        for line in closing_lines(self._sweep, tracker.links(self._sweep), tracker.uri):
            self._console.print(Text(line), soft_wrap=True)
        return 1 if failed or missed(written.checked) else 0

    def _run_group(self, group: Group, display: Display, tracker: Tracker) -> None:
        """Run a group's points; a failure is told and the rest runs on."""
        points = {place: self._plan.points[place] for place in group.places}
        for place, planned in points.items():
            if planned.needs and not planned.needs.model:
                points[place] = self._measure(place, planned, display, tracker)
            elif not planned.needs:
                self._note(place, display, tracker, status="reused", ended=time.time())
        waiting = [place for place, planned in points.items() if planned.needs.model]
        if not waiting:
            return
        # The engine brings torch with it: only now is it needed.
        from harness.run.local import Group as LoadedGroup

        try:
            loaded = LoadedGroup(group.model, group.quantization, display, self._plan.outputs)
        except Exception as error:
            for place in waiting:
                self._note_failure(place, error, display, tracker)
            return
        try:
            started = time.time()
            for place in waiting:
                warnings = (*self._sweep.points[place].warnings, *loaded.warnings)
                self._sweep = self._sweep.with_point(place, started=started, warnings=warnings)
            for done, problem in loaded.run([points[place] for place in waiting]):
                place = waiting[done]
                if notes := loaded.notes.get(points[place].point_id):
                    warnings = (*self._sweep.points[place].warnings, *notes)
                    self._sweep = self._sweep.with_point(place, warnings=warnings)
                if problem is not None:
                    self._note_failure(place, problem, display, tracker)
                else:
                    self._note(place, display, tracker, status="done", ended=time.time())
        finally:
            loaded.close()

    def _measure(self, place: int, planned: PlannedPoint, display: Display, tracker: Tracker) -> PlannedPoint:
        """Give a point in the store the metrics that it lacks; returns what it needs then."""
        from harness.artifacts.compute_metrics import add_metrics

        with lock(self._plan.outputs, [planned.point_id], display.waiting) as waited:
            if waited:
                planned = as_of_now(planned, self._plan.outputs)
            if planned.needs.model:
                return planned
            remove_unfinished(stored_point(self._plan.outputs, planned.point_id).folder)
            try:
                if planned.needs:
                    display.measuring(planned.point.label, planned.samples)
                    stored = stored_point(self._plan.outputs, planned.point_id)
                    add_metrics(stored, planned.metrics, display.measured)
            except StoreError:
                raise
            except Exception as problem:
                self._note_failure(place, problem, display, tracker)
                return planned
        self._note(place, display, tracker, status="reused", ended=time.time())
        return planned

    def _note(self, place: int, display: Display, tracker: Tracker, **changes: object) -> None:
        self._sweep = self._sweep.with_point(place, **changes)
        self._save_now_and_then()
        tracker.log_point(self._sweep, place)
        point = self._sweep.points[place]
        style = {"done": "green", "reused": "cyan", "failed": "bold red"}[point.status]
        display.point(point.label, point.status, style)

    def _save_now_and_then(self) -> None:
        """Write plan.json, but not so often that a sweep of many points comes to nothing else.

        It tells of a sweep that goes on; what is done is known by the store, and the last word is written at
        the end.
        """
        now = time.monotonic()
        if now >= self._save_after:
            self._sweep.save()
            took = time.monotonic() - now
            self._save_after = now + SAVING * took

    def _note_failure(self, place: int, error: Exception, display: Display, tracker: Tracker) -> None:
        line = one_line(error)
        details = "".join(traceback.format_exception(error))
        self._note(place, display, tracker, status="failed", error=line, traceback=details, ended=time.time())
        self._console.print(Text(f"     {line}", style="red"), soft_wrap=True)

    def _tell_how_to_go_on(self) -> None:
        kept = sum(point.status in ("done", "reused") for point in self._sweep.points)
        self._console.print(
            f"{kept} of {len(self._sweep.points)} points are kept; the same command goes on from here"
        )

    def _note_interruption(self) -> None:
        for place, point in enumerate(self._sweep.points):
            if point.status == "planned":
                self._sweep = self._sweep.with_point(place, status="interrupted")


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
        cure = "name a folder that can be written in HARNESS_OUTPUTS"
        raise ConfigError.of(key, f"{outputs} cannot be written ({error.strerror}); {cure}") from error


def one_line(error: BaseException) -> str:
    """What went wrong, in one line: our own errors speak for themselves, others are named."""
    text = " ".join(str(error).split())
    if isinstance(error, HarnessError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _tell_wait(console: Console) -> None:
    console.print("the same sweep is running in another process; waiting for it")


def _tell_warnings(console: Console, sweep: Sweep) -> None:
    told: dict[str, int] = {}
    for point in sweep.points:
        for warning in point.warnings:
            told[warning] = told.get(warning, 0) + 1
    for warning, count in told.items():
        where = "" if count == len(sweep.points) else f" ({count} of {len(sweep.points)} points)"
        console.print(Text.assemble(("warning ", "yellow"), warning, where), soft_wrap=True)
