"""Which request is in which row of vLLM's batch: rows are added, removed, moved and swapped between steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

Of = TypeVar("Of")


class RowNumbers(Generic[Of]):
    """What is in each row, kept up to date with vLLM's batch updates."""

    def __init__(self) -> None:
        self._in_row: dict[int, Of] = {}

    def update(
        self,
        removed: Iterable[int],
        added: Iterable[tuple[int, Of | None]],
        moved: Iterable[tuple[int, int, Any]],
    ) -> None:
        """Apply a batch update, in vLLM's order: removed, added, moved.

        Args:
            removed: rows whose request left.
            added: rows with what is in them now, whatever was there before; None for what is not ours.
            moved: pairs of rows with vLLM's `MoveDirectionality`: SWAP, or UNIDIRECTIONAL from the first to
                the second, which leaves the first empty.
        """
        for row in removed:
            self._in_row.pop(row, None)
        for row, one in added:
            self._put(row, one)
        for first, second, direction in moved:
            from_first, from_second = self._in_row.pop(first, None), self._in_row.pop(second, None)
            self._put(second, from_first)
            if direction.name == "SWAP":
                self._put(first, from_second)

    def of(self, rows: int) -> Sequence[Of | None]:
        """Return what is in the first `rows` rows; None where nothing of ours is."""
        return [self._in_row.get(row) for row in range(rows)]

    def _put(self, row: int, one: Of | None) -> None:
        if one is None:
            self._in_row.pop(row, None)
        else:
            self._in_row[row] = one
