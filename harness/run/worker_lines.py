"""What a worker tells the head: a line of JSON on its standard output for each thing that happens.

`{"outcome": {...}}` of a job; `{"stage": {...}}` when a stage begins; `{"done": N}`, how far the stage is,
now and then and as a sign of life; `{"message": "..."}`; `{"error": "..."}`, one line, before it ends in
failure.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any, TextIO

from harness.errors import StoreError
from harness.run.executor import Outcome
from harness.run.lines_file import LinesFile

BEAT_S = 1.0
"""A worker is heard of at least so often."""
SHOWN_S = 0.2
"""How far a stage is, is told no more often than this."""

STORE_FAILED = 4
"""The exit status of a worker that cannot write the store any more."""
RANK_LOST = 5
"""Of one whose model was shared with a process that has ended: it may be started again."""


class WorkerLines:
    """The worker's side; its `harness.progress.Progress`. Stages and messages go to the log as well.

    Args:
        out: what the head reads.
        log: for people, kept beside the sweep.
        beat_s: the worker is heard of at least so often.
        shown_s: how far a stage is, is told no more often than this.
        needs_head: whether the worker ends once nobody reads `out` any more.
    """

    def __init__(
        self,
        out: TextIO | LinesFile,
        log: TextIO | None = None,
        *,
        beat_s: float = BEAT_S,
        shown_s: float = SHOWN_S,
        needs_head: bool = True,
    ) -> None:
        self._out, self._log = out, log or sys.stderr
        self._beat_s, self._shown_s, self._needs_head = beat_s, shown_s, needs_head
        self._lock = threading.Lock()
        self._done = 0
        self._told = 0.0
        self._ended = threading.Event()
        self._beats = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> WorkerLines:
        self._beats.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._beats.join()

    def stage(self, label: str, total: int, unit: str) -> None:
        """Tell that a stage begins."""
        self._done = 0
        self._write_log(label)
        self.tell(stage={"label": label, "total": total, "unit": unit})

    def advance(self, amount: int = 1) -> None:
        """Count units of the stage; they are told now and then."""
        self._done += amount
        if time.monotonic() - self._told > self._shown_s:
            self.tell(done=self._done)

    def message(self, text: str) -> None:
        """Tell a line that is worth reading."""
        self._write_log(text)
        self.tell(message=text)

    def outcome(self, outcome: Outcome) -> None:
        """Tell what became of a job."""
        self._write_log(f"{outcome.status} {outcome.error or ''}".rstrip())
        self.tell(outcome=json.loads(outcome.to_json()))

    def error(self, line: str) -> None:
        """Tell why the worker ends in failure."""
        self._write_log(line)
        self.tell(error=line)

    def tell(self, **what: Any) -> None:
        """Write one line."""
        self._told = time.monotonic()
        with self._lock:
            self._out.write(json.dumps(what) + "\n")
            self._out.flush()

    def _write_log(self, text: str) -> None:
        with suppress(OSError):  # a full disk is noticed where it matters
            self._log.write(f"{time.strftime('%H:%M:%S')} {text}\n")
            self._log.flush()

    def _beat(self) -> None:
        """Give a sign of life; without a head that reads it, end as on Ctrl-C."""
        while not self._ended.wait(self._beat_s):
            try:
                self.tell(done=self._done)
            except (OSError, StoreError):  # of a file, it is noticed where something is told
                if self._needs_head:
                    os.kill(os.getpid(), signal.SIGTERM)  # again, should the first be lost
