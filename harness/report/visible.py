"""Text that a terminal or a title shows as it is."""

from __future__ import annotations

import unicodedata


def visible(text: str) -> str:
    """Return the text with every control, format and surrogate character replaced by a visible mark."""

    def mark(char: str) -> str:
        if ord(char) < 0x20:
            return chr(0x2400 + ord(char))
        if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
            return f"⟨U+{ord(char):04X}⟩"
        return char

    return "".join(map(mark, text))
