"""The code blocks and links of a Markdown page."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
_PARSER = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, `title="..."` or a first comment that names a file, text, first line."""

    language: str
    title: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    found = []
    for token in _PARSER.parse(page.read_text(encoding="utf-8")):
        if token.type == "fence":
            language, _, rest = token.info.partition(" ")
            title = re.search(r'title="([^"]*)"', rest) or re.match(r"# (\S+\.py)\n", token.content)
            line = (token.map or [0])[0] + 1
            found.append(Block(language, title[1] if title else "", token.content, line))
    return found


def links(page: Path) -> list[str]:
    """Return the addresses of a page's links and pictures."""
    found = []
    for token in _PARSER.parse(page.read_text(encoding="utf-8")):
        for child in token.children or []:
            address = child.attrGet("href") or child.attrGet("src")
            if address:
                found.append(str(address))
    return found


def commands_of_table(page: Path) -> list[str]:
    """Return the commands that stand as code in a page's tables."""
    tokens = _PARSER.parse(page.read_text(encoding="utf-8"))
    in_cells = [t for before, t in pairwise(tokens) if before.type == "td_open"]
    codes = [c.content for t in in_cells for c in t.children or [] if c.type == "code_inline"]
    return [code for code in codes if re.search(r"(^|&& )harness ", code) and not _PLACEHOLDER.search(code)]


_PLACEHOLDER = re.compile(
    r"\[overrides\]|\.\.\.|\b(NAME|COMMAND|GROUP|KEY|FILE|FOLDER|SWEEP|POINT|PORT)\b|key=a,b"
)


def commands(text: str) -> list[list[str]]:
    """Return the words of every `harness` command of a shell text, its variables and comments left out."""
    joined = re.sub(r"\\\n\s*", " ", text)
    found = []
    for line in joined.splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if "&&" in words:
            words = words[words.index("&&") + 1 :]
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words and words[0] == "harness" and "..." not in words:
            found.append(words[1:])
    return found
