"""The time left, where several workers go on side by side."""

from __future__ import annotations

import pytest

from harness.run.estimate import Estimate


def test_what_is_left_is_shared_by_the_workers_that_go_on() -> None:
    estimate = Estimate({"decoding": 100})
    for worker in ("a", "b"):
        estimate.begin("loading weights", 100, 0.0, worker)
        estimate.begin("decoding x", 50, 2.0, worker)
    assert estimate.seconds_left(2.0) is None
    estimate.advance(10, "a")
    estimate.advance(30, "b")
    # 40 of 100 in twice 4 seconds: a fifth of a second each, 60 are left to two.
    assert estimate.seconds_left(6.0) == (pytest.approx(60 * 8 / 40 / 2), False)
    estimate.advance(20, "b")
    estimate.begin("", 0, 6.0, "b")
    # 50 by `b` in 4 seconds, 10 by `a` in 8: 40 are left, to `a` alone.
    assert estimate.seconds_left(10.0) == (pytest.approx(40 * 12 / 60), False)


def test_a_worker_that_does_more_than_its_part_leaves_less_to_the_others() -> None:
    estimate = Estimate({"decoding": 100})
    for worker in ("a", "b"):
        estimate.begin("decoding x", 50, 0.0, worker)
    estimate.advance(80, "a")
    estimate.begin("", 0, 4.0, "a")
    # 80 in 4 seconds by `a`, none by `b` in 4: 20 are left, to `b` alone.
    assert estimate.seconds_left(4.0) == (pytest.approx(20 * 8 / 80), False)


def test_one_process_is_one_stream() -> None:
    estimate = Estimate({"decoding": 100, "timing": 4})
    estimate.begin("decoding x", 60, 0.0)
    estimate.advance(30)
    assert estimate.seconds_left(3.0) == (pytest.approx(7.0), True)
    estimate.begin("timing x", 2, 6.0)
    estimate.advance(1)
    # 60 counted as done in 6 seconds, 40 left; one run in 1 second, 3 left.
    assert estimate.seconds_left(7.0) == (pytest.approx(4.0 + 3.0), False)
