"""Processes that share a store take turns: who makes a point, or tells a sweep, holds its lock.

One file holds every lock of a store, each a byte of its own (POSIX record locks), so that a thousand points
cost one open file, and the kernel frees the locks of a process however it dies. A system or a file system
without such locks gets none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_files: dict[tuple[int, Path], int] = {}
"""Open lock files of this process: to close one would free every lock in it."""


@contextmanager
def lock(outputs: Path, names: Iterable[str], on_wait: Callable[[], None]) -> Iterator[bool]:
    """Hold the locks of these names while the block runs.

    Args:
        outputs: folder of the store.
        names: of points or sweeps; they are taken in one order everywhere, so that nobody waits in a ring.
        on_wait: called once when another process holds one of them.

    Yields:
        Whether there was a wait, after which the store may hold what it did not before.
    """
    try:
        import fcntl
    except ImportError:
        yield False
        return
    taken: list[int] = []
    waited = False
    try:
        file = _open(outputs)
        for place in sorted({_place(name) for name in names}):
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except (BlockingIOError, PermissionError):
                if not waited:
                    on_wait()
                waited = True
                fcntl.lockf(file, fcntl.LOCK_EX, 1, place)
            taken.append(place)
    except OSError:
        pass  # no locks here
    try:
        yield waited
    finally:
        for place in taken:
            fcntl.lockf(file, fcntl.LOCK_UN, 1, place)


def _open(outputs: Path) -> int:
    key = (os.getpid(), outputs)
    if key not in _files:
        outputs.mkdir(parents=True, exist_ok=True)
        _files[key] = os.open(outputs / ".locks", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    return _files[key]


def _place(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "little")
