"""What is kept on disk of a reference's distributions: its index, read without torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.store.stored_point import StoredPoint

INDEX = "index.json"


@dataclass(frozen=True)
class ReferenceIndex:
    """The index of what is kept along a reference's texts.

    Attributes:
        kind: `hidden`, the inputs of its head, from which all can be told exactly; or `top`.
        k: likeliest tokens a position, of the kind `top`.
        head: name of the head's file, of the kind `hidden`.
        pieces: how many texts each file holds, in the texts' order.
        positions: over all.
        left_out: texts that the budget had no room for; they are the last ones.
        bytes: of the files, without the head.
        share: bytes of the budget that were these texts'.
        processing: what the model does to the logits behind its head.
    """

    kind: str
    k: int
    head: str | None
    pieces: tuple[int, ...]
    positions: int
    left_out: int
    bytes: int
    share: int
    processing: Mapping[str, Any]

    @property
    def exact(self) -> bool:
        """Whether distributions are told whole."""
        return self.kind == "hidden"

    @property
    def texts(self) -> int:
        """Texts kept."""
        return sum(self.pieces)


def read_index(folder: Path) -> ReferenceIndex | None:
    """The index of a folder; None when nothing whole is there."""
    path = folder / INDEX
    if not path.is_file():
        return None
    facts = json.loads(path.read_text(encoding="utf-8"))
    return ReferenceIndex(**{**facts, "pieces": tuple(facts["pieces"])})


def samples_folder(stored: StoredPoint) -> Path:
    """Where the distributions along a point's own samples lie."""
    return stored.path("drift")


def heads_folder(outputs: Path) -> Path:
    """Where the heads lie, each once."""
    return outputs / "drift" / "heads"


def text_folder(outputs: Path, key: str) -> Path:
    """Where the distributions along a fixed text lie; `key` names the text and the model."""
    return outputs / "drift" / "texts" / key


def forget(stored: StoredPoint) -> None:
    """Drop what was kept along a point's samples, since those are made anew."""
    shutil.rmtree(samples_folder(stored), ignore_errors=True)
