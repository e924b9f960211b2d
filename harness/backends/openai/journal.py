"""Answers that are paid for and not yet in the store: a file each, until the samples made of them are stored.

A process that dies loses the requests in flight and no other answer. `outputs/answers/` holds the files.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from harness.backends.openai.server_answer import Answer
from harness.store.address import digest
from harness.store.files import read_json, write_text


class Journal:
    """The answers of one server and model.

    Args:
        folder: where they are kept.

    Attributes:
        fresh: whether kept answers are asked for again.
        incomplete: whether a request of the batch failed, so that its other samples are not stored.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._served: set[Path] = set()
        self.fresh = False
        self.incomplete = False

    def path(self, asked: Any) -> Path:
        """Return the file of the answer to a request, by all that is sent and whose sample it is."""
        return self._folder / f"{digest(asked)}.json"

    def find(self, path: Path) -> Answer | None:
        """Return an answer that is kept; None where there is none, or it is to be asked for again."""
        if self.fresh:
            return None
        try:
            answer = Answer.from_json(read_json(path) or {})
        except (KeyError, TypeError, AttributeError):
            return None
        self._served.add(path)
        return answer

    def keep(self, path: Path, answer: Answer) -> None:
        """Keep an answer; it is on the disk when this returns."""
        write_text(path, json.dumps(answer.to_json(), ensure_ascii=True))
        self._served.add(path)

    def forget(self) -> None:
        """Begin a new batch; what was found or kept for the last one is deleted if its samples are stored."""
        for path in () if self.incomplete else self._served:
            path.unlink(missing_ok=True)
        self.leave()
        for folder in (self._folder, self._folder.parent):
            with contextlib.suppress(OSError):  # others may keep answers there
                folder.rmdir()

    def leave(self) -> None:
        """Begin a new batch; what was found or kept stays."""
        self._served.clear()
        self.incomplete = False
