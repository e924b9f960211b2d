"""The page of `harness inspect --page`: a prompt's next tokens, walked through with a model behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.page.palette import PALETTE
from harness.report.page.shell import Page, Sources, filled

WALK = Sources(
    "walk.html",
    ("base", "shell", "walk"),
    ("walk_data", "text", "numbers", "walk_state", "walk_knobs", "walk_table", "walk_columns", "walk_start"),
)
"""What the page consists of; its scripts have names of their own for what the sweep's page needs more of."""


def walk_html(start: Mapping[str, Any]) -> Page:
    """Return the page.

    Args:
        start: what it begins with: model, prompt tokens, knobs and their values.
    """
    return filled(WALK, f"{start['model']} · inspect", {**start, "palette": PALETTE}, served=True)
