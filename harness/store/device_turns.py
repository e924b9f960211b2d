"""Latency is measured alone: processes that share a device take turns between working on it and timing.

Whoever works holds a lock of its device with the others who work; whoever times holds it alone. A gate before
it keeps new work out while somebody waits to time, so that all pause at their next batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from harness.errors import StoreError

BESIDE_OTHERS = ", beside other jobs"
"""How the place of a timing ends (`timed_on` in parts.json), where others had a part of its node."""


class DeviceTurns(Protocol):
    """What a process says about its use of a device."""

    def working(self) -> AbstractContextManager[None]:
        """Work on the device while the block runs."""

    def pause(self) -> None:
        """Let those time who wait for it: called between two batches."""

    def alone(self, on_wait: Callable[[], None]) -> AbstractContextManager[None]:
        """Have the device alone while the block runs; within `working`. `on_wait` is called before a wait."""


class Undisturbed:
    """The turns of a process that shares its device with no other."""

    @contextmanager
    def working(self) -> Iterator[None]:
        """Work at once."""
        yield

    def pause(self) -> None:
        """Go on at once."""

    @contextmanager
    def alone(self, on_wait: Callable[[], None]) -> Iterator[None]:
        """Time at once."""
        yield


class SharedDevice:
    """The turns of the processes that share a device.

    Args:
        folder: where the locks of the device lie; the same for all of them.
        device: its name, as `cpu` or `gpu-0`.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self._paths = folder / f"{device}.gate", folder / f"{device}.busy"
        self._gate = self._busy = -1

    @contextmanager
    def working(self) -> Iterator[None]:
        """Work beside the others; wait while one of them times or waits to time."""
        self._gate, self._busy = (_opened(path) for path in self._paths)
        try:
            self._enter()
            yield
        finally:
            os.close(self._busy)
            os.close(self._gate)

    def pause(self) -> None:
        """Let those time who wait for it."""
        if not _locked(self._gate, wait=False):
            _unlock(self._busy)
            self._enter()
        else:
            _unlock(self._gate)

    @contextmanager
    def alone(self, on_wait: Callable[[], None]) -> Iterator[None]:
        """Wait until the others pause, and keep them waiting."""
        _unlock(self._busy)
        if waited := not _locked(self._gate, wait=False):
            on_wait()
            _locked(self._gate)
        try:
            if not _locked(self._busy, wait=False):
                if not waited:
                    on_wait()
                _locked(self._busy)
            yield
        finally:
            _unlock(self._busy)
            _unlock(self._gate)
            self._enter()

    def _enter(self) -> None:
        _locked(self._gate)
        _locked(self._busy, shared=True)
        _unlock(self._gate)


def _opened(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise _no_locks(path, error) from error


def _locked(descriptor: int, *, shared: bool = False, wait: bool = True) -> bool:
    """Take a lock; without `wait`, return whether it was free."""
    import fcntl

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise _no_locks(Path(f"/proc/self/fd/{descriptor}"), error) from error
    return True


def _unlock(descriptor: int) -> None:
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_UN)


def _no_locks(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"outputs: {path} cannot be locked ({error.strerror or error}), so latency could not be measured "
        "alone; set HARNESS_OUTPUTS to a folder on a local disk, or leave hydra/launcher out"
    )
