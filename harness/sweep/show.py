"""`harness plan` and `harness check`: what a command would do, told before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.config.point import Point
from harness.sweep.plan import Group, Plan, PlannedPoint, make_plan

_MOST_ROWS = 60
_MIB = 1024 * 1024


def show_plan(points: Sequence[Point], name: str) -> int:
    """Print points, groups, loads, what is done already, memory and tokens to come.

    Returns:
        The exit status: 0.

    Raises:
        ConfigError: a point cannot be prepared.
    """
    plan = make_plan(points, name)
    console = Console(highlight=False)
    _print_warnings(console, plan)
    console.print(_points_table(plan))
    if len(plan.points) > _MOST_ROWS:
        console.print(f"... and {len(plan.points) - _MOST_ROWS} points more", style="dim")
    console.print(_groups_table(plan))
    waiting = [planned for planned in plan.points if planned.needs]
    loads = sum(any(plan.points[place].needs for place in group.places) for group in plan.groups)
    tokens = sum(planned.tokens for planned in waiting if planned.needs.samples)
    console.print(
        f"{_count(len(plan.points), 'point')}, {len(plan.points) - len(waiting)} in the store already; "
        f"{_count(loads, 'model load')} and at most {_count(tokens, 'token')} to come"
    )
    console.print(f"sweep {plan.name}-{plan.sweep_id}", style="dim")
    return 0


def show_check(points: Sequence[Point], name: str) -> int:
    """Prepare every point and say that all is well.

    Returns:
        The exit status: 0.

    Raises:
        ConfigError: with every mistake found.
    """
    plan = make_plan(points, name)
    console = Console(highlight=False)
    _print_warnings(console, plan)
    prompts = len({prompt.text for planned in plan.points for prompt in planned.prompts})
    console.print(
        f"{_count(len(plan.points), 'point')} in {_count(len(plan.groups), 'group')}, "
        f"{_count(prompts, 'prompt')}: nothing wrong"
    )
    return 0


def _points_table(plan: Plan) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), title_justify="left")
    table.add_column("point")
    table.add_column("prompts", justify="right")
    table.add_column("texts", justify="right")
    table.add_column("tokens ≤", justify="right")
    table.add_column("to do")
    for planned in plan.points[:_MOST_ROWS]:
        todo = _todo(planned)
        table.add_row(
            Text(planned.point.label, overflow="fold"),
            f"{len(planned.prompts):,}",
            f"{planned.samples:,}",
            f"{planned.tokens:,}",
            Text(todo, style="green" if todo == "done" else ""),
        )
    return table


def _todo(planned: PlannedPoint) -> str:
    if not planned.needs:
        return "done"
    parts = {
        "decode": planned.needs.samples,
        "score prompts": planned.needs.prompt_scores,
        "time": planned.needs.timing,
        "describe": planned.needs.description and not planned.needs.samples,
    }
    return ", ".join(name for name, needed in parts.items() if needed)


def _groups_table(plan: Plan) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("group")
    for column in ("points", "to run", "weights", "cache a text", "device"):
        table.add_column(column, justify="left" if column == "device" else "right")
    for group in plan.groups:
        planned = [plan.points[place] for place in group.places]
        table.add_row(
            f"{group.model.name} {group.quantization.name}",
            str(len(planned)),
            str(sum(bool(p.needs) for p in planned)),
            _weights(group, planned[0]),
            _cache(planned),
            planned[0].device,
        )
    return table


def _weights(group: Group, planned: PlannedPoint) -> str:
    from harness.models.memory import weight_bytes

    size = weight_bytes(planned.files, group.quantization)
    return "unknown" if size is None else _size(size)


def _cache(planned: Sequence[PlannedPoint]) -> str:
    """The most that one text's cache takes, at the dtype of the weights that are not quantized."""
    from harness.models.memory import BYTES, kv_cache_bytes

    def of(p: PlannedPoint) -> int:
        dtype = p.point.quantization.dtype
        if dtype == "checkpoint":
            dtype = p.files.checkpoint_dtype or "float32"  # type: ignore[assignment]
        longest = max(len(prompt.ids) for prompt in p.prompts) + p.point.generation.max_new_tokens
        beams = p.effective["num_beams"]
        return beams * kv_cache_bytes(p.files.config, longest, BYTES.get(dtype, 4))

    return _size(max(of(p) for p in planned))


def _size(size: float) -> str:
    if size < _MIB:
        return f"{size / 1024:.0f} KiB"
    return f"{size / _MIB:,.1f} MiB" if size < 1024 * _MIB else f"{size / _MIB / 1024:,.2f} GiB"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _print_warnings(console: Console, plan: Plan) -> None:
    for warning in dict.fromkeys(w for planned in plan.points for w in planned.warnings):
        console.print(Text.assemble(("warning ", "yellow"), warning), soft_wrap=True)
