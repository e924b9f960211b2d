"""What a command prints, as an SVG that needs no font of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

# Rich's own template fetches its font from the net.
_TEMPLATE = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width;
}}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def run(
    words: list[str], folder: Path, width: int, environment: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """Run `harness` with colours; return what it wrote to standard output and to standard error."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
    colours = {"FORCE_COLOR": "1", "COLUMNS": str(width), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    done = subprocess.run(
        [sys.executable, "-m", "harness", *words],
        cwd=folder,
        env=inherited | colours | dict(environment or {}),
        capture_output=True,
        text=True,
    )
    return done.stdout, done.stderr


def save_svg(path: Path, command: str, printed: str, width: int) -> None:
    """Write a terminal of so many columns in which a command was typed and printed something."""
    console = Console(
        record=True, width=width, file=StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
    # Only the last state of a line that was written over is seen.
    lines = [line.rpartition("\r")[2].replace("\x1b[2K", "") for line in printed.rstrip().splitlines()]
    console.print(Text.from_ansi("\n".join(lines)))
    svg = console.export_svg(title="", code_format=_TEMPLATE, unique_id=path.stem)
    path.write_text(svg, encoding="utf-8")
