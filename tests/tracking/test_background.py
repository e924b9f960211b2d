"""Logging in the background: in order, nothing lost, decoding never waits."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from harness.tracking import BackgroundTracker, Tracker

if TYPE_CHECKING:
    from harness.report.write import Written
    from harness.store.sweeps import Sweep

SWEEP = cast("Sweep", object())


class Slow(Tracker):
    """A tracker that blocks until it is released."""

    uri = "slow"

    def __init__(self) -> None:
        self.released = threading.Event()
        self.logged: list[Any] = []

    def open(self, sweep: Sweep) -> None:
        self.logged.append("open")

    def log_point(self, sweep: Sweep, index: int) -> None:
        assert self.released.wait(30)
        if index == 13:
            raise RuntimeError("refused")
        self.logged.append(index)

    def close(self, sweep: Sweep, status: str, written: Written | None = None) -> None:
        self.logged.append(status)


def test_points_are_logged_in_order_while_the_run_continues() -> None:
    slow = Slow()
    tracker = BackgroundTracker(slow)
    tracker.open(SWEEP)
    for index in range(10):
        tracker.log_point(SWEEP, index)  # would never return if it waited for the tracker
    assert slow.logged == ["open"]
    slow.released.set()
    tracker.close(SWEEP, "FINISHED")
    assert slow.logged == ["open", *range(10), "FINISHED"]


def test_an_error_is_raised_at_the_end_and_the_parent_is_closed() -> None:
    slow = Slow()
    slow.released.set()
    tracker = BackgroundTracker(slow)
    tracker.open(SWEEP)
    for index in (1, 13, 2):
        tracker.log_point(SWEEP, index)
    with pytest.raises(RuntimeError, match="refused"):
        tracker.close(SWEEP, "FAILED")
    assert slow.logged == ["open", 1, "KILLED"]


def test_a_tracker_that_was_never_opened_can_be_closed() -> None:
    slow = Slow()
    BackgroundTracker(slow).close(SWEEP, "KILLED")
    assert slow.logged == ["KILLED"]
