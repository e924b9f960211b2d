"""What travels of a store between machines without a shared file system: folders, file by file, in chunks.

A folder's changed files arrive beside the store and are put into it together, once all of them are there; the
list of complete artifacts comes last, as a worker writes it. Nothing is unpacked: a path that leaves its
folder, or is of another folder than those that are expected, is refused.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import StoreError

CHUNK_BYTES = 8 * 2**20
_COMPLETE = "parts.json"
"""Lists what is complete of a point: written last, and sent only with files that did not change meanwhile."""
_NAME = re.compile(r"[^/\\\0]+")


@dataclass(frozen=True)
class Folder:
    """A folder of a store that travels, with what is below it.

    Attributes:
        path: relative to the store, `points/ID`; empty for the store's own.
        prefixes: of the names of the files and folders in it that travel; all of them where there is none.
        files: the only files that travel, by their paths in it; all of them where there is none.
        whole: whether files that the sender does not have are removed at the receiver.
    """

    path: str
    prefixes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    whole: bool = False

    def names(self, store: Path) -> dict[str, tuple[int, int, int]]:
        """Return the files that travel, by path in the folder, each with what changes when it is written."""
        found = {}
        base = store / self.path
        for name in self.files or _below(base):
            if not self.prefixes or name.startswith(self.prefixes):
                with suppress(OSError):
                    facts = os.stat(base / name)
                    found[name] = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
        return found


@dataclass(frozen=True)
class Chunk:
    """Bytes of a file of a folder, from an offset on."""

    folder: str
    name: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class Complete:
    """All chunks of a folder's changed files have been sent.

    Attributes:
        folder: its path.
        changed: the files that were sent, with their sizes.
        names: all files that the sender has.
    """

    folder: str
    changed: Mapping[str, int]
    names: frozenset[str]


@dataclass(frozen=True)
class Dropped:
    """A folder changed while it was sent: what came of it is to be forgotten, it is sent again."""

    folder: str


Parcel = Chunk | Complete | Dropped


class Outbox:
    """The sender's side: what changed in folders of a store since it was last sent.

    Args:
        store: the folder that they lie in.
        folders: that travel, in this order.
    """

    def __init__(self, store: Path, folders: tuple[Folder, ...]) -> None:
        self._store, self._folders = store, folders
        self._sent: dict[str, dict[str, tuple[int, int, int]]] = {}

    def skip(self) -> None:
        """Regard everything as sent as it is now."""
        self._sent = {folder.path: folder.names(self._store) for folder in self._folders}

    def parcels(self) -> Iterator[Parcel]:
        """Yield what changed; a folder that changes meanwhile is left to the next time."""
        for folder in self._folders:
            names, sent = folder.names(self._store), self._sent.get(folder.path, {})
            if names != sent:
                yield from self._changed(folder, names, sent)

    def _changed(
        self, folder: Folder, names: dict[str, tuple[int, int, int]], sent: dict[str, tuple[int, int, int]]
    ) -> Iterator[Parcel]:
        changed = [name for name in names if names[name] != sent.get(name)]
        base = self._store / folder.path
        try:
            for name in changed:
                with open(base / name, "rb") as file:
                    offset = 0
                    while data := file.read(CHUNK_BYTES):
                        yield Chunk(folder.path, name, offset, data)
                        offset += len(data)
                    if not offset:
                        yield Chunk(folder.path, name, 0, b"")
        except FileNotFoundError:
            yield Dropped(folder.path)
            return
        now = folder.names(self._store)
        if any(now.get(name) != names.get(name) for name in {*changed, _COMPLETE}):
            yield Dropped(folder.path)
            return
        self._sent[folder.path] = names
        yield Complete(folder.path, {name: names[name][1] for name in changed}, frozenset(names))


class Inbox:
    """The receiver's side: puts what arrives into a store.

    Args:
        store: the folder that they lie in.
        staging: where files lie until all of a folder are there; emptied now, on the store's file system.
        folders: that may arrive; all else is refused.
    """

    def __init__(self, store: Path, staging: Path, folders: tuple[Folder, ...]) -> None:
        self._store, self._staging = store, staging
        self._folders = {folder.path: folder for folder in folders}
        self.clear()

    def clear(self) -> None:
        """Forget what is not complete."""
        shutil.rmtree(self._staging, ignore_errors=True)

    def put(self, parcel: Parcel) -> None:
        """Receive a parcel.

        Raises:
            StoreError: it cannot be written, or is of a path that was not asked for.
        """
        folder = self._folders.get(parcel.folder)
        if folder is None:
            raise StoreError(
                f"a worker sent {parcel.folder!r}, which it was not asked for; nothing was written"
            )
        try:
            if isinstance(parcel, Chunk):
                self._write(folder, parcel)
            elif isinstance(parcel, Complete):
                self._complete(folder, parcel)
            else:
                shutil.rmtree(self._staging / (folder.path or "."), ignore_errors=True)
        except OSError as error:
            reason = error.strerror or error
            raise StoreError(
                f"outputs: {self._store} cannot be written ({reason}); results are kept: make room there and "
                "run the same command again"
            ) from error

    def _write(self, folder: Folder, chunk: Chunk) -> None:
        path = _inside(self._staging / folder.path, folder, chunk.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "r+b" if chunk.offset else "wb") as file:
            file.seek(chunk.offset)
            file.write(chunk.data)

    def _complete(self, folder: Folder, complete: Complete) -> None:
        base, staged = self._store / folder.path, self._staging / folder.path
        moves = []
        for name, size in complete.changed.items():
            source, target = _inside(staged, folder, name), _inside(base, folder, name)
            if source.stat().st_size != size:
                raise StoreError(f"a worker sent {name} of {folder.path} in part; run the same command again")
            moves.append((source, target))
        # Tables before what says that they are complete.
        for source, target in sorted(moves, key=lambda move: _rank(move[1].name)):
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(source, "rb") as file:
                os.fsync(file.fileno())
            os.replace(source, target)
        if folder.whole:
            for name in set(_below(base)) - complete.names:
                (base / name).unlink(missing_ok=True)
                with suppress(OSError):  # where other files are left
                    (base / name).parent.rmdir()


def _rank(name: str) -> tuple[int, str]:
    return (2 if name == _COMPLETE else name.endswith(".json"), name)


def _below(base: Path) -> Iterator[str]:
    """Yield the files below a folder by their paths in it, but for hidden ones: those are being written."""
    for folder, inner, files in os.walk(base):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield (Path(folder) / name).relative_to(base).as_posix()


def _inside(base: Path, folder: Folder, name: str) -> Path:
    """Return the path of a file in a folder.

    Raises:
        StoreError: the name leads out of the folder, or is not one of those that travel.
    """
    names = name.split("/")
    plain = all(_NAME.fullmatch(one) and one not in (".", "..") for one in names)
    asked = (not folder.prefixes or name.startswith(folder.prefixes)) and (
        not folder.files or name in folder.files
    )
    path = base.joinpath(*names) if plain else base
    # A link of the store may lead elsewhere by its user's will, one below the folder may not.
    inner = path.parent
    while plain and inner != base:
        plain, inner = not inner.is_symlink(), inner.parent
    if not (plain and asked):
        raise StoreError(
            f"a worker sent a file named {name[:200]!r}, which cannot be one; nothing was written"
        )
    return path
