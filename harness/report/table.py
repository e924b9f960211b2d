"""The table of a sweep for the terminal: a row a point, readable at 80 columns as at 160."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.report.columns import columns_of
from harness.report.page import visible
from harness.report.points import Reported
from harness.results.sweeps import SweepPoint

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

SIGNS = {"done": ("✓", "green"), "reused": ("↺", "cyan"), "failed": ("✗", "bold red")}
ENDS = {"eos": "eos", "length": "cut", "stop_string": "stop", "time": "time"}
CHOICES = ("model", "quantization", "prompts", "decoding")


def sweep_table(points: Sequence[Reported], width: int) -> RenderableType:
    """What varied, what came of it, and below it what all points share and the errors.

    Args:
        points: of one sweep, in its order.
        width: columns of the terminal; a narrow one drops the number of tokens and abbreviates the ends.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    names = short_names([p.point for p in points])
    columns = columns_of(key for p in points for key in p.metrics)
    if width < 100:
        columns = [column for column in columns if column.key != "text/output_tokens"]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, expand=False)
    table.add_column("", width=1)
    table.add_column("point", ratio=1, overflow="fold", min_width=16)
    for column in columns:
        unit = f"\n{column.unit}" if any(c.unit for c in columns) else ""
        table.add_column(Text(column.name + unit), justify="right", no_wrap=True)
    table.add_column("ended", overflow="fold", max_width=12 if width < 100 else 28)
    for p, name in zip(points, names, strict=True):
        sign, style = SIGNS.get(p.point.status, ("·", "dim"))
        failed = p.point.status == "failed"
        cells = [Text(column.tell(p.metrics.get(column.key))) for column in columns]
        end = Text("failed", "red") if failed else _ends(p)
        table.add_row(Text(sign, style), Text(name, "red" if failed else ""), *cells, end)
    below = [Text(line, "dim") for line in shared(points)]
    below += [
        Text.assemble(
            ("✗ ", "bold red"), (visible(p.point.label), "red"), ": ", visible(p.point.error or "failed")
        )
        for p in points
        if p.point.status == "failed"
    ]
    return Group(table, *below)


def _ends(p: Reported) -> Text:
    """`6 eos 2 cut`: how the samples ended."""
    from rich.text import Text

    if not p.finishes:
        return Text(p.point.status, "dim")
    return Text(
        " ".join(f"{count} {ENDS.get(reason, reason)}" for reason, count in sorted(p.finishes.items())), "dim"
    )


def short_names(points: Sequence[SweepPoint]) -> list[str]:
    """What tells each point from the others: the choices and keys that vary; its label when nothing does."""
    varying = [name for name in CHOICES if len({getattr(p, name) for p in points}) > 1]
    names = []
    for p in points:
        choices = "/".join(getattr(p, name) for name in varying)
        keys = [f"{_leaf(key)}={_said(value)}" for key, value in p.varied.items() if key not in CHOICES]
        names.append(visible(" ".join([choices, *keys]).strip()))
    if len(set(names)) < len(points) or not all(names):
        return [visible(p.label) for p in points]
    return names


def shared(points: Sequence[Reported]) -> list[str]:
    """One line that names what all points have in common; none when that is nothing."""
    same = []
    for name in CHOICES:
        values = {getattr(p.point, name) for p in points}
        if len(values) == 1 and (value := values.pop()):
            same.append(f"{name} {value}")
    return [visible("all: " + ", ".join(same))] if same and len(points) > 1 else []


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]


def _said(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "null"
    return str(value)
