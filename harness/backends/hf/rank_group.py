"""The processes that share a model with this one: started, called in step with it, watched and ended.

Rank 0 is this process. Each layer needs the shares of all ranks, so whatever rank 0 does with the model, the
others do at the same moment: it sends them the call and makes it itself. All choose alike, since they see the
same logits; what depends on the store or the clock is rank 0's alone, which sends what is left to be done.
"""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from harness.backends.hf.process_group import abort_group, join_group, leave_group
from harness.config.secret_text import without_secrets
from harness.errors import RankLostError, one_line
from harness.models.tensor_parallel import Rank

Result = TypeVar("Result")
Reply = tuple[str, Any]
"""`done` and a digest of what was found; `failed` and the type and the line of an error; `ended`."""

IN_STEP_S = 10.0
"""A rank that is still within a call so long after another one has failed at it waits in vain."""
GOING_ON = "what is stored is kept, and the same command goes on from there"


class RankGroup:
    """The other ranks of a model, and what they reply.

    Args:
        count: of all ranks, this one included.
        cuda: whether each has a GPU of its own.

    Raises:
        RankLostError: one could not be started.
    """

    def __init__(self, count: int, cuda: bool) -> None:
        self.rank = Rank(0, count)
        self._cuda, self._joined, self._closing = cuda, False, False
        self._call = 0  # its number; 0 between calls
        self._calls = 0
        self._lost: str | None = None
        self._abandoned = False
        self._lock = threading.Lock()
        self._folder = Path(tempfile.mkdtemp(prefix="harness-ranks-"))
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._replies: dict[int, SimpleQueue[Reply]] = {}
        try:
            for number in range(1, count):
                self._start(number)
            self._agree(None)  # all have imported what they need: joining does not wait for one that cannot
            join_group(self._folder, self.rank, cuda)
            self._joined = True
        except BaseException:
            self.close()
            raise

    def call(
        self,
        name: str,
        arguments: Sequence[Any],
        own: Callable[[], Result],
        digest: Callable[[Result], Any] = lambda result: None,
    ) -> Result:
        """Make a call on all ranks (`rank_process.RankShare`); return what `own` does on this one.

        A call within a call is part of it. `digest` is what all ranks must have found.

        Raises:
            RankLostError: a rank has ended, or is not in step with this one.
        """
        if self._call:
            return own()
        with self._in_step(name, arguments):
            result = own()
        self._agree(digest(result))
        return result

    def iterate(
        self, name: str, arguments: Sequence[Any], own: Callable[[], Iterator[Result]]
    ) -> Iterator[Result]:
        """Make a call on all ranks; yield what `own` yields on this one, which must be read to its end."""
        if self._call:
            yield from own()
            return
        with self._in_step(name, arguments):
            yield from own()
        self._agree(None)

    def abandon(self) -> None:
        """Give the others up within a call that this rank does not end; its error is raised as it is."""
        self._abandoned = True
        self._lose("it was interrupted")

    def close(self) -> None:
        """End the other ranks."""
        with self._lock:
            self._closing = True
        joined, self._joined = self._joined, False
        if joined and self._lost is None:
            with suppress(OSError, subprocess.TimeoutExpired):
                self._send("close", ())
                leave_group()
                for process in self._processes.values():
                    process.wait(IN_STEP_S)
        self._kill()
        if joined and self._lost is not None:
            abort_group()
        for process in self._processes.values():
            process.wait()
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def _in_step(self, name: str, arguments: Sequence[Any]) -> Iterator[None]:
        """Send a call, which this rank makes within the block."""
        if self._lost is not None:
            raise RankLostError(self._lost)
        self._calls += 1
        self._call = self._calls
        try:
            self._send(name, arguments)
            yield
        except Exception as error:
            self._after(error)
            raise
        except BaseException:
            self.abandon()
            raise
        finally:
            self._call = 0

    def _after(self, error: Exception) -> None:
        """Find out whether all ranks failed alike, and so are in step still.

        Raises:
            RankLostError: another one has ended, which is why this one failed.
        """
        if self._abandoned:
            return
        if isinstance(error, RankLostError):
            self._lose(str(error))
            return
        replies = self._collect(IN_STEP_S)
        alike = [kind == "failed" and what[0] == type(error).__name__ for kind, what in replies]
        if self._lost is None and alike and all(alike):
            return
        if not self._lose(f"rank 0 failed by itself: {one_line(error)}"):
            raise RankLostError(str(self._lost)) from error

    def _agree(self, own: Any) -> None:
        """Wait for the replies of all ranks, which must be what this one found."""
        for number, (kind, what) in enumerate(self._collect(None), start=1):
            if kind == "done" and what == own:
                continue
            if kind == "failed":
                self._lose(f"rank {number} failed by itself: {what[1]}")
            elif kind == "done":
                self._lose(
                    f"rank {number} found something else than rank 0: their devices or libraries do not "
                    "compute alike; use model.devices=auto"
                )
            raise RankLostError(str(self._lost))

    def _collect(self, seconds: float | None) -> list[Reply]:
        """Return the reply of each rank; fewer where they do not come within so many seconds."""
        until = None if seconds is None else time.monotonic() + seconds
        found = []
        for queue in self._replies.values():
            left = None if until is None else max(0.0, until - time.monotonic())
            with suppress(Empty):
                found.append(queue.get(timeout=left))
        return found if len(found) == len(self._replies) else []

    def _send(self, name: str, arguments: Sequence[Any]) -> None:
        data = pickle.dumps((name, tuple(arguments)))
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.write(data)
            process.stdin.flush()

    def _start(self, number: int) -> None:
        words = [str(self._folder), str(number), str(self.rank.count), "cuda" if self._cuda else "cpu"]
        with self._log(number).open("wb") as log:
            # In a session of its own, so that Ctrl-C reaches this process alone, which ends the others.
            process = subprocess.Popen(
                [sys.executable, "-m", "harness.backends.hf.rank_process", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "LOCAL_RANK": str(number)},
                start_new_session=True,
            )
        self._processes[number], self._replies[number] = process, SimpleQueue()
        threading.Thread(target=self._read, args=(number, process), daemon=True).start()

    def _read(self, number: int, process: subprocess.Popen[bytes]) -> None:
        """Pass on what a rank replies, until it ends."""
        assert process.stdout is not None
        with suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                kind, what = pickle.load(process.stdout)
                if kind == "failed" and what[0] == RankLostError.__name__:
                    self._lose(what[1])
                elif kind == "failed":
                    line = f"rank {number} failed by itself: {what[1]}"
                    timer = threading.Timer(2 * IN_STEP_S, self._lose_within, (self._call, line))
                    timer.daemon = True
                    timer.start()
                self._replies[number].put((kind, what))
        process.stdout.close()
        process.wait()
        self._lose(f"rank {number} of {self.rank.count} {self._how_it_ended(number)}; {GOING_ON}")
        self._replies[number].put(("ended", None))

    def _lose_within(self, call: int, reason: str) -> None:
        if call and self._call == call:
            self._lose(reason)

    def _lose(self, reason: str) -> bool:
        """Give the group up; return whether it was not before. Who waits for a rank in vain then fails."""
        with self._lock:
            if self._lost is not None or self._closing:
                return False
            self._lost = reason
        self._kill()
        if self._cuda and self._call:
            threading.Thread(target=self._unblock, args=(self._call,), daemon=True).start()
        return True

    def _unblock(self, call: int) -> None:
        """Let this rank fail, which may wait on its GPU for one that has ended: NCCL's kernels do for ever.

        The process ends where that does not help.
        """
        abort_group()
        time.sleep(2 * IN_STEP_S)
        if self._call == call:
            print(self._lost, file=sys.stderr, flush=True)
            os._exit(1)

    def _kill(self) -> None:
        for process in self._processes.values():
            process.kill()

    def _how_it_ended(self, number: int) -> str:
        status = self._processes[number].returncode
        if status == -signal.SIGKILL:
            return "was killed (SIGKILL), as the system does when memory runs out"
        how = f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
        try:
            lines = self._log(number).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"{how}; its last line: {without_secrets(last)[:300]}" if last else how

    def _log(self, number: int) -> Path:
        return self._folder / f"rank-{number}.log"
