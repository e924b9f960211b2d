"""`harness worker SWEEP --group K [--shard I/N]`: run a group of a planned sweep, or a share of one, here.

Launchers start it (`run/worker_pool.py`). What it tells its head is JSON on standard output, or in a file
(`run/worker_lines.py`, `run/lines_file.py`); people read standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from harness.config.secret_text import without_secrets
from harness.errors import ConfigError, HarnessError, RankLostError, StoreError
from harness.run.batch.worker_job import told_to_a_file, turns_on
from harness.run.local import run_group
from harness.run.planned_points import read_plan, share_of
from harness.run.shards import can_be_shared
from harness.run.worker_lines import RANK_LOST, STORE_FAILED, WorkerLines
from harness.store.device_turns import DeviceTurns, Undisturbed
from harness.store.lock_probe import lock_probe

_USAGE = "takes a sweep and one of its groups: harness worker SWEEP --group K"
_OPTIONS = ("--group", "--shard", "--without", "--shared", "--cores", "--lines")


def worker(words: Sequence[str]) -> int:
    """Run the group that `words` name.

    Returns:
        The exit status: 0; 1 when a point failed; 2 when the group cannot be run here; 4 when the store
        cannot be written any more.

    Raises:
        ConfigError: the words are wrong.
    """
    sweep, options = _arguments(words)
    number = _numbers("--group", options.get("--group", ""))[0]
    shard = _shard(options["--shard"]) if "--shard" in options else None
    without = set(_numbers("--without", options["--without"])) if "--without" in options else set()
    if "--cores" in options and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, _numbers("--cores", options["--cores"]))
    turns = turns_on(Path(options["--shared"])) if "--shared" in options else Undisturbed()
    if "--lines" in options:
        try:
            with told_to_a_file(Path(options["--lines"])) as job:
                job.status = _run(sweep, number, shard, without, turns, job.lines)
        except StoreError as error:  # of the lines themselves
            print(without_secrets(str(error)), file=sys.stderr)
            return STORE_FAILED
        return job.status
    with WorkerLines(sys.stdout) as lines:
        return _run(sweep, number, shard, without, turns, lines)


def _run(
    sweep: str,
    number: int,
    shard: tuple[int, int] | None,
    without: Set[int],
    turns: DeviceTurns,
    lines: WorkerLines,
) -> int:
    """Run a group, or a share of it; return the exit status."""
    try:
        lines.stage("starting", 1, "")
        with turns.working():  # planning would disturb another one's timing
            plan = read_plan(sweep)
        if number >= len(plan.groups):
            raise ConfigError.of(f"--group {number}", f"{sweep} has groups 0 to {len(plan.groups) - 1}")
        group = plan.groups[number]
        share = None if shard is None else share_of(plan, number, *shard)
        if share is not None and not can_be_shared(plan, group):
            raise ConfigError.of(f"--shard {share.worker}/{share.workers}", "this group cannot be shared")
        group = replace(group, jobs=tuple(index for index in group.jobs if index not in without))
        failed = False
        with lock_probe(plan.outputs, lines.message):
            for outcome in run_group(plan, group, lines, turns, share=share):
                lines.outcome(outcome)
                failed |= outcome.status == "failed"
    except StoreError as error:
        with suppress(StoreError):  # the lines may be on the same disk
            lines.error(without_secrets(str(error)))
        return STORE_FAILED
    except RankLostError as error:
        lines.error(without_secrets(str(error)))
        return RANK_LOST
    except HarnessError as error:
        lines.error(without_secrets(" ".join(str(error).split())))
        return error.exit_status
    return 1 if failed else 0


def _arguments(words: Sequence[str]) -> tuple[str, dict[str, str]]:
    rest, options = list(words), dict[str, str]()
    sweeps = []
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            sweeps.append(word)
        elif word in _OPTIONS and rest:
            options[word] = rest.pop(0)
        else:
            raise ConfigError.of(word, _USAGE)
    if len(sweeps) != 1 or "--group" not in options:
        raise ConfigError.of("worker", _USAGE)
    return sweeps[0], options


def _shard(text: str) -> tuple[int, int]:
    """Return the number of a worker, from 0, and how many share its group."""
    numbers = [int(part) for part in text.split("/") if part.isascii() and part.isdecimal()]
    if len(numbers) != 2 or text.count("/") != 1 or numbers[0] >= numbers[1]:
        raise ConfigError.of(f"--shard {text}", "takes a worker's number, from 0, and how many, as in 0/3")
    return numbers[0], numbers[1]


def _numbers(option: str, text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise ConfigError.of(f"{option} {text}", "takes whole numbers with commas between them, as in 0,1")
    return [int(part) for part in parts]
