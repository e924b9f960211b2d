"""Garbage collection is postponed by commands alone, and begins once."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from harness import garbage
from harness.garbage import begin_collection, collect_seldom, postpone_collection


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(garbage, "_own_process", False)
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.enable()
    gc.set_threshold(*threshold)


def test_collection_begins_where_it_was_postponed() -> None:
    collect_seldom()
    assert gc.get_threshold()[0] == 100_000
    postpone_collection()
    assert not gc.isenabled()
    frozen = gc.get_freeze_count()
    begin_collection()
    assert gc.isenabled()
    assert gc.get_freeze_count() > frozen
    frozen = gc.get_freeze_count()
    begin_collection()
    assert gc.get_freeze_count() == frozen, "once"


def test_a_process_that_is_not_ours_is_left_as_it_is() -> None:
    """A notebook in which a sweep is run, or a test that calls `main`."""
    frozen = gc.get_freeze_count()
    postpone_collection()
    assert gc.isenabled()
    begin_collection()
    assert gc.get_freeze_count() == frozen


def test_who_switched_collection_off_keeps_it_off() -> None:
    collect_seldom()
    gc.disable()
    postpone_collection()
    begin_collection()
    assert not gc.isenabled()
