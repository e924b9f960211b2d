"""Which request is in which row, after any of vLLM's batch updates."""

from __future__ import annotations

import random

from fake_vllm import Direction

from harness.backends.vllm.row_numbers import RowNumbers


def test_removed_then_added_then_moved() -> None:
    rows: RowNumbers[str] = RowNumbers()
    rows.update([], [(0, "a"), (1, "b"), (2, "c"), (3, "d")], [])
    assert rows.of(4) == ["a", "b", "c", "d"]
    rows.update([3], [(1, "e")], [])  # d left; b left and e took its row
    assert rows.of(3) == ["a", "e", "c"]
    rows.update([0], [], [(2, 0, Direction.UNIDIRECTIONAL)])
    assert rows.of(3) == ["c", "e", None]
    rows.update([], [(2, "f")], [(0, 2, Direction.SWAP), (1, 2, Direction.SWAP)])
    assert rows.of(3) == ["f", "c", "e"]


def test_a_row_of_somebody_else_is_none() -> None:
    rows: RowNumbers[int] = RowNumbers()
    rows.update([], [(0, 5), (1, None), (2, 0)], [])
    assert rows.of(3) == [5, None, 0]
    rows.update([], [(0, None)], [(2, 1, Direction.SWAP)])
    assert rows.of(3) == [None, 0, None]


def test_any_sequence_of_moves_is_that_of_a_list() -> None:
    chance = random.Random(0)
    rows: RowNumbers[int] = RowNumbers()
    there: list[int] = []
    for number in range(400):
        added, moved, removed = [], [], []
        if len(there) < 6 or chance.random() < 0.5:
            place = len(there) if len(there) < 6 else chance.randrange(6)
            there[place:] = [number, *there[place + 1 :]]
            added.append((place, number))
        elif chance.random() < 0.5:
            place = chance.randrange(5)
            removed.append(place)
            there[place] = there.pop()
            moved.append((5, place, Direction.UNIDIRECTIONAL))
        for _ in range(chance.randrange(3)):
            a, b = chance.sample(range(len(there)), 2) if len(there) > 1 else (0, 0)
            if a != b:
                there[a], there[b] = there[b], there[a]
                moved.append((a, b, Direction.SWAP))
        rows.update(removed, added, moved)
        assert list(rows.of(len(there))) == there
