"""One self-contained HTML page: template, style, script and data in a single file that asks for nothing.

The page forbids itself everything by its Content-Security-Policy except the one style and the one script
it comes with, which are named by their hashes: text from a model cannot become code, even if it slipped
through, and nothing is ever fetched.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"

# `<`, `>` and `&` would let data end its script element; U+2028/9 end a line in old JavaScript; a lone
# surrogate has no UTF-8 form. Escaped, all are plain ASCII inside a JSON string.
_UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff\ufffe\uffff]")


def safe_json(data: Any) -> str:
    """Compact JSON that can stand inside a script element; reads back as exactly `data`.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def visible(text: str) -> str:
    """The text with every control, format and surrogate character as a mark, for titles and terminals."""

    def mark(char: str) -> str:
        if ord(char) < 0x20:
            return chr(0x2400 + ord(char))
        if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
            return f"⟨U+{ord(char):04X}⟩"
        return char

    return "".join(map(mark, text))


@cache
def _source(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def page(
    title: str, body: str, styles: Sequence[str], scripts: Sequence[str], data: Mapping[str, Any]
) -> str:
    """Fill `templates/page.html`.

    Args:
        title: of the window; any text.
        body: template of the page's fixed parts.
        styles, scripts: files of `templates/`, joined in this order.
        data: what the script draws, embedded as JSON.
    """
    from jinja2 import Environment

    style = "\n".join(_source(name) for name in styles)
    script = "\n".join(["(() => {", '"use strict";', *(_source(name) for name in scripts), "})();"])
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    template = Environment(autoescape=True, keep_trailing_newline=True).from_string(_source("page.html"))
    return template.render(
        title=visible(title),
        body=_source(body),
        style=style,
        script=script,
        policy=policy,
        data=safe_json(data),
    )
