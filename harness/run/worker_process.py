"""A worker process on this machine, as its head sees it: what it tells, and how it ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO

from harness.errors import StoreError
from harness.run.workers import PATIENCE_S, After, Event, exit_reason, last_line

ASKED_S = 2.0
"""It is asked again after this."""

COMMAND = (sys.executable, "-m", "harness", "worker")
"""What starts a worker."""


class WorkerProcess:
    """`harness worker` in a process of its own.

    Args:
        name: what people know it by.
        words: after `harness worker`.
        environment: variables beside this process's own.
        log: where its standard error is appended.
        events: receives what it tells.
    """

    def __init__(
        self,
        name: str,
        words: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        events: SimpleQueue[Event],
    ) -> None:
        self.name = name
        self.after: After = "count"
        self._log = log
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            errors = log.open("ab")
        except OSError as error:
            raise StoreError(f"outputs: {log} cannot be written ({error.strerror})") from error
        with errors:
            # In a session of its own, so that Ctrl-C reaches the head alone, which ends its workers.
            self._process = subprocess.Popen(
                [*COMMAND, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        assert self._process.stdout is not None
        reader = threading.Thread(target=self._read, args=(self._process.stdout, events), daemon=True)
        reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def how_it_ended(self) -> str:
        """Return in a few words how it ended, and the last line of its log."""
        reason = exit_reason(self._process.wait())
        last = last_line(self._log)
        return f"{reason}; its last line: {last}" if last else reason

    def end(self) -> None:
        """Ask it to end as on Ctrl-C."""
        if self._process.poll() is None:
            self._process.terminate()

    def wait(self) -> None:
        """Wait until it has ended; kill it where that takes long."""
        until = time.monotonic() + PATIENCE_S
        while self._process.poll() is None and time.monotonic() < until:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(ASKED_S)
                return
            self._process.terminate()  # Python loses an interrupt that is raised within a destructor
        self._process.kill()
        self._process.wait()

    def _read(self, stdout: BinaryIO, events: SimpleQueue[Event]) -> None:
        for line in stdout:
            try:
                told = json.loads(line)
            except ValueError:  # a library that prints
                continue
            if isinstance(told, dict):
                events.put((self, told))
        stdout.close()
        self._process.wait()
        events.put((self, None))
