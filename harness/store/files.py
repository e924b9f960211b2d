"""The outputs folder, and files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.config.user_path import user_path
from harness.errors import ConfigError, StoreError
from harness.store.owner import has_ended, this_host

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO}

ABANDONED_S = 3600
"""A scratch file that was not written to for this many seconds has no writer any more."""

_OF_THE_FILE = {None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR}
"""Errors of reading that a damaged or missing file has; Arrow's own have no number."""


_called_with: list[Path] = []
"""The folders of calls of the API that name one, the one in progress last."""


@contextmanager
def outputs_at(folder: Path) -> Iterator[None]:
    """Make a folder that of the outputs while the block runs, in all threads; one block at a time."""
    _called_with.append(folder)
    try:
        yield
    finally:
        _called_with.pop()


def outputs_folder() -> Path:
    """Return `outputs/` of the working folder, or the folder that `HARNESS_OUTPUTS` names; absolute.

    A call of the API may name another one (`outputs_at`).

    Raises:
        ConfigError: it is a file, or below one.
    """
    key = "outputs" if _called_with else "HARNESS_OUTPUTS"
    named = str(_called_with[-1]) if _called_with else os.environ.get(key) or "outputs"
    folder = user_path(key, named).resolve()
    blocked = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    if blocked.exists() and not blocked.is_dir():
        message = f"{blocked} is a file; set {key} to a folder that can be written"
        raise ConfigError.of(f"{key}={named}", message)
    return folder


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a scratch path in the folder of `path`, renamed to `path` if the block succeeds.

    Its bytes are on the disk before its name is, so that a power failure leaves no empty file.

    Raises:
        StoreError: the disk is full or not writable; an earlier file is unchanged.
    """
    scratch = path.with_name(f".{path.name}.{_writer(os.getpid())}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        _flush(scratch)
        os.replace(scratch, path)
        # Not every file system can flush a folder.
        with contextlib.suppress(OSError):
            _flush(path.parent)
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        raise StoreError(
            f"outputs: {path.parent} cannot be written ({os.strerror(error.errno)}); results are kept: "
            "make room there and run the same command again"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_unfinished(folder: Path) -> None:
    """Remove the scratch files that no process writes any more.

    Those of another machine are left alone for an hour: whether their writer lives cannot be seen from here.
    """
    for scratch in folder.rglob(".*.part"):
        writer = scratch.name.split(".")[-3]
        with contextlib.suppress(OSError):
            if _is_dead(writer) or time.time() - scratch.stat().st_mtime > ABANDONED_S:
                scratch.unlink()


def _writer(process: int) -> str:
    """Return what a scratch file's name says of its writer: a checksum of the machine, and the process."""
    return f"{zlib.crc32(this_host().encode()):08x}-{process}"


def _is_dead(writer: str) -> bool:
    """Whether a writer was a process of this machine that has ended."""
    process = writer.partition("-")[2]
    if not process.isdecimal() or writer != _writer(int(process)):
        return False
    return has_ended(int(process))


def storable(text: str) -> str:
    """Return the text as UTF-8 can hold it: a lone surrogate becomes `?`."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def check_readable(path: Path, error: OSError) -> None:
    """Check that an error of reading a file is one of the file: a file that is sound must not be made again.

    Raises:
        StoreError: the system is to blame, as with too many open files or missing permission.
    """
    if error.errno not in _OF_THE_FILE:
        raise StoreError(
            f"{path} cannot be read ({os.strerror(error.errno or 0)}); nothing was changed: make it readable "
            "and run the same command again"
        ) from error


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; None where it is not there or not complete.

    Raises:
        StoreError: as `check_readable`.
    """
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None
    except OSError as error:
        check_readable(path, error)
        return None


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file by atomic rename; lone surrogates are written as `?`."""
    with atomic_path(path) as scratch:
        scratch.write_bytes(text.encode("utf-8", errors="replace"))


def finite_or_null(value: Any) -> Any:
    """Return a JSON value with null for the numbers that JSON lacks, NaN and infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite_or_null(inner) for key, inner in value.items()}
    return [finite_or_null(inner) for inner in value] if isinstance(value, list | tuple) else value
