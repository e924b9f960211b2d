"""A path that a user gave, in a key, a flag or an environment variable: the one place that looks it up."""

from __future__ import annotations

import stat
from pathlib import Path

from harness.errors import ConfigError

_SHOWN = 120


def user_path(key: str, text: str) -> Path:
    """Return the path, `~` expanded: a file, a folder, or nothing, which is for the caller to ask.

    Raises:
        ConfigError: it cannot be looked up: a name that is too long, a loop of links, no permission, no such
            user; or it is a device or pipe, which might never end. Says that of `key`.
    """
    try:
        path = Path(text).expanduser()
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return path
    except (OSError, RuntimeError, ValueError) as error:
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ConfigError.of(key, f"{shown!r} cannot be looked up: {reason}; check the path") from None
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise ConfigError.of(key, f"{text!r} is not a file, nor a folder; check the path")
    return path
