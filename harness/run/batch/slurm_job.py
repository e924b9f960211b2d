"""A worker inside a job of SLURM that was told to end: why, and whether the job is queued again."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from harness.run.batch.job_script import MOST_TIMEOUTS, SIGNAL_DELAY
from harness.run.workers import After

_SLACK_S = 65
"""SLURM may tell so much earlier that the time limit is near."""


@dataclass(frozen=True)
class Interrupted:
    """Why a job was told to end: `words` for people, and whether a new one takes its place."""

    words: str
    after: After


def job_id() -> str | None:
    """Return the id of the job that this process runs in, that of an array's as in 17_0; None outside."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID")


def queue_again() -> Interrupted | None:
    """Have SLURM queue this job again where it was preempted, or reached a time limit that it may.

    Returns:
        Why it was told to end; None outside SLURM, or where it was cancelled.
    """
    job = job_id()
    if job is None or "SLURM_JOB_ID" not in os.environ:
        return None
    state, _, left = _output(["squeue", "-h", "-j", job, "-o", "%T|%L"]).strip().partition("|")
    if state != "RUNNING":
        return None
    seconds = seconds_of(left)
    if seconds is not None and seconds <= int(os.environ.get(SIGNAL_DELAY) or 0) + _SLACK_S:
        again = int(os.environ.get("SLURM_RESTART_COUNT") or 0) < int(os.environ.get(MOST_TIMEOUTS) or 0)
        found = Interrupted("reached its time limit; raise hydra.launcher.timeout_min", "count")
    else:
        again, found = True, Interrupted("was preempted", "again")
    if again:
        _output(["scontrol", "requeue", job])
    return found


def seconds_of(left: str) -> int | None:
    """Return the seconds of a time as squeue writes it, `1-02:03:04` or `2:03`; None for what is none."""
    days, _, clock = left.rpartition("-")
    parts = [*([days] if days else []), *clock.split(":")]
    if not all(part.isdecimal() for part in parts):
        return None
    seconds = 0
    for part in clock.split(":"):
        seconds = 60 * seconds + int(part)
    return seconds + 86400 * int(days or 0)


def _output(words: list[str]) -> str:
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
