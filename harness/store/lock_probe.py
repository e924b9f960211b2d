"""Whether kernel locks hold between the machines that share a store, found out while a sweep runs.

Some file systems keep their locks on the machine that took them (BeeGFS by default, Lustre with `localflock`,
NFS with `local_lock`), which cannot be seen from one machine. So the head of a sweep and its workers each
hold a lock of their own while they run, and try those of the others: who gets one that its owner, on another
machine, still holds has the proof, and lets all take file locks from then on.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from harness.store.heartbeat_lock import BEAT_S, beats
from harness.store.locks import Tell, kind_of_locks, use_files
from harness.store.owner import has_ended, this_host

_WATCHED_S = 3 * BEAT_S
"""An owner that gives no sign of life for so long has ended."""


@contextmanager
def lock_probe(outputs: Path, tell: Tell) -> Iterator[None]:
    """Try the locks of the other machines that run sweeps of a store, and hold one while the block runs."""
    if kind_of_locks() != "auto":
        yield
        return
    folder = outputs / ".lock" / "probes"
    with ExitStack() as held:
        with suppress(OSError):  # no locks, or a full disk: whoever takes a lock will say so
            _hold(folder, held)
            if host := _not_kept_out(folder):
                here = this_host().partition(" ")[0]
                if use_files(outputs, f"kernel locks do not hold between {host} and {here}"):
                    tell(
                        f"outputs: kernel locks of {outputs} do not hold between {host} and {here}; "
                        "processes keep each other out by files from now on"
                    )
        yield


def _hold(folder: Path, held: ExitStack) -> None:
    """Hold a lock of this process until `held` closes."""
    name = f"{os.getpid()}-{secrets.token_hex(4)}@{quote(this_host(), safe='')}"
    path = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    held.callback(path.unlink, missing_ok=True)
    held.callback(os.close, descriptor)
    if _locked(descriptor):
        beats.add(path)
        held.callback(beats.remove, path)


def _not_kept_out(folder: Path) -> str | None:
    """Return the name of a machine whose lock this process could take while it is held; None without one."""
    suspects: dict[Path, int] = {}
    mine = quote(this_host(), safe="")
    for path in folder.iterdir():
        owner, _, host = path.name.partition("@")
        process = owner.partition("-")[0]
        if host != mine:
            if _could_lock(path):
                suspects[path] = _touched(path)
        elif process.isdecimal() and has_ended(int(process)):
            path.unlink(missing_ok=True)
    until = time.monotonic() + _WATCHED_S
    while suspects and time.monotonic() < until:
        time.sleep(BEAT_S / 10)
        for path, before in suspects.items():
            # It lived on after its lock was taken, so it held it then.
            if _touched(path) > before > 0:
                return path.name.partition("@")[2].partition("%20")[0]
    for path in suspects:  # its owner has died
        path.unlink(missing_ok=True)
    return None


def _could_lock(path: Path) -> bool:
    """Return whether a lock of another process could be taken."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return _locked(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Take the kernel's lock of an open file; return whether it was free."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _touched(path: Path) -> int:
    """Return when a file was last touched; 0 where it is gone."""
    try:
        with path.open("rb") as file:  # opened anew, so that NFS asks the server
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return 0
