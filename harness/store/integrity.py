"""Whether a stored file is as it was written.

When an artifact is complete, the size and the checksum of its files are noted in parts.json (`seal`). A file
that has no seal, of an older store or of a point in progress, is sound if it can be read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.store.address import digest
from harness.store.files import check_readable
from harness.store.parquet_files import read_problem

SMALL = 64 * 1024
"""Bytes up to which a checksum is compared even where only a quick look is asked for."""

CHECK = "check"
"""The key of a sealed JSON file under which its own checksum is."""

_MAGIC = b"PAR1"


def seal(path: Path) -> dict[str, Any]:
    """Return the size and the checksum of a file that is complete."""
    return {"bytes": path.stat().st_size, "sha256": _checksum(path)}


def problem_of(path: Path, sealed: Mapping[str, Any] | None, owner: str, thorough: bool) -> str | None:
    """Return what is wrong with a file, as in `is empty`; None where it is sound.

    Args:
        path: the file.
        sealed: its seal; None where it has none.
        owner: the point that it must be of.
        thorough: whether the whole of a large file is read; otherwise only its size and its ends.

    Raises:
        StoreError: the system does not let it be read, which says nothing of the file.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            return "is not a file"
        if not size:
            return "is empty"
        if sealed is not None and size != sealed["bytes"]:
            return f"has {size} bytes, not the {sealed['bytes']} that were written"
        if path.suffix == ".parquet" and not _has_magic(path):
            return "is not a complete Parquet file"
        if not thorough and size > SMALL:
            return None
        if sealed is not None:
            return None if _checksum(path) == sealed["sha256"] else "is not what was written (its checksum)"
        return _unreadable(path, owner, size, path.stat().st_mtime_ns) if thorough else None
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        check_readable(path, error)
        return f"cannot be read ({error.strerror or error})"


def with_check(values: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Return the values of a JSON file with a checksum over them and their owner."""
    return {**values, CHECK: digest([owner, dict(values)])}


def checked(values: Any, owner: str) -> dict[str, Any] | None:
    """Return the values that `with_check` was given; None where they are others.

    Values without a checksum, of an older store, are returned as they are.
    """
    if not isinstance(values, dict):
        return None
    rest = {key: value for key, value in values.items() if key != CHECK}
    return rest if CHECK not in values or values[CHECK] == digest([owner, rest]) else None


def _checksum(path: Path) -> str:
    """Return the SHA-256 of a file; one that has not changed since is not read again."""
    facts = path.stat()
    return _sha256(path, facts.st_size, facts.st_mtime_ns, facts.st_ino)


@lru_cache(maxsize=100_000)
def _sha256(path: Path, *_: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _has_magic(path: Path) -> bool:
    """Return whether a file begins and ends as Parquet files do."""
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(max(0, path.stat().st_size - 4))
        return start == _MAGIC == file.read(4)


@lru_cache(maxsize=100_000)
def _unreadable(path: Path, owner: str, *_: int) -> str | None:
    """Return why a file without a seal cannot be read; None where it can."""
    if path.suffix == ".parquet":
        return read_problem(path, owner)
    values: Any = {}
    try:
        if path.suffix == ".json":
            values = json.loads(path.read_bytes())
        elif path.suffix == ".yaml":
            import yaml

            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            with suppress(yaml.YAMLError):
                values = None
                values = yaml.load(path.read_bytes(), Loader=loader)
    except ValueError:
        return "is not valid JSON"
    return None if isinstance(values, dict) else "does not hold what was written"
