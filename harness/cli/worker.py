"""`harness worker SWEEP --group K`: run one group of a planned sweep in this process.

Launchers start it (`run/worker_pool.py`). What it tells its head is JSON on standard output
(`run/worker_lines.py`); people read standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.config.secret_text import without_secrets
from harness.errors import ConfigError, HarnessError, RankLostError, StoreError
from harness.run.local import run_group
from harness.run.planned_points import read_plan
from harness.run.worker_lines import RANK_LOST, STORE_FAILED, WorkerLines
from harness.store.device_turns import DeviceTurns, SharedDevice, Undisturbed

_USAGE = "takes a sweep and one of its groups: harness worker SWEEP --group K"
_OPTIONS = ("--group", "--without", "--shared", "--cores")


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
    without = set(_numbers("--without", options["--without"])) if "--without" in options else set()
    if "--cores" in options and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, _numbers("--cores", options["--cores"]))
    turns: DeviceTurns = Undisturbed()
    if "--shared" in options:
        place = Path(options["--shared"])
        turns = SharedDevice(place.parent, place.name)
    with WorkerLines(sys.stdout) as lines:
        try:
            lines.stage("starting", 1, "")
            with turns.working():  # planning would disturb another one's timing
                plan = read_plan(sweep)
            if number >= len(plan.groups):
                raise ConfigError.of(f"--group {number}", f"{sweep} has groups 0 to {len(plan.groups) - 1}")
            group = plan.groups[number]
            group = replace(group, jobs=tuple(index for index in group.jobs if index not in without))
            failed = False
            for outcome in run_group(plan, group, lines, turns):
                lines.outcome(outcome)
                failed |= outcome.status == "failed"
        except StoreError as error:
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


def _numbers(option: str, text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise ConfigError.of(f"{option} {text}", "takes whole numbers with commas between them, as in 0,1")
    return [int(part) for part in parts]
