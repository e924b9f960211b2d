"""Pages in a real browser; skipped where there is no Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
DESKTOP, PHONE = (1440, 900), (390, 844)

# As MLflow's artifact viewer has it: the file as a blob in a frame that may run scripts and nothing else.
FRAME = """
<!DOCTYPE html><body style="margin:0"><script>
const start = (html) => {
  const frame = document.createElement("iframe");
  frame.setAttribute("sandbox", "allow-scripts");
  frame.style = "border:0;width:100vw;height:100vh";
  frame.src = URL.createObjectURL(new Blob([html], { type: "text/html" }));
  document.body.append(frame);
};
</script>
"""


@dataclass
class Opened:
    """An open page and what went wrong in it.

    Attributes:
        tab: the browser's page.
        view: the page itself, or the frame that it stands in.
        wrong: errors of its scripts, lines on the console, requests that left it, dialogs.
    """

    tab: Any
    view: Any
    wrong: list[str] = field(default_factory=list)

    def overflow(self) -> float:
        """Return by how many pixels the body is wider than the window."""
        return self.view.evaluate("() => document.documentElement.scrollWidth - innerWidth")


Open = Callable[..., Opened]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Yield a running Chromium."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("needs Chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """`open_page(path, "#/runs", size=PHONE, dark=True, framed=True)`; nothing may go wrong in it."""
    opened: list[Opened] = []
    contexts = []

    def start(
        path: Path,
        fragment: str = "",
        size: tuple[int, int] = DESKTOP,
        dark: bool = False,
        framed: bool = False,
    ) -> Opened:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(15_000)
        page = Opened(tab, tab)
        opened.append(page)
        allowed = ("blob:", "data:")
        tab.on("pageerror", lambda error: page.wrong.append(f"error: {error}"))
        tab.on("dialog", lambda dialog: (page.wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        tab.on(
            "console",
            lambda line: (
                page.wrong.append(f"{line.type}: {line.text}") if line.type in ("error", "warning") else None
            ),
        )
        if framed:
            frame = tmp_path / "frame.html"
            frame.write_text(FRAME, encoding="utf-8")
            urls = {frame.as_uri()}
            tab.on(
                "request",
                lambda r: None if r.url.startswith(allowed) or r.url in urls else page.wrong.append(r.url),
            )
            tab.goto(frame.as_uri())
            tab.evaluate("(html) => start(html)", path.read_text(encoding="utf-8"))
            page.view = tab.wait_for_selector("iframe").content_frame()
            page.view.wait_for_load_state()
        else:
            urls = {path.as_uri(), path.as_uri() + fragment}
            tab.on(
                "request",
                lambda r: None if r.url.startswith(allowed) or r.url in urls else page.wrong.append(r.url),
            )
            tab.goto(path.as_uri() + fragment)
        return page

    yield start
    for page in opened:
        page.tab.wait_for_timeout(20)
    wrong = [line for page in opened for line in page.wrong]
    for context in contexts:
        context.close()
    assert wrong == []
