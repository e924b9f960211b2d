"""A small sweep through the API, run once for all tests that only read it."""

from __future__ import annotations

from typing import Any

import pytest

import harness

SMALL: dict[str, Any] = {
    "model": "fable_tiny",
    "prompts": {"limit": 4},
    "generation": {"max_new_tokens": 12},
    "timing": "off",
    "tracking": "off",
    "quiet": True,
}
TINY = {**SMALL, "prompts": {"limit": 2}, "generation": {"max_new_tokens": 4}}


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> harness.Result:
    """Greedy, and top_p at two temperatures."""
    folder = tmp_path_factory.mktemp("api") / "outputs"
    keys = {**SMALL, "decoding": ["greedy", "top_p"], "decoding.temperature": [0.7, 1.0]}
    return harness.sweep(outputs=folder, expect=[{"metric": "text/output_tokens", "min": 1}], **keys)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Work in an empty folder, in which modules can be found."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    return folder
