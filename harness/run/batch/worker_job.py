"""A worker that is a job of a batch system, from within: what it tells goes to a file, its end included."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import StoreError
from harness.run.batch.batch_worker import INTERRUPTED
from harness.run.batch.slurm_job import job_id, queue_again
from harness.run.lines_file import LinesFile
from harness.run.worker_lines import WorkerLines
from harness.store.device_turns import DeviceTurns, SharedDevice

_BEAT_S, _SHOWN_S = 5.0, 1.0
HOST = "{host}"
"""In the name of a device that is shared: the machine that the worker runs on."""


@dataclass
class WorkerJob:
    """Where a worker tells what it does, and the status that it ends with."""

    lines: WorkerLines
    status: int = 1


@contextmanager
def told_to_a_file(path: Path) -> Iterator[WorkerJob]:
    """Yield lines that go to a file, and write there how the block ended.

    A worker that is told to end (SIGUSR2 of SLURM, as by SIGTERM) has its job queued again, where it was
    preempted.

    Raises:
        StoreError: the file cannot be written.
    """
    with suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGUSR2, lambda number, frame: os.kill(os.getpid(), signal.SIGTERM))
    facts: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid(), "job": job_id()}
    with WorkerLines(LinesFile(path), beat_s=_BEAT_S, shown_s=_SHOWN_S, needs_head=False) as lines:
        lines.tell(begin=facts)
        job = WorkerJob(lines)
        end: dict[str, Any] = {}
        try:
            yield job
        except KeyboardInterrupt:
            job.status = INTERRUPTED
            with suppress(ValueError):
                for number in (signal.SIGTERM, signal.SIGUSR2):
                    signal.signal(number, signal.SIG_IGN)
            if (why := queue_again()) is not None:
                end = {"why": why.words, "after": why.after}
            raise
        finally:
            with suppress(StoreError):
                lines.tell(end={"status": job.status, **end})


def turns_on(place: Path) -> DeviceTurns:
    """Return the turns on a device of which others have a share: its folder, and its name on this machine.

    Raises:
        StoreError: the file system has no locks.
    """
    return SharedDevice(place.parent, place.name.replace(HOST, socket.gethostname()))
