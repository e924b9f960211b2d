"""The finish reasons of outputs, as tables show them."""

from __future__ import annotations

FINISHES = {
    "eos": ("eos", "eos"),
    "length": ("length", "len"),
    "stop_string": ("stop", "stop"),
    "stop": ("ended", "end"),
    "error": ("error", "err"),
    None: ("unknown", "?"),
}
"""Finish reasons, and how they are abbreviated in a narrow table."""
