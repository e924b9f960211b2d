"""Locks keep processes, threads and machines apart, whoever is killed, and where a system has none."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import filelock
import pytest

from harness.errors import ConfigError, StoreError
from harness.store import heartbeat_lock, lock_probe
from harness.store.heartbeat_lock import HeartbeatLock
from harness.store.locks import forget_locks, lock, try_lock
from harness.store.owner import has_ended

# Counts in a file, which goes wrong as soon as two are inside at once.
COUNT = """
import sys, time
from pathlib import Path
from harness.store import heartbeat_lock, owner
from harness.store.locks import lock
heartbeat_lock.BEAT_S, heartbeat_lock.STALE_S, heartbeat_lock.LONGEST_POLL_S = 0.05, 1.0, 0.1
heartbeat_lock.this_host = lambda: sys.argv[2]
outputs, turns = Path(sys.argv[1]), int(sys.argv[3])
for _ in range(turns):
    with lock(outputs, ["point"], lambda: None, print):
        count = int((outputs / "count").read_text())
        time.sleep(0.002)
        (outputs / "count").write_text(str(count + 1))
"""
HOLD = """
import sys, time
from pathlib import Path
from harness.store import heartbeat_lock
from harness.store.locks import lock
heartbeat_lock.BEAT_S = 0.05
heartbeat_lock.this_host = lambda: sys.argv[2]
with lock(Path(sys.argv[1]), ["point"], lambda: None, print):
    print("inside", flush=True)
    time.sleep(60)
"""


def refuse(self: object, **_: object) -> None:
    raise OSError(errno.ENOSYS, "Function not implemented")


Begin = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Begins a process that runs some code; ended with the test."""
    with ExitStack() as ended:

        def begin(code: str, *words: object) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", code, *map(str, words)]
            process = ended.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            ended.callback(process.kill)
            return process

        yield begin


def no_line(line: str) -> None:
    pytest.fail(f"nothing is to be told: {line}")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat_lock, "BEAT_S", 0.05)
    monkeypatch.setattr(heartbeat_lock, "STALE_S", 0.5)
    monkeypatch.setattr(heartbeat_lock, "LONGEST_POLL_S", 0.1)
    # A thread that an earlier test began may sleep for a whole beat of five seconds yet.
    beats = heartbeat_lock.Beats()
    monkeypatch.setattr(heartbeat_lock, "beats", beats)
    monkeypatch.setattr(lock_probe, "beats", beats)
    monkeypatch.setattr(lock_probe, "BEAT_S", 0.05)
    monkeypatch.setattr(lock_probe, "_WATCHED_S", 0.5)


@pytest.mark.parametrize("kind", ["fcntl", "files", "as on NFS"])
def test_threads_of_a_process_take_turns(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    if kind == "as on NFS":  # where one open file of a process frees the locks of the others
        monkeypatch.setattr(filelock.FileLock, "acquire", lambda self, **_: None)
    else:
        monkeypatch.setenv("HARNESS_LOCKS", kind)
    inside, most, waits, all_there = [0], [0], [], threading.Barrier(4)

    def work() -> None:
        all_there.wait(20)
        with lock(tmp_path, ["b", "a"], lambda: waits.append(1), no_line):
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


def test_processes_of_two_machines_take_turns_by_files(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_LOCKS", "files")
    (tmp_path / "count").write_text("0")
    workers = [begin(COUNT, tmp_path, f"node{number % 2}", 25) for number in range(3)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "75"
    # Only the last owner's file is left, and the one before.
    assert len(list((tmp_path / ".lock/point.turns").glob("*.free"))) == 2


@pytest.mark.parametrize("host", ["here", "elsewhere"])
def test_the_file_lock_of_a_killed_process_is_taken_over_by_one_alone(
    host: str, begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    monkeypatch.setenv("HARNESS_LOCKS", "files")
    monkeypatch.setattr(heartbeat_lock, "this_host", lambda: "here")
    owner = begin(HOLD, tmp_path, host)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "inside\n"
    with try_lock(tmp_path, ["point"], no_line) as got:
        assert not got
    owner.kill()
    if host == "elsewhere":
        owner.wait()
    # Of this machine it is seen at once, though nobody has waited for it; another's after its last beat.
    killed = time.monotonic()
    inside, order = threading.Semaphore(0), []

    def enter(number: int) -> None:
        taken = HeartbeatLock(tmp_path / ".lock/point.turns")
        assert taken.acquire(wait=True)
        order.append((number, time.monotonic() - killed))
        inside.acquire()
        assert taken.release()

    waiting = [threading.Thread(target=enter, args=(number,), daemon=True) for number in range(4)]
    for thread in waiting:
        thread.start()
    time.sleep(1.2)
    assert len(order) == 1
    assert (order[0][1] < 0.4) == (host == "here")
    inside.release(4)
    for thread in waiting:
        thread.join(20)
    assert sorted(number for number, _ in order) == [0, 1, 2, 3]


def test_an_owner_that_was_taken_for_dead_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    monkeypatch.setenv("HARNESS_LOCKS", "files")
    monkeypatch.setattr(heartbeat_lock.beats, "add", lambda path: None)  # as if it were stopped
    lines: list[str] = []
    with lock(tmp_path, ["point"], lambda: None, lines.append):
        assert HeartbeatLock(tmp_path / ".lock/point.turns").acquire(wait=True)
    assert "another one went on with its work (point)" in lines[0]


def test_a_list_of_names_that_is_old_lets_nobody_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "point.turns"
    for _ in range(3):
        taken = HeartbeatLock(folder)
        assert taken.acquire(wait=False)
        assert taken.release()
    listed = heartbeat_lock._names

    def late(old: list[str]) -> Callable[[Path], list[str]]:
        answers = iter([old])
        return lambda folder: next(answers, None) or listed(folder)

    owner = HeartbeatLock(folder)
    assert owner.acquire(wait=False)
    for old in (["000001", "000001.free"], ["000002", "000002.free"], ["000003", "000003.free"]):
        monkeypatch.setattr(heartbeat_lock, "_names", late(old))
        assert not HeartbeatLock(folder).acquire(wait=False)
    assert owner.release()
    # And one that was listed before the folder was emptied.
    old = listed(folder)
    monkeypatch.setattr(heartbeat_lock, "_names", listed)
    heartbeat_lock.remove_lock(folder)
    monkeypatch.setattr(heartbeat_lock, "_names", late(old))
    assert not HeartbeatLock(folder).acquire(wait=False)


def test_a_file_system_without_kernel_locks_has_file_locks_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    lines: list[str] = []
    with lock(tmp_path, ["a", "b"], lambda: None, lines.append):
        assert len(lines) == 1
        assert "has no kernel locks; processes keep each other out by files" in lines[0]
        with try_lock(tmp_path, ["a"], no_line) as got:
            assert not got
    with lock(tmp_path, ["a"], lambda: pytest.fail("still held"), no_line):
        pass
    monkeypatch.setenv("HARNESS_LOCKS", "fcntl")
    line = "cannot be locked .*set HARNESS_LOCKS=auto"
    with pytest.raises(StoreError, match=line), lock(tmp_path, ["a"], lambda: None, no_line):
        pass
    monkeypatch.undo()
    monkeypatch.setenv("HARNESS_LOCKS", "nfs")
    line = "HARNESS_LOCKS=nfs: must be one of auto, fcntl, files"
    with pytest.raises(ConfigError, match=line), lock(tmp_path, ["a"], lambda: None, no_line):
        pass


def test_other_errors_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, **_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(filelock.FileLock, "acquire", full)
    line = "cannot be locked .No space left"
    with pytest.raises(StoreError, match=line), lock(tmp_path, ["a"], lambda: None, no_line):
        pass
    monkeypatch.undo()
    with lock(tmp_path, ["a"], lambda: pytest.fail("still held"), no_line):
        pass


PROBE = """
import sys, time
from pathlib import Path
from harness.store import heartbeat_lock, lock_probe
heartbeat_lock.BEAT_S = lock_probe.BEAT_S = 0.05
lock_probe.this_host = lambda: sys.argv[2]
if sys.argv[3] == "only here":  # its kernel locks are not known to other machines
    lock_probe._locked = lambda descriptor: True
with lock_probe.lock_probe(Path(sys.argv[1]), print):
    print("inside", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("holds", ["everywhere", "only here"])
def test_kernel_locks_that_hold_on_one_machine_only_are_found_out(
    holds: str, begin: Begin, tmp_path: Path, quick: None
) -> None:
    head = begin(PROBE, tmp_path, "login 1", holds)
    assert head.stdout is not None
    assert head.stdout.readline() == "inside\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock_probe, "this_host", lambda: "node7 2")
        lines: list[str] = []
        with lock_probe.lock_probe(tmp_path, lines.append):
            pass
        mark = tmp_path / ".lock/use-file-locks"
        if holds == "everywhere":
            assert (lines, mark.exists()) == ([], False)
        else:
            (line,) = lines
            assert "do not hold between login and node7; processes keep each other out by files" in line
            assert mark.read_text() == "kernel locks do not hold between login and node7\n"
            # From now on others take both kinds of locks; it is not told again.
            with lock(tmp_path, ["point"], lambda: None, no_line):
                assert json.loads((tmp_path / ".lock/point.turns/000001").read_text())["process"]
                with pytest.raises(filelock.Timeout):
                    filelock.FileLock(tmp_path / ".lock/point.lock").acquire(blocking=False)
            with lock_probe.lock_probe(tmp_path, no_line):
                pass
            forget_locks(tmp_path, "po")
            assert not (tmp_path / ".lock/point.turns").exists()
        head.kill()
        head.wait()
        # A dead one proves nothing, and its file goes.
        mark.unlink(missing_ok=True)
        with lock_probe.lock_probe(tmp_path, no_line):
            pass
        assert not list((tmp_path / ".lock/probes").iterdir())
        assert not mark.exists()


def test_a_process_that_nobody_waited_for_has_ended(begin: Begin) -> None:
    process = begin("")
    deadline = time.monotonic() + 20
    while not has_ended(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert has_ended(process.pid)
    assert not has_ended(os.getpid())
