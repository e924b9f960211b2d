"""Trials: sweeps of `store=False`, kept in a temporary folder, and functions that have no address.

Such a function is reached through a file of the temporary folder, which takes it out of this process.
"""

from __future__ import annotations

import keyword
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.api.code_reference import code_reference
from harness.errors import ConfigError

_live: dict[str, Callable[..., Any]] = {}


def live_code(key: str) -> Callable[..., Any]:
    """Return the function that a trial of this process was given; the files of trials call it."""
    return _live[key]


class TrialFolder:
    """A temporary store, removed when its last user forgets it.

    Attributes:
        path: the folder.
        outputs: the store in it.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="harness-trial-"))
        self._tokens: list[str] = []
        weakref.finalize(self, _forget, self.path, self._tokens)
        self.outputs = self.path / "outputs"
        self._names: set[str] = set()

    @property
    def holds_functions(self) -> bool:
        """Whether it was given a function that only this process has."""
        return bool(self._names)

    def reference(self, key: str, target: Callable[..., Any]) -> str:
        """Return FILE.py:NAME of a function, its own where it has one."""
        try:
            return code_reference(key, target)
        except ConfigError:
            return self._live_reference(target)

    def _live_reference(self, target: Callable[..., Any]) -> str:
        own = getattr(target, "__name__", "")
        stem = own if own.isidentifier() and not keyword.iskeyword(own) else "function"
        number = sum(name.rstrip("_0123456789") == stem.rstrip("_0123456789") for name in self._names)
        name = f"{stem}_{number + 1}" if number else stem
        self._names.add(name)
        token = secrets.token_hex(8)
        _live[token] = target
        self._tokens.append(token)
        file = self.path / f"trial_{name}.py"
        text = f"from harness.api.trial import live_code\n\n{name} = live_code({token!r})\n"
        file.write_text(text, encoding="utf-8")
        return f"{file}:{name}"


def _forget(folder: Path, tokens: list[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for token in tokens:
        _live.pop(token, None)
