"""Telling in the background: in order, nothing lost, decoding never waits."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from harness.tracking import InBackground, Tracker

if TYPE_CHECKING:
    from harness.store.sweeps import Sweep

SWEEP = cast("Sweep", object())


class Slow(Tracker):
    """Tells nothing until it may."""

    uri = "slow"

    def __init__(self) -> None:
        self.may = threading.Event()
        self.told: list[Any] = []

    def open(self, sweep: Sweep) -> None:
        self.told.append("open")

    def log_point(self, sweep: Sweep, index: int) -> None:
        assert self.may.wait(30)
        if index == 13:
            raise RuntimeError("unlucky")
        self.told.append(index)

    def close(self, sweep: Sweep, status: str) -> None:
        self.told.append(status)


def test_points_are_told_in_order_while_the_run_goes_on() -> None:
    slow = Slow()
    tracker = InBackground(slow)
    tracker.open(SWEEP)
    for index in range(10):
        tracker.log_point(SWEEP, index)  # would never return if it waited for the telling
    assert slow.told == ["open"]
    slow.may.set()
    tracker.close(SWEEP, "FINISHED")
    assert slow.told == ["open", *range(10), "FINISHED"]


def test_what_the_telling_raises_is_raised_at_the_end_and_the_parent_is_closed() -> None:
    slow = Slow()
    slow.may.set()
    tracker = InBackground(slow)
    tracker.open(SWEEP)
    for index in (1, 13, 2):
        tracker.log_point(SWEEP, index)
    with pytest.raises(RuntimeError, match="unlucky"):
        tracker.close(SWEEP, "FAILED")
    assert slow.told == ["open", 1, "KILLED"]


def test_a_tracker_that_was_never_opened_can_be_closed() -> None:
    slow = Slow()
    InBackground(slow).close(SWEEP, "KILLED")
    assert slow.told == ["KILLED"]
