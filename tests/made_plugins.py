"""Distributions with entry points, made without installing anything."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path


class Plugins:
    """A folder on `sys.path` with packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._modules: list[str] = []

    def add(
        self,
        distribution: str,
        entry_points: Mapping[str, Mapping[str, str]],
        files: Mapping[str, str] | None = None,
        version: str = "1.0",
    ) -> None:
        """Add a distribution: entry points by group and name, and its files by their paths."""
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = []
        for group, names in entry_points.items():
            lines += [f"[{group}]", *(f"{name} = {value}" for name, value in names.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        files = files or {}
        (info / "RECORD").write_text("".join(f"{name},,\n" for name in files))
        tops = {name.partition("/")[0].removesuffix(".py") for name in files}
        (info / "top_level.txt").write_text("\n".join(tops) + "\n")
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self._modules += tops

    def forget(self) -> None:
        """Let the next test import its own modules of these names."""
        for name in list(sys.modules):
            if name.partition(".")[0] in self._modules:
                del sys.modules[name]
