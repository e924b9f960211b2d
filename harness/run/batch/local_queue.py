"""Jobs of this machine, one after the other, in processes that outlive their head.

`python -m harness.run.batch.local_queue SCRIPT COUNT MINUTES [JOB ...]` runs an array: the script once for
each index, after the arrays of the jobs named. What becomes of them is kept in a folder of this machine.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from harness.run.batch.cluster import JobEnd, JobState

_POLL_S = 0.2
_TIMED_OUT = 1000


class LocalQueue:
    """Queues arrays on this machine.

    Args:
        timeout_min: longest time of a job.
    """

    def __init__(self, timeout_min: int = 60) -> None:
        self._timeout_min = timeout_min

    def submit(self, script: Path, count: int, after: Sequence[str]) -> list[str]:
        """Start the process that runs an array."""
        words = [sys.executable, "-m", "harness.run.batch.local_queue", str(script), str(count)]
        words += [str(self._timeout_min), *after]
        # By a shell that ends, so that it is nobody's child and outlives this process.
        start = (
            f"setsid {shlex.join(words)} </dev/null >>{shlex.quote(str(script.with_suffix('.out')))} 2>&1 &"
        )
        done = subprocess.run(
            ["bash", "-c", f"{start} echo $!"], stdout=subprocess.PIPE, text=True, check=True
        )
        array = done.stdout.strip()
        return [f"{array}_{index}" for index in range(count)]

    def live(self, jobs: Collection[str]) -> Mapping[str, JobState]:
        """Look at the records of the arrays."""
        found = {}
        for job in jobs:
            facts = _facts(job)
            running = "pid" in facts
            left_out = _cancelled(job).exists() and not running
            if "status" in facts or left_out or not _is_running(int(job.partition("_")[0])):
                continue
            found[job] = JobState(running, "running here" if running else "queued (one after the other)")
        return found

    def ended(self, job: str) -> JobEnd:
        """Look at the record of a job."""
        status = _facts(job).get("status")
        if _cancelled(job).exists():
            return JobEnd("was cancelled", "never", status)
        if status is None:
            return JobEnd("is gone with the process that ran it")
        if status == _TIMED_OUT:
            return JobEnd("reached its time limit; raise hydra.launcher.timeout_min")
        if status == -signal.SIGKILL:
            return JobEnd("was killed (SIGKILL), as the system does when memory runs out", status=137)
        return JobEnd(f"ended with exit status {status}", status=status)

    def cancel(self, jobs: Collection[str], *, kill: bool = False) -> None:
        """Leave out what is queued, and end what is running."""
        for job in jobs:
            _cancelled(job).touch()
            pid = _facts(job).get("pid")
            if pid is not None and "status" not in _facts(job):
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL if kill else signal.SIGTERM)


def run_array(script: str, count: int, timeout_min: int, after: Sequence[str]) -> None:
    """Run a script once for each index, after other jobs have ended."""
    own = os.getpid()
    while LocalQueue().live(after):
        time.sleep(_POLL_S)
    for index in range(count):
        job = f"{own}_{index}"
        if _cancelled(job).exists():
            continue
        with subprocess.Popen(
            ["bash", script], env={**os.environ, "SLURM_ARRAY_TASK_ID": str(index)}, start_new_session=True
        ) as process:
            _write(job, {"pid": process.pid})
            try:
                status = process.wait(60 * timeout_min)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
                status = _TIMED_OUT
            _write(job, {"pid": process.pid, "status": status})


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"harness-jobs-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _cancelled(job: str) -> Path:
    return _folder() / f"{job}.cancelled"


def _facts(job: str) -> dict[str, int]:
    try:
        facts = json.loads((_folder() / f"{job}.json").read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _write(job: str, facts: Mapping[str, int]) -> None:
    path = _folder() / f"{job}.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(facts))
    part.replace(path)


def _is_running(pid: int) -> bool:
    import psutil

    try:
        process = psutil.Process(pid)
        return (
            "harness.run.batch.local_queue" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.Error:
        return False


if __name__ == "__main__":
    run_array(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
