"""Locks that are files: they hold on every file system, between machines too.

Kernel locks do not hold everywhere (BeeGFS, NFS and Lustre have them between machines only where they are
set up so), but creating a file that must not exist yet does. `filelock.SoftFileLease` takes over from an
owner that died by exchanging two names, which NFS refuses, so that such a lock would stay for ever.

A lock is a folder of numbered files, one for each owner it had. Whoever creates the next number has it:

- `000007` is the latest, so its owner has the lock, while it touches it every few seconds;
- once `000007.free` is there, or it was not touched for a minute, `000008` may be created, which one can.

The minute is of the waiting process's own clock, since machines disagree on the time. An owner of the same
machine that has ended is known at once.
"""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from harness.store.owner import has_ended, this_host

BEAT_S = 5.0
"""An owner touches its file so often."""
STALE_S = 60.0
"""A file that was not touched for so long has no owner any more."""
POLL_S = 0.1
"""Who waits looks so often at first, and less often the longer it takes."""
LONGEST_POLL_S = 1.0

_FREE = ".free"

_seen: dict[Path, tuple[tuple[int, int], float]] = {}
"""Of the files that others hold: their inode and time of change, and since when those were seen."""


class HeartbeatLock:
    """A lock that is a folder of numbered files.

    Args:
        folder: of this lock alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mine: Path | None = None

    def acquire(self, wait: bool) -> bool:
        """Take it; return whether it is held now, which without `wait` it may not be."""
        pause = POLL_S
        while not self._try():
            if not wait:
                return False
            time.sleep(pause)
            pause = min(LONGEST_POLL_S, 1.5 * pause)
            # A change of the folder makes NFS ask the server what it holds.
            with suppress(OSError):
                os.utime(self._folder)
        return True

    def release(self) -> bool:
        """Give it back; return whether it was held until now, or another process took it over."""
        mine, self._mine = self._mine, None
        assert mine is not None
        beats.remove(mine)
        kept = _latest(_names(self._folder)) <= int(mine.name)
        with suppress(FileNotFoundError):  # taken over, and given back already
            mine.with_name(mine.name + _FREE).touch()
        return kept

    def _try(self) -> bool:
        before = _names(self._folder)
        last = _latest(before)
        held = last and _name(last) + _FREE not in before
        if held and not _is_abandoned(self._folder / _name(last)):
            return False
        mine = self._folder / _name(last + 1)
        if not _create(mine):
            return False
        now = _names(self._folder)
        # What was listed may have been old: there were more owners, or the folder was emptied meanwhile.
        if _latest(now) > last + 1 or (last and _name(last) not in now):
            mine.unlink(missing_ok=True)
            return False
        for name in now:
            if int(name.removesuffix(_FREE)) < last:
                (self._folder / name).unlink(missing_ok=True)
        _seen.pop(self._folder / _name(last), None)
        self._mine = mine
        beats.add(mine)
        return True


def remove_lock(folder: Path) -> None:
    """Remove the files of a lock that nobody will ask for any more; who does nevertheless begins anew."""
    for name in sorted(_names(folder), key=lambda name: not name.endswith(_FREE)):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _name(number: int) -> str:
    return f"{number:06d}"


def _names(folder: Path) -> list[str]:
    """Return the names in a lock's folder; none where it is not there."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [name for name in names if name.removesuffix(_FREE).isdecimal()]


def _latest(names: list[str]) -> int:
    """Return the number of the latest owner; 0 where there was none."""
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _create(path: Path) -> bool:
    """Create a file with this process as its owner; return whether it was not there."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    try:
        try:
            descriptor = os.open(path, flags, 0o666)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, flags, 0o666)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        json.dump({"host": this_host(), "process": os.getpid()}, file)
    return True


def _is_abandoned(path: Path) -> bool:
    """Return whether the owner of a file has ended, or did not touch the file for long enough."""
    try:
        with path.open("rb") as file:  # opened anew, so that NFS asks the server
            facts, text = os.fstat(file.fileno()), file.read()
    except FileNotFoundError:
        return False
    with suppress(ValueError, KeyError, TypeError):  # an owner that died before it wrote its name
        owner = json.loads(text)
        if owner["host"] == this_host() and has_ended(owner["process"]):
            return True
    state, now = (facts.st_ino, facts.st_mtime_ns), time.monotonic()
    known, since = _seen.get(path, (None, now))
    if known != state:
        since = now
    _seen[path] = state, since
    return now - since >= STALE_S


class Beats:
    """Touches files every few seconds, in a thread of its own while there are any."""

    def __init__(self) -> None:
        self._paths: set[Path] = set()
        self._lock = threading.Lock()
        self._of_process = 0

    def add(self, path: Path) -> None:
        """Touch a file from now on."""
        with self._lock:
            if self._of_process != os.getpid():  # no thread yet, or none any more after a fork
                self._of_process, self._paths = os.getpid(), set()
                threading.Thread(target=self._beat, daemon=True, name="heartbeat of locks").start()
            self._paths.add(path)

    def remove(self, path: Path) -> None:
        """Touch a file no more."""
        with self._lock:
            self._paths.discard(path)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_S)
            with self._lock:
                paths = tuple(self._paths)
                if not paths:
                    self._of_process = 0
                    return
            for path in paths:
                with suppress(OSError):
                    os.utime(path)


beats = Beats()
