"""Processes that share a store take turns: whoever makes a point, or runs a sweep, holds its lock.

Locks are in `outputs/.lock/`. `HARNESS_LOCKS` says of which kind they are:

- `fcntl`: the kernel's, which frees those of a process however it dies. On network file systems they are of
  the process, not of the open file, so threads take turns by a lock of their own before.
- `files`: files with a heartbeat (`heartbeat_lock.py`), which hold on every file system.
- `auto`, the default: the kernel's; but files where there are none, and, beside the kernel's, where those
  were found not to hold between machines (`lock_probe.py`). A mark in the folder tells the other processes.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.errors import ConfigError, StoreError
from harness.store.heartbeat_lock import STALE_S, HeartbeatLock, remove_lock

Tell = Callable[[str], None]
"""Receives a line that is worth reading."""

KINDS = ("auto", "fcntl", "files")
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
_MARK = "use-file-locks"
_TURNS, _KERNELS = ".turns", ".lock"

_of_threads: dict[Path, threading.Lock] = {}
_new = threading.Lock()


@contextmanager
def lock(outputs: Path, names: Iterable[str], on_wait: Callable[[], None], tell: Tell) -> Iterator[bool]:
    """Hold the locks of these names while the block runs.

    Args:
        outputs: folder of the store.
        names: of points or sweeps; acquired in one order everywhere, so that processes cannot deadlock.
        on_wait: called once when another process or thread holds one of them.
        tell: receives what is unusual about the locks here, once for a store.

    Yields:
        Whether there was a wait, after which the store may hold what it did not before.

    Raises:
        StoreError: the file system has no locks.
        ConfigError: HARNESS_LOCKS is none of `KINDS`.
    """
    waited = False
    with ExitStack() as held:
        for name in sorted(set(names)):
            if not _take(outputs, name, held, tell, wait=False):
                if not waited:
                    on_wait()
                waited = True
                _take(outputs, name, held, tell, wait=True)
        yield waited


@contextmanager
def try_lock(outputs: Path, names: Iterable[str], tell: Tell) -> Iterator[bool]:
    """Hold the locks of these names while the block runs, if nobody holds one of them; yield whether so."""
    with ExitStack() as held:
        got = all(_take(outputs, name, held, tell, wait=False) for name in sorted(set(names)))
        if not got:
            held.close()
        yield got


def forget_locks(outputs: Path, prefix: str) -> None:
    """Remove what is left of locks whose names begin so, and that nobody needs any more."""
    for path in (outputs / ".lock").glob(f"{prefix}*"):
        if path.name.endswith(_TURNS):
            remove_lock(path)
        elif path.suffix == _KERNELS:
            path.unlink(missing_ok=True)


def use_files(outputs: Path, reason: str) -> bool:
    """Let every process that shares the store take file locks from now on; return whether none did before."""
    mark = outputs / ".lock" / _MARK
    if mark.exists():
        return False
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(f"{reason}\n", encoding="utf-8")
    return True


def kind_of_locks() -> str:
    """Return what HARNESS_LOCKS asks for.

    Raises:
        ConfigError: it is none of `KINDS`.
    """
    kind = os.environ.get("HARNESS_LOCKS") or "auto"
    if kind not in KINDS:
        raise ConfigError.of(f"HARNESS_LOCKS={kind}", f"must be one of {', '.join(KINDS)}")
    return kind


def _take(outputs: Path, name: str, held: ExitStack, tell: Tell, wait: bool) -> bool:
    """Take the locks of a name, each kind that is used; return whether they are held until `held` closes."""
    kind, path = kind_of_locks(), outputs / ".lock" / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as taken:
            if not _take_from_threads(path, taken, wait):
                return False
            if kind == "files":
                use_files(outputs, "HARNESS_LOCKS=files")
            files = kind != "fcntl" and (path.parent / _MARK).exists()
            if files and not _take_file(path, taken, tell, wait):
                return False
            if kind != "files":
                try:
                    if not _take_from_kernel(path, taken, wait):
                        return False
                except OSError as error:
                    if kind == "fcntl" or error.errno not in _NO_LOCKS:
                        raise
                    if not files:
                        if use_files(outputs, f"no kernel locks here ({os.strerror(error.errno)})"):
                            tell(_without_kernel_locks(path.parent))
                        if not _take_file(path, taken, tell, wait):
                            return False
            held.enter_context(taken.pop_all())
    except OSError as error:
        without = error.errno in _NO_LOCKS
        cure = "HARNESS_LOCKS=auto" if without else "HARNESS_OUTPUTS to a folder that can be written"
        reason = error.strerror or error
        danger = "so two processes could write one point at once"
        raise StoreError(
            f"outputs: {path.parent} cannot be locked ({reason}), {danger}; set {cure}"
        ) from error
    return True


def _take_from_threads(path: Path, taken: ExitStack, wait: bool) -> bool:
    """Keep the other threads of this process out."""
    with _new:
        mine = _of_threads.setdefault(path, threading.Lock())
    if not mine.acquire(blocking=wait):
        return False
    taken.callback(mine.release)
    return True


def _take_from_kernel(path: Path, taken: ExitStack, wait: bool) -> bool:
    from filelock import FileLock, Timeout

    file = FileLock(path.with_name(path.name + _KERNELS), fallback_to_soft=False)
    try:
        file.acquire(blocking=wait)
    except Timeout:
        return False
    taken.callback(file.release)
    return True


def _take_file(path: Path, taken: ExitStack, tell: Tell, wait: bool) -> bool:
    file = HeartbeatLock(path.with_name(path.name + _TURNS))
    if not file.acquire(wait):
        return False

    def release() -> None:
        if not file.release():
            late = (
                f"this process did not answer for {STALE_S:.0f} seconds, so another one went on with its work"
            )
            tell(f"outputs: {late} ({path.name}); nothing is lost")

    taken.callback(release)
    return True


def _without_kernel_locks(folder: Path) -> str:
    after = f"one that is killed on another machine keeps them for {STALE_S:.0f} seconds"
    return (
        f"outputs: {folder} has no kernel locks; processes keep each other out by files instead, and {after}"
    )
