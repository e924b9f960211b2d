"""Pages in Chromium, photographed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_LARGEST = 300_000  # bytes; a page of pictures should not be slow

Photograph = Callable[..., None]


@contextmanager
def camera() -> Iterator[Photograph]:
    """Yield `photograph(path, url, prepare, size=...)`; `prepare(page)` brings the page into view.

    Raises:
        RuntimeError: there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        raise RuntimeError("needs Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])

        def photograph(
            path: Path,
            url: str,
            prepare: Callable[[Any], object] = lambda page: None,
            size: tuple[int, int] = (1280, 800),
            dark: bool = False,
        ) -> None:
            scheme: Any = "dark" if dark else "light"
            width, height = size
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.goto(url)
            prepare(page)
            page.wait_for_timeout(400)
            page.screenshot(path=path)
            context.close()
            _shrink(path)

        yield photograph
        browser.close()


def _shrink(path: Path) -> None:
    """Store a picture that is large with 256 colours."""
    if path.stat().st_size > _LARGEST:
        from PIL import Image

        Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)
