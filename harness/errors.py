"""Errors that a user can correct: one line per mistake, printed by the command line, never a traceback."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class HarnessError(Exception):
    """A mistake or a failure that one line explains; `exit_status` is the exit status of the process.

    The text is a single line that names the key, the value and the cure.
    """

    exit_status = 1


class StoreError(HarnessError):
    """The store cannot be written any more; what is stored is complete. It is not the failure of a point."""


@dataclass(frozen=True)
class Mistake:
    """One mistake in a command or a config.

    Attributes:
        key: what was set, dotted as on the command line (`decoding.top_p`), or a file and line.
        message: what is wrong with it and how to correct it, in one line; names the value.
        points: labels of the points it concerns; empty when it concerns all.
    """

    key: str
    message: str
    points: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


class ConfigError(HarnessError):
    """The command or the config is wrong; nothing was loaded. Carries every mistake found."""

    exit_status = 2

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        unique = dict.fromkeys(mistakes)
        self.mistakes: tuple[Mistake, ...] = tuple(unique)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))

    @classmethod
    def of(cls, key: str, message: str) -> ConfigError:
        """Return a ConfigError with a single mistake."""
        return cls([Mistake(key, message)])
