"""Pages in a real browser; skipped where there is no Chromium."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-extensions",
    "--virtual-time-budget=2000",
)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("needs Chromium")
    return found


@pytest.fixture
def dom(chromium: str, tmp_path: Path) -> Callable[[Path], str]:
    """`dom(page)`: a page as the browser has it once its script has run."""

    def drawn(page: Path) -> str:
        command = [chromium, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", str(page)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    return drawn
