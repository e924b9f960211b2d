"""Locks keep processes and threads apart, and where a file system has none it is said."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path

import filelock
import pytest

from harness.errors import StoreError
from harness.store.locks import lock


@pytest.mark.parametrize("of_the_file", [True, False])
def test_threads_of_a_process_take_turns(
    of_the_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not of_the_file:  # as on NFS, where one open file of a process frees the locks of the others
        monkeypatch.setattr(filelock.FileLock, "acquire", lambda self, **_: None)
    inside, most, waits = [0], [0], []

    def work() -> None:
        with lock(tmp_path, ["b", "a"], lambda: waits.append(1)):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.05)
            inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most[0] == 1
    assert len(waits) == 3


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, **_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.raises(StoreError, match="cannot be locked"), lock(tmp_path, ["a"], lambda: None):
        pass
    monkeypatch.undo()
    with lock(tmp_path, ["a"], lambda: pytest.fail("still held")):
        pass
