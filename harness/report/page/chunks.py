"""The data of a page as compressed chunks, each of which the page opens only when it draws it.

A chunk is gzip in base64, which the browser's own DecompressionStream reads. All chunks follow each other in
one element of the page; a chunk is referred to by its offset there and its length.
"""

from __future__ import annotations

from typing import Any

from harness.report.page.shell import packed, safe_json

ChunkRef = tuple[int, int]
"""Offset and length of a chunk, in characters."""


class CompressedChunks:
    """Collects the chunks of one page; `left` is what is left of its budget, in characters, or negative."""

    def __init__(self, budget_mb: float) -> None:
        self.left = int(budget_mb * 1e6)
        self._size = 0
        self._chunks: list[str] = []

    def put(self, chunk: str) -> ChunkRef:
        """Add a chunk, whatever is left of the budget."""
        ref = (self._size, len(chunk))
        self._chunks.append(chunk)
        self._size += len(chunk)
        self.left -= len(chunk)
        return ref

    def put_json(self, data: Any) -> ChunkRef:
        """Add a chunk of JSON, whatever is left of the budget."""
        return self.put(packed(safe_json(data).encode()))

    def text(self) -> str:
        """Return all chunks, as one text."""
        return "".join(self._chunks)
