"""What a built site would fetch from elsewhere: python -m tools.outside_links site."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

_FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
_IN_STYLES = re.compile(r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s]+)""")
_FETCHED_LINKS = {"stylesheet", "preload", "preconnect", "prefetch", "icon", "dns-prefetch", "modulepreload"}


class _Page(HTMLParser):
    """The addresses that a page fetches by itself; what a reader may click is none of them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the address of a script, a picture, a style or a font."""
        values = {name: value or "" for name, value in attrs}
        address = values.get(_FETCHED.get(tag, ""), "")
        fetched = tag != "link" or bool(_FETCHED_LINKS & set(values.get("rel", "").split()))
        if fetched and address.startswith(("http:", "https:", "//")):
            self.found.append(address)


def outside_links(folder: Path) -> list[str]:
    """Return `FILE: ADDRESS` of everything that the pages and styles of a site fetch from elsewhere."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".html", ".css", ".svg"):
            continue
        text = path.read_text(encoding="utf-8")
        page = _Page()
        if path.suffix == ".html":
            page.feed(text)
        found += [f"{path.relative_to(folder)}: {one}" for one in [*page.found, *_IN_STYLES.findall(text)]]
    return found


def main(folder: str) -> int:
    """Print what a site fetches from elsewhere; return 1 where there is something."""
    found = outside_links(Path(folder))
    print("\n".join(found) or f"{folder}: fetches nothing from elsewhere")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
