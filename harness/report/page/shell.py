"""One self-contained HTML page: template, style, script and data in a single file that asks for nothing.

The page forbids itself everything by its Content-Security-Policy except the scripts it comes with, which are
named by their hashes: text from a model cannot become code, even if it slipped through, and nothing is ever
fetched. The charting library lies packed in the page, and is started when the first chart is drawn.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from harness.report.visible import visible

TEMPLATES = Path(__file__).parent / "templates"

STYLES = ("base", "shell", "overview", "prompts", "tokens", "tree", "points", "precision")
"""Files of `templates/css`, joined in this order."""

SCRIPTS = (
    "data", "text", "numbers", "colours", "routes", "steps", "tokens", "detail", "diff",
    "findings", "table", "judged", "charts", "overview",
    "list", "samples", "tree", "prompts", "points",
    "precision_steps", "precision_table", "precision_charts", "precision_reader", "precision",
    "export", "keys", "start",
)  # fmt: skip
"""Files of `templates/js`, joined in this order."""

LIBRARY = ("bokeh.min.js", "bokeh-api.min.js")
"""Files of the charting library, which lie in its Python package."""

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


@cache
def _source(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _library() -> tuple[str, str]:
    """The charting library out of its package: its hash, and itself packed."""
    from bokeh.util.paths import bokehjs_path

    folder = Path(bokehjs_path(dev=False)) / "js"
    source = "\n".join((folder / name).read_text(encoding="utf-8") for name in LIBRARY)
    return _hash(source), packed(source.encode(), level=9)


def _hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def packed(raw: bytes, level: int = 6) -> str:
    """gzip in base64, which the page opens by itself; the same bytes always give the same text."""
    return base64.b64encode(gzip.compress(raw, level, mtime=0)).decode("ascii")


def page(title: str, data: Mapping[str, Any], pieces: str = "", charts: bool = False) -> str:
    """Fill `templates/page.html`.

    Args:
        title: of the window; any text.
        data: what the script draws at once, embedded as JSON.
        pieces: what it draws on demand, packed.
        charts: whether the charting library comes along (half a megabyte, packed). It writes style elements
            of its own, so that styles can then not be held to a hash.
    """
    from jinja2 import Environment

    style = "\n".join(_source(f"css/{name}.css") for name in STYLES)
    script = "\n".join(
        ["(() => {", '"use strict";', *(_source(f"js/{name}.js") for name in SCRIPTS), "})();"]
    )
    library_hash, library = _library() if charts else ("", "")
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hash(script)} {library_hash}".rstrip(),
            f"style-src {_hash(style)}" if not charts else "style-src 'unsafe-inline'",
            *(["img-src data:"] if charts else []),
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    template = Environment(autoescape=True, keep_trailing_newline=True).from_string(_source("page.html"))
    return template.render(
        title=visible(title),
        body=_source("body.html"),
        style=style,
        script=script,
        policy=policy,
        data=safe_json(data),
        pieces=pieces,
        library=library,
    )
