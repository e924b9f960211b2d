"""The lines of a worker that its head does not start itself: a file that one appends to and the other reads.

Beside the lines of `run/worker_lines.py` it has `{"begin": {...}}` each time a worker begins with it, and
`{"end": {"status": N, ...}}` when it ends by itself: without that one it was killed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import StoreError


class LinesFile:
    """A file that lines are appended to."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, text: str) -> None:
        """Append; others see it at once.

        Raises:
            StoreError: the file cannot be written.
        """
        try:
            # Opened and closed each time: network file systems pass on what was written only then.
            with self._path.open("ab", buffering=0) as file:
                file.write(text.encode())
        except OSError as error:
            problem = f"cannot be written ({error.strerror or error})"
            raise StoreError(f"outputs: {self._path} {problem}") from error

    def flush(self) -> None:
        """Do nothing: nothing is held back."""


class LinesReader:
    """Reads what was appended to a file since the last time; there may be no file yet."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def new(self) -> Iterator[dict[str, Any]]:
        """Yield the objects of new complete lines; what is none is left out."""
        try:
            # Opened anew each time: network file systems look for what is new only then.
            with self._path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except OSError:
            return
        complete = text[: text.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.splitlines():
            try:
                told = json.loads(line)
            except ValueError:
                continue
            if isinstance(told, dict):
                yield told


def free_name(folder: Path, stem: str) -> str:
    """Return the name of a lines file that is not there yet: `group-0.0.jsonl`, `group-0.1.jsonl`."""
    number = 0
    while (folder / f"{stem}.{number}.jsonl").exists():
        number += 1
    return f"{stem}.{number}.jsonl"
