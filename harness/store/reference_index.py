"""The stored distributions of a reference: their folders and their index, read without torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.store.files import read_json, write_text
from harness.store.integrity import checked, problem_of, seal, with_check

if TYPE_CHECKING:
    from harness.store.stored_point import StoredPoint

INDEX = "index.json"


@dataclass(frozen=True)
class ReferenceIndex:
    """The index of the distributions stored along a reference's texts.

    Attributes:
        kind: `hidden`, the inputs of the output head, which give exact distributions; or `top`.
        k: likeliest tokens per position, of the kind `top`.
        head: name of the head's file, of the kind `hidden`.
        pieces: number of texts in each file, in the texts' order.
        positions: number of positions of all texts.
        left_out: number of texts, the last ones, that the budget had no room for.
        bytes: size of the files, without the head.
        share: bytes of the budget for these texts.
        processing: how the model processes the logits after its head.
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
        """Whether the distributions are exact."""
        return self.kind == "hidden"

    @property
    def texts(self) -> int:
        """Number of texts stored."""
        return sum(self.pieces)


def read_index(folder: Path) -> ReferenceIndex | None:
    """Return the index of a folder; None when there is no complete one, or a file is damaged."""
    facts = checked(read_json(folder / INDEX), "")
    if facts is None:
        return None
    files = facts.pop("files", {})
    try:
        index = ReferenceIndex(**{**facts, "pieces": tuple(facts["pieces"])})
    except (KeyError, TypeError):
        return None
    paths = [chunk_path(folder, number) for number in range(len(index.pieces))]
    return None if any(problem_of(path, files.get(path.name), "", thorough=True) for path in paths) else index


def write_index(folder: Path, index: ReferenceIndex) -> None:
    """Write the index of a folder whose files are complete, with their seals."""
    paths = [chunk_path(folder, number) for number in range(len(index.pieces))]
    facts = asdict(index) | {"files": {path.name: seal(path) for path in paths}}
    facts = json.loads(json.dumps(facts))
    write_text(folder / INDEX, json.dumps(with_check(facts, "")) + "\n")


def chunk_path(folder: Path, number: int) -> Path:
    """Return the path of the distributions of a chunk of texts."""
    return folder / f"{number:06d}.safetensors"


def samples_folder(stored: StoredPoint) -> Path:
    """Return the folder of the distributions along a point's own samples."""
    return stored.path("drift")


def heads_folder(outputs: Path) -> Path:
    """Return the folder of the output heads, each stored once."""
    return outputs / "drift" / "heads"


def text_folder(outputs: Path, key: str) -> Path:
    """Return the folder of the distributions along a fixed text; `key` identifies the text and the model."""
    return outputs / "drift" / "texts" / key


def forget(stored: StoredPoint) -> None:
    """Delete the distributions along a point's samples, since those are generated again."""
    shutil.rmtree(samples_folder(stored), ignore_errors=True)
