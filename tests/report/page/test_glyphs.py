"""What the pages draw as interface: no glyph that a plain system's fonts may lack."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from harness.report.page.shell import TEMPLATES

ALLOWED = frozenset("±²³·¹½×ρτ–—“”•…‹›⁰⁴⁵⁶⁷⁸⁹⁻←↑→↓↵⇥−∞≈≤≥⋯␣▲▼⚠✓✕✗⟨⟩")
"""Beyond ASCII. Whoever adds one looks whether DejaVu Sans has it; what it lacks is drawn as an SVG."""


def test_templates_use_no_other_glyphs() -> None:
    for path in TEMPLATES.rglob("*.*"):
        found = {char for char in path.read_text(encoding="utf-8") if not char.isascii()}
        assert found <= ALLOWED, f"{path.name}: {sorted(found - ALLOWED)}"


def test_a_plain_linux_desktop_has_them() -> None:
    if shutil.which("fc-list") is None:
        pytest.skip("needs fontconfig")
    command = ["fc-list", ":family=DejaVu Sans", "charset"]
    ranges = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if not ranges.strip():
        pytest.skip("needs the fonts DejaVu")
    widest = max(ranges.splitlines(), key=len).rpartition("charset=")[2]
    ends = [[int(end, 16) for end in span.split("-")] for span in widest.split()]
    assert [char for char in sorted(ALLOWED) if not any(e[0] <= ord(char) <= e[-1] for e in ends)] == []
