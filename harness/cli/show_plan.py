"""`harness plan` and `harness check`: what a command would do; nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.table import Table
from rich.text import Text

from harness.artifacts.artifact import Artifact
from harness.artifacts.job import Job, families, prompts_per_batch
from harness.artifacts.registry import actions
from harness.artifacts.samples import Samples
from harness.artifacts.timing import Timing
from harness.backends.backend import Target, TokenIds
from harness.cli.shards_words import shards_line
from harness.config.launcher_section import LauncherSection
from harness.config.point import Point
from harness.models.memory import format_bytes
from harness.plan.plan import Group, Plan, make_plan
from harness.prompts.prompt import Prompt
from harness.report.console import SafeConsole
from harness.run.display import print_hints, print_title, print_warning, print_warnings
from harness.run.launchers import device_of, workers_of
from harness.terminal import visible

_MOST_ROWS = 60
_LEAST_USD = 1e-3  # USD


def show_plan(points: Sequence[Point], name: str, launcher: LauncherSection | None = None) -> int:
    """Print points, groups, loads, what is done already, memory and tokens to come; returns 0.

    Raises:
        ConfigError: a point cannot be prepared, or the launcher cannot run here.
    """
    plan, console = _prepared(points, name, launcher)
    print_plan(console, plan, launcher)
    return 0


def print_plan(console: SafeConsole, plan: Plan, launcher: LauncherSection | None = None) -> None:
    """Print points, groups, loads, what is done already, memory and tokens to come.

    Raises:
        ConfigError: the launcher cannot run here.
    """
    points = [job.point for job in plan.jobs]
    workers = None if launcher is None else workers_of(launcher, points).describe(plan)
    console.print(_points_table(plan))
    if len(plan.jobs) > _MOST_ROWS:
        console.print(f"... and {len(plan.jobs) - _MOST_ROWS} more points", style="dim")
    console.print(_groups_table(plan))
    for line in plan.held.damage(job.point_id for job in plan.jobs):
        print_warning(console, f"{line}; the run makes it again")
    complete = sum(not lacking for lacking in plan.missing)
    console.print(
        f"{_count(len(plan.jobs), 'point')}, {complete} in the store already; {_to_come(plan)} to come, "
        f"on {_devices(plan)}"
    )
    if workers is not None:
        console.print(Text(visible(workers)))
    _print_shards(console, plan, launcher)
    if visible_differences := _detectable(plan):
        console.print(visible_differences)
    print_title(console, plan)
    print_hints(console, plan)


def show_check(points: Sequence[Point], name: str, launcher: LauncherSection | None = None) -> int:
    """Prepare every point and print that there are no mistakes; returns 0.

    Raises:
        ConfigError: with every mistake found, or the launcher cannot run here.
    """
    plan, console = _prepared(points, name, launcher)
    if launcher is not None:
        workers_of(launcher, points).describe(plan)
    prompts = len({prompt.text for job in plan.jobs for prompt in job.prompts})
    print_hints(console, plan)
    console.print(
        f"{_count(len(plan.jobs), 'point')} in {_count(len(plan.groups), 'group')}, "
        f"{_count(prompts, 'prompt')}: OK"
    )
    _print_shards(console, plan, launcher)
    return 0


def _print_shards(console: SafeConsole, plan: Plan, launcher: LauncherSection | None) -> None:
    """Print which groups several workers share."""
    if launcher is not None:
        workers = workers_of(launcher, [job.point for job in plan.jobs])
        if line := shards_line(plan, workers):
            console.print(Text(visible(line)))


def _to_come(plan: Plan) -> str:
    """Return loads and requests, tokens, and money where a server's prices are known."""
    waiting = [index for index in range(len(plan.jobs)) if _needs_backend(plan, index)]
    loads = sum(
        not plan.jobs[group.jobs[0]].target.remote and not set(group.jobs).isdisjoint(waiting)
        for group in plan.groups
    )
    requests, costs = 0, list[float | None]()
    for index in waiting:
        job = plan.jobs[index]
        for prompt, count, new_tokens in _requests(job, plan.missing[index]):
            if job.target.remote:
                requests += count
                cost = job.target.most_usd(prompt, new_tokens)
                costs.append(None if cost is None else cost * count)
    tokens = sum(plan.jobs[index].tokens for index in waiting if _decodes(plan, index))
    remote = any(job.target.remote for job in plan.jobs)
    loading = [_count(loads, "model load")] if loads or not remote else []
    sending = [_count(requests, "request")] if remote else []
    known = [cost for cost in costs if cost is not None]
    money = ""
    if known and len(known) == len(costs):
        money = f", at most {sum(known):.4f} USD" if sum(known) >= _LEAST_USD else ", less than 0.001 USD"
    return f"{', '.join([*loading, *sending])} and at most {_count(tokens, 'token')}{money}"


def _requests(job: Job, lacking: Sequence[Artifact]) -> Iterator[tuple[Prompt, int, int]]:
    """Yield each prompt with how many requests of how many new tokens are sent of it."""
    names = {artifact.name for artifact in lacking}
    timing = job.point.timing
    for number, prompt in enumerate(job.prompts):
        if Samples.name in names:
            yield prompt, job.point.generation.samples, job.point.generation.max_new_tokens
        if Timing.name in names and number < timing.prompts:
            yield prompt, timing.warmup + timing.repeats, timing.new_tokens


def _needs_backend(plan: Plan, index: int) -> bool:
    return any(artifact.needs_backend for artifact in plan.missing[index])


def _decodes(plan: Plan, index: int) -> bool:
    return any(isinstance(artifact, Samples) for artifact in plan.missing[index])


def _detectable(plan: Plan) -> str | None:
    """Return which differences the prompts can show, once a point of the plan is stored."""
    done = [index for index in range(len(plan.jobs)) if not _decodes(plan, index)]
    if not done or len(plan.jobs[done[0]].prompts) < 2:
        return None
    from harness.analysis.detectable import MOST_READ, detectable_differences, detectable_line
    from harness.analysis.point_results import point_results

    sweep = plan.sweep()
    first = sweep.points[done[0]].prompts
    alike = [sweep.points[index] for index in done if sweep.points[index].prompts == first][:MOST_READ]
    sweep = replace(sweep, points=tuple(replace(point, status="done") for point in alike))
    runs = sum(job.point.prompts.name == first for job in plan.jobs)
    return detectable_line(detectable_differences(sweep, point_results(sweep), runs))


def _points_table(plan: Plan) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), title_justify="left")
    table.add_column("point")
    for column in ("prompts", "samples", "tokens ≤"):
        table.add_column(column, justify="right")
    table.add_column("to do")
    for job, lacking in list(zip(plan.jobs, plan.missing, strict=True))[:_MOST_ROWS]:
        table.add_row(
            Text(visible(job.point.label), overflow="fold"),
            f"{len(job.prompts):,}",
            f"{job.samples:,}",
            f"{job.tokens:,}",
            Text(", ".join(actions(lacking))) if lacking else Text("done", style="green"),
        )
    return table


def _groups_table(plan: Plan) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("group", no_wrap=True)
    for column in ("points", "to run", "weights", "batches", "samples each", "cache each"):
        table.add_column(column, justify="right")
    for group in plan.groups:
        table.add_row(
            Text(visible(group.name)),
            str(len(group.jobs)),
            str(sum(bool(plan.missing[index]) for index in group.jobs)),
            *_memory(plan, group),
        )
    return table


def _memory(plan: Plan, group: Group) -> tuple[str, str, str, str]:
    """Return weights, batches, samples at once and their cache, by estimate; batches only where some come."""
    jobs = [plan.jobs[index] for index in group.jobs if _decodes(plan, index)]
    if not jobs:
        return "", "", "", ""
    weights, devices = jobs[0].target.weight_bytes, jobs[0].target.devices
    estimates = [_batches([jobs[index] for index in family]) for family in families(jobs)]
    return (
        "unknown" if weights is None else _shared(weights, devices),
        str(sum(batches for batches, _, _ in estimates)),
        str(max(rows for _, rows, _ in estimates)),
        _shared(max(cache for _, _, cache in estimates), devices),
    )


def _shared(size: int, devices: int) -> str:
    """Return a size, or what each of several devices has of it."""
    return format_bytes(size) if devices == 1 else f"{devices} x {format_bytes(size / devices)}"


def _batches(family: Sequence[Job]) -> tuple[int, int, int]:
    """Return batches, samples decoded at once, and bytes of their key-value cache."""
    first = family[0]
    asked = first.point.engine.batch_rows
    requests = [job.longest_request(job.strategy(TokenIds())) for job in family]
    estimate = first.target.estimate(requests, None if asked == "auto" else asked)
    samples = sum(job.point.generation.samples for job in family)
    prompts = prompts_per_batch(estimate.rows, samples)
    together = min(estimate.rows, prompts * samples, len(first.prompts) * samples)
    return -(-len(first.prompts) // prompts), estimate.rows, together * estimate.cache_bytes


def _devices(plan: Plan) -> str:
    targets = {_device_words(job.target): job.target for job in plan.jobs}
    free = {device: target.available_bytes() for device, target in targets.items()}
    return ", ".join(
        device if size is None else f"{device} with {format_bytes(size)} free"
        for device, size in free.items()
    )


def _device_words(target: Target) -> str:
    return target.device if target.devices == 1 else f"{target.devices} x {target.device}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _prepared(
    points: Sequence[Point], name: str, launcher: LauncherSection | None
) -> tuple[Plan, SafeConsole]:
    """The plan of a sweep, its warnings printed."""
    plan = make_plan(points, name, device_of(launcher))
    console = SafeConsole()
    print_warnings(console, plan)
    return plan, console
