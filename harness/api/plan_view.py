"""The results of `harness.plan` and `harness.check`: what a sweep would do."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO

from harness.api.frame import Frame, frame_of
from harness.api.notebook_html import cell, note
from harness.artifacts.registry import actions
from harness.cli.show_plan import print_plan
from harness.config.launcher_section import LauncherSection
from harness.plan.plan import Plan
from harness.report.console import SafeConsole

_WIDTH = 120


@dataclass(frozen=True)
class Checked:
    """A sweep's arguments, which are right.

    Attributes:
        points: labels, in order.
        groups: how many models (or servers) the points run on.
        prompts: how many different prompts.
        warnings, hints: what their user should know, one line each.
    """

    points: tuple[str, ...]
    groups: int
    prompts: int
    warnings: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


def checked(plan: Plan) -> Checked:
    """Return what a plan says of the arguments that it is made of."""
    return Checked(
        tuple(job.point.label for job in plan.jobs),
        len(plan.groups),
        len({prompt.text for job in plan.jobs for prompt in job.prompts}),
        tuple(dict.fromkeys(warning for job in plan.jobs for warning in job.warnings)),
        plan.hints,
    )


class PlanView:
    """What a sweep would do. `print(plan)` shows it as `harness plan` does.

    Attributes:
        name: of the sweep, as people see it.
        groups: name of each model, or server, that the points run on.
        warnings, hints: what their user should know, one line each.
    """

    def __init__(self, plan: Plan, launcher: LauncherSection | None = None) -> None:
        found = checked(plan)
        self.name = plan.title
        self.groups = tuple(group.name for group in plan.groups)
        self.warnings, self.hints = found.warnings, found.hints
        self._rows = [
            {
                "point": job.point.label,
                "point_id": job.point_id,
                "prompts": len(job.prompts),
                "samples": job.samples,
                "most_tokens": job.tokens,
                "to_do": ", ".join(actions(lacking)),
            }
            for job, lacking in zip(plan.jobs, plan.missing, strict=True)
        ]
        stream = StringIO()
        print_plan(SafeConsole(into=stream, width=_WIDTH), plan, launcher)
        self._text = stream.getvalue().rstrip()

    def points(self) -> Frame:
        """Return a row a point: its address, how much it has, and what is `to_do`, empty where it is done."""
        return frame_of(self._rows)

    @property
    def complete(self) -> int:
        """How many points are in the store already."""
        return sum(not row["to_do"] for row in self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<PlanView {self.name!r}: {len(self)} points, {self.complete} in the store already>"

    def _repr_html_(self) -> str:
        """Return the table of points, warnings and hints."""
        lines = [f"{len(self)} points in {len(self.groups)} groups, {self.complete} in the store already"]
        lines += [*(f"warning {one}" for one in self.warnings), *(f"hint {one}" for one in self.hints)]
        return self.points()._repr_html_() + cell(*map(note, lines))
