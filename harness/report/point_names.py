"""Short names of points: what the terminal table and the page call the runs of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.point_results import CHOICES
from harness.config.labels import short, value_text
from harness.store.sweeps import SweepPoint
from harness.terminal import visible


def short_names(points: Sequence[SweepPoint]) -> list[str]:
    """Return the choices and keys of each point that vary among them; the labels where that is not unique."""
    varying = [name for name in CHOICES if len({getattr(p, name) for p in points}) > 1]
    names = []
    for p in points:
        choices = "/".join(getattr(p, name) for name in varying)
        keys = [f"{short(key)}={value_text(value)}" for key, value in p.varied.items() if key not in CHOICES]
        names.append(visible(" ".join([choices, *keys]).strip()))
    if len(set(names)) < len(points) or not all(names):
        return [visible(p.label) for p in points]
    return names
