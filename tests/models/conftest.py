"""`harness check` on a checkpoint that was changed, in this process for speed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from changed_files import SHORT

from harness.cli.main import main


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """`check(folder, ...)`: exit status, lines on stderr, and stdout in one line."""
    monkeypatch.chdir(tmp_path)

    def run_check(target: Any, *words: str) -> tuple[int, list[str], str]:
        given = {word.partition("=")[0] for word in words}
        rest = [word for word in SHORT if word.partition("=")[0] not in given]
        status = main(["check", "model=custom", f"model.id={target}", "decoding=greedy", *rest, *words])
        printed = capsys.readouterr()
        return status, printed.err.splitlines(), " ".join(printed.out.split())

    return run_check


@pytest.fixture
def changed(small_model: Any, tmp_path: Path) -> Callable[..., Path]:
    """`changed(change, ...)`: a copy of a small checkpoint that `change` was applied to."""

    def make(change: Callable[[Path], None], **properties: Any) -> Path:
        folder = shutil.copytree(small_model(**properties), tmp_path / "changed")
        change(folder)
        return folder

    return make
