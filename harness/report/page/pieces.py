"""The data of a page as compressed pieces, each opened by the page only when it is drawn.

A piece is gzip in base64, which the browser's own DecompressionStream reads; all of them stand one after
the other in one element, and are named by their place in it.
"""

from __future__ import annotations

from typing import Any

from harness.report.page.shell import packed, safe_json

MEGABYTE = 1_000_000

Place = tuple[int, int]
"""Where a piece begins and how long it is, in characters."""


class Pieces:
    """Collects the pieces of one page and keeps count of what they take.

    Args:
        budget_mb: megabytes they may take together.
    """

    def __init__(self, budget_mb: float) -> None:
        self.left = int(budget_mb * MEGABYTE)
        self._size = 0
        self._texts: list[str] = []

    def put(self, piece: str) -> Place:
        """Add a packed piece, whatever is left."""
        place = (self._size, len(piece))
        self._texts.append(piece)
        self._size += len(piece)
        self.left -= len(piece)
        return place

    def put_json(self, data: Any) -> Place:
        """Add JSON data, whatever is left."""
        return self.put(packed(safe_json(data).encode()))

    def text(self) -> str:
        """All pieces, as they stand in the page."""
        return "".join(self._texts)
