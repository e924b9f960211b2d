"""Rows of the help: a name, and what it is."""

from __future__ import annotations

import textwrap


def row(left: str, right: str, width: int = 14) -> str:
    """Return a line of two columns; what does not fit continues under the second one."""
    indent = " " * (width + 3)
    # A path or a package's name can be copied: it stays whole.
    lines = textwrap.wrap(right, 105 - len(indent), break_on_hyphens=False, break_long_words=False) or [""]
    if len(left) > width:
        return "\n".join([f"  {left}", *(indent + line for line in lines)])
    return "\n".join([f"  {left:<{width}} {lines[0]}".rstrip(), *(indent + line for line in lines[1:])])
