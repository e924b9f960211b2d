"""A head whose workers are forked instead of started, to kill both as often as one likes.

A worker imports for seconds what it then uses for tenths of one. These wait, forked from the head before it
has done anything, until the head starts one as it would start `harness worker`: a child of its own, with the
words, environment, output and session that a process from scratch would have.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forked import Forked

HEAD = "import sys; from forked_workers import head; sys.exit(head())"
"""The code of a `Forked` that is such a head; WORKERS is a file in which it notes the pids of its workers."""
_MOST = 12
_waiting: list[tuple[int, socket.socket]] = []


def head() -> int:
    """Run the harness with the words of the command line."""
    for _ in range(_MOST):
        ours, its = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            for _, other in _waiting:
                other.close()
            ours.close()
            _become_a_worker(its)
        its.close()
        _waiting.append((pid, ours))
    from harness.cli.main import main
    from harness.run import worker_process

    worker_process.subprocess.Popen = _ForkedPopen  # type: ignore[misc]
    return main()


class _ForkedPopen(subprocess.Popen[bytes]):
    """`subprocess.Popen` of `python -m harness`, by one of those that wait."""

    def _execute_child(self, args: list[str], *more: Any) -> None:
        env, pipes = more[5], more[9:15]
        assert args[1:3] == ["-m", "harness"], args
        self.pid, wire = _waiting.pop(0)
        with wire:
            facts = json.dumps({"words": args[3:], "env": env}).encode()
            # Standard input, output, error.
            socket.send_fds(wire, [f"{len(facts):8}".encode()], [pipes[0], pipes[3], pipes[5]])
            wire.sendall(facts)
        with open(os.environ["WORKERS"], "a", encoding="utf-8") as notes:
            print(self.pid, file=notes)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def _become_a_worker(wire: socket.socket) -> None:
    """Wait until one is needed, and be it; never returns."""
    status = 1
    try:
        length, standard, _, _ = socket.recv_fds(wire, 8, 3)
        if not length:
            os._exit(0)
        facts = json.loads(wire.recv(int(length), socket.MSG_WAITALL))
        os.setsid()
        for number, descriptor in enumerate(standard):
            os.dup2(descriptor, number)
        os.closerange(3, 1024)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
        os.environ.clear()
        os.environ.update(facts["env"])
        from harness.cli.main import main

        sys.argv = ["harness", *facts["words"]]
        status = main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def kill_at_random(
    head: Forked, workers: Path, outputs: Path, rng: random.Random, most: int, *, spare_head: bool
) -> bool:
    """Kill the head, or one of its workers where there is one, at a moment drawn from the sweep's progress.

    Args:
        head: runs a sweep.
        workers: where it notes its workers.
        outputs: of the sweep.
        rng: draws the moment: when so many of its tables are there, or up to half a second later.
        most: fewer tables than this are waited for.
        spare_head: kill a worker, where one runs.

    Returns:
        Whether anything was killed: not where the sweep ended before.
    """
    until, later = rng.randrange(most), rng.choice([0.0, rng.uniform(0, 0.5)])
    head.until(_there(outputs, until))
    time.sleep(later)
    running = [pid for pid in map(int, _lines(workers)) if _runs(pid)]
    if spare_head and running:
        os.kill(rng.choice(running), signal.SIGKILL)
        return True
    ended = head.ended
    head.send(signal.SIGKILL)
    return not ended


def _there(outputs: Path, count: int) -> Callable[[], bool]:
    return lambda: len(list((outputs / "points").glob("*/*.parquet"))) >= count


def _lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
