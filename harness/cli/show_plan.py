"""`harness plan` and `harness check`: what a command would do, told before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.config.point import Point
from harness.plan.plan import Group, Plan, PlannedPoint, make_plan

_MOST_ROWS = 60


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
    loads = sum(any(plan.points[place].needs.model for place in group.places) for group in plan.groups)
    tokens = sum(planned.tokens for planned in waiting if planned.needs.samples)
    console.print(
        f"{_count(len(plan.points), 'point')}, {len(plan.points) - len(waiting)} in the store already; "
        f"{_count(loads, 'model load')} and at most {_count(tokens, 'token')} to come, on {_devices(plan)}"
    )
    console.print(f"sweep {plan.name}-{plan.sweep_id}", style="dim")
    for hint in plan.hints:
        console.print(Text.assemble(("hint ", "cyan"), hint), soft_wrap=True)
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
        "keep distributions": planned.needs.distributions,
        "drift": planned.needs.drift,
        "describe": planned.needs.description and not planned.needs.samples,
        "metrics": planned.needs.metrics and not planned.needs.samples,
        "noise floor": planned.needs.noise,
    }
    return ", ".join(name for name, needed in parts.items() if needed)


def _groups_table(plan: Plan) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("group", no_wrap=True)
    for column in ("points", "to run", "weights", "batches", "texts each", "cache each"):
        table.add_column(column, justify="right")
    for group in plan.groups:
        planned = [plan.points[place] for place in group.places]
        table.add_row(
            f"{group.model.name} {group.quantization.name}",
            str(len(planned)),
            str(sum(bool(p.needs) for p in planned)),
            *_memory(group, [p for p in planned if p.needs.samples]),
        )
    return table


def _memory(group: Group, planned: Sequence[PlannedPoint]) -> tuple[str, str, str, str]:
    """Weights, batches, texts at once and their caches, by estimate; batches only where some are to come."""
    from harness.backends.hf.batching import batching, families
    from harness.models.memory import BYTES, available_bytes, format_bytes, weight_bytes

    if not planned:
        return "", "", "", ""
    first = planned[0]
    weights = weight_bytes(first.files, group.quantization)
    dtype = group.quantization.dtype
    known = first.files.checkpoint_dtype or "float32" if dtype == "checkpoint" else dtype
    free = max(0, available_bytes(first.device) - (weights or 0))
    cuts = []
    for places in families(planned):
        family = [planned[place] for place in places]
        lonely = family[0].effective["num_beams"] > 1 and family[0].effective["do_sample"]
        lonely = lonely or family[0].point.cache.quantized
        cuts.append(batching(family, free, BYTES.get(known, 4), lonely))
    return (
        "unknown" if weights is None else format_bytes(weights),
        str(sum(cut.batches for cut in cuts)),
        str(max(cut.rows for cut in cuts)),
        format_bytes(max(cut.cache_bytes for cut in cuts)),
    )


def _devices(plan: Plan) -> str:
    from harness.models.memory import available_bytes, format_bytes

    names = dict.fromkeys(planned.device for planned in plan.points)
    return ", ".join(f"{name} with {format_bytes(available_bytes(name))} free" for name in names)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _print_warnings(console: Console, plan: Plan) -> None:
    for warning in dict.fromkeys(w for planned in plan.points for w in planned.warnings):
        console.print(Text.assemble(("warning ", "yellow"), warning), soft_wrap=True)
