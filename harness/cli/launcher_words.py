"""What `harness help`, `plan` and `doctor` say of launchers."""

from __future__ import annotations

from harness.cli.help_rows import row
from harness.config.launcher import GROUP, KEYS, LAUNCHERS, LOCAL_GPUS, SERIAL, Launcher, LocalGpus
from harness.plan.plan import Plan
from harness.run.worker_slots import Slot, shared_device, worker_slots

_EXAMPLE = f"""\
  harness -m model=mistral_7b quantization=bf16,bnb_nf4 decoding=greedy,top_p {GROUP}={LOCAL_GPUS}
  harness experiments=demo {GROUP}={LOCAL_GPUS} hydra.launcher.gpus=[0,2]

One store, one page and one model load a group, as without it. `harness plan` shows how groups go to workers;
each has a log in workers/ of the sweep's folder. A worker that dies is started again and goes on with its
kept batches; where it dies twice at the same place, these points fail and the others run on. Latency is
measured alone on its device. Ctrl-C ends all workers; the same command again goes on."""


def describe_launchers() -> str:
    """Return what each launcher is for, its keys, and an example."""
    lines = [row(f"{GROUP}={name}", text, 32) for name, text in LAUNCHERS.items()]
    lines.append("")
    for key, info in zip(KEYS, LocalGpus.model_fields.values(), strict=True):
        lines.append(row(key, f"{info.description} [{info.default}]", 32))
    return "\n".join([*lines, "", _EXAMPLE])


def workers_line(plan: Plan, launcher: Launcher) -> str:
    """Return how the groups of a plan go to workers.

    Raises:
        ConfigError: the machine has not what the launcher asks for.
    """
    slots = worker_slots(launcher, [job.point for job in plan.jobs])
    groups = _count(len(plan.groups), "group")
    parts = [f"{_places(slots)}: {groups}, at most {_at_once(plan, slots)} at once"]
    for group in plan.groups:
        if group.after:
            before = ", ".join(plan.groups[number].name for number in group.after)
            parts.append(f"{group.name} after {before}")
    shared = {shared_device(plan, group, slot, len(slots)) for group in plan.groups for slot in slots}
    if any(workers > 1 for _, workers in shared):
        parts.append("others pause while latency is measured")
    return "; ".join(parts)


def _places(slots: tuple[Slot, ...]) -> str:
    gpus = [f"GPU {','.join(slot.gpus)}" for slot in slots if slot.gpus]
    where = ", ".join(gpus) if gpus else "CPU"
    threads = slots[0].environment.get("OMP_NUM_THREADS")
    share = f", {_count(int(threads), 'thread')} each" if threads else ""
    return f"{_count(len(slots), 'worker')} ({where}{share})"


def _at_once(plan: Plan, slots: tuple[Slot, ...]) -> int:
    first = sum(not group.after for group in plan.groups)
    return min(len(slots), max(first, len(plan.groups) - first))


def usable_launchers() -> list[tuple[str, str]]:
    """Return of each launcher that runs here how it is chosen, and what it would do."""
    slots = worker_slots(LocalGpus())
    if not slots[0].gpus:
        what = "no GPU here: one worker, or hydra.launcher.workers=N on the CPU"
    elif len(slots) == 1:
        what = "one GPU: no faster than without it"
    else:
        what = _places(slots)
    return [(f"{GROUP}={SERIAL}", LAUNCHERS[SERIAL]), (f"{GROUP}={LOCAL_GPUS}", what)]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
