"""Markdown that every renderer reads alike: tables, code, anchors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def code(text: str) -> str:
    """Return text as inline code."""
    fence = "``" if "`" in text else "`"
    return f"{fence} {text} {fence}" if fence == "``" else f"{fence}{text}{fence}"


_NAME = re.compile(r"(?<![\w`])-{0,2}\w[\w.]*_\w[\w.]*(?<![.])")
"""A key, a column or the like: a word that has an underscore."""


def prose(text: str) -> str:
    """Return plain text as Markdown that shows it as it is; names with an underscore become code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else _with_names(part) for part in parts)


def _with_names(text: str) -> str:
    shown, end = "", 0
    for name in _NAME.finditer(text):
        shown += _escaped(text[end : name.start()]) + code(name[0])
        end = name.end()
    return shown + _escaped(text[end:])


def _escaped(text: str) -> str:
    escaped = re.sub(r"([\\*_\[\]#])", r"\\\1", text)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def sentence(text: str) -> str:
    """Return a phrase with a capital letter and a full stop, unless it begins with a name."""
    text = text.rstrip(".")
    first = text.partition(" ")[0]
    is_word = first.isalpha() and first.islower()
    return f"{text[0].upper() + text[1:] if is_word else text}." if text else ""


def anchor(name: str) -> str:
    """Return an invisible target for links, `#name`."""
    return f'<a id="{name}"></a>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells are Markdown of one line."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    """A pipe would end the cell, also within code."""
    return " ".join(text.split()).replace("|", "\\|")
