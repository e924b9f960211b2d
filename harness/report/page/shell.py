"""One self-contained HTML page: template, style, script and data in a single file that requests nothing.

The page's Content-Security-Policy forbids everything except its scripts, which it names by their hashes: text
from a model cannot become code, even if it slipped through, and nothing is ever fetched. The charting library
is compressed in the page, and started when the first chart is drawn.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from harness.terminal import visible

TEMPLATES = Path(__file__).parent / "templates"

STYLES = ("base", "shell", "overview", "prompts", "tokens", "tree", "runs", "quantization")
"""Files of `templates/css`, joined in this order."""

SCRIPTS = (
    "data", "columns", "text", "scrolling", "numbers", "colours", "encoding", "routes", "names", "tokens",
    "detail", "diff", "answer", "table", "charts", "curves", "selection", "speculation", "heat_map",
    "parallel", "panels", "agreement", "overview_charts", "overview", "scores", "list", "samples", "tree",
    "votes", "blind", "prompts", "runs", "quantization_reader", "quantization_table", "quantization_charts",
    "quantization", "export", "keys", "start",
)  # fmt: skip
"""Files of `templates/js`, joined in this order."""

LIBRARY = ("bokeh.min.js", "bokeh-api.min.js")
"""Files of the charting library, which lie in its Python package."""

# `<`, `>` and `&` would let data end its script element; U+2028/9 end a line in old JavaScript; a lone
# surrogate has no UTF-8 form. Escaped, all are plain ASCII inside a JSON string.
_UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff\ufffe\uffff]")


def safe_json(data: Any) -> str:
    """Return compact JSON that is safe inside a script element and parses to exactly `data`.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def short(value: float | None, digits: int = 4) -> float | int | None:
    """Return the number rounded to `digits` significant digits; None where it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


@cache
def _source(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _library() -> tuple[str, str]:
    """Return the hash of the charting library, and the library compressed."""
    from bokeh.util.paths import bokehjs_path

    folder = Path(bokehjs_path(dev=False)) / "js"
    source = "\n".join((folder / name).read_text(encoding="utf-8") for name in LIBRARY)
    return _hash(source), packed(source.encode(), level=9)


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def packed(raw: bytes, level: int = 6) -> str:
    """Return gzip in base64, which the page decompresses; the same bytes always give the same text."""
    return base64.b64encode(gzip.compress(raw, level, mtime=0)).decode("ascii")


class Sources(NamedTuple):
    """Which templates a page consists of: its body, and the files of `templates/css` and `templates/js`."""

    body: str
    styles: tuple[str, ...]
    scripts: tuple[str, ...]


class Page(NamedTuple):
    """A page, and its Content-Security-Policy, which it states itself as well."""

    html: str
    policy: str


def page(title: str, data: Mapping[str, Any], chunks: str = "", charts: bool = False) -> str:
    """Return the page of a sweep or a point.

    Args:
        title: of the window; any text.
        data: what the script draws at once, as JSON.
        chunks: what it draws on demand, compressed.
        charts: whether to include the charting library (half a megabyte), whose styles have no hash.
    """
    return filled(Sources("body.html", STYLES, SCRIPTS), title, data, chunks, charts).html


def filled(
    sources: Sources,
    title: str,
    data: Mapping[str, Any],
    chunks: str = "",
    charts: bool = False,
    served: bool = False,
) -> Page:
    """Return `templates/page.html` filled in; `served` by a process of ours, to which its script may talk."""
    from jinja2 import Environment

    style = "\n".join(_source(f"css/{name}.css") for name in sources.styles)
    body = "\n".join(_source(f"js/{name}.js") for name in sources.scripts)
    script = f'(() => {{\n"use strict";\n{body}\n}})();'
    library_hash, library = _library() if charts else ("", "")
    styles = "style-src 'unsafe-inline'; img-src data:" if charts else f"style-src {_hash(style)}"
    scripts = f"script-src {_hash(script)} {library_hash}".rstrip()
    policy = f"default-src 'none'; {scripts}; {styles}; base-uri 'none'; form-action 'none'"
    if served:
        policy += "; connect-src 'self'; img-src data:"
    template = Environment(autoescape=True, keep_trailing_newline=True).from_string(_source("page.html"))
    html = template.render(
        title=visible(title), body=_source(sources.body), style=style, script=script, policy=policy,
        data=safe_json(data), chunks=chunks, library=library, served=served,
    )  # fmt: skip
    return Page(html, policy)
