"""Rows of the help: a name, and what it is."""

from __future__ import annotations

import textwrap


def row(left: str, right: str, width: int = 14) -> str:
    """Return a line of two columns; what does not fit continues under the second one."""
    indent = " " * (width + 3)
    if len(left) > width:
        return f"  {left}\n" + textwrap.indent(
            textwrap.fill(right, 105 - len(indent), break_on_hyphens=False), indent
        )
    lines = textwrap.wrap(right, 105 - len(indent), break_on_hyphens=False) or [""]
    return "\n".join([f"  {left:<{width}} {lines[0]}".rstrip(), *(indent + line for line in lines[1:])])
