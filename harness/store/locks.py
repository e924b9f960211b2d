"""Processes that share a store take turns: whoever makes a point, or runs a sweep, holds its lock.

A lock is a file of its own in `outputs/.lock/`; the kernel frees the locks of a process however it dies. On
network file systems these are of the process, not of the open file, so threads take turns by a lock of their
own before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.errors import StoreError

_of_threads: dict[Path, threading.Lock] = {}
_new = threading.Lock()


def _hold_in_this_process(path: Path, acquired: ExitStack, on_wait: Callable[[], None] | None) -> bool:
    """Keep other threads of this process out until `acquired` is closed; return whether there was a wait."""
    with _new:
        mine = _of_threads.setdefault(path, threading.Lock())
    waited = not mine.acquire(blocking=False)
    if waited:
        if on_wait is not None:
            on_wait()
        mine.acquire()
    acquired.callback(mine.release)
    return waited


@contextmanager
def lock(outputs: Path, names: Iterable[str], on_wait: Callable[[], None]) -> Iterator[bool]:
    """Hold the locks of these names while the block runs.

    Args:
        outputs: folder of the store.
        names: of points or sweeps; acquired in one order everywhere, so that processes cannot deadlock.
        on_wait: called once when another process or thread holds one of them.

    Yields:
        Whether there was a wait, after which the store may hold what it did not before.

    Raises:
        StoreError: the file system has no locks.
    """
    from filelock import FileLock, Timeout

    folder = outputs / ".lock"
    waited = False
    with ExitStack() as acquired:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in sorted(set(names)):
                waited |= _hold_in_this_process(folder / name, acquired, None if waited else on_wait)
                file = FileLock(folder / f"{name}.lock", fallback_to_soft=False)
                try:
                    file.acquire(blocking=False)
                except Timeout:
                    if not waited:
                        on_wait()
                    waited = True
                    file.acquire()
                acquired.callback(file.release)
        except OSError as error:
            raise StoreError(
                f"outputs: {folder} cannot be locked ({error.strerror or error}), so two processes could "
                "write one point at once; set HARNESS_OUTPUTS to a folder on a file system with locks, as a "
                "local disk"
            ) from error
        yield waited
