"""What reaches the terminal: no hidden character takes effect, and no sign is too much for its encoding.

Prompts, ids, labels, model files and the messages of other libraries are hostile text: an escape sequence can
recolour, overwrite or link, a bidirectional mark reorder a line. Everything printed goes through `visible`:
lines by the streams of `visible_streams`, tables and bars by `report.console.SafeConsole`.
"""

from __future__ import annotations

import codecs
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TextIO

_IN_ASCII = {
    "✓": "+", "✗": "x", "↺": "=", "▲": "*", "▼": "!", "↑": "^", "↓": "v", "·": ".", "≈": "~", "≤": "<=",
    "≥": ">=", "→": "->", "∞": "inf", "±": "+-", "×": "x", "−": "-", "–": "-", "“": '"', "”": '"', "…": "...",
    "█": "#", "⟨": "<", "⟩": ">",
}  # fmt: skip
"""Signs that we print; those of tables and marks each as another character."""


def visible(text: str, keep: str = "") -> str:
    """Return the text with every control, format and surrogate character replaced by a visible mark.

    Args:
        text: of any kind.
        keep: characters that stay, such as line feeds.
    """
    if text.isprintable():
        return text
    return "".join(char if char in keep else _mark(char) for char in text)


def _mark(char: str) -> str:
    if ord(char) < 0x20:
        return chr(0x2400 + ord(char))
    if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
        return f"⟨U+{ord(char):04X}⟩"
    return char


class VisibleStream:
    """A text stream whose hidden characters become marks; line feeds and tabs stay.

    Attributes:
        behind: the stream that is written to.
    """

    def __init__(self, behind: TextIO) -> None:
        self.behind = behind

    def write(self, text: str) -> int:
        """Write the text; returns its length."""
        self.behind.write(visible(text, "\n\t"))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write lines, which end with their own line feeds."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)


class ReaderGoneError(SystemExit):
    """The reader of our output has gone. No failure of what was being done, which goes on to no one."""


@contextmanager
def visible_streams() -> Iterator[None]:
    """Make standard output and standard error VisibleStreams that no character is too much for."""
    before = sys.stdout, sys.stderr
    with ExitStack() as stack:
        for stream in before:
            stack.enter_context(_replacing(stream))
        sys.stdout, sys.stderr = map(VisibleStream, before)  # type: ignore[assignment]
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


@contextmanager
def _replacing(stream: Any) -> Iterator[None]:
    """Let a stream replace what its encoding lacks."""
    errors = getattr(stream, "errors", None)
    with suppress(AttributeError, OSError, ValueError):
        stream.reconfigure(errors=_ERRORS)
    try:
        yield
    finally:
        with suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(errors=errors)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for the characters that an encoding lacks: a sign of ASCII, else `?`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(char, "?") for char in lacking), error.end


_ERRORS = "harness.sign"
codecs.register_error(_ERRORS, _replaced)
