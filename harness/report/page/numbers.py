"""Numbers as JSON of the pages."""

from __future__ import annotations

import math


def short(value: float | None, digits: int = 4) -> float | int | None:
    """Return the number rounded to `digits` significant digits; None where it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
