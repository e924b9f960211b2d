"""Errors that a user can correct: one line per mistake, printed by the command line, never a traceback."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class HarnessError(Exception):
    """A mistake or a failure that one line explains; `exit_status` is the exit status of the process.

    The text is a single line that names the key, the value and the cure.
    """

    exit_status = 1


class SweepEndedError(HarnessError):
    """Nothing more can be made in this process; what is stored is complete. It is no point's failure."""


class StoreError(SweepEndedError):
    """The store cannot be written or read any more."""


class RankLostError(SweepEndedError):
    """One of the processes that share a model has ended, or is not in step with the others."""


class DamagedFileError(HarnessError):
    """A stored file is missing, cannot be read, or is not as it was written."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} {problem}; running its sweep again makes it anew")


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
        text = f"{self.key}: {self.message}" if self.key else self.message
        return text.replace("\n", " ")  # a name from a file may hold a line end


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


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, at most 300 characters; its type's name where it has none.

    A line that ends in a colon goes on in the next one.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    goes_on = lines[0].endswith(":") and len(lines) > 1
    return (f"{lines[0]} {lines[1].strip()}" if goes_on else lines[0])[:300]


def one_line(error: BaseException) -> str:
    """Return all of an error's text on one line; errors of other libraries are named by their type."""
    text = " ".join(str(error).split())
    if isinstance(error, HarnessError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
