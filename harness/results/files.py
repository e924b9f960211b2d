"""Where outputs lie, and files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def outputs_folder() -> Path:
    """`outputs/` of the working folder, or the folder that `HARNESS_OUTPUTS` names; absolute."""
    return Path(os.environ.get("HARNESS_OUTPUTS") or "outputs").expanduser().resolve()


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A scratch path beside `path` that is renamed onto it when the block ends well, else removed."""
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield scratch
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file by atomic rename; lone surrogates are written as `?`."""
    with appearing(path) as scratch:
        scratch.write_bytes(text.encode("utf-8", errors="replace"))
